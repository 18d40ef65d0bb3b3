//! What the kubelet asks of the runtime, and what it gets.

use std::{net::Ipv4Addr, path::PathBuf};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{broadcast, mpsc, watch},
};
use tokio_util::sync::DropGuard;

use crate::node::cgroup::{Groups, Resources};

use super::streams::Attached;

/// Processes and threads that a container may have at once.
pub const PROCESSES: u32 = 1024;

/// How the runtime is set up, once per node.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// A directory of the node's own mount namespace for the runtime's mounts; made if missing. Nothing of it is seen
    /// outside the node.
    pub dir: PathBuf,
    /// The program that containers see at `/.ztlab/ztlab`; `None` is this program.
    pub program: Option<PathBuf>,
    /// Addresses the node answers on, put on its loopback interface: the node's own address first, then the cluster
    /// DNS.
    pub node_addresses: Vec<Ipv4Addr>,
    /// The range of Service addresses, which the node itself routes to its loopback interface (so that its own
    /// connections meet the NAT rules), as address and prefix length.
    pub service_range: (Ipv4Addr, u8),
    /// Upper bound of each container's writable root, bytes.
    pub root_size: u64,
    /// How many processes and threads a container may have at once.
    pub processes: u32,
    /// Whether the kernel is asked to hold a container to that (Linux 6.14); else, and where it cannot, the node counts, and ends
    /// a container that has more.
    pub kernel_counts: bool,
    /// Whether the kernel is asked for a handle to the process that made a Unix connection (Linux 6.5); else, and where it has
    /// none, the number it tells is checked against the sockets that the process holds.
    pub kernel_names_peers: bool,
    /// Where pods have control groups, if they can have any: then these hold them to their limits.
    pub groups: Option<Groups>,
    /// A log file is rotated when it is larger than this, bytes; one older file (`….1`) is kept.
    pub log_size: u64,
}

impl RuntimeConfig {
    /// The usual bounds (64 MiB of writable root, 10 MiB of log) and ranges, with the runtime's files in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            program: None,
            node_addresses: vec![Ipv4Addr::new(10, 244, 0, 1), Ipv4Addr::new(10, 96, 0, 10)],
            service_range: (Ipv4Addr::new(10, 96, 0, 0), 16),
            root_size: 64 << 20,
            processes: PROCESSES,
            kernel_counts: true,
            kernel_names_peers: true,
            groups: None,
            log_size: 10 << 20,
        }
    }
}

/// One pod's shared part: its network, host name and System V IPC.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Its id, by custom the pod's uid.
    pub id: String,
    /// The host name its containers see; at most 63 characters.
    pub hostname: String,
    /// The pod's address; `None` joins the node's own network (`hostNetwork`).
    pub ip: Option<Ipv4Addr>,
    /// `/etc/resolv.conf` of its containers.
    pub resolv_conf: String,
    /// `/etc/hosts` of its containers.
    pub hosts: String,
    /// Settings of the kernel in its namespaces, by names with `.` between the parts.
    pub sysctls: Vec<(String, String)>,
    /// What the pod as a whole is given of the machine, where control groups hold it to that.
    pub resources: Resources,
}

/// Where a mount's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A directory or file of the node.
    Dir(PathBuf),
    /// What is at `inside` in a directory that pods write to: looked up without following a link out of it.
    Part {
        /// The directory.
        root: PathBuf,
        /// The path in it.
        inside: PathBuf,
    },
    /// Memory, gone with the container.
    Tmpfs {
        /// Upper bound, bytes.
        size_bytes: u64,
    },
}

/// Which limits the kernel holds a container as a whole to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Enforces {
    /// `limits.memory`.
    pub memory: bool,
    /// `limits.cpu`.
    pub cpu: bool,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where its content comes from.
    pub source: MountSource,
    /// Where the container sees it; absolute.
    pub target: PathBuf,
    /// The part of `source` to mount (`subPath`): never leads out of it, whatever links it holds.
    pub sub_path: Option<PathBuf>,
    /// Whether the container may not write to it.
    pub read_only: bool,
}

/// One container.
#[derive(Debug, Clone, Default)]
pub struct ContainerConfig {
    /// Its id, unique on the node.
    pub id: String,
    /// The id of its sandbox.
    pub sandbox: String,
    /// Its name, for messages.
    pub name: String,
    /// The program and its arguments. A program without `/` is looked for in the container's `PATH`.
    pub argv: Vec<String>,
    /// Its whole environment; `PATH`, `HOME` and `HOSTNAME` are added where missing.
    pub env: Vec<(String, String)>,
    /// Its working directory, made if missing; `/` by default.
    pub cwd: Option<PathBuf>,
    /// Programs that appear in `/usr/local/bin` as links to this binary.
    pub programs: Vec<String>,
    /// `runAsUser`: the user id it runs as, through a user namespace of its own; 0 by default. Such a container holds
    /// no capability over the pod's network.
    pub uid: Option<u32>,
    /// `runAsGroup`.
    pub gid: Option<u32>,
    /// `supplementalGroups` and `fsGroup`; those that the node has ([`Runtime::groups`](super::Runtime::groups)).
    pub groups: Vec<u32>,
    /// Capabilities to add to the default set (`NET_ADMIN`, with or without `CAP_`).
    pub cap_add: Vec<String>,
    /// Capabilities to take from it; `ALL` takes all.
    pub cap_drop: Vec<String>,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    /// `readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// `privileged`; refused, since no container of this runtime may hold the rights over the node.
    pub privileged: bool,
    /// Volumes.
    pub mounts: Vec<Mount>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether its standard input stays open; else it reads end of file.
    pub stdin: bool,
    /// Its log, in the CRI format (`2026-… stdout F text`); `None` keeps none.
    pub log: Option<PathBuf>,
    /// A container whose processes it sees (`shareProcessNamespace`, an ephemeral container's target).
    pub share_pid_with: Option<String>,
    /// What it is given of the machine. Where no control group counts its memory, the limit bounds what each of its processes may
    /// have of its own, and nothing holds it to the rest.
    pub resources: Resources,
    /// `oom_score_adj` of its processes, those that are run in it too.
    pub oom_score_adj: Option<i32>,
}

/// A program to run in a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecConfig {
    /// The container's id.
    pub container: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to the container's environment.
    pub env: Vec<(String, String)>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether standard input is sent.
    pub stdin: bool,
    /// The terminal's first size as (columns, rows).
    pub size: Option<(u16, u16)>,
    /// Whether it is killed at once with its process group, not hung up, when its client is gone.
    pub killed: bool,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerExit {
    /// Its exit code; 128 + N when signal N ended it.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// When its program was started.
    pub started_at: jiff::Timestamp,
    /// When it ended.
    pub finished_at: jiff::Timestamp,
    /// Whether the kernel ended processes of the container for want of memory.
    pub oom_killed: bool,
}

/// The future end of a program; clones all see it.
#[derive(Debug, Clone)]
pub struct Exited(pub(super) watch::Receiver<Option<ContainerExit>>);

impl Exited {
    /// Waits until it has ended. A runtime that went away counts as killed.
    pub async fn wait(&mut self) -> ContainerExit {
        let ended = self
            .0
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|exit| exit.clone());
        ended.unwrap_or_else(|| {
            let now = jiff::Timestamp::now();
            ContainerExit {
                code: 137,
                signal: Some(9),
                started_at: now,
                finished_at: now,
                oom_killed: false,
            }
        })
    }

    /// How it ended, if it has.
    pub fn now(&self) -> Option<ContainerExit> {
        self.0.borrow().clone()
    }
}

/// A container whose program has been executed.
#[derive(Clone)]
pub struct Started {
    /// Its program's pid as the node sees it.
    pub pid: i32,
    /// When the program was started.
    pub started_at: jiff::Timestamp,
    /// Its end.
    pub exited: Exited,
    /// Its streams, for `attach`.
    pub attach: Attach,
}

/// Which of a program's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output, and everything of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A container's streams, for any number of clients at once.
#[derive(Clone)]
pub struct Attach {
    pub(super) output: broadcast::Sender<(Output, Bytes)>,
    pub(super) attached: Attached,
    pub(super) stdin: Option<mpsc::Sender<Bytes>>,
    pub(super) resize: Option<mpsc::Sender<(u16, u16)>>,
}

impl Attach {
    /// One output of the container, from now on and without a gap. The container waits for a slow reader, but not for
    /// ever: one that takes nothing for long is let go, and its stream ends. It also ends with the container's output.
    pub fn join(&self, output: Output) -> mpsc::Receiver<Bytes> {
        self.attached.join(output)
    }

    /// What the container writes from now on. A receiver that lags loses the oldest.
    pub fn output(&self) -> broadcast::Receiver<(Output, Bytes)> {
        self.output.subscribe()
    }

    /// Where to send its standard input, if it was started with one; an empty message closes it for good.
    pub fn stdin(&self) -> Option<mpsc::Sender<Bytes>> {
        self.stdin.clone()
    }

    /// Where to send its terminal's size as (columns, rows), if it has one.
    pub fn resize(&self) -> Option<mpsc::Sender<(u16, u16)>> {
        self.resize.clone()
    }
}

/// A program started by `exec`. Dropping its streams closes them; dropping `hangup` too hangs it up, as a terminal that
/// is gone does.
pub struct Process {
    /// Its pid as the node sees it.
    pub pid: i32,
    /// Its standard input, if asked for.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output (with a terminal: both).
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Where to send its terminal's size as (columns, rows).
    pub resize: Option<mpsc::Sender<(u16, u16)>>,
    /// Its end.
    pub exited: Exited,
    /// Dropped while it runs: it may end by itself for a moment, longer if it takes what is left of its input, then it and
    /// its process group get SIGHUP. `nohup` is what keeps a program, but for one that was started to be `killed`.
    pub hangup: DropGuard,
}

/// Why the runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The program is not in the container; kubelet shows exactly this text.
    #[error("exec: \"{program}\": executable file not found in $PATH")]
    NotFound {
        /// The program asked for.
        program: String,
    },
    /// The program is there, but may not be executed.
    #[error("exec: \"{program}\": permission denied")]
    NotExecutable {
        /// The program asked for.
        program: String,
    },
    /// No such container, or it has ended.
    #[error("container {id} is not running")]
    NoSuchContainer {
        /// Its id.
        id: String,
    },
    /// No such sandbox.
    #[error("sandbox {id} does not exist")]
    NoSuchSandbox {
        /// Its id.
        id: String,
    },
    /// The configuration asks for what this runtime cannot or will not do.
    #[error("{0}")]
    Invalid(String),
    /// The kernel refused a step.
    #[error("{step}: {source}")]
    Kernel {
        /// What was being done.
        step: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The runtime's thread is gone: the node is ending.
    #[error("the container runtime has stopped")]
    Stopped,
}

impl RuntimeError {
    pub(super) fn kernel(step: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let step = step.into();
        move |source| Self::Kernel { step, source }
    }
}
