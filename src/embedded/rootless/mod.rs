//! Entering the namespaces of a cluster without privilege.
//!
//! [`spawn_node`] (in a front end) binds the API server's port and re-executes this binary as the node; [`node_stage`]
//! (in that process, before any thread) detaches, enters a user, network, mount, PID, UTS and IPC namespace, and runs the
//! cluster as PID 1 of its own PID namespace: when it dies, however it dies, the kernel ends every pod.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use super::{NodeConfig, image::Registry};

/// A node process that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHandle {
    /// Its process, as the host sees it.
    pub pid: u32,
    /// The loopback port of the API server.
    pub port: u16,
}

/// How a node is started.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// The cluster; port 0 takes a free one.
    pub config: NodeConfig,
    /// The program to re-execute; `None` is this one.
    pub program: Option<PathBuf>,
}

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum RootlessError {
    /// This machine does not let an ordinary user make namespaces.
    #[error("{reason}")]
    Refused {
        /// What was refused.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A node of this cluster runs already.
    #[error("cluster {name} is already running")]
    Running {
        /// The cluster.
        name: String,
    },
    /// The remembered port is taken.
    #[error("port {port} of 127.0.0.1 is taken by another program: {source}")]
    Port {
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The node ended before it was ready.
    #[error("the node of cluster {name} ended while starting: {reason}")]
    Died {
        /// The cluster.
        name: String,
        /// Its last words.
        reason: String,
    },
    /// A file or a process could not be made.
    #[error("{step}: {source}")]
    Io {
        /// What was being done.
        step: String,
        /// The answer.
        source: std::io::Error,
    },
}

impl RootlessError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } => Some(hint.clone()),
            Self::Port { .. } => Some("end that program, or delete and create the cluster".to_owned()),
            _ => None,
        }
    }
}

/// Starts a node and waits until it is ready. Blocks: call it from a blocking thread.
///
/// # Errors
/// Why there is no node.
pub fn spawn_node(options: &SpawnOptions) -> Result<NodeHandle, RootlessError> {
    Err(RootlessError::Died {
        name: options.config.name.clone(),
        reason: "not built yet".to_owned(),
    })
}

/// The node of the cluster in `dir`, if it is alive.
pub fn running_node(_dir: &Path) -> Option<NodeHandle> {
    None
}

/// Ends the node of the cluster in `dir` (SIGTERM, after `grace` SIGKILL) and waits until all of it is gone. Blocks.
///
/// # Errors
/// When it does not end.
pub fn stop_node(_dir: &Path, _grace: std::time::Duration) -> Result<(), RootlessError> {
    Ok(())
}

/// The node process: enters its namespaces, then runs the cluster.
pub fn node_stage(_args: Vec<OsString>, _images: Arc<dyn Registry>) -> ExitCode {
    ExitCode::from(2)
}
