//! The node process, from its first instruction to the cluster's last.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    fs::FlockOperation,
    mount::MountFlags,
    process::{Resource, Rlimit},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    NodeConfig, NodeContext,
    image::Registry,
    node::{
        cgroup::{self, Groups, Lack},
        sys,
    },
};

use super::{
    RootlessError, control,
    control::Message,
    enter_namespaces, run_dir,
    spawn::{LOCK_FILE, LockContent, NodeHandle},
};

/// The node process: enters its namespaces, then runs the cluster. `args` is the path of its [`NodeConfig`] as JSON.
pub fn node_stage(args: Vec<OsString>, images: Arc<dyn Registry>) -> ExitCode {
    let (listener, control) = match (sys::inherit(0), sys::inherit(1)) {
        (Ok(listener), Ok(control)) => (TcpListener::from(listener), UnixStream::from(control)),
        _ => return ExitCode::from(2),
    };
    match start(&args, listener, &control, images) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            let message = match error {
                RootlessError::Refused { reason, hint } => Message::Refused { reason, hint },
                RootlessError::Running { .. } => Message::Running,
                other => Message::Failed(other.to_string()),
            };
            control::send(&control, &message);
            ExitCode::FAILURE
        }
    }
}

fn start(
    args: &[OsString],
    listener: TcpListener,
    control: &UnixStream,
    images: Arc<dyn Registry>,
) -> Result<ExitCode, RootlessError> {
    let config = read_config(args)?;
    detach().map_err(RootlessError::io("detach from the terminal"))?;
    let lock = lock(&config)?;
    raise_open_files();
    if let Err(error) = cgroup::remove_left(&config.dir) {
        eprintln!("the control group of the node before stays: {error}");
    }
    let groups = Groups::take(&config.name, &config.dir);
    let outer_control = control
        .try_clone()
        .map_err(RootlessError::io("copy the control socket"))?;
    let (outer_lock, port) = (lock.try_clone(), config.port);
    let (mut number, told) = UnixStream::pair().map_err(RootlessError::io("make a socket"))?;
    enter_namespaces(move |pid| {
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        let node = NodeHandle { pid, port };
        let written = outer_lock.and_then(|lock| write_lock(&lock, node, false));
        if let Err(error) = written {
            control::send(
                &outer_control,
                &Message::Failed(format!("write the lock file: {error}")),
            );
            return 1;
        }
        control::send(&outer_control, &Message::Pid(pid));
        (&told).write_all(&pid.to_ne_bytes()).map_or(1, |()| 0)
    })?;
    // Only the outer process sees this one's number on the host.
    let mut pid = [0; 4];
    number
        .read_exact(&mut pid)
        .map_err(RootlessError::io("learn the node's process"))?;
    let pid = u32::from_ne_bytes(pid);
    prepare(&config)?;
    serve(
        config,
        listener,
        control,
        groups,
        images,
        Lock {
            file: lock,
            node: NodeHandle { pid, port },
        },
    )
}

fn read_config(args: &[OsString]) -> Result<NodeConfig, RootlessError> {
    let path = args.first().map(Path::new).unwrap_or(Path::new(""));
    NodeConfig::read(path).map_err(|error| RootlessError::Io {
        step: format!("read {}", path.display()),
        source: io::Error::other(error),
    })
}

/// Leaves the terminal's session and lets go of the two streams that were handed down.
fn detach() -> io::Result<()> {
    let _ = rustix::process::setsid();
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    sys::replace_stdio(&nothing, 0)?;
    sys::replace_stdio(io::stderr(), 1)?;
    std::env::set_current_dir("/")
}

/// Whoever only asks who has the lock holds it shared for a moment: a node has it for longer than this.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Takes the cluster's lock, which lives exactly as long as the node: every copy of it closes with the node's processes.
fn lock(config: &NodeConfig) -> Result<File, RootlessError> {
    let path = config.dir.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(RootlessError::io(format!("open {}", path.display())))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    let locked = loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            locked => break locked,
        }
    };
    match locked {
        Ok(()) => {
            // What it says of the node before is no longer so.
            file.set_len(0)
                .map_err(RootlessError::io(format!("write {}", path.display())))?;
            Ok(file)
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RootlessError::Running {
            name: config.name.clone(),
        }),
        Err(error) => Err(RootlessError::io(format!("lock {}", path.display()))(error.into())),
    }
}

/// The lock of a node that has begun.
struct Lock {
    file: File,
    node: NodeHandle,
}

/// In one write of always the same length: a reader sees the one content or the other.
fn write_lock(lock: &File, node: NodeHandle, ready: bool) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let content = serde_json::to_string(&LockContent { node, ready })?;
    lock.write_all_at(format!("{content:<80}\n").as_bytes(), 0)
}

/// Says that the node serves, unless nobody waits for it any more: a start that was broken off leaves no node behind.
fn announce(control: &UnixStream, lock: &File, node: NodeHandle, notes: Vec<String>) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let mut watched = [PollFd::new(control, PollFlags::RDHUP)];
    if rustix::event::poll(&mut watched, Some(&Timespec::default()))? > 0 {
        return Ok(false);
    }
    write_lock(lock, node, true)?;
    control::send(control, &Message::Ready(notes));
    // the front end reads to the end of the stream, and nothing more is to come
    let _ = control.shutdown(std::net::Shutdown::Both);
    Ok(true)
}

/// A pod costs a handful of descriptors.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        eprintln!("the limit of open files stays as it is: {error}");
    }
}

/// What the node needs of its own namespaces before the cluster starts: a name, and memory that nobody else sees.
fn prepare(config: &NodeConfig) -> Result<(), RootlessError> {
    let name: String = config.name.chars().take(63).collect();
    rustix::system::sethostname(name.as_bytes())
        .map_err(|error| RootlessError::io("set the host name")(error.into()))?;
    let dir = run_dir(&config.dir);
    fs::create_dir_all(&dir).map_err(RootlessError::io(format!("make {}", dir.display())))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("ztlab", &dir, "tmpfs", flags, Some(c"mode=0700"))
        .map_err(|error| RootlessError::io(format!("mount memory on {}", dir.display()))(error.into()))
}

fn serve(
    config: NodeConfig,
    listener: TcpListener,
    control: &UnixStream,
    groups: Result<Groups, Lack>,
    images: Arc<dyn Registry>,
    lock: Lock,
) -> Result<ExitCode, RootlessError> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ZTLAB_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,hickory_server=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(RootlessError::io("start the asynchronous runtime"))?;
    let ready = control
        .try_clone()
        .map_err(RootlessError::io("copy the control socket"))?;
    let name = config.name.clone();
    let held = lock.file.try_clone().map_err(RootlessError::io("copy the lock"))?;
    let answer = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(&stop).map_err(RootlessError::io("listen for signals"))?;
        let end = stop.clone();
        let context = NodeContext {
            config,
            listener,
            groups,
            images,
            ready: Box::new(move |notes| match announce(&ready, &held, lock.node, notes) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::info!("the front end that asked for this node is gone: it ends");
                    end.cancel();
                }
                Err(error) => {
                    tracing::error!(%error, "the lock cannot be written: the node ends");
                    end.cancel();
                }
            }),
            stop,
        };
        crate::run(context).await.map_err(|error| RootlessError::Died {
            name,
            reason: error.to_string(),
        })
    });
    // connections that are still open must not keep a node that was told to stop
    runtime.shutdown_background();
    drop(lock.file);
    answer.map(|()| ExitCode::SUCCESS)
}

fn stop_on_signals(stop: &CancellationToken) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                stop.cancel();
            }
        });
    }
    Ok(())
}
