//! A face's end of the session host's socket.

use std::{io, pin::Pin};

use futures::Stream;

use crate::session::{
    command::{Command, Reply},
    snapshot::Snapshot,
};

/// Why the session host cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket's directory, the socket or the host could not be used.
    #[error("session host: {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A host of another version of ztlab is running.
    #[error("the running session host is ztlab {theirs} (protocol {protocol}), this is ztlab {ours}")]
    Version {
        /// The host's version.
        theirs: String,
        /// The host's protocol.
        protocol: u32,
        /// This program's version.
        ours: String,
    },
    /// The host did not come up.
    #[error("the session host did not start: {0}")]
    NotStarted(String),
    /// The host went away.
    #[error("the session host went away")]
    Gone,
}

impl ClientError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => Some("check that XDG_RUNTIME_DIR names a directory of yours, or unset it".into()),
            Self::Version { .. } => Some("stop it with `ztlab lab stop`, using the version that started it".into()),
            Self::NotStarted(_) => Some("its log is session-host.log under the state directory".into()),
            Self::Gone => Some("nothing is lost: run the command again, and the session continues".into()),
        }
    }
}

/// A connection to the session host. Dropping it harms nothing.
#[derive(Clone)]
pub struct Client {}

/// The snapshots of a session, latest first served: a slow reader skips, and never misses the last.
pub type Snapshots = Pin<Box<dyn Stream<Item = Snapshot> + Send>>;

/// Connects to this user's session host, starting it when none is running.
///
/// # Errors
/// When it cannot be started, or is of another version.
pub async fn connect_or_start() -> Result<Client, ClientError> {
    Err(ClientError::NotStarted("not built yet".into()))
}

/// Connects to this user's session host if it is running.
///
/// # Errors
/// When one is running and cannot be talked to.
pub async fn connect() -> Result<Option<Client>, ClientError> {
    Ok(None)
}

impl Client {
    /// Runs a command; returns when it has finished.
    ///
    /// # Errors
    /// When the host goes away meanwhile. A command the host refuses is a [`Reply::Refused`].
    pub async fn send(&self, _command: Command) -> Result<Reply, ClientError> {
        Err(ClientError::Gone)
    }

    /// The snapshots from now on, beginning with the current one. Ends when the host goes away.
    ///
    /// # Errors
    /// When the host is gone already.
    pub async fn follow(&self) -> Result<Snapshots, ClientError> {
        Err(ClientError::Gone)
    }
}
