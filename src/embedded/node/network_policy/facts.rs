//! What the compiler needs to know of the cluster's objects.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Container, Pod},
    networking::v1::NetworkPolicy,
};

use super::rules::Protocol;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A port that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// Its protocol: names are looked up per protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// What policies can tell of a pod. Pods that are alike here are judged alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: Labels,
    /// Its named ports.
    pub ports: Vec<NamedPort>,
}

/// What elsewhere is a pod and here runs on the node itself (cluster DNS): selectors of egress rules find it by the labels it
/// would have. It is reached at these ports only; the node has others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeService {
    /// The namespace and labels it would have, and its ports.
    pub pod: PodFacts,
    /// The address it is reached at, after address translation.
    pub address: Ipv4Addr,
}

/// The cluster as policies see it.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Pods by their address.
    pub pods: BTreeMap<Ipv4Addr, Arc<PodFacts>>,
    /// Labels of the namespaces. Pods of one that is missing here are found by no namespace selector.
    pub namespaces: BTreeMap<String, Labels>,
    /// All policies.
    pub policies: Vec<Arc<NetworkPolicy>>,
    /// What runs on the node.
    pub node_services: Vec<NodeService>,
}

/// The address and the facts of a pod that takes part in the pod network: one with an address of its own that has not ended.
pub fn pod_facts(pod: &Pod) -> Option<(Ipv4Addr, PodFacts)> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let address = status.pod_ip.as_deref()?.parse().ok()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = sidecars.chain(&spec.containers).flat_map(named_ports).collect();
    let facts = PodFacts {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        ports,
    };
    Some((address, facts))
}

fn named_ports(container: &Container) -> impl Iterator<Item = NamedPort> {
    container.ports.iter().flatten().filter_map(|port| {
        Some(NamedPort {
            name: port.name.clone().filter(|name| !name.is_empty())?,
            protocol: Protocol::named(port.protocol.as_deref())?,
            number: u16::try_from(port.container_port).ok()?,
        })
    })
}
