//! A context of the user's kubeconfig as a ground: any cluster that somebody else made.

use std::path::PathBuf;

use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::{Capabilities, ClusterError, ClusterHandle, ClusterInfo, ClusterState, Ground, GroundKind, Progress};

/// The contexts of the user's kubeconfig.
pub(super) struct Context;

impl Context {
    fn path() -> PathBuf {
        std::env::var_os("KUBECONFIG")
            .and_then(|paths| std::env::split_paths(&paths).find(|path| !path.as_os_str().is_empty()))
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config")))
            .unwrap_or_default()
    }

    fn read() -> Result<(PathBuf, Kubeconfig), ClusterError> {
        let path = Self::path();
        match Kubeconfig::read_from(&path) {
            Ok(config) => Ok((path, config)),
            Err(source) => Err(ClusterError::Kubeconfig {
                path,
                source: Box::new(source),
            }),
        }
    }
}

#[async_trait]
impl Ground for Context {
    fn kind(&self) -> GroundKind {
        GroundKind::Context
    }

    /// Nothing is made: the context must be there. So this is [`get`](Ground::get).
    async fn create(&self, name: &str, _progress: &Progress) -> Result<ClusterHandle, ClusterError> {
        self.get(name).await
    }

    async fn delete(&self, _name: &str) -> Result<(), ClusterError> {
        Err(ClusterError::Unsupported {
            ground: GroundKind::Context,
            action: "deleted",
        })
    }

    async fn list(&self) -> Result<Vec<ClusterInfo>, ClusterError> {
        let (path, config) = Self::read()?;
        let server = |context: &kube::config::NamedContext| {
            let cluster = &context.context.as_ref()?.cluster;
            config
                .clusters
                .iter()
                .find(|named| &named.name == cluster)?
                .cluster
                .as_ref()?
                .server
                .clone()
        };
        Ok(config
            .contexts
            .iter()
            .map(|context| ClusterInfo {
                name: context.name.clone(),
                ground: GroundKind::Context,
                state: ClusterState::Running,
                server: server(context),
                kubeconfig: path.clone(),
                pid: None,
                ranges: None,
            })
            .collect())
    }

    async fn stop(&self, _name: &str) -> Result<(), ClusterError> {
        Err(ClusterError::Unsupported {
            ground: GroundKind::Context,
            action: "stopped",
        })
    }

    async fn start(&self, name: &str, _progress: &Progress) -> Result<ClusterHandle, ClusterError> {
        self.get(name).await
    }

    async fn get(&self, name: &str) -> Result<ClusterHandle, ClusterError> {
        let (path, config) = Self::read()?;
        if !config.contexts.iter().any(|context| context.name == name) {
            return Err(ClusterError::NotFound { name: name.to_owned() });
        }
        let options = KubeConfigOptions {
            context: Some(name.to_owned()),
            ..KubeConfigOptions::default()
        };
        let client = super::client(config, &options, &path).await?;
        Ok(ClusterHandle {
            client,
            name: name.to_owned(),
            kubeconfig: path,
            capabilities: Capabilities {
                stand_ins: false,
                disposable: false,
                snapshots: false,
            },
            notes: Vec::new(),
        })
    }

    async fn node_logs(&self, _name: &str) -> Result<String, ClusterError> {
        Err(ClusterError::Unsupported {
            ground: GroundKind::Context,
            action: "asked for its node's log",
        })
    }
}
