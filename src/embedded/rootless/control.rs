//! What a starting node tells its front end, one JSON object a line.

use std::io::Write;

use serde::{Deserialize, Serialize};

/// A message of a starting node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    /// The node's process, as the host sees it.
    Pid(u32),
    /// Every part is ready; with what the user should know.
    Ready(Vec<String>),
    /// Another node of this cluster is alive.
    Running,
    /// It cannot start, for a reason that this machine's owner can change.
    Refused {
        /// What was refused.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// It cannot start.
    Failed(String),
}

/// Sends a message; a front end that has gone away is no reason to stop.
pub(super) fn send(mut to: impl Write, message: &Message) {
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        let _ = to.write_all(&line);
    }
}
