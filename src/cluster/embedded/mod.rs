//! The embedded ground: clusters of this binary, each a node process with a directory under the state directory.

mod dirs;

use std::{fs, path::Path, time::Duration};

use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::embedded::{
    control_plane::pki::Pki,
    rootless::{Holder, RootlessError, SpawnOptions, bind, holder, running_node, settled_node, spawn_node, stop_node},
};

use dirs::{dir_of, existing_dir, file_error, read_config};

use super::{
    Capabilities, ClusterError, ClusterHandle, ClusterInfo, ClusterRanges, ClusterState, Ground, GroundKind, Progress,
    ProgressEvent,
};

/// How long a node may take to end its pods before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How much of the node's log is shown.
const LOG_TAIL: usize = 64 << 10;

/// The clusters of this binary.
pub(super) struct Embedded;

fn server_url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// Runs what blocks (process and file work) off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClusterError> + Send + 'static,
) -> Result<T, ClusterError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Starts the node of `name`; says what its user should know. All files are there before the process is, so that a command
/// that is interrupted leaves a whole cluster or none.
fn launch(name: &str, dir: &Path) -> Result<Vec<String>, ClusterError> {
    let failed = |reason: String| ClusterError::NodeFailed {
        name: name.to_owned(),
        reason,
        log: dir.join("node.log"),
    };
    let cannot = |error: RootlessError| match error {
        RootlessError::Running { name } => ClusterError::AlreadyExists { name },
        RootlessError::Refused { .. } | RootlessError::Port { .. } => ClusterError::Refused {
            name: name.to_owned(),
            hint: error.hint(),
            reason: error.to_string(),
        },
        RootlessError::Died { reason, .. } => failed(reason),
        other => failed(other.to_string()),
    };
    let mut config = read_config(name, dir)?;
    // A directory may have been moved; where it is now is what counts.
    config.dir = dir.to_owned();
    let mut notes = Vec::new();
    let listener = match bind(config.port) {
        Err(RootlessError::Port { port, source }) if config.port != 0 => {
            let listener = bind(0).map_err(cannot)?;
            notes.push(format!(
                "port {port} is taken ({source}): the cluster answers on another one now, and its kubeconfig says so"
            ));
            listener
        }
        other => other.map_err(cannot)?,
    };
    config.port = listener.local_addr().map_err(file_error(dir))?.port();
    let pki = Pki::load_or_create(&dir.join("pki")).map_err(|error| failed(error.to_string()))?;
    let path = dir.join("kubeconfig");
    pki.kubeconfig(name, &server_url(config.port), None)
        .write(&path)
        .map_err(file_error(&path))?;
    let options = SpawnOptions { config, program: None };
    let started = spawn_node(&options, listener).map_err(cannot)?;
    notes.extend(started.notes);
    Ok(notes)
}

fn stop(name: &str, dir: &Path) -> Result<(), ClusterError> {
    stop_node(dir, GRACE).map_err(|error| ClusterError::NodeFailed {
        name: name.to_owned(),
        reason: error.to_string(),
        log: dir.join("node.log"),
    })
}

/// Does something to the cluster `name` while nobody else does.
fn alone<T>(name: &str, dir: &Path, work: impl FnOnce() -> Result<T, ClusterError>) -> Result<T, ClusterError> {
    match dirs::hold(dir)? {
        Some(_held) if dir.join(dirs::CONFIG).is_file() => work(),
        _ => Err(ClusterError::NotFound { name: name.to_owned() }),
    }
}

async fn handle(name: &str, dir: &Path, notes: Vec<String>) -> Result<ClusterHandle, ClusterError> {
    let path = dir.join("kubeconfig");
    let config = Kubeconfig::read_from(&path).map_err(|source| ClusterError::Kubeconfig {
        path: path.clone(),
        source: Box::new(source),
    })?;
    let client = super::client(config, &KubeConfigOptions::default(), &path).await?;
    Ok(ClusterHandle {
        client,
        name: name.to_owned(),
        kubeconfig: path,
        capabilities: Capabilities {
            stand_ins: true,
            disposable: true,
            snapshots: true,
            pod_addresses: true,
        },
        notes,
    })
}

/// A start that waits says for what.
fn passing(progress: &Progress, of: Holder, name: &str) {
    let doing = match of {
        Holder::Ending(_) => "end",
        _ => "start",
    };
    progress(ProgressEvent {
        phase: format!("wait for the node that was there before to {doing}"),
        done: 0,
        total: 1,
        detail: name.to_owned(),
    });
}

fn starting(progress: &Progress, done: u32, name: &str) {
    progress(ProgressEvent {
        phase: "start cluster".to_owned(),
        done,
        total: 1,
        detail: name.to_owned(),
    });
}

#[async_trait]
impl Ground for Embedded {
    fn kind(&self) -> GroundKind {
        GroundKind::Embedded
    }

    async fn create(&self, name: &str, progress: &Progress) -> Result<ClusterHandle, ClusterError> {
        let dir = dir_of(name)?;
        starting(progress, 0, name);
        let cluster = name.to_owned();
        let notes = blocking(move || {
            let dir = dirs::claim(&cluster)?;
            alone(&cluster, &dir, || {
                if settled_node(&dir, |_| {}).is_some() {
                    // Somebody else's claim came first.
                    return Err(ClusterError::AlreadyExists { name: cluster.clone() });
                }
                launch(&cluster, &dir).inspect_err(|_| dirs::disclaim(&dir))
            })
        })
        .await?;
        starting(progress, 1, name);
        handle(name, &dir, notes).await
    }

    async fn delete(&self, name: &str) -> Result<(), ClusterError> {
        let (dir, cluster) = (existing_dir(name)?, name.to_owned());
        blocking(move || {
            alone(&cluster, &dir, || {
                stop(&cluster, &dir)?;
                dirs::remove(&dir)
            })
        })
        .await
    }

    async fn list(&self) -> Result<Vec<ClusterInfo>, ClusterError> {
        blocking(|| {
            let all = dirs::all()?;
            Ok(all.iter().map(|(name, dir)| info(name, dir)).collect())
        })
        .await
    }

    async fn stop(&self, name: &str) -> Result<(), ClusterError> {
        let (dir, cluster) = (existing_dir(name)?, name.to_owned());
        blocking(move || alone(&cluster, &dir, || stop(&cluster, &dir))).await
    }

    async fn start(&self, name: &str, progress: &Progress) -> Result<ClusterHandle, ClusterError> {
        let dir = existing_dir(name)?;
        starting(progress, 0, name);
        let (cluster, made, heard) = (name.to_owned(), dir.clone(), progress.clone());
        let notes = blocking(move || {
            alone(&cluster, &made, || {
                match settled_node(&made, |of| passing(&heard, of, &cluster)) {
                    Some(_) => Ok(Vec::new()),
                    None => launch(&cluster, &made),
                }
            })
        })
        .await?;
        starting(progress, 1, name);
        handle(name, &dir, notes).await
    }

    async fn get(&self, name: &str) -> Result<ClusterHandle, ClusterError> {
        let dir = existing_dir(name)?;
        if running_node(&dir).is_none() {
            return Err(ClusterError::Stopped { name: name.to_owned() });
        }
        handle(name, &dir, Vec::new()).await
    }

    async fn node_logs(&self, name: &str) -> Result<String, ClusterError> {
        let path = existing_dir(name)?.join("node.log");
        blocking(move || {
            let bytes = fs::read(&path).map_err(file_error(&path))?;
            let start = bytes.len().saturating_sub(LOG_TAIL);
            Ok(String::from_utf8_lossy(&bytes[start..]).into_owned())
        })
        .await
    }
}

fn info(name: &str, dir: &Path) -> ClusterInfo {
    let holder = holder(dir);
    let node = match holder {
        Holder::Nobody => None,
        Holder::Starting(node) => node,
        Holder::Ending(node) | Holder::Alive(node) => Some(node),
    };
    let config = read_config(name, dir);
    let port = node
        .map(|node| node.port)
        .or(config.as_ref().ok().map(|config| config.port));
    ClusterInfo {
        name: name.to_owned(),
        ground: GroundKind::Embedded,
        state: match (holder, &config) {
            (Holder::Alive(_), _) => ClusterState::Running,
            (Holder::Starting(_), _) => ClusterState::Starting,
            (Holder::Ending(_), _) => ClusterState::Stopping,
            (Holder::Nobody, Ok(_)) => ClusterState::Stopped,
            (Holder::Nobody, Err(_)) => ClusterState::Unusable,
        },
        server: port.filter(|port| *port != 0).map(server_url),
        kubeconfig: dir.join("kubeconfig"),
        pid: node.map(|node| node.pid),
        ranges: config.ok().map(|config| ClusterRanges {
            pods: config.ranges.pods.to_string(),
            services: config.ranges.services.to_string(),
        }),
    }
}
