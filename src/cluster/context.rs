//! A context of a kubeconfig as a ground: any cluster that somebody else made.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig, NamedContext};

use super::{Capabilities, ClusterError, ClusterHandle, ClusterInfo, ClusterState, Ground, GroundKind, Progress};

/// The contexts of kubeconfigs.
pub(super) struct Context {
    /// Read one after another; what comes first counts, as for kubectl.
    pub files: Vec<PathBuf>,
    /// Where a kubeconfig of the chosen context alone is written, for `kubectl`; without, the first file is handed out.
    pub copy: Option<PathBuf>,
}

/// The kubeconfigs of this process's user: those that `KUBECONFIG` lists, else `~/.kube/config`.
pub fn kubeconfigs() -> Vec<PathBuf> {
    let listed: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|paths| {
            std::env::split_paths(&paths)
                .filter(|path| !path.as_os_str().is_empty())
                .collect()
        })
        .unwrap_or_default();
    if listed.is_empty() {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
        return home.into_iter().collect();
    }
    listed
}

fn kubeconfig_error(path: &Path) -> impl FnOnce(kube::config::KubeconfigError) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Kubeconfig {
        path,
        source: Box::new(source),
    }
}

impl Context {
    /// The contexts of all files, and the file that errors are told of.
    fn read(&self) -> Result<(PathBuf, Kubeconfig), ClusterError> {
        let mut all: Option<(PathBuf, Kubeconfig)> = None;
        // kubectl does not mind a file that is not there, as long as there is another.
        let there: Vec<&PathBuf> = self.files.iter().filter(|path| path.exists()).collect();
        let read = if there.is_empty() {
            self.files.iter().collect()
        } else {
            there
        };
        for path in read {
            let one = Kubeconfig::read_from(path).map_err(kubeconfig_error(path))?;
            all = Some(match all.take() {
                None => (path.clone(), one),
                Some((first, before)) => (first, before.merge(one).map_err(kubeconfig_error(path))?),
            });
        }
        all.ok_or_else(|| ClusterError::File {
            path: PathBuf::from("~/.kube/config"),
            source: io::Error::new(io::ErrorKind::NotFound, "there is no kubeconfig"),
        })
    }
}

/// The same with one context in it, which is the current one.
fn only(mut config: Kubeconfig, context: &NamedContext) -> Kubeconfig {
    let (cluster, user) = match &context.context {
        Some(inner) => (Some(inner.cluster.clone()), inner.user.clone()),
        None => (None, None),
    };
    config.clusters.retain(|one| Some(&one.name) == cluster.as_ref());
    config.auth_infos.retain(|one| Some(&one.name) == user.as_ref());
    config.contexts.retain(|one| one.name == context.name);
    config.current_context = Some(context.name.clone());
    config
}

/// Writes a kubeconfig that only its owner can read, so that it is whole or as it was.
fn write(path: &Path, config: &Kubeconfig) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(config)?;
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    io::Write::write_all(&mut file, &bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
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
        let (path, config) = self.read()?;
        let server = |context: &NamedContext| {
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
        let (path, config) = self.read()?;
        let Some(context) = config.contexts.iter().find(|context| context.name == name).cloned() else {
            return Err(ClusterError::NoContext {
                name: name.to_owned(),
                known: config.contexts.iter().map(|context| context.name.clone()).collect(),
            });
        };
        let config = only(config, &context);
        let kubeconfig = match &self.copy {
            Some(copy) => {
                write(copy, &config).map_err(|source| ClusterError::File {
                    path: copy.clone(),
                    source,
                })?;
                copy.clone()
            }
            None => path.clone(),
        };
        let options = KubeConfigOptions {
            context: Some(name.to_owned()),
            ..KubeConfigOptions::default()
        };
        let client = super::client(config, &options, &path).await?;
        Ok(ClusterHandle {
            client,
            name: name.to_owned(),
            kubeconfig,
            capabilities: Capabilities {
                stand_ins: false,
                disposable: false,
                snapshots: false,
                pod_addresses: false,
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn file(dir: &Path, name: &str, context: &str, token: &str) -> PathBuf {
        let path = dir.join(name);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {context}\nclusters:\n- name: {context}-c\n  cluster: {{ server: 'https://127.0.0.1:1' }}\n\
             users:\n- name: {context}-u\n  user: {{ token: {token} }}\ncontexts:\n- name: {context}\n  context: {{ cluster: {context}-c, user: {context}-u }}\n"
        );
        fs::write(&path, text).unwrap();
        path
    }

    #[tokio::test]
    async fn the_copy_holds_the_chosen_context_alone_and_is_private() {
        let temp = tempfile::tempdir().unwrap();
        let files = vec![
            temp.path().join("missing"),
            file(temp.path(), "one", "a", "ta"),
            file(temp.path(), "two", "b", "tb"),
        ];
        let ground = Context {
            files,
            copy: Some(temp.path().join("copy")),
        };
        let names: Vec<String> = ground.list().await.unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["a", "b"]);
        let handle = ground.get("b").await.unwrap();
        assert_eq!(fs::metadata(&handle.kubeconfig).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&handle.kubeconfig).unwrap();
        assert!(text.contains("tb") && !text.contains("ta"), "{text}");
        let copied = Kubeconfig::read_from(&handle.kubeconfig).unwrap();
        assert_eq!(copied.current_context.as_deref(), Some("b"));
        assert_eq!(
            (copied.clusters.len(), copied.auth_infos.len(), copied.contexts.len()),
            (1, 1, 1)
        );
        let error = ground.get("c").await.unwrap_err();
        assert!(error.hint().unwrap().contains("a, b"), "{error}");
    }

    #[tokio::test]
    async fn no_kubeconfig_at_all_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let ground = Context {
            files: vec![temp.path().join("missing")],
            copy: None,
        };
        let error = ground.list().await.unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
