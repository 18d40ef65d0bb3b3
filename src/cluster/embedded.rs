//! The embedded ground: clusters of this binary, each a node process with a directory under the state directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::{
    embedded::{
        NodeConfig,
        control_plane::pki::Pki,
        rootless::{NodeHandle, RootlessError, SpawnOptions, running_node, spawn_node, stop_node},
    },
    paths,
};

use super::{
    Capabilities, ClusterError, ClusterHandle, ClusterInfo, ClusterState, Ground, GroundKind, Progress, ProgressEvent,
};

/// How long a node may take to end its pods before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How much of the node's log is shown.
const LOG_TAIL: usize = 64 << 10;

/// The clusters of this binary.
pub(super) struct Embedded;

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::File { path, source }
}

/// The directory of a cluster, whether it is there or not.
fn dir_of(name: &str) -> Result<PathBuf, ClusterError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > 40 {
        "it has more than 40 characters"
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        "it has characters other than lower-case letters, digits and '-'"
    } else if name.starts_with('-') || name.ends_with('-') {
        "it starts or ends with '-'"
    } else {
        return paths::cluster_dir(name).map_err(file_error(Path::new("the state directory")));
    };
    Err(ClusterError::BadName {
        name: name.to_owned(),
        reason,
    })
}

fn existing_dir(name: &str) -> Result<PathBuf, ClusterError> {
    let dir = dir_of(name)?;
    if dir.join("node.json").is_file() {
        Ok(dir)
    } else {
        Err(ClusterError::NotFound { name: name.to_owned() })
    }
}

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

/// Starts the node of `name` and writes the kubeconfig that reaches it.
fn launch(name: &str, dir: &Path, port: u16) -> Result<NodeHandle, ClusterError> {
    paths::private_dir(dir.to_owned()).map_err(file_error(dir))?;
    let failed = |reason: String| ClusterError::NodeFailed {
        name: name.to_owned(),
        reason,
        log: dir.join("node.log"),
    };
    let pki = Pki::load_or_create(&dir.join("pki")).map_err(|error| failed(error.to_string()))?;
    let options = SpawnOptions {
        config: NodeConfig {
            port,
            ..NodeConfig::new(name, dir.to_owned())
        },
        program: None,
    };
    let node = spawn_node(&options).map_err(|error| match error {
        RootlessError::Running { name } => ClusterError::AlreadyExists { name },
        RootlessError::Refused { .. } | RootlessError::Port { .. } => ClusterError::Refused {
            name: name.to_owned(),
            hint: error.hint(),
            reason: error.to_string(),
        },
        RootlessError::Died { reason, .. } => failed(reason),
        other => failed(other.to_string()),
    })?;
    let path = dir.join("kubeconfig");
    pki.kubeconfig(name, &server_url(node.port), None)
        .write(&path)
        .map_err(file_error(&path))?;
    Ok(node)
}

/// Ends the node and removes the directory. A directory that a dead node left half-removed is removed too.
fn remove(name: &str, dir: &Path) -> Result<(), ClusterError> {
    stop(name, dir)?;
    // Out of sight first: an interrupted removal must not leave half a cluster under its name.
    let aside = dir.with_file_name(format!(".{name}.deleted-{}", std::process::id()));
    fs::rename(dir, &aside).map_err(file_error(dir))?;
    fs::remove_dir_all(&aside).map_err(file_error(&aside))
}

fn stop(name: &str, dir: &Path) -> Result<(), ClusterError> {
    stop_node(dir, GRACE).map_err(|error| ClusterError::NodeFailed {
        name: name.to_owned(),
        reason: error.to_string(),
        log: dir.join("node.log"),
    })
}

fn remembered_port(dir: &Path) -> Result<u16, ClusterError> {
    let path = dir.join("node.json");
    let text = fs::read(&path).map_err(file_error(&path))?;
    let config: NodeConfig =
        serde_json::from_slice(&text).map_err(|error| file_error(&path)(io::Error::other(error)))?;
    Ok(config.port)
}

async fn handle(name: &str, dir: &Path) -> Result<ClusterHandle, ClusterError> {
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
        },
    })
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
        let (cluster, made) = (name.to_owned(), dir.clone());
        blocking(move || {
            if made.join("node.json").is_file() {
                return Err(ClusterError::AlreadyExists { name: cluster });
            }
            launch(&cluster, &made, 0).inspect_err(|error| {
                // Nothing of a cluster that never was; its log stays where the error points to it.
                if !matches!(error, ClusterError::AlreadyExists { .. }) {
                    let _ = fs::remove_file(made.join("node.json"));
                }
            })
        })
        .await?;
        starting(progress, 1, name);
        handle(name, &dir).await
    }

    async fn delete(&self, name: &str) -> Result<(), ClusterError> {
        let (dir, cluster) = (existing_dir(name)?, name.to_owned());
        blocking(move || remove(&cluster, &dir)).await
    }

    async fn list(&self) -> Result<Vec<ClusterInfo>, ClusterError> {
        let parent = paths::state_dir()
            .map_err(file_error(Path::new("the state directory")))?
            .join("clusters");
        blocking(move || {
            let entries = match fs::read_dir(&parent) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(file_error(&parent)(error)),
            };
            let mut clusters: Vec<ClusterInfo> = entries
                .flatten()
                .filter_map(|entry| info(&entry.file_name().into_string().ok()?, &entry.path()))
                .collect();
            clusters.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(clusters)
        })
        .await
    }

    async fn stop(&self, name: &str) -> Result<(), ClusterError> {
        let (dir, cluster) = (existing_dir(name)?, name.to_owned());
        blocking(move || stop(&cluster, &dir)).await
    }

    async fn start(&self, name: &str, progress: &Progress) -> Result<ClusterHandle, ClusterError> {
        let dir = existing_dir(name)?;
        starting(progress, 0, name);
        let (cluster, made) = (name.to_owned(), dir.clone());
        blocking(move || {
            if running_node(&made).is_none() {
                launch(&cluster, &made, remembered_port(&made)?)?;
            }
            Ok(())
        })
        .await?;
        starting(progress, 1, name);
        handle(name, &dir).await
    }

    async fn get(&self, name: &str) -> Result<ClusterHandle, ClusterError> {
        let dir = existing_dir(name)?;
        if running_node(&dir).is_none() {
            return Err(ClusterError::Stopped { name: name.to_owned() });
        }
        handle(name, &dir).await
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

fn info(name: &str, dir: &Path) -> Option<ClusterInfo> {
    if dir_of(name).is_err() || !dir.join("node.json").is_file() {
        return None;
    }
    let node = running_node(dir);
    let port = node.map(|node| node.port).or_else(|| remembered_port(dir).ok());
    Some(ClusterInfo {
        name: name.to_owned(),
        ground: GroundKind::Embedded,
        state: if node.is_some() {
            ClusterState::Running
        } else {
            ClusterState::Stopped
        },
        server: port.map(server_url),
        kubeconfig: dir.join("kubeconfig"),
        pid: node.map(|node| node.pid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for bad in ["", "A", "a_b", "-a", "a-", "../x", "a/b", &"x".repeat(41)] {
            assert!(matches!(dir_of(bad), Err(ClusterError::BadName { .. })), "{bad:?}");
        }
        assert!(dir_of("lab-1").unwrap().ends_with("clusters/lab-1"));
    }
}
