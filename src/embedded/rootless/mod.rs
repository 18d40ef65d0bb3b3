//! Entering the namespaces of a cluster without privilege.
//!
//! A front end binds the API server's port ([`bind`]) and re-executes ([`spawn_node`]) this binary as the node; [`node_stage`]
//! (in that process, before any thread) detaches, enters a user, network, mount, PID, UTS and IPC namespace, and runs the
//! cluster as PID 1 of its own PID namespace: when it dies, however it dies, the kernel ends every pod.
//!
//! The node's standard input is the API server's listener, its standard output the control socket it reports on, its
//! standard error the log: three descriptors that survive the re-execution without further ado.

mod control;
mod id_maps;
mod namespaces;
mod refusal;
mod spawn;
mod stage;

pub use namespaces::enter_namespaces;
pub use spawn::{
    Holder, NodeHandle, SpawnOptions, Started, bind, holder, running_node, settled_node, spawn_node, stop_node,
};
pub use stage::node_stage;

use std::path::{Path, PathBuf};

/// Where a cluster's own node mounts memory for what must not outlive it (volumes, the runtime's mounts). Outside the node
/// the directory is empty.
pub fn run_dir(cluster_dir: &Path) -> PathBuf {
    cluster_dir.join("run")
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
    #[error("port {port} of 127.0.0.1 cannot be used: {source}")]
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
            Self::Port { port, .. } => Some(format!(
                "end the program that listens on 127.0.0.1:{port}, or delete the cluster and create it again"
            )),
            Self::Died { .. } => Some("the node's log is node.log in the cluster's directory".to_owned()),
            _ => None,
        }
    }

    fn io(step: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let step = step.into();
        move |source| Self::Io { step, source }
    }
}
