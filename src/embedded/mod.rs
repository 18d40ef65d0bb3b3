//! A small Kubernetes: rootless, offline, ready in under a second. Knows no labs.
//!
//! Components meet only at the API server; [`run`] starts them, in order.

mod compose;
pub mod control_plane;
pub mod dns;
pub mod doctor;
pub mod events;
pub mod image;
pub mod informer;
pub mod kubelet_api;
pub mod node;
pub(crate) mod queue;
pub mod ranges;
pub mod rootless;
mod system;
pub(crate) mod write;

use std::{net::TcpListener, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use compose::run;

use image::Registry;
use ranges::Ranges;

/// What a node process is told at its start, as JSON (`node.json` in the cluster's directory).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The format of the cluster's directory: [`FORMAT`].
    pub version: u32,
    /// The cluster's name.
    pub name: String,
    /// The cluster's directory: `pki/`, `pods/`, `log/` are made under it.
    pub dir: PathBuf,
    /// The loopback port of the host that the API server answers on.
    pub port: u16,
    /// The addresses of its pods and Services.
    pub ranges: Ranges,
}

/// The format of a cluster's directory, raised when an older or newer ztlab could not make sense of it.
pub const FORMAT: u32 = 1;

impl NodeConfig {
    /// A cluster in `dir`, on any free port, with the usual addresses.
    pub fn new(name: &str, dir: PathBuf) -> Self {
        Self {
            version: FORMAT,
            name: name.to_owned(),
            dir,
            port: 0,
            ranges: Ranges::default(),
        }
    }
}

/// What [`run`] needs: made by the node stage, inside the cluster's namespaces.
pub struct NodeContext {
    /// The cluster's name and directory.
    pub config: NodeConfig,
    /// The API server's listener, bound in the host's network namespace before the node left it.
    pub listener: TcpListener,
    /// What image names resolve to.
    pub images: Arc<dyn Registry>,
    /// Called once, when every part is ready.
    pub ready: Box<dyn FnOnce() + Send>,
    /// Cancelled when the node is to stop (SIGTERM).
    pub stop: CancellationToken,
}

/// Why a node could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A part did not become ready.
    #[error("{part} did not start: {reason}")]
    Part {
        /// The part's name.
        part: &'static str,
        /// What it said.
        reason: String,
    },
}
