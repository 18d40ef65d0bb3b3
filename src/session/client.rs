//! A face's end of the session host's socket.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
};
use tokio_stream::wrappers::WatchStream;

use crate::{
    paths,
    session::{
        command::{Command, PROTOCOL, Reply, Request, ServerLine},
        host::{READY, SOCKET, was_active},
        snapshot::Snapshot,
    },
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

/// How often a host that is just starting is tried, and how long to wait in between.
const TRIES: u32 = 100;
const WAIT: Duration = Duration::from_millis(20);

/// A connection to the session host. Dropping it harms nothing.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// The directory that commands are sent from, where it is not the process's own.
    directory: Option<PathBuf>,
}

struct Inner {
    write: tokio::sync::Mutex<OwnedWriteHalf>,
    waiting: Mutex<Waiting>,
    snapshots: watch::Receiver<Option<Snapshot>>,
    reader: tokio::task::AbortHandle,
}

/// Who waits for an answer; `None` once the host is gone.
#[derive(Default)]
struct Waiting {
    gone: bool,
    last: u64,
    answers: HashMap<u64, oneshot::Sender<Reply>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The snapshots of a session, latest first served: a slow reader skips, and never misses the last.
pub type Snapshots = Pin<Box<dyn Stream<Item = Snapshot> + Send>>;

fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ClientError {
    let doing = doing.into();
    move |source| ClientError::Io { doing, source }
}

/// Connects to this user's session host, starting it when none is running.
///
/// # Errors
/// When it cannot be started, or is of another version.
pub async fn connect_or_start() -> Result<Client, ClientError> {
    let socket = paths::runtime_dir()
        .map_err(io_error("find the runtime directory"))?
        .join(SOCKET);
    for _ in 0..TRIES {
        match try_connect(&socket).await {
            // It may be ending just now.
            Ok(None) => {}
            connected => return connected.map(|client| client.ok_or(ClientError::Gone))?,
        }
        if !start_host().await? {
            // Another host has the lock: it is about to listen, or about to end.
            tokio::time::sleep(WAIT).await;
        }
    }
    Err(ClientError::NotStarted("it does not listen".to_owned()))
}

/// Connects to this user's session host if it is running, or was until it crashed.
///
/// # Errors
/// When one is running and cannot be talked to.
pub async fn connect() -> Result<Option<Client>, ClientError> {
    let socket = paths::runtime_dir()
        .map_err(io_error("find the runtime directory"))?
        .join(SOCKET);
    if let Some(client) = try_connect(&socket).await? {
        return Ok(Some(client));
    }
    let sessions = paths::state_dir()
        .map_err(io_error("find the state directory"))?
        .join("sessions");
    if was_active(&sessions) {
        return connect_or_start().await.map(Some);
    }
    Ok(None)
}

/// `None` where no host listens, or one that goes before it has greeted: killed, it resets its last callers.
async fn try_connect(socket: &Path) -> Result<Option<Client>, ClientError> {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
    let greeted = async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(io_error(format!("connect to {}", socket.display())))?;
        Client::greet(stream).await
    };
    match greeted.await {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::Gone) => Ok(None),
        Err(ClientError::Io { source, .. })
            if matches!(source.kind(), NotFound | ConnectionRefused | ConnectionReset) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Starts the host; `false` when another one has the lock.
async fn start_host() -> Result<bool, ClientError> {
    let log = paths::state_dir()
        .map_err(io_error("find the state directory"))?
        .join("session-host.log");
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(io_error(format!("write {}", log.display())))?;
    let program = std::env::current_exe().map_err(io_error("find this program"))?;
    let mut host = tokio::process::Command::new(program)
        .arg("__session-host")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log))
        .kill_on_drop(false)
        .spawn()
        .map_err(io_error("start it"))?;
    let mut said = String::new();
    if let Some(out) = host.stdout.take() {
        BufReader::new(out)
            .read_line(&mut said)
            .await
            .map_err(io_error("wait for it"))?;
    }
    if said.trim() == READY {
        return Ok(true);
    }
    match host.wait().await.map_err(io_error("wait for it"))? {
        status if status.success() => Ok(false),
        status => Err(ClientError::NotStarted(format!("it ended with {status}"))),
    }
}

impl Client {
    async fn greet(stream: UnixStream) -> Result<Self, ClientError> {
        let (read, write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let hello = lines
            .next_line()
            .await
            .map_err(io_error("read its greeting"))?
            .ok_or(ClientError::Gone)?;
        let ours = env!("CARGO_PKG_VERSION").to_owned();
        match serde_json::from_str(&hello) {
            Ok(ServerLine::Hello { protocol, version, .. }) if protocol != PROTOCOL || version != ours => {
                return Err(ClientError::Version {
                    theirs: version,
                    protocol,
                    ours,
                });
            }
            Ok(ServerLine::Hello { .. }) => {}
            _ => {
                return Err(ClientError::NotStarted(
                    "something else listens on its socket".to_owned(),
                ));
            }
        }
        let (sender, snapshots) = watch::channel(None);
        let inner = Arc::new_cyclic(|inner: &std::sync::Weak<Inner>| Inner {
            write: tokio::sync::Mutex::new(write),
            waiting: Mutex::default(),
            snapshots,
            reader: tokio::spawn(read_lines(lines, inner.clone(), sender)).abort_handle(),
        });
        Ok(Self { inner, directory: None })
    }

    /// The same connection, with labs looked for in another directory first than the process's own.
    #[must_use]
    pub fn in_directory(self, directory: Option<PathBuf>) -> Self {
        Self { directory, ..self }
    }

    /// Runs a command; returns when it has finished.
    ///
    /// # Errors
    /// When the host goes away meanwhile. A command the host refuses is a [`Reply::Refused`].
    pub async fn send(&self, command: Command) -> Result<Reply, ClientError> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.gone {
                return Err(ClientError::Gone);
            }
            waiting.last += 1;
            let id = waiting.last;
            waiting.answers.insert(id, sender);
            id
        };
        let cwd = self.directory.clone().or_else(|| std::env::current_dir().ok());
        self.write(&Request::Run { id, cwd, command }).await?;
        answer.await.map_err(|_| ClientError::Gone)
    }

    /// The snapshots from now on, beginning with the current one. Ends when the host goes away.
    ///
    /// # Errors
    /// When the host is gone already.
    pub async fn follow(&self) -> Result<Snapshots, ClientError> {
        self.write(&Request::Follow).await?;
        // The stream keeps the connection.
        let keep = self.clone();
        let snapshots = WatchStream::new(self.inner.snapshots.clone());
        Ok(Box::pin(snapshots.filter_map(move |snapshot| {
            let _ = &keep;
            async move { snapshot }
        })))
    }

    async fn write(&self, request: &Request) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(request)
            .map_err(io::Error::other)
            .map_err(io_error("write a request"))?;
        line.push(b'\n');
        let mut write = self.inner.write.lock().await;
        write.write_all(&line).await.map_err(|_| ClientError::Gone)
    }
}

async fn read_lines(
    mut lines: Lines<BufReader<OwnedReadHalf>>,
    inner: std::sync::Weak<Inner>,
    snapshots: watch::Sender<Option<Snapshot>>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(ServerLine::Snapshot { snapshot }) => {
                snapshots.send_replace(Some(*snapshot));
            }
            Ok(ServerLine::Answer { id, reply }) => {
                let Some(inner) = inner.upgrade() else {
                    return;
                };
                let mut waiting = inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(answer) = waiting.answers.remove(&id) {
                    // Who asked may have lost interest.
                    let _ = answer.send(reply);
                }
            }
            _ => break,
        }
    }
    if let Some(inner) = inner.upgrade() {
        let mut waiting = inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.gone = true;
        waiting.answers.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_host_that_goes_before_it_greets_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(SOCKET);
        let listener = UnixListener::bind(&socket).unwrap();
        let (asked, _) = tokio::join!(try_connect(&socket), async { drop(listener.accept().await.unwrap()) });
        assert!(matches!(asked, Ok(None)), "it hung up");
        // Killed with a caller that it has not taken: the caller is reset.
        let asking = tokio::spawn(async move {
            try_connect(&socket)
                .await
                .map(|client| client.is_none())
                .map_err(|error| format!("{error:?}"))
        });
        while !queued(&listener) {
            tokio::task::yield_now().await;
        }
        drop(listener);
        assert_eq!(asking.await.unwrap(), Ok(true), "it was killed");
    }

    /// Whether a caller waits to be taken.
    fn queued(listener: &UnixListener) -> bool {
        let mut fds = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec::default();
        rustix::event::poll(&mut fds, Some(&now)).unwrap() > 0
    }
}
