//! The background process around a [`Host`]: one per user, and gone when nobody needs it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::fs::FlockOperation;
use tokio::net::UnixListener;

use super::{Host, socket};
use crate::paths;

/// The socket's name in the runtime directory.
pub const SOCKET: &str = "session.sock";
/// The lock's name there.
const LOCK: &str = "session.lock";
/// What the host prints once it can be connected to.
pub const READY: &str = "ready";

/// How long a host without a session and without a face waits for one.
const IDLE: Duration = Duration::from_secs(60);

/// How often a host looks whether its socket can still be found.
const LOOK: Duration = Duration::from_secs(1);

/// The session host: the background process that owns this user's session.
///
/// Prints `ready` once its socket can be connected to; ends at once when another host has the lock.
pub fn host_stage(_args: Vec<OsString>) -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ztlab: session host: {error}");
            ExitCode::from(2)
        }
    }
}

fn serve() -> io::Result<()> {
    // The terminal's signals are not for the host. Fails where it leads a session already, which is as good.
    let _ = rustix::process::setsid();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ZTLAB_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .try_init();
    let dir = paths::runtime_dir()?;
    // Held until the process ends, however it ends.
    let Some(_lock) = lock(&dir.join(LOCK))? else {
        return Ok(());
    };
    let socket = dir.join(SOCKET);
    // Whoever left this socket behind does not hold the lock any more.
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let sessions = paths::private_dir(paths::state_dir()?.join("sessions"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let listener = UnixListener::bind(&socket)?;
        let place = Place::of(socket)?;
        let host = Host::new(sessions, "lab-");
        // Before anybody is told: the first face must find the session, not the moment before it.
        host.take_up().await;
        announce()?;
        let served = accept(listener, host, &place).await;
        // Before the lock goes: the next host's socket must not be removed by this one.
        if place.is_there() {
            let _ = fs::remove_file(&place.path);
        }
        served
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// The lock, or `None` when another process has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Tells whoever started the host that it can be connected to, and lets go of their pipe.
fn announce() -> io::Result<()> {
    let mut out = io::stdout();
    // Nobody may be listening.
    let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Where faces look for the host: the socket's path and the file it was made as.
struct Place {
    path: PathBuf,
    file: (u64, u64),
}

impl Place {
    fn of(path: PathBuf) -> io::Result<Self> {
        let file = Self::file(&path)?;
        Ok(Self { path, file })
    }

    fn file(path: &Path) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
    }

    fn is_there(&self) -> bool {
        Self::file(&self.path).is_ok_and(|file| file == self.file)
    }

    /// Ends when the socket was removed or replaced: nobody can reach this host any more, to stop it either.
    async fn lost(&self) {
        while self.is_there() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn accept(listener: UnixListener, host: Arc<Host>, place: &Place) -> io::Result<()> {
    let faces = Arc::new(AtomicUsize::new(0));
    let stop = host.stopped();
    let lost = place.lost();
    tokio::pin!(lost);
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let (stream, _) = connection?;
                let face = Face::new(&faces);
                let host = host.clone();
                tokio::spawn(async move {
                    let _face = face;
                    if let Err(error) = socket::serve(stream, host).await {
                        tracing::debug!("a face went away: {error}");
                    }
                });
            }
            () = stop.cancelled() => {
                // The answer to the command that said so is still on its way.
                tokio::time::sleep(Duration::from_millis(50)).await;
                return Ok(());
            }
            () = &mut lost => {
                tracing::warn!("the socket {} is gone: the session host ends", place.path.display());
                return Ok(());
            }
            () = tokio::time::sleep(IDLE) => {
                if faces.load(Ordering::Relaxed) == 0 && !host.busy() {
                    return Ok(());
                }
            }
        }
    }
}

/// One connected face.
struct Face(Arc<AtomicUsize>);

impl Face {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
