//! The Node object and its Lease.

use std::{collections::BTreeMap, fs, time::Duration};

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

use super::{Inner, KubeletConfig};
use crate::embedded::{
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

pub(super) fn memory_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// The Node as it is made.
pub fn node(config: &KubeletConfig) -> Node {
    let architecture = architecture();
    let labels = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("node-role.kubernetes.io/control-plane", ""),
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
pub fn status(config: &KubeletConfig, now: Timestamp) -> NodeStatus {
    let condition = |kind: &str, value: &str, reason: &str, message: &str| NodeCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let resources = BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpus.to_string())),
        ("memory".to_owned(), Quantity(format!("{}Ki", memory_kib()))),
        ("pods".to_owned(), Quantity(MOST_PODS.to_string())),
    ]);
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
        conditions: Some(vec![
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            condition(
                "DiskPressure",
                "False",
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
            ),
            condition(
                "PIDPressure",
                "False",
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
            ),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ]),
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
pub async fn register(client: &Client, config: &KubeletConfig, informers: &Informers) -> Result<(), kube::Error> {
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
    let written = write_status(&nodes, &config.node_name, &status(config, Timestamp::now())).await?;
    informers.nodes.wrote(written);
    Ok(())
}

/// Tells of the node's beginning, as `kubectl describe node` shows it.
pub(super) fn tell_beginning(inner: &Inner) {
    let name = &inner.config.node_name;
    let Some(node) = inner.informers.nodes.get(&Key::new("", name.clone())) else {
        return;
    };
    let tell = |what| inner.recorder.tell(reference(node.as_ref()), what);
    tell(Happening::normal("Starting", "Starting kubelet."));
    for reason in [
        "NodeHasSufficientMemory",
        "NodeHasNoDiskPressure",
        "NodeHasSufficientPID",
        "NodeReady",
    ] {
        tell(Happening::normal(
            reason,
            format!("Node {name} status is now: {reason}"),
        ));
    }
}

/// Says that the conditions still hold.
async fn beat(nodes: &Api<Node>, config: &KubeletConfig) -> Result<(), kube::Error> {
    let conditions = status(config, Timestamp::now()).conditions.unwrap_or_default();
    let beats = conditions.into_iter().map(|condition| {
        json!({"type": condition.type_, "status": condition.status, "lastHeartbeatTime": condition.last_heartbeat_time})
    });
    let patch = json!({"status": {"conditions": beats.collect::<Vec<_>>()}});
    let patch = Patch::Strategic(patch);
    nodes
        .patch_status(&config.node_name, &PatchParams::default(), &patch)
        .await
        .map(drop)
}

/// Keeps the Lease that says the node is alive.
pub async fn keep_lease(client: Client, config: KubeletConfig, uid: String, stop: CancellationToken) {
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let mut made = false;
    let mut beaten = tokio::time::Instant::now();
    loop {
        if beaten.elapsed() >= BEAT {
            beaten = tokio::time::Instant::now();
            if let Err(error) = beat(&nodes, &config).await {
                tracing::debug!(%error, "heartbeat not written");
            }
        }
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
