//! The runtime's thread: all namespace work happens here, one job after the other.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, SocketFlags, SocketType},
    process::{Pid, Signal},
    thread::{ThreadNameSpaceType, UnshareFlags},
};
use tokio::sync::oneshot;

use crate::node::{
    cgroup::{Group, Resources},
    cni::{self, Attachment, PodNetwork},
    netlink::Socket,
    sys::{self, Child, Program, Step},
};

use super::{
    ContainerConfig, Exited, RuntimeConfig, RuntimeError, SandboxConfig, limits, rootfs, template::Template, watchdog,
};

pub(super) type Job = Box<dyn FnOnce(&mut Node) + Send>;

/// The kinds of namespaces that a sandbox holds for its containers.
const SHARED: [(&str, ThreadNameSpaceType); 3] = [
    ("net", ThreadNameSpaceType::NETWORK),
    ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
];

/// Pages of System V shared memory that a pod may have: 64 MiB.
const SHARED_MEMORY_PAGES: &str = "16384";

struct Sandbox {
    config: SandboxConfig,
    namespaces: Vec<(Arc<OwnedFd>, ThreadNameSpaceType)>,
    network: Option<Attachment>,
}

/// What `exec` needs to know of a running container.
#[derive(Clone)]
pub(super) struct Entry {
    sandbox: String,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: std::path::PathBuf,
    pub(super) capabilities: u64,
    pub(super) no_new_privileges: bool,
    pub(super) memory: Option<u64>,
    pub(super) oom_score_adj: Option<i32>,
    /// The step that takes its groups.
    pub(super) groups: Option<Step>,
    pub(super) user: bool,
    pub(super) group: Option<Arc<Group>>,
    pub(super) exited: Option<Exited>,
}

/// What the thread owns.
pub(super) struct Node {
    config: RuntimeConfig,
    template: Template,
    /// How many processes a container may have, where the kernel holds it to that.
    processes: Option<u32>,
    network: PodNetwork,
    /// The thread's own namespaces, to come back to.
    home: Vec<(Arc<OwnedFd>, ThreadNameSpaceType)>,
    home_pid: OwnedFd,
    sandboxes: HashMap<String, Sandbox>,
    containers: HashMap<String, Entry>,
}

/// Starts the thread and waits until the node's network and the containers' template are there.
pub(super) fn start(config: RuntimeConfig) -> Result<mpsc::Sender<Job>, RuntimeError> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let (done, made) = mpsc::channel();
    std::thread::Builder::new()
        .name("runtime".to_owned())
        .spawn(move || {
            let mut node = match Node::new(config) {
                Ok(node) => {
                    let _ = done.send(Ok(()));
                    node
                }
                Err(error) => {
                    let _ = done.send(Err(error));
                    return;
                }
            };
            while let Ok(job) = queue.recv() {
                job(&mut node);
            }
        })
        .map_err(RuntimeError::kernel("start the runtime's thread"))?;
    made.recv().map_err(|_| RuntimeError::Stopped)??;
    Ok(jobs)
}

/// Runs `work` on the thread.
pub(super) async fn on<T: Send + 'static>(
    jobs: &mpsc::Sender<Job>,
    work: impl FnOnce(&mut Node) -> T + Send + 'static,
) -> Result<T, RuntimeError> {
    let (answer, answered) = oneshot::channel();
    let job: Job = Box::new(move |node| {
        let _ = answer.send(work(node));
    });
    jobs.send(job).map_err(|_| RuntimeError::Stopped)?;
    answered.await.map_err(|_| RuntimeError::Stopped)
}

fn namespace(kind: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        format!("/proc/thread-self/ns/{kind}"),
        flags,
        Mode::empty(),
    )?)
}

impl Node {
    fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let program = match &config.program {
            Some(program) => program.clone(),
            None => this_program(&config.dir)?,
        };
        let template = Template::build(&config.dir, &program)?;
        let network = PodNetwork::start(&config.node_addresses, config.service_range)
            .map_err(|error| RuntimeError::kernel(error.what)(error.source))?;
        let counted = if config.kernel_counts {
            limits::try_processes(config.processes)
        } else {
            Err("it is not asked to".to_owned())
        };
        let processes = match counted {
            Ok(()) => Some(config.processes),
            // They are bounded by its control group.
            Err(_) if config.groups.is_some() => None,
            Err(why) => {
                tracing::info!("the kernel does not bound a container's processes, the node counts them: {why}");
                watchdog::start(config.processes).map_err(RuntimeError::kernel("start the watchdog"))?;
                None
            }
        };
        let own = |kind| namespace(kind).map_err(RuntimeError::kernel("open the node's namespaces"));
        let home = SHARED
            .iter()
            .map(|&(kind, flag)| Ok((Arc::new(own(kind)?), flag)))
            .collect::<Result<_, RuntimeError>>()?;
        Ok(Self {
            config,
            template,
            processes,
            network,
            home,
            home_pid: own("pid")?,
            sandboxes: HashMap::new(),
            containers: HashMap::new(),
        })
    }

    pub(super) fn run_sandbox(&mut self, config: SandboxConfig) -> Result<(), RuntimeError> {
        if self.sandboxes.contains_key(&config.id) {
            return Err(RuntimeError::Invalid(format!("sandbox {} exists already", config.id)));
        }
        let made = self.shared_namespaces(&config);
        self.go_home();
        let (namespaces, socket) = made?;
        let mut network = None;
        if let (Some(address), Some(socket), Some((netns, _))) = (config.ip, socket, namespaces.first()) {
            let attached = self.network.attach(netns, &socket, address);
            network = Some(attached.map_err(|error| RuntimeError::kernel(error.what)(error.source))?);
        }
        if let Some(groups) = &self.config.groups {
            let made = groups.make_pod(&config.id, &config.resources);
            if let Err(error) = made {
                if let Some(network) = &network {
                    self.network.detach(network);
                }
                groups.remove_pod(&config.id);
                return Err(RuntimeError::kernel("make the pod's control group")(error));
            }
        }
        self.sandboxes.insert(
            config.id.clone(),
            Sandbox {
                config,
                namespaces,
                network,
            },
        );
        Ok(())
    }

    /// Enters new namespaces for a sandbox and opens them; the caller leaves them again.
    #[allow(clippy::type_complexity)]
    fn shared_namespaces(
        &self,
        config: &SandboxConfig,
    ) -> Result<(Vec<(Arc<OwnedFd>, ThreadNameSpaceType)>, Option<Socket>), RuntimeError> {
        let mut kinds = UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
        if config.ip.is_some() {
            kinds |= UnshareFlags::NEWNET;
        }
        sys::unshare(kinds).map_err(RuntimeError::kernel("make a pod's namespaces"))?;
        rustix::system::sethostname(config.hostname.as_bytes())
            .map_err(|error| RuntimeError::kernel(format!("name the host {:?}", config.hostname))(error.into()))?;
        // System V shared memory is in no file system whose size could bound it. Older kernels keep this one to the machine's root.
        if let Err(error) = fs::write("/proc/sys/kernel/shmall", SHARED_MEMORY_PAGES) {
            tracing::debug!(%error, "System V shared memory is bounded by the machine alone");
        }
        let mut socket = None;
        if config.ip.is_some() {
            cni::quiet_ipv6();
            cni::open_low_ports();
            let failed = |error: crate::node::netlink::NetlinkError| RuntimeError::kernel(error.what)(error.source);
            let made = Socket::route().map_err(failed)?;
            cni::loopback(&made).map_err(failed)?;
            socket = Some(made);
        }
        for (name, value) in &config.sysctls {
            let path = Path::new("/proc/sys").join(name.replace('.', "/"));
            fs::write(&path, value).map_err(RuntimeError::kernel(format!("set the sysctl {name:?} to {value:?}")))?;
        }
        let mut namespaces = Vec::new();
        for (kind, flag) in SHARED {
            let fd = namespace(kind).map_err(RuntimeError::kernel("open a pod's namespaces"))?;
            namespaces.push((Arc::new(fd), flag));
        }
        Ok((namespaces, socket))
    }

    /// Brings the thread back into the node's namespaces. That cannot fail but for a broken kernel, and a thread that is in
    /// a pod's namespaces must not go on.
    fn go_home(&self) {
        for (fd, kind) in &self.home {
            if let Err(error) = rustix::thread::move_into_thread_name_spaces(fd.as_fd(), *kind) {
                tracing::error!(%error, "the runtime's thread cannot return to the node's namespaces");
                std::process::abort();
            }
        }
    }

    /// Kills everything in a sandbox and disconnects it; says whether it was there, and gives the ends to wait for.
    pub(super) fn remove_sandbox(&mut self, id: &str) -> (bool, Vec<Exited>) {
        let mut ends = Vec::new();
        self.containers.retain(|_, entry| {
            if entry.sandbox != id {
                return true;
            }
            let _ = rustix::process::pidfd_send_signal(&entry.pidfd, Signal::KILL);
            ends.extend(entry.exited.clone());
            false
        });
        let sandbox = self.sandboxes.remove(id);
        let there = sandbox.is_some();
        if let Some(network) = sandbox.and_then(|sandbox| sandbox.network) {
            self.network.detach(&network);
        }
        (there, ends)
    }

    /// Starts a container's first process.
    pub(super) fn spawn_container(
        &mut self,
        config: &ContainerConfig,
        mut program: Program,
        entry: NewEntry,
    ) -> Result<(Child, Option<Arc<Group>>), RuntimeError> {
        if self.containers.contains_key(&config.id) {
            return Err(RuntimeError::Invalid(format!("container {} exists already", config.id)));
        }
        let sandbox = self
            .sandboxes
            .get(&config.sandbox)
            .ok_or_else(|| RuntimeError::NoSuchSandbox {
                id: config.sandbox.clone(),
            })?;
        let enter = sandbox
            .namespaces
            .iter()
            .map(|(fd, kind)| Step::Enter(fd.clone(), *kind));
        let group = match &self.config.groups {
            Some(groups) => {
                let resources = Resources {
                    processes: Some(self.config.processes),
                    ..config.resources
                };
                let made = groups.make_container(&config.sandbox, &config.id, &resources);
                let made = made.map_err(RuntimeError::kernel("make the container's control group"))?;
                Some(Arc::new(made))
            }
            None => None,
        };
        let join = group.iter().map(|group| Step::Join(group.procs()));
        let mut steps: Vec<Step> = join.chain(enter).collect();
        steps.extend(rootfs::steps(
            &self.template,
            &sandbox.config,
            config,
            self.config.root_size,
            self.processes,
        )?);
        steps.append(&mut program.steps);
        program.steps = steps;
        let child = match &config.share_pid_with {
            None => sys::spawn(program, UnshareFlags::NEWNS | UnshareFlags::NEWPID),
            Some(other) => {
                let pidfd = self.container(other)?.pidfd;
                self.in_pid_namespace(&pidfd, || sys::spawn(program, UnshareFlags::NEWNS))?
            }
        }
        .map_err(RuntimeError::kernel("start a container's process"))?;
        let pidfd = child
            .pidfd
            .try_clone()
            .map_err(RuntimeError::kernel("keep a container's process"))?;
        self.containers.insert(
            config.id.clone(),
            Entry {
                sandbox: config.sandbox.clone(),
                pidfd: Arc::new(pidfd),
                env: entry.env,
                cwd: config.cwd.clone().unwrap_or_else(|| "/".into()),
                capabilities: entry.capabilities,
                no_new_privileges: config.no_new_privileges,
                memory: entry.memory,
                oom_score_adj: config.oom_score_adj,
                groups: entry.groups,
                user: entry.user,
                group: group.clone(),
                exited: None,
            },
        );
        Ok((child, group))
    }

    /// Starts one more process in a container. `program`'s steps follow those that enter it.
    pub(super) fn spawn_exec(&mut self, entry: &Entry, mut program: Program) -> Result<Child, RuntimeError> {
        let mut kinds = ThreadNameSpaceType::MOUNT;
        for (_, kind) in SHARED {
            kinds |= kind;
        }
        if entry.user {
            kinds |= ThreadNameSpaceType::USER;
        }
        let join = entry.group.iter().map(|group| Step::Join(group.procs()));
        let enter = join.chain([Step::Enter(entry.pidfd.clone(), kinds)]);
        program.steps.splice(0..0, enter);
        self.in_pid_namespace(&entry.pidfd, || sys::spawn(program, UnshareFlags::empty()))?
            .map_err(RuntimeError::kernel("start a process in a container"))
    }

    /// Has children that are made by `work` be in the PID namespace of another process.
    fn in_pid_namespace<T>(&self, pidfd: &OwnedFd, work: impl FnOnce() -> T) -> Result<T, RuntimeError> {
        let kind = ThreadNameSpaceType::PROCESS_ID;
        rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), kind)
            .map_err(|error| RuntimeError::kernel("enter a container's PID namespace")(error.into()))?;
        let done = work();
        if let Err(error) = rustix::thread::move_into_thread_name_spaces(self.home_pid.as_fd(), kind) {
            tracing::error!(%error, "the runtime's thread cannot return to the node's PID namespace");
            std::process::abort();
        }
        Ok(done)
    }

    /// A container that has not been removed.
    pub(super) fn container(&self, id: &str) -> Result<Entry, RuntimeError> {
        self.containers
            .get(id)
            .cloned()
            .ok_or_else(|| RuntimeError::NoSuchContainer { id: id.to_owned() })
    }

    /// Keeps a started container's end.
    pub(super) fn started(&mut self, id: &str, exited: Exited) {
        if let Some(entry) = self.containers.get_mut(id) {
            entry.exited = Some(exited);
        }
    }

    /// Kills and forgets a container; gives the end to wait for, and what is to be removed after that.
    pub(super) fn remove_container(&mut self, id: &str) -> Option<(Option<Exited>, Option<Arc<Group>>)> {
        let entry = self.containers.remove(id)?;
        let _ = rustix::process::pidfd_send_signal(&entry.pidfd, Signal::KILL);
        Some((entry.exited, entry.group))
    }

    /// Whether the kernel is asked who made a connection.
    pub(super) fn names_peers(&self) -> bool {
        self.config.kernel_names_peers
    }

    /// Every container as its id, its sandbox and its first process.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &str, &OwnedFd)> {
        let entries = self.containers.iter();
        entries.map(|(id, entry)| (id.as_str(), entry.sandbox.as_str(), entry.pidfd.as_ref()))
    }

    /// Does `work` in a sandbox's network.
    pub(super) fn in_network<T>(&self, id: &str, work: impl FnOnce() -> T) -> Result<T, RuntimeError> {
        let gone = || RuntimeError::NoSuchSandbox { id: id.to_owned() };
        let sandbox = self.sandboxes.get(id).ok_or_else(gone)?;
        let (network, kind) = sandbox.namespaces.first().ok_or_else(gone)?;
        rustix::thread::move_into_thread_name_spaces(network.as_fd(), *kind)
            .map_err(|error| RuntimeError::kernel("enter a pod's network")(error.into()))?;
        let done = work();
        self.go_home();
        Ok(done)
    }

    /// Makes a socket in a sandbox's network.
    pub(super) fn pod_socket(&self, id: &str, family: AddressFamily) -> Result<OwnedFd, RuntimeError> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let made = self.in_network(id, || rustix::net::socket_with(family, SocketType::STREAM, flags, None))?;
        made.map_err(|error| RuntimeError::kernel("make a socket in a pod's network")(error.into()))
    }

    /// Sends a signal to a container's first process.
    pub(super) fn signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        let gone = || RuntimeError::NoSuchContainer { id: id.to_owned() };
        let entry = self.container(id)?;
        let signal = Signal::from_named_raw(signal)
            .ok_or_else(|| RuntimeError::Invalid(format!("there is no signal {signal}")))?;
        rustix::process::pidfd_send_signal(&entry.pidfd, signal).map_err(|error| match error {
            rustix::io::Errno::SRCH => gone(),
            error => RuntimeError::kernel("signal a container")(error.into()),
        })
    }
}

/// What is known of a container before its process is.
pub(super) struct NewEntry {
    pub(super) env: Vec<(String, String)>,
    pub(super) capabilities: u64,
    pub(super) memory: Option<u64>,
    pub(super) groups: Option<Step>,
    pub(super) user: bool,
}

/// The pid of a process, as a number.
pub(super) fn number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

/// This program's file. Where it was replaced on disk meanwhile (a newer build), a copy of what runs: containers get the
/// program that their node is.
fn this_program(dir: &Path) -> Result<PathBuf, RuntimeError> {
    let path = std::env::current_exe().map_err(RuntimeError::kernel("find this program"))?;
    if path.exists() {
        return Ok(path);
    }
    let copy = dir.join("program");
    fs::create_dir_all(dir)
        .and_then(|()| fs::copy("/proc/self/exe", &copy))
        .map_err(RuntimeError::kernel(format!("copy this program to {}", copy.display())))?;
    Ok(copy)
}
