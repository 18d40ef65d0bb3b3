//! NetworkPolicy by the book: says whether a connection may be, by reading the specification sentence by sentence over the
//! API's own objects. Slow and plain on purpose; it shares nothing with what it judges but the API's types.
//!
//! Source: the API reference of networking.k8s.io/v1 (quoted below) and the concept page "Network Policies".
#![allow(dead_code, missing_docs)]

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Pod},
        networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

/// All objects there are.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    pub namespaces: Vec<Namespace>,
    pub pods: Vec<Pod>,
    pub policies: Vec<NetworkPolicy>,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// A pod of the pod network.
    Pod(&'a Pod),
    /// The node itself, by one of its addresses.
    Node(&'a str),
    /// What runs on the node and would be a pod elsewhere. No policy selects it, but selectors of peers find it.
    OnNode(&'a Pod),
}

impl<'a> End<'a> {
    fn pod(self) -> Option<&'a Pod> {
        match self {
            End::Pod(pod) | End::OnNode(pod) => Some(pod),
            End::Node(_) => None,
        }
    }

    fn address(self) -> &'a str {
        match self {
            End::Pod(pod) | End::OnNode(pod) => pod.status.as_ref().unwrap().pod_ip.as_deref().unwrap(),
            End::Node(address) => address,
        }
    }
}

impl Objects {
    /// Whether `from` may begin a connection to `port` of `to`; `protocol` is TCP, UDP or SCTP.
    pub fn allows(&self, from: End<'_>, to: End<'_>, protocol: &str, port: u16) -> bool {
        // "a Pod cannot block access to itself"
        if let (End::Pod(a), End::Pod(b)) = (from, to)
            && a.metadata.namespace == b.metadata.namespace
            && a.metadata.name == b.metadata.name
        {
            return true;
        }
        self.may_leave(from, to, protocol, port) && self.may_enter(from, to, protocol, port)
    }

    fn may_leave(&self, from: End<'_>, to: End<'_>, protocol: &str, port: u16) -> bool {
        let End::Pod(pod) = from else {
            return true;
        };
        let mut isolated = false;
        for policy in self.policies.iter().filter(|policy| applies_to(policy, pod)) {
            if !policy_types(policy).contains(&"Egress".to_owned()) {
                continue;
            }
            isolated = true;
            let namespace = policy.metadata.namespace.as_deref().unwrap();
            let spec = policy.spec.as_ref().unwrap();
            for rule in spec.egress.clone().unwrap_or_default() {
                // "This rule matches traffic if and only if the traffic matches both ports AND to."
                let peers = rule.to.unwrap_or_default();
                let ports = rule.ports.unwrap_or_default();
                if self.a_peer_matches(&peers, namespace, to) && a_port_matches(&ports, protocol, port, to) {
                    return true;
                }
            }
        }
        // "A pod is non-isolated for egress … all outbound connections are allowed"
        !isolated
    }

    fn may_enter(&self, from: End<'_>, to: End<'_>, protocol: &str, port: u16) -> bool {
        let End::Pod(pod) = to else {
            return true;
        };
        // "traffic to and from the node where a Pod is running is always allowed"
        if let End::Node(_) | End::OnNode(_) = from {
            return true;
        }
        let mut isolated = false;
        for policy in self.policies.iter().filter(|policy| applies_to(policy, pod)) {
            if !policy_types(policy).contains(&"Ingress".to_owned()) {
                continue;
            }
            isolated = true;
            let namespace = policy.metadata.namespace.as_deref().unwrap();
            let spec = policy.spec.as_ref().unwrap();
            for rule in spec.ingress.clone().unwrap_or_default() {
                let peers = rule.from.unwrap_or_default();
                let ports = rule.ports.unwrap_or_default();
                if self.a_peer_matches(&peers, namespace, from) && a_port_matches(&ports, protocol, port, to) {
                    return true;
                }
            }
        }
        !isolated
    }

    /// "If this field is empty or missing, this rule matches all sources (traffic not restricted by source)."
    fn a_peer_matches(&self, peers: &[NetworkPolicyPeer], namespace: &str, end: End<'_>) -> bool {
        if peers.is_empty() {
            return true;
        }
        for peer in peers {
            // "If this field is set then neither of the other fields can be."
            if let Some(block) = &peer.ip_block {
                if peer.pod_selector.is_none() && peer.namespace_selector.is_none() && in_block(block, end.address()) {
                    return true;
                }
                continue;
            }
            let Some(pod) = end.pod() else { continue };
            let pods_namespace = pod.metadata.namespace.as_deref().unwrap();
            let namespace_matches = match &peer.namespace_selector {
                // "If namespaceSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching
                // podSelector in the namespaces selected by namespaceSelector."
                Some(selector) => {
                    let all = self.namespaces.iter();
                    let mut found = all.filter(|one| one.metadata.name.as_deref() == Some(pods_namespace));
                    found
                        .next()
                        .is_some_and(|one| selected(selector, &one.metadata.labels.clone().unwrap_or_default()))
                }
                // "Otherwise it selects the pods matching podSelector in the policy's own namespace."
                None => pods_namespace == namespace,
            };
            let pod_matches = match &peer.pod_selector {
                Some(selector) => selected(selector, &pod.metadata.labels.clone().unwrap_or_default()),
                // "Otherwise it selects all pods in the namespaces selected by namespaceSelector."
                None => peer.namespace_selector.is_some(),
            };
            if namespace_matches && pod_matches {
                return true;
            }
        }
        false
    }
}

/// "podSelector selects the pods to which this NetworkPolicy object applies. … An empty podSelector matches all pods in this
/// namespace."
fn applies_to(policy: &NetworkPolicy, pod: &Pod) -> bool {
    if policy.metadata.namespace != pod.metadata.namespace {
        return false;
    }
    let selector = policy.spec.as_ref().unwrap().pod_selector.clone().unwrap_or_default();
    selected(&selector, &pod.metadata.labels.clone().unwrap_or_default())
}

/// "If this field is not specified, it will default based on the existence of ingress or egress rules; policies that contain
/// an egress section are assumed to affect egress, and all policies … are assumed to affect ingress."
fn policy_types(policy: &NetworkPolicy) -> Vec<String> {
    let spec = policy.spec.as_ref().unwrap();
    let given = spec.policy_types.clone().unwrap_or_default();
    if !given.is_empty() {
        return given;
    }
    let mut types = vec!["Ingress".to_owned()];
    if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
        types.push("Egress".to_owned());
    }
    types
}

/// "The result of matchLabels and matchExpressions are ANDed. An empty label selector matches all objects."
fn selected(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    for (key, value) in selector.match_labels.clone().unwrap_or_default() {
        if labels.get(&key) != Some(&value) {
            return false;
        }
    }
    for expression in selector.match_expressions.clone().unwrap_or_default() {
        let values = expression.values.unwrap_or_default();
        let value = labels.get(&expression.key);
        let holds = match expression.operator.as_str() {
            "In" => value.is_some() && values.contains(value.unwrap()),
            "NotIn" => value.is_none() || !values.contains(value.unwrap()),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        };
        if !holds {
            return false;
        }
    }
    true
}

/// "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
fn a_port_matches(ports: &[NetworkPolicyPort], protocol: &str, number: u16, destination: End<'_>) -> bool {
    ports.is_empty()
        || ports.iter().any(|port| {
            // "If not specified, this field defaults to TCP."
            if port.protocol.as_deref().unwrap_or("TCP") != protocol {
                return false;
            }
            match &port.port {
                // "If this field is not provided, this matches all port names and numbers."
                None => true,
                Some(IntOrString::Int(first)) => {
                    // "If set, indicates that the range of ports from port to endPort … should be allowed"
                    let last = port.end_port.unwrap_or(*first);
                    *first <= i32::from(number) && i32::from(number) <= last
                }
                // "This can either be a numerical or named port on a pod."
                Some(IntOrString::String(name)) => destination
                    .pod()
                    .is_some_and(|pod| has_port(pod, name, protocol, number)),
            }
        })
}

fn has_port(pod: &Pod, name: &str, protocol: &str, number: u16) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    spec.containers.iter().any(|container| {
        container.ports.clone().unwrap_or_default().iter().any(|port| {
            port.name.as_deref() == Some(name)
                && port.protocol.as_deref().unwrap_or("TCP") == protocol
                && port.container_port == i32::from(number)
        })
    })
}

/// "except is a slice of CIDRs that should not be included within an IPBlock."
fn in_block(block: &IPBlock, address: &str) -> bool {
    in_cidr(&block.cidr, address)
        && !block
            .except
            .clone()
            .unwrap_or_default()
            .iter()
            .any(|cidr| in_cidr(cidr, address))
}

/// Bit by bit.
fn in_cidr(cidr: &str, address: &str) -> bool {
    let bits = |text: &str| -> Option<Vec<bool>> {
        let octets: Vec<u8> = text.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(
            octets
                .iter()
                .flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1))
                .collect(),
        )
    };
    let Some((net, length)) = cidr.split_once('/') else {
        return false;
    };
    let (Some(net), Some(address), Ok(length)) = (bits(net), bits(address), length.parse::<usize>()) else {
        return false;
    };
    length <= 32 && net.len() == 32 && net[..length] == address[..length]
}
