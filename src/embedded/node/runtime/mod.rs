//! The container runtime: sandboxes and containers out of namespaces, without privilege and without a daemon.
//!
//! One OS thread ([`thread`]) does all namespace work and parents all pods: the kernel's parent-death signal follows the
//! parent *thread*. A sandbox is nothing but namespace file descriptors that this thread holds; there is no pause process.
//! A container's process does its part ([`rootfs`]) by itself, so that many containers start side by side.

mod capabilities;
mod freeze;
mod groups;
mod limits;
mod log;
mod peers;
mod rootfs;
mod streams;
mod template;
mod thread;
mod types;
mod watchdog;

pub use super::cgroup::Resources;
pub use freeze::Frozen;
pub use limits::try_processes;
pub use peers::Owner;
pub use rootfs::check_sub_path;
pub use types::{
    Attach, ContainerConfig, ContainerExit, Enforces, ExecConfig, Exited, Mount, MountSource, Output, PROCESSES,
    Process, RuntimeConfig, RuntimeError, SandboxConfig, Started,
};

use std::{ffi::CString, io, os::fd::OwnedFd, sync::Arc, sync::mpsc};

use rustix::{net::AddressFamily, process::Pid};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::node::{
    cgroup::Groups,
    sys::{self, Child, Failure, Filter, Program, Step},
};

use log::LogFile;
use streams::{Ours, Sink, Terminal, Unread, exec_reaper, feeder, pipes, reaper, window};
use thread::{Job, NewEntry, number, on};

/// The program that is nothing but the first process of its container, as this binary sees it in a container.
pub const PAUSE: [&str; 2] = ["/.ztlab/ztlab", "__pause"];

/// The program of [`PAUSE`]: it ends when it is killed, and takes leave of every process whose parent has ended.
pub fn pause_stage() -> ! {
    sys::leave_children_to_the_kernel();
    loop {
        std::thread::park();
    }
}

/// The `PATH` of a container that sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A handle to the node's runtime; clones are the same runtime.
#[derive(Clone)]
pub struct Runtime {
    jobs: mpsc::Sender<Job>,
    log_size: u64,
    groups: Option<Groups>,
    most_group: u32,
}

impl Runtime {
    /// Sets up the node's network and root file system template, and starts the runtime's thread. Called inside the
    /// cluster's namespaces.
    ///
    /// # Errors
    /// The step that the kernel refused.
    pub fn start(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let (log_size, groups) = (config.log_size, config.groups.clone());
        Ok(Self {
            jobs: thread::start(config)?,
            log_size,
            groups,
            most_group: groups::most(),
        })
    }

    /// The highest group that a process may be in, or a file of; 0 where the node has no others than its own.
    pub fn groups(&self) -> u32 {
        self.most_group
    }

    /// What the kernel holds containers to.
    pub fn enforces(&self) -> Enforces {
        Enforces {
            memory: self.groups.is_some(),
            cpu: self.groups.as_ref().is_some_and(Groups::cpu),
        }
    }

    /// Makes a pod's shared namespaces and connects it to the pod network.
    ///
    /// # Errors
    /// A sandbox of that id exists, or the kernel refused a step.
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<(), RuntimeError> {
        on(&self.jobs, move |node| node.run_sandbox(config)).await?
    }

    /// Kills everything in a sandbox, waits for it, and frees its network. No such sandbox is no error.
    ///
    /// # Errors
    /// When the runtime has stopped.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let sandbox = id.to_owned();
        let (there, ends) = on(&self.jobs, move |node| node.remove_sandbox(&sandbox)).await?;
        for mut end in ends {
            end.wait().await;
        }
        if there && let Some(groups) = self.groups.clone() {
            let id = id.to_owned();
            // What it cannot remove is removed with the cluster's.
            let _ = tokio::task::spawn_blocking(move || groups.remove_pod(&id)).await;
        }
        Ok(())
    }

    /// Starts a container; returns once its program has been executed.
    ///
    /// # Errors
    /// No such sandbox or program, a configuration that is refused, or the step that failed.
    pub async fn start_container(&self, config: ContainerConfig) -> Result<Started, RuntimeError> {
        if config.privileged {
            return Err(RuntimeError::Invalid(
                "privileged containers do not run on the embedded cluster: use kind for this".to_owned(),
            ));
        }
        let capabilities = capabilities::set(&config.cap_add, &config.cap_drop)?;
        let env = environment(&config);
        let log = config.log.as_deref().map(|path| LogFile::new(path, self.log_size));
        let (streams, stream_step) = stdio(config.tty, config.stdin, None)?;
        let mut steps = vec![stream_step];
        steps.extend(config.oom_score_adj.map(limits::oom_score));
        let identity = groups::identity(config.uid, config.gid, &config.groups, self.most_group);
        let user = identity.user.is_some();
        steps.extend(identity.user);
        steps.extend(identity.groups.clone());
        let memory = config.resources.memory.filter(|_| self.groups.is_none());
        steps.extend(rights(capabilities, config.no_new_privileges, memory));
        let program = program(steps, &config.argv, &env)?;
        let name = config.argv.first().cloned().unwrap_or_default();
        let id = config.id.clone();
        let (tty, stdin) = (config.tty, config.stdin);
        let entry = NewEntry {
            env,
            capabilities,
            memory,
            groups: identity.groups,
            user,
        };
        let started_at = jiff::Timestamp::now();
        let (child, group) = on(&self.jobs, move |node| node.spawn_container(&config, program, entry)).await??;
        let ran = executed(child, &name).await;
        let (pid, pidfd, terminal) = match ran {
            Ok(ran) => ran,
            Err(error) => {
                self.remove_container(&id).await?;
                return Err(error);
            }
        };
        let (output, attach) = connect(streams, terminal, stdin, Sink::new(log))?;
        debug_assert_eq!(tty, attach.resize.is_some());
        let exited = reaper(pidfd, started_at, output, group);
        let end = exited.clone();
        on(&self.jobs, move |node| node.started(&id, end)).await?;
        Ok(Started {
            pid: number(pid),
            started_at,
            exited,
            attach,
        })
    }

    /// Sends a signal to a container's first process. As PID 1 of its namespace it gets, besides SIGKILL, only signals
    /// that it handles.
    ///
    /// # Errors
    /// No such running container.
    pub async fn signal_container(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        let id = id.to_owned();
        on(&self.jobs, move |node| node.signal(&id, signal)).await?
    }

    /// Forgets a container that has ended; kills it first if it has not, and waits for it.
    ///
    /// # Errors
    /// When the runtime has stopped.
    pub async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let id = id.to_owned();
        let Some((end, group)) = on(&self.jobs, move |node| node.remove_container(&id)).await? else {
            return Ok(());
        };
        if let Some(mut end) = end {
            end.wait().await;
        }
        if let Some(group) = group {
            // What it cannot remove goes with its pod's.
            let _ = tokio::task::spawn_blocking(move || group.remove()).await;
        }
        Ok(())
    }

    /// A socket in a sandbox's network, wherever it is then connected from.
    ///
    /// # Errors
    /// No such sandbox, or the kernel has no such family.
    pub async fn pod_socket(&self, id: &str, family: AddressFamily) -> Result<TcpSocket, RuntimeError> {
        let id = id.to_owned();
        let socket = on(&self.jobs, move |node| node.pod_socket(&id, family)).await??;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    /// The container whose process made a Unix connection, of which this is the end that was accepted.
    ///
    /// # Errors
    /// It has ended, or is in no container of this node; in words.
    pub async fn owner(&self, connection: OwnedFd) -> Result<Owner, String> {
        on(&self.jobs, move |node| node.owner(&connection))
            .await
            .map_err(|error| error.to_string())?
    }

    /// Runs a program in a running container; returns once it has been executed.
    ///
    /// # Errors
    /// No such running container or program, or the step that failed.
    pub async fn exec(&self, config: ExecConfig) -> Result<Process, RuntimeError> {
        let id = config.container.clone();
        let entry = on(&self.jobs, move |node| node.container(&id)).await??;
        if entry.exited.as_ref().is_some_and(|end| end.now().is_some()) {
            return Err(RuntimeError::NoSuchContainer { id: config.container });
        }
        let mut env = entry.env.clone();
        if config.tty {
            set_if_missing(&mut env, "TERM", "xterm");
        }
        for (name, value) in &config.env {
            env.retain(|(known, _)| known != name);
            env.push((name.clone(), value.clone()));
        }
        let (streams, stream_step) = stdio(config.tty, config.stdin, config.size)?;
        let mut steps = vec![Step::Chdir(template::c_path(&entry.cwd)?), stream_step];
        steps.extend(entry.oom_score_adj.map(limits::oom_score));
        steps.extend(entry.groups.clone());
        steps.extend(rights(entry.capabilities, entry.no_new_privileges, entry.memory));
        let program = program(steps, &config.argv, &env)?;
        let name = config.argv.first().cloned().unwrap_or_default();
        let started_at = jiff::Timestamp::now();
        let child = on(&self.jobs, move |node| node.spawn_exec(&entry, program)).await??;
        let (pid, pidfd, terminal) = executed(child, &name).await?;
        let hangup = CancellationToken::new();
        let input = streams.as_ref().and_then(|ours| ours.stdin.as_ref());
        let unread = input.and_then(Unread::of);
        let exited = exec_reaper(pidfd, pid, started_at, hangup.clone(), config.killed, unread);
        let hangup = hangup.drop_guard();
        let pid = number(pid);
        let Some(terminal) = terminal else {
            let Some(Ours { stdin, stdout, stderr }) = streams else {
                return Err(RuntimeError::Stopped);
            };
            return Ok(Process {
                pid,
                stdin: stdin.map(|stdin| Box::new(stdin) as _),
                stdout: Box::new(stdout),
                stderr: Some(Box::new(stderr)),
                resize: None,
                exited,
                hangup,
            });
        };
        let terminal = Terminal::new(terminal).map_err(RuntimeError::kernel("use a terminal"))?;
        Ok(Process {
            pid,
            stdin: config.stdin.then(|| Box::new(terminal.clone()) as _),
            resize: Some(terminal.resizer()),
            stdout: Box::new(terminal),
            stderr: None,
            exited,
            hangup,
        })
    }
}

/// A program's environment: its own, and what every container has.
fn environment(config: &ContainerConfig) -> Vec<(String, String)> {
    let mut env = config.env.clone();
    set_if_missing(&mut env, "PATH", PATH);
    set_if_missing(
        &mut env,
        "HOME",
        if config.uid.unwrap_or(0) == 0 { "/root" } else { "/" },
    );
    if config.tty {
        set_if_missing(&mut env, "TERM", "xterm");
    }
    env
}

fn set_if_missing(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    if env.iter().all(|(known, _)| known != name) {
        env.push((name.to_owned(), value.to_owned()));
    }
}

fn stdio(tty: bool, stdin: bool, size: Option<(u16, u16)>) -> Result<(Option<Ours>, Step), RuntimeError> {
    if tty {
        let (columns, rows) = size.unwrap_or((80, 24));
        return Ok((None, Step::Terminal(window(columns, rows))));
    }
    let (ours, theirs) = pipes(stdin)?;
    let streams = [theirs.stdin, theirs.stdout, theirs.stderr].map(Arc::new);
    Ok((Some(ours), Step::Streams(streams)))
}

fn rights(capabilities: u64, no_new_privileges: bool, memory: Option<u64>) -> Vec<Step> {
    let mut steps = limits::steps(memory);
    steps.push(Step::Filter(Filter::containers()));
    steps.push(Step::KeepCapabilities(capabilities));
    if no_new_privileges {
        steps.push(Step::NoNewPrivileges);
    }
    steps
}

fn program(steps: Vec<Step>, argv: &[String], env: &[(String, String)]) -> Result<Program, RuntimeError> {
    let c_string =
        |text: &str| CString::new(text).map_err(|_| RuntimeError::Invalid(format!("{text:?} contains a zero byte")));
    let Some(name) = argv.first().filter(|name| !name.is_empty()) else {
        return Err(RuntimeError::Invalid("no command specified".to_owned()));
    };
    let mut candidates = Vec::new();
    if name.contains('/') {
        candidates.push(c_string(name)?);
    } else {
        let path = env
            .iter()
            .find(|(known, _)| known == "PATH")
            .map_or(PATH, |(_, path)| path);
        for dir in path.split(':').filter(|dir| dir.starts_with('/')) {
            candidates.push(c_string(&format!("{dir}/{name}"))?);
        }
    }
    Ok(Program {
        steps,
        candidates,
        argv: argv.iter().map(|text| c_string(text)).collect::<Result<_, _>>()?,
        env: env
            .iter()
            .map(|(name, value)| c_string(&format!("{name}={value}")))
            .collect::<Result<_, _>>()?,
    })
}

/// Waits until a child's program runs; one that does not is reaped, and its failure put into words.
async fn executed(child: Child, name: &str) -> Result<(Pid, OwnedFd, Option<OwnedFd>), RuntimeError> {
    let ran = tokio::task::spawn_blocking(move || child.executed()).await;
    let (pidfd, failure) = match ran {
        Ok(Ok(ran)) => return Ok(ran),
        Ok(Err(failed)) => failed,
        Err(_) => return Err(RuntimeError::Stopped),
    };
    streams::end(pidfd).await;
    let program = name.to_owned();
    Err(match failure {
        Failure::Exec(error) if error.kind() == io::ErrorKind::NotFound => RuntimeError::NotFound { program },
        Failure::Exec(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            RuntimeError::NotExecutable { program }
        }
        Failure::Exec(error) => RuntimeError::kernel(format!("exec: {name:?}"))(error),
        Failure::Step(step, error) => RuntimeError::kernel(step)(error),
        Failure::Silent => RuntimeError::Invalid(format!("{name:?} was killed before it was executed")),
    })
}

/// Connects a container's streams to its log and to those who attach.
fn connect(
    streams: Option<Ours>,
    terminal: Option<OwnedFd>,
    stdin: bool,
    sink: Sink,
) -> Result<(Vec<tokio::task::JoinHandle<()>>, Attach), RuntimeError> {
    if let Some(terminal) = terminal {
        let terminal = Terminal::new(terminal).map_err(RuntimeError::kernel("use a terminal"))?;
        let input = stdin.then(|| feeder(terminal.clone()));
        let resize = Some(terminal.resizer());
        let output = vec![sink.copy(Output::Stdout, terminal)];
        return Ok((output, sink.attach(input, resize)));
    }
    let Some(Ours { stdin, stdout, stderr }) = streams else {
        return Err(RuntimeError::Stopped);
    };
    let output = vec![sink.copy(Output::Stdout, stdout), sink.copy(Output::Stderr, stderr)];
    Ok((output, sink.attach(stdin.map(feeder), None)))
}
