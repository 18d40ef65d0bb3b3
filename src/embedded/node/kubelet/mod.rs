//! The kubelet: runs the pods that are bound to its node, and says how they are.
//!
//! Pure halves: [`state`] (what to do next), [`status`], [`env`], [`volumes`], [`host_path`], [`translate`], [`logs`], [`ipam`]. One task a
//! pod ([`worker`]) applies them.

mod admission;
mod csi;
mod disk;
mod env;
mod ephemeral;
mod exchange;
mod fs_group;
mod health;
mod hold;
mod hooks;
mod host_path;
mod ipam;
mod last_words;
mod limits;
mod logs;
mod mounting;
mod node;
mod peers;
mod pressure;
mod probes;
mod program;
mod publish;
mod sandbox;
mod security;
mod starting;
mod state;
mod status;
mod stopping;
mod streaming;
mod translate;
mod volumes;
mod worker;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{Client, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    gate::Gate,
    netlink::NetlinkError,
    runtime::{Frozen, Runtime, Started},
};
use crate::{
    events::Recorder,
    image::Registry,
    informer::{Change, Informers, Key},
};
use hold::Command;
use host_path::NodeDirs;
pub use host_path::shared_directories;
use ipam::Ipam;
use worker::{Message, Worker};

/// How a kubelet is set up.
#[derive(Debug, Clone)]
pub struct KubeletConfig {
    /// The node's name.
    pub node_name: String,
    /// The node's address.
    pub node_ip: Ipv4Addr,
    /// The first and the last address for pods.
    pub pod_ips: (Ipv4Addr, Ipv4Addr),
    /// The range that they are of: the Node's `podCIDR`.
    pub pod_range: Ipv4Net,
    /// The cluster's DNS server.
    pub dns: Ipv4Addr,
    /// The cluster's DNS domain.
    pub domain: String,
    /// Where volumes live: memory that nobody outside the node sees.
    pub volumes: PathBuf,
    /// What stands for the node's own file system: memory that nobody outside the node sees.
    pub node_root: PathBuf,
    /// Where PersistentVolumes are kept, a directory each.
    pub persistent: PathBuf,
    /// Where container logs live.
    pub logs: PathBuf,
}

/// An instance of a container, for logs, exec and attach.
#[derive(Clone)]
struct Instance {
    id: String,
    /// How often the container was started before.
    attempt: i32,
    /// Its streams and its end, once it was started.
    started: Option<Started>,
}

struct Inner {
    config: KubeletConfig,
    dirs: NodeDirs,
    machine: node::Machine,
    client: Client,
    informers: Informers,
    recorder: Recorder,
    runtime: Runtime,
    images: Arc<dyn Registry>,
    ipam: Mutex<Ipam>,
    gate: Gate,
    /// Whether pods are kept from volumes.
    held: watch::Sender<bool>,
    /// Their processes, while these stand still.
    frozen: Mutex<Option<Frozen>>,
    /// The last instance of each container, by pod uid and container name.
    instances: Mutex<HashMap<String, BTreeMap<String, Instance>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn log_dir(&self, pod: &Pod) -> PathBuf {
        let namespace = pod.namespace().unwrap_or_default();
        self.config.logs.join(format!(
            "{namespace}_{}_{}",
            pod.name_any(),
            pod.uid().unwrap_or_default()
        ))
    }

    fn log_file(&self, pod: &Pod, container: &str, attempt: i32) -> PathBuf {
        self.log_dir(pod).join(container).join(format!("{attempt}.log"))
    }
}

/// ConfigMaps and Secrets of one namespace, from the caches.
struct NamespaceSources<'a> {
    informers: &'a Informers,
    namespace: String,
}

impl env::Sources for NamespaceSources<'_> {
    fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
        self.informers.config_maps.get(&Key::new(self.namespace.clone(), name))
    }

    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.informers.secrets.get(&Key::new(self.namespace.clone(), name))
    }
}

/// A running kubelet; clones are the same one.
#[derive(Clone)]
pub struct Kubelet {
    inner: Arc<Inner>,
    commands: mpsc::UnboundedSender<Command>,
}

/// Why a kubelet could not start.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// A directory of its own could not be made.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The API did not take the Node.
    #[error("register the node: {0}")]
    Register(#[from] Box<kube::Error>),
    /// The kernel's rules cannot be looked at.
    #[error(transparent)]
    Gate(#[from] NetlinkError),
}

impl Kubelet {
    /// Registers the node and begins to run its pods.
    ///
    /// # Errors
    /// When the node cannot be registered.
    pub async fn start(
        config: KubeletConfig,
        client: Client,
        informers: Informers,
        recorder: &Recorder,
        runtime: Runtime,
        images: Arc<dyn Registry>,
        stop: CancellationToken,
    ) -> Result<Self, KubeletError> {
        // Logs of an earlier life belong to pods that are gone.
        let _ = fs::remove_dir_all(&config.logs);
        for path in [&config.logs, &config.volumes] {
            fs::create_dir_all(path).map_err(|source| KubeletError::Directory {
                path: path.clone(),
                source,
            })?;
        }
        let dirs = NodeDirs {
            memory: config.node_root.clone(),
            volumes: config.persistent.clone(),
        };
        mounting::node_dirs(&dirs).map_err(|source| KubeletError::Directory {
            path: dirs.memory.clone(),
            source,
        })?;
        let machine = node::Machine::here();
        node::register(&client, &config, machine, &informers)
            .await
            .map_err(Box::new)?;
        let inner = Arc::new(Inner {
            gate: Gate::open()?,
            ipam: Mutex::new(Ipam::new(config.pod_ips.0, config.pod_ips.1)),
            recorder: recorder.by(&client).of("kubelet", Some(&config.node_name)),
            client,
            informers,
            runtime,
            images,
            held: watch::Sender::new(false),
            frozen: Mutex::default(),
            instances: Mutex::default(),
            dirs,
            machine,
            config,
        });
        node::tell_beginning(&inner);
        let uid = inner
            .informers
            .nodes
            .get(&Key::new("", inner.config.node_name.clone()))
            .and_then(|node| node.uid());
        tokio::spawn(node::keep_lease(inner.clone(), uid.unwrap_or_default(), stop.clone()));
        peers::serve(&inner, stop.clone()).map_err(|source| KubeletError::Directory {
            path: inner.dirs.memory.clone(),
            source,
        })?;
        let (commands, received) = mpsc::unbounded_channel();
        tokio::spawn(dispatch(inner.clone(), received, stop));
        Ok(Self { inner, commands })
    }
}

struct Running {
    namespace: String,
    inbox: mpsc::UnboundedSender<Message>,
}

/// Gives every pod of the node to a task of its own.
async fn dispatch(inner: Arc<Inner>, mut commands: mpsc::UnboundedReceiver<Command>, stop: CancellationToken) {
    let mut pods = inner.informers.pods.subscribe();
    let mut maps = inner.informers.config_maps.subscribe();
    let mut secrets = inner.informers.secrets.subscribe();
    let mut running: HashMap<String, Running> = HashMap::new();
    loop {
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            Some(change) = pods.recv() => {
                place(&inner, &mut running, &change);
                None
            }
            Some(command) = commands.recv() => {
                command.carry_out(&inner, &running);
                None
            }
            Some(change) = maps.recv() => change.object().namespace(),
            Some(change) = secrets.recv() => change.object().namespace(),
            else => return,
        };
        if let Some(namespace) = changed {
            for pod in running.values().filter(|pod| pod.namespace == namespace) {
                // A task that has ended needs no news.
                let _ = pod.inbox.send(Message::Sources);
            }
        }
    }
}

fn place(inner: &Arc<Inner>, running: &mut HashMap<String, Running>, change: &Change<Pod>) {
    let pod = change.object();
    let Some(uid) = pod.uid() else { return };
    if let Change::Applied { old: Some(old), .. } = change
        && old.uid().is_some_and(|old| old != uid)
        && let Some(gone) = running.remove(&old.uid().unwrap_or_default())
    {
        let _ = gone.inbox.send(Message::Gone);
    }
    if matches!(change, Change::Deleted(_)) {
        if let Some(gone) = running.remove(&uid) {
            let _ = gone.inbox.send(Message::Gone);
        }
        return;
    }
    let ours = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&inner.config.node_name);
    if !ours {
        return;
    }
    if let Some(known) = running.get(&uid) {
        let _ = known.inbox.send(Message::Pod(pod.clone()));
        return;
    }
    let ended = matches!(
        pod.status.as_ref().and_then(|status| status.phase.as_deref()),
        Some("Succeeded" | "Failed")
    );
    if ended && pod.metadata.deletion_timestamp.is_none() {
        return;
    }
    let (inbox, messages) = mpsc::unbounded_channel();
    running.insert(
        uid,
        Running {
            namespace: pod.namespace().unwrap_or_default(),
            inbox,
        },
    );
    tokio::spawn(Worker::new(inner.clone(), pod.clone()).run(messages));
}
