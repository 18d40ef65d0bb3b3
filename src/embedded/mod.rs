//! A small Kubernetes: rootless, offline, ready in under a second. Knows no labs.
//!
//! Components meet only at the API server; [`run`] starts them, in order.

#![cfg(target_os = "linux")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod components;
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
pub mod tasks;
pub(crate) mod tree;
pub(crate) mod write;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
};

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

/// Where the store keeps its files, in the cluster's directory.
pub const STORE_DIR: &str = "store";

/// Why a [`NodeConfig`] cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is of another format.
    #[error("it was made by {} version of ztlab (format {found}; this one reads format {FORMAT})", if *.found > u64::from(FORMAT) { "a newer" } else { "an older" })]
    Version {
        /// The format it says.
        found: u64,
    },
    /// It makes no sense.
    #[error("node.json is damaged: {0}")]
    Damaged(String),
}

impl NodeConfig {
    /// Reads `node.json`.
    ///
    /// # Errors
    /// When it is missing, of another format, or damaged.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read(path)?;
        let damaged = |error: &dyn std::fmt::Display| ConfigError::Damaged(error.to_string());
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
        // Before it had one, the format had no number.
        let found = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found != u64::from(FORMAT) {
            return Err(ConfigError::Version { found });
        }
        let config: Self = serde_json::from_value(value).map_err(|error| damaged(&error))?;
        config.ranges.check().map_err(|error| damaged(&error))?;
        Ok(config)
    }

    /// Writes `node.json`, readable by this user alone, in one step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        control_plane::pki::write_private(path, &serde_json::to_vec_pretty(self)?)
    }

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
    /// Where its pods have control groups, or why they have none.
    pub groups: Result<node::cgroup::Groups, node::cgroup::Lack>,
    /// What image names resolve to.
    pub images: Arc<dyn Registry>,
    /// Called once, when every part is ready, with what the cluster's user should know, a sentence each.
    pub ready: Box<dyn FnOnce(Vec<String>) + Send>,
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
