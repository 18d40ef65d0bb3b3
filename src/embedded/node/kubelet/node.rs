//! The Node object and its Lease.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, Time},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Inner, KubeletConfig,
    pressure::{self, Course, Pressures},
};
use crate::{
    events::{Happening, reference},
    informer::{Informers, Key},
    write::write_status,
};

const LEASE_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// How often the conditions are said to hold still: `nodeStatusReportFrequency`.
const BEAT: Duration = Duration::from_secs(300);
/// As many pods as the node's address range and descriptors carry with ease.
const MOST_PODS: u32 = 1000;

/// What the machine has, which does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Processors.
    pub cpus: u64,
    /// Memory, KiB.
    pub memory_kib: u64,
}

impl Machine {
    /// Looks.
    pub fn here() -> Self {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let memory_kib = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
            memory_kib: memory_kib.unwrap_or(0),
        }
    }

    /// Memory, bytes.
    pub fn memory(self) -> u64 {
        self.memory_kib.saturating_mul(1024)
    }
}

/// The label by which manifests tell this node from that of another cluster: what it does by itself (as mounting
/// `csi.spiffe.io` volumes) needs no pods here.
const EMBEDDED: &str = "ztlab.dev/embedded";

/// The Node as it is made.
pub fn node(config: &KubeletConfig) -> Node {
    let architecture = architecture();
    let labels = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("node-role.kubernetes.io/control-plane", ""),
        (EMBEDDED, ""),
    ];
    let range = config.pod_range.to_string();
    let mut node = Node {
        spec: Some(NodeSpec {
            pod_cidr: Some(range.clone()),
            pod_cidrs: Some(vec![range]),
            ..NodeSpec::default()
        }),
        ..Node::default()
    };
    node.metadata.name = Some(config.node_name.clone());
    node.metadata.labels = Some(
        labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    );
    node
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The Node's status.
pub fn status(config: &KubeletConfig, machine: Machine, pressures: Pressures, now: Timestamp) -> NodeStatus {
    let condition = |kind: &str, value: &str, reason: &str, message: &str| NodeCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let resources = BTreeMap::from([
        ("cpu".to_owned(), Quantity(machine.cpus.to_string())),
        ("memory".to_owned(), Quantity(format!("{}Ki", machine.memory_kib))),
        ("pods".to_owned(), Quantity(MOST_PODS.to_string())),
    ]);
    let pressures = pressures.words().map(|words| {
        let value = if words.holds { "True" } else { "False" };
        condition(words.kind, value, words.reason, words.message)
    });
    let ready = condition("Ready", "True", "KubeletReady", "kubelet is posting ready status");
    let conditions = pressures.into_iter().chain([ready]);
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.to_owned(),
        address,
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.node_name.clone()),
        ]),
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        conditions: Some(conditions.collect()),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            operating_system: "linux".to_owned(),
            os_image: "ztlab".to_owned(),
            kernel_version: release.trim().to_owned(),
            container_runtime_version: format!("ztlab://{}", env!("CARGO_PKG_VERSION")),
            kubelet_version: format!("v1.33.0+ztlab-{}", env!("CARGO_PKG_VERSION")),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// Makes the Node, Ready.
///
/// # Errors
/// What the API refused.
pub async fn register(
    client: &Client,
    config: &KubeletConfig,
    machine: Machine,
    informers: &Informers,
) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    match nodes.create(&PostParams::default(), &node(config)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let node = node(config);
            let range = node.spec.unwrap_or_default();
            let patch = json!({"metadata": {"labels": node.metadata.labels},
                "spec": {"podCIDR": range.pod_cidr, "podCIDRs": range.pod_cidrs}});
            nodes
                .patch(&config.node_name, &PatchParams::default(), &Patch::Merge(&patch))
                .await?;
        }
        Err(error) => return Err(error),
    }
    let pressures = pressure::measure(&config.logs).pressures();
    let status = status(config, machine, pressures, Timestamp::now());
    let written = write_status(&nodes, &config.node_name, &status).await?;
    informers.nodes.wrote(written);
    Ok(())
}

/// Tells of the node's beginning, as `kubectl describe node` shows it.
pub(super) fn tell_beginning(inner: &Inner) {
    let pressures = pressure::measure(&inner.config.logs).pressures();
    tell(inner, Happening::normal("Starting", "Starting kubelet."));
    for reason in pressures
        .words()
        .map(|words| words.event)
        .into_iter()
        .chain(["NodeReady"])
    {
        tell_status(inner, reason);
    }
}

fn tell(inner: &Inner, what: Happening) {
    let name = &inner.config.node_name;
    if let Some(node) = inner.informers.nodes.get(&Key::new("", name.clone())) {
        inner.recorder.tell(reference(node.as_ref()), what);
    }
}

fn tell_status(inner: &Inner, reason: &'static str) {
    let name = &inner.config.node_name;
    let text = format!("Node {name} status is now: {reason}");
    tell(inner, Happening::normal(reason, text));
}

/// What the Node says of the machine, and when it last said so.
struct Said {
    course: Course,
    pressures: Pressures,
    at: tokio::time::Instant,
}

impl Said {
    fn now(inner: &Inner) -> Self {
        let mut course = Course::default();
        let seen = pressure::measure(&inner.config.logs).pressures();
        Self {
            pressures: course.take(seen, Instant::now()),
            course,
            at: tokio::time::Instant::now(),
        }
    }

    /// Looks at the machine; writes the conditions when one has changed, and from time to time that they still hold.
    async fn renew(&mut self, inner: &Inner, nodes: &Api<Node>) {
        let seen = pressure::measure(&inner.config.logs).pressures();
        let held = self.course.take(seen, Instant::now());
        if held == self.pressures && self.at.elapsed() < BEAT {
            return;
        }
        match write_conditions(inner, nodes, self.pressures, held).await {
            Ok(()) => {
                self.pressures = held;
                self.at = tokio::time::Instant::now();
            }
            Err(error) => tracing::debug!(%error, "the node's conditions are not written; it is tried again"),
        }
    }
}

async fn write_conditions(
    inner: &Inner,
    nodes: &Api<Node>,
    before: Pressures,
    held: Pressures,
) -> Result<(), kube::Error> {
    let status = status(&inner.config, inner.machine, held, Timestamp::now());
    let was: BTreeMap<&str, bool> = before.words().map(|words| (words.kind, words.holds)).into();
    let is: BTreeMap<&str, bool> = held.words().map(|words| (words.kind, words.holds)).into();
    let conditions = status.conditions.unwrap_or_default().into_iter().map(|condition| {
        let kind = condition.type_.clone();
        let mut written = serde_json::to_value(condition).unwrap_or_default();
        if was.get(kind.as_str()) == is.get(kind.as_str())
            && let Some(fields) = written.as_object_mut()
        {
            fields.remove("lastTransitionTime");
        }
        written
    });
    let patch = json!({"status": {"conditions": conditions.collect::<Vec<_>>()}});
    nodes
        .patch_status(
            &inner.config.node_name,
            &PatchParams::default(),
            &Patch::Strategic(patch),
        )
        .await?;
    for words in held.words() {
        if was.get(words.kind) != Some(&words.holds) {
            tell_status(inner, words.event);
        }
    }
    Ok(())
}

/// Keeps the Lease that says the node is alive, and the conditions that say how it is.
pub(super) async fn keep_lease(inner: Arc<Inner>, uid: String, stop: CancellationToken) {
    let config = &inner.config;
    let nodes: Api<Node> = Api::all(inner.client.clone());
    let leases: Api<Lease> = Api::namespaced(inner.client.clone(), "kube-node-lease");
    let mut made = false;
    let mut said = Said::now(&inner);
    loop {
        said.renew(&inner, &nodes).await;
        let now = MicroTime(Timestamp::now());
        let result = if made {
            let patch = json!({"spec": {"renewTime": now}});
            leases
                .patch(&config.node_name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .map(drop)
        } else {
            let mut lease = Lease {
                spec: Some(LeaseSpec {
                    holder_identity: Some(config.node_name.clone()),
                    lease_duration_seconds: Some(LEASE_SECONDS),
                    renew_time: Some(now),
                    ..LeaseSpec::default()
                }),
                ..Lease::default()
            };
            lease.metadata.name = Some(config.node_name.clone());
            lease.metadata.owner_references =
                Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Node".to_owned(),
                    name: config.node_name.clone(),
                    uid: uid.clone(),
                    ..Default::default()
                }]);
            match leases.create(&PostParams::default(), &lease).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                other => other.map(|lease| tracing::debug!(lease = lease.name_any(), "made")),
            }
        };
        match result {
            Ok(()) => made = true,
            Err(error) => {
                made = false;
                tracing::debug!(%error, "lease not renewed");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEW) => {}
        }
    }
}
