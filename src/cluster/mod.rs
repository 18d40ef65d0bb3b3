//! The grounds a lab runs on, behind one handle.
//!
//! A [`Ground`] is the lifecycle of clusters of one kind; a [`ClusterHandle`] is how everything above reaches one. No
//! code above asks which ground it has.

pub mod manifests;

mod access;
mod context;
#[cfg(target_os = "linux")]
mod embedded;
mod error;
mod snapshots;

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use access::may;
pub use context::kubeconfigs;
pub use error::ClusterError;
pub use snapshots::{Restored, Snapshot};

/// Which sort of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroundKind {
    /// The small Kubernetes in this binary.
    #[default]
    Embedded,
    /// A context of the user's kubeconfig.
    Context,
}

impl fmt::Display for GroundKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Context => "context",
        })
    }
}

impl FromStr for GroundKind {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "context" => Ok(Self::Context),
            other => Err(ClusterError::NoSuchGround { name: other.to_owned() }),
        }
    }
}

/// A step of something that takes time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressEvent {
    /// What is being done (`create cluster`, `apply manifests`, `wait for pods`).
    pub phase: String,
    /// How many parts are done.
    pub done: u32,
    /// Of how many; 0 where that is not known.
    pub total: u32,
    /// The part at hand (`deployment orders-api`).
    pub detail: String,
}

/// Who hears of progress.
pub type Progress = Arc<dyn Fn(ProgressEvent) + Send + Sync>;

/// A [`Progress`] for those who do not want to know.
pub fn no_progress() -> Progress {
    Arc::new(|_| {})
}

/// What a cluster can do beyond the Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Images are the stand-ins of this binary; none is pulled.
    pub stand_ins: bool,
    /// It may be deleted and made anew as a whole by this program.
    pub disposable: bool,
    /// Its whole state can be put aside and put back: [`ClusterHandle::snapshot`], [`ClusterHandle::restore`].
    pub snapshots: bool,
    /// It is known that its network matches pods by their address in an `ipBlock`; of others that is to be measured.
    #[serde(default)]
    pub pod_addresses: bool,
}

/// Whether a cluster runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterState {
    /// Its node process is alive and serves.
    Running,
    /// Its node process is there and does not serve yet.
    Starting,
    /// Its node process is about to be gone.
    Stopping,
    /// It has a directory, but no process.
    Stopped,
    /// Its directory is of another version of ztlab, or damaged: it can only be deleted.
    Unusable,
}

/// A cluster, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// Its name.
    pub name: String,
    /// Its ground.
    pub ground: GroundKind,
    /// Whether it runs.
    pub state: ClusterState,
    /// The API server's URL, where it is known.
    pub server: Option<String>,
    /// The kubeconfig that reaches it.
    pub kubeconfig: PathBuf,
    /// The node process as the host sees it, where there is one.
    pub pid: Option<u32>,
    /// Its addresses, where this program gave them.
    pub ranges: Option<ClusterRanges>,
}

/// The addresses of a cluster, as CIDRs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRanges {
    /// Of pods and the node.
    pub pods: String,
    /// Of Services.
    pub services: String,
}

/// How everything above the ground reaches a cluster.
#[derive(Clone)]
pub struct ClusterHandle {
    /// A client with the rights of an administrator.
    pub client: kube::Client,
    /// The cluster's name.
    pub name: String,
    /// A kubeconfig for `kubectl`.
    pub kubeconfig: PathBuf,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What its user should know about how it came up (another port, objects that could not be read), a sentence each.
    pub notes: Vec<String>,
}

impl fmt::Debug for ClusterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterHandle")
            .field("name", &self.name)
            .field("kubeconfig", &self.kubeconfig)
            .finish()
    }
}

/// The lifecycle of the clusters of one kind.
#[async_trait]
pub trait Ground: Send + Sync {
    /// Which kind.
    fn kind(&self) -> GroundKind;

    /// Makes a cluster and waits until its API answers and its node is Ready.
    ///
    /// # Errors
    /// A bad name, a name in use, or what kept it from starting.
    async fn create(&self, name: &str, progress: &Progress) -> Result<ClusterHandle, ClusterError>;

    /// Ends a cluster and forgets all of it.
    ///
    /// # Errors
    /// When there is no such cluster, or it does not end.
    async fn delete(&self, name: &str) -> Result<(), ClusterError>;

    /// The clusters there are, by name.
    ///
    /// # Errors
    /// When their directory cannot be read.
    async fn list(&self) -> Result<Vec<ClusterInfo>, ClusterError>;

    /// Ends a cluster's processes but keeps its directory, so that [`start`](Self::start) finds its port and certificates.
    ///
    /// # Errors
    /// When there is no such cluster, or it does not end.
    async fn stop(&self, name: &str) -> Result<(), ClusterError>;

    /// Starts a stopped cluster.
    ///
    /// # Errors
    /// When there is no such cluster, or it does not start.
    async fn start(&self, name: &str, progress: &Progress) -> Result<ClusterHandle, ClusterError>;

    /// A handle of a running cluster.
    ///
    /// # Errors
    /// When there is no such cluster, or it is stopped.
    async fn get(&self, name: &str) -> Result<ClusterHandle, ClusterError>;

    /// The last lines of the node's own log.
    ///
    /// # Errors
    /// When there is no such cluster, or its log cannot be read.
    async fn node_logs(&self, name: &str) -> Result<String, ClusterError>;
}

/// The ground of a kind.
///
/// # Errors
/// When this machine does not have it.
pub fn ground(kind: GroundKind) -> Result<Box<dyn Ground>, ClusterError> {
    match kind {
        #[cfg(target_os = "linux")]
        GroundKind::Embedded => Ok(Box::new(embedded::Embedded)),
        #[cfg(not(target_os = "linux"))]
        GroundKind::Embedded => Err(ClusterError::NoSuchGround { name: kind.to_string() }),
        GroundKind::Context => Ok(contexts(kubeconfigs(), None)),
    }
}

/// The contexts of these kubeconfigs as a ground. With `copy`, a cluster's handle has a kubeconfig of its context alone, written there.
pub fn contexts(files: Vec<PathBuf>, copy: Option<PathBuf>) -> Box<dyn Ground> {
    Box::new(context::Context { files, copy })
}

/// A handle of the cluster that the current context of a kubeconfig leads to, whatever its ground: for looking at it.
///
/// # Errors
/// When the file cannot be used.
pub async fn by_kubeconfig(name: &str, kubeconfig: &std::path::Path) -> Result<ClusterHandle, ClusterError> {
    Ok(ClusterHandle {
        client: connect(kubeconfig).await?,
        name: name.to_owned(),
        kubeconfig: kubeconfig.to_owned(),
        capabilities: Capabilities::default(),
        notes: Vec::new(),
    })
}

/// A client for the current context of a kubeconfig.
///
/// # Errors
/// When the file cannot be used.
pub async fn connect(kubeconfig: &std::path::Path) -> Result<kube::Client, ClusterError> {
    let config = kube::config::Kubeconfig::read_from(kubeconfig).map_err(|source| ClusterError::Kubeconfig {
        path: kubeconfig.to_owned(),
        source: Box::new(source),
    })?;
    client(config, &kube::config::KubeConfigOptions::default(), kubeconfig).await
}

/// A client for a context of a kubeconfig read from `path`.
async fn client(
    config: kube::config::Kubeconfig,
    options: &kube::config::KubeConfigOptions,
    path: &std::path::Path,
) -> Result<kube::Client, ClusterError> {
    // rustls takes the process's provider; a second call finds it set, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::from_custom_kubeconfig(config, options)
        .await
        .map_err(|source| ClusterError::Kubeconfig {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
    kube::Client::try_from(config).map_err(|source| ClusterError::Api {
        what: format!("connect by {}", path.display()),
        source: Box::new(source),
    })
}
