//! The front end's side: starting, finding and ending a node.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
            net::UnixStream,
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::FlockOperation,
    process::{Pid, PidfdFlags, Signal},
};
use serde::{Deserialize, Serialize};

use crate::{NodeConfig, node::cgroup};

use super::{RootlessError, control::Message};

/// The file whose lock says that the node is alive, and whose content is its [`NodeHandle`].
pub(super) const LOCK_FILE: &str = "lock";
/// A node that has not said it is ready by then is given up.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A node process that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHandle {
    /// Its process, as the host sees it.
    pub pid: u32,
    /// The loopback port of the API server.
    pub port: u16,
}

/// How a node is started.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// The cluster; its port is that of the listener.
    pub config: NodeConfig,
    /// The program to re-execute; `None` is this one.
    pub program: Option<PathBuf>,
}

/// A node that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its process and port.
    pub node: NodeHandle,
    /// What the cluster's user should know about its start, a sentence each.
    pub notes: Vec<String>,
}

/// Takes a loopback port of the host for an API server; 0 takes any free one.
///
/// # Errors
/// When it is taken.
pub fn bind(port: u16) -> Result<TcpListener, RootlessError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|source| RootlessError::Port { port, source })
}

/// Makes `dir` and what leads to it, closed to others; one that is another user's cannot be closed, and is refused.
fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

/// Starts a node whose API server answers on `listener`, and waits until it is ready. Blocks: call it from a blocking
/// thread.
///
/// # Errors
/// Why there is no node.
pub fn spawn_node(options: &SpawnOptions, listener: TcpListener) -> Result<Started, RootlessError> {
    let mut config = options.config.clone();
    let dir = config.dir.clone();
    private_dir(&dir).map_err(RootlessError::io("make the cluster's directory"))?;
    if settled_node(&dir, |_| {}).is_some() {
        return Err(RootlessError::Running { name: config.name });
    }
    let address = listener
        .local_addr()
        .map_err(RootlessError::io("look at the listener"))?;
    config.port = address.port();
    let config_file = dir.join("node.json");
    config
        .write(&config_file)
        .map_err(RootlessError::io(format!("write {}", config_file.display())))?;
    let log_file = dir.join("node.log");
    let _ = fs::rename(&log_file, dir.join("node.log.1"));
    let log = private_file(&log_file).map_err(RootlessError::io(format!("make {}", log_file.display())))?;
    let (ours, theirs) = UnixStream::pair().map_err(RootlessError::io("make the control socket"))?;
    let program = options
        .program
        .as_deref()
        .map_or(OsStr::new("/proc/self/exe"), Path::as_os_str);
    let mut outer = Command::new(program)
        .arg0("ztlab")
        .arg("__node")
        .arg(&config_file)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::from(log))
        .spawn()
        .map_err(RootlessError::io("start the node"))?;
    let answer = wait_ready(&config, ours, &log_file);
    if answer.is_err() {
        let _ = outer.kill();
        let _ = stop_node(&dir, Duration::ZERO);
    }
    // the outer process ends as soon as the node proper is forked
    let _ = outer.wait();
    answer
}

fn wait_ready(config: &NodeConfig, control: UnixStream, log: &Path) -> Result<Started, RootlessError> {
    let name = || config.name.clone();
    let deadline = Instant::now() + START_LIMIT;
    let mut lines = BufReader::new(control);
    let (mut pid, mut ready) = (None, None);
    loop {
        if let Some(pid) = pid
            && let Some(notes) = ready.take()
        {
            let port = config.port;
            let node = NodeHandle { pid, port };
            return Ok(Started { node, notes });
        }
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        let _ = lines.get_ref().set_read_timeout(Some(left));
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let reason = format!("not ready after {} s\n{}", START_LIMIT.as_secs(), tail(log));
                return Err(RootlessError::Died { name: name(), reason });
            }
            Err(error) => return Err(RootlessError::io("read what the node says")(error)),
        }
        match serde_json::from_str(&line) {
            Ok(Message::Pid(number)) => pid = Some(number),
            Ok(Message::Ready(notes)) => ready = Some(notes),
            Ok(Message::Running) => return Err(RootlessError::Running { name: name() }),
            Ok(Message::Refused { reason, hint }) => return Err(RootlessError::Refused { reason, hint }),
            Ok(Message::Failed(reason)) => return Err(RootlessError::Died { name: name(), reason }),
            Err(_) => break,
        }
    }
    let reason = tail(log);
    Err(RootlessError::Died { name: name(), reason })
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn private_file(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// What the lock of a cluster says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// No process of a node is left.
    Nobody,
    /// A node that does not serve yet; its process where that is known.
    Starting(Option<NodeHandle>),
    /// A node that is about to be gone, after its last pod.
    Ending(NodeHandle),
    /// A node that serves.
    Alive(NodeHandle),
}

/// What the lock file holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LockContent {
    /// The node.
    pub(super) node: NodeHandle,
    /// Whether it has said that it is ready.
    pub(super) ready: bool,
}

/// Who has the lock of the cluster in `dir`.
pub fn holder(dir: &Path) -> Holder {
    let Ok(file) = File::open(dir.join(LOCK_FILE)) else {
        return Holder::Nobody;
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        _ => return Holder::Nobody,
    }
    match serde_json::from_reader::<_, LockContent>(file).ok() {
        Some(LockContent { node, .. }) if is_ending(node.pid) => Holder::Ending(node),
        Some(LockContent { node, ready: true }) => Holder::Alive(node),
        content => Holder::Starting(content.map(|content| content.node)),
    }
}

/// Whether a process is gone, or its end has begun: a killed node lets go of its lock last, after every pod.
fn is_ending(pid: u32) -> bool {
    /// `PF_EXITING` of the kernel's `include/linux/sched.h`.
    const EXITING: u32 = 0x4;
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // The name, in parentheses, may hold anything; the state follows it and the flags are six fields later (proc(5)).
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let (state, flags) = (fields.next(), fields.nth(5));
    matches!(state, Some("Z" | "X"))
        || flags
            .and_then(|flags| flags.parse().ok())
            .is_none_or(|flags: u32| flags & EXITING != 0)
        || is_killed(pid)
}

/// Whether a process was sent SIGKILL, and has not got to run since: its end has not begun, and nothing else will.
fn is_killed(pid: u32) -> bool {
    const KILL: u64 = 1 << (9 - 1);
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    // What waits for the thread, and for the process (proc(5)).
    let waiting = |line: &str| {
        line.strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"))
            .map(str::trim)
            .map(str::to_owned)
    };
    let mut masks = status.lines().filter_map(waiting);
    masks.any(|mask| u64::from_str_radix(&mask, 16).is_ok_and(|mask| mask & KILL != 0))
}

/// The node of the cluster in `dir`, if it is alive and serves.
pub fn running_node(dir: &Path) -> Option<NodeHandle> {
    match holder(dir) {
        Holder::Alive(node) => Some(node),
        _ => None,
    }
}

/// As [`running_node`], after waiting for a node that begins or ends to have done so, which `waiting` hears of once.
/// Blocks.
pub fn settled_node(dir: &Path, waiting: impl FnOnce(Holder)) -> Option<NodeHandle> {
    let deadline = Instant::now() + START_LIMIT;
    let mut waiting = Some(waiting);
    loop {
        match holder(dir) {
            Holder::Alive(node) => return Some(node),
            passing @ (Holder::Starting(_) | Holder::Ending(_)) if Instant::now() < deadline => {
                if let Some(waiting) = waiting.take() {
                    waiting(passing);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => return None,
        }
    }
}

/// The node whose process is known, in whatever state. Blocks while one has begun that has not said its process yet.
fn known_node(dir: &Path) -> Option<NodeHandle> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match holder(dir) {
            Holder::Alive(node) | Holder::Ending(node) | Holder::Starting(Some(node)) => return Some(node),
            Holder::Starting(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

/// Ends the node of the cluster in `dir` (SIGTERM, after `grace` SIGKILL) and waits until all of it is gone. Blocks. No
/// node is no error.
///
/// # Errors
/// When it cannot be signalled or does not end.
pub fn stop_node(dir: &Path, grace: Duration) -> Result<(), RootlessError> {
    end_node(dir, grace)?;
    remove_group(dir);
    Ok(())
}

/// Removes the control group of a node that has ended, unless another begins: that one does it itself.
fn remove_group(dir: &Path) {
    let Ok(lock) = File::open(dir.join(LOCK_FILE)) else {
        return;
    };
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    if let Err(error) = cgroup::remove_left(dir) {
        tracing::warn!(%error, "the node's control group stays until its cluster is started again");
    }
}

fn end_node(dir: &Path, grace: Duration) -> Result<(), RootlessError> {
    let Some(node) = known_node(dir) else {
        return Ok(());
    };
    let step = || format!("end the node (process {})", node.pid);
    let Some(pid) = i32::try_from(node.pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(RootlessError::io(step())(error.into())),
    };
    // the pid is the node's only while the node holds the lock
    if known_node(dir) != Some(node) {
        return Ok(());
    }
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, Duration::from_secs(10))] {
        match rustix::process::pidfd_send_signal(&pidfd, signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(RootlessError::io(step())(error.into())),
        }
        if ended(&pidfd, patience).map_err(RootlessError::io(step()))? {
            return Ok(());
        }
    }
    Err(RootlessError::io(step())(io::ErrorKind::TimedOut.into()))
}

/// Waits for a process to end; as PID 1 of its namespace it ends after everything in it.
fn ended(pidfd: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
