//! Where a pod may go: pure.
//!
//! Source: kube-scheduler's default plugins, their order, and the texts of `FailedScheduling`; "Pod Priority and Preemption".

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod, Taint, Toleration};
use kube::ResourceExt;

use super::{
    affinity::{self, Placed},
    resources,
    volumes::{self, Volumes, Waiting},
};
use crate::control_plane::node_selector::{self, tolerates};

/// What a decision looks at.
#[derive(Default, Clone)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Arc<Node>>,
    /// Every pod.
    pub pods: Vec<Arc<Pod>>,
    /// The namespaces.
    pub namespaces: Vec<Arc<Namespace>>,
    /// Claims, volumes and classes, where the pod has claims.
    pub volumes: Volumes,
}

/// Where a pod may go.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// To this node.
    Bind(String),
    /// To this node, once these claims, which are to be told of it, are bound.
    Choose(String, Vec<Arc<PersistentVolumeClaim>>),
    /// Where its claims have been told of, once they are bound.
    Wait,
    /// Nowhere; the text is the event's.
    Nowhere(String),
    /// Nowhere as the event's text says, but to this node once these pods, which matter less, have gone.
    Preempt(String, String, Vec<Arc<Pod>>),
}

/// Why a node does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// In the scheduler's words.
    pub reason: String,
    /// Whether it may go with other pods.
    pub passing: bool,
}

impl Obstacle {
    /// One that other pods' going would take away.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            passing: true,
        }
    }

    /// One that stays whatever other pods do.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            passing: false,
        }
    }
}

/// Whether a pod has ended: it takes no room.
pub fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// How much a pod matters.
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

/// The first taint that keeps a pod from a node.
pub fn untolerated<'a>(pod: &Pod, node: &'a Node) -> Option<&'a Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let mut taints = taints
        .into_iter()
        .flatten()
        .filter(|taint| taint.effect != "PreferNoSchedule");
    taints.find(|taint| !tolerations(pod).iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether a pod wants to be on a node, by its selector and its required affinity.
pub fn is_wanted(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selector = spec.node_selector.iter().flatten();
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selector
        .into_iter()
        .all(|(key, value)| node.labels().get(key) == Some(value))
        && required.is_none_or(|required| node_selector::matches(required, node))
}

/// What of the node itself keeps a pod from it.
fn node_obstacle(pod: &Pod, node: &Node) -> Option<Obstacle> {
    const CORDON: &str = "node.kubernetes.io/unschedulable";
    let cordon = Taint {
        key: CORDON.into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if cordoned && !tolerations(pod).iter().any(|toleration| tolerates(toleration, &cordon)) {
        return Some(Obstacle::lasting("node(s) were unschedulable"));
    }
    if let Some(taint) = untolerated(pod, node) {
        let value = taint.value.as_deref().unwrap_or("");
        let text = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
        return Some(Obstacle::lasting(text));
    }
    (!is_wanted(pod, node)).then(|| Obstacle::lasting("node(s) didn't match Pod's node affinity/selector"))
}

/// What keeps a pod from a node: what the first of the plugins says that says anything.
fn obstacles(pod: &Pod, node: &Node, cluster: &Cluster, placed: &Placed<'_>, waiting: &Waiting) -> Vec<Obstacle> {
    let there: Vec<&Arc<Pod>> = placed
        .pods
        .iter()
        .filter(|(_, on)| on.metadata.name == node.metadata.name)
        .map(|(pod, _)| *pod)
        .collect();
    if let Some(obstacle) = node_obstacle(pod, node) {
        return vec![obstacle];
    }
    if resources::ports_taken(pod, &there) {
        let text = "node(s) didn't have free ports for the requested pod ports";
        return vec![Obstacle::passing(text)];
    }
    let lacking = resources::obstacles(pod, node, &there);
    if !lacking.is_empty() {
        return lacking;
    }
    let rest = volume_obstacle(pod, node, cluster, placed, waiting)
        .or_else(|| affinity::spread(pod, node, &cluster.nodes, placed))
        .or_else(|| affinity::affinity(pod, node, placed));
    rest.into_iter().collect()
}

fn volume_obstacle(
    pod: &Pod,
    node: &Node,
    cluster: &Cluster,
    placed: &Placed<'_>,
    waiting: &Waiting,
) -> Option<Obstacle> {
    let others = placed.pods.iter().map(|(pod, _)| *pod);
    if volumes::is_taken(pod, others, &cluster.volumes.claims) {
        let text = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
        return Some(Obstacle::passing(text));
    }
    cluster.volumes.obstacle(waiting, node).map(Obstacle::lasting)
}

/// The pods that take room: those on a node, and those that are to come to one and matter as much as `pod` or more.
fn placed<'a>(pod: &Pod, cluster: &'a Cluster) -> Placed<'a> {
    let node = |other: &'a Arc<Pod>| {
        let bound = other.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let bound = bound.filter(|name| !name.is_empty());
        let promised = other
            .status
            .as_ref()
            .and_then(|status| status.nominated_node_name.as_deref());
        let promised = promised.filter(|_| other.metadata.uid != pod.metadata.uid && priority(other) >= priority(pod));
        let name = bound.or(promised)?;
        cluster
            .nodes
            .iter()
            .find(|node| node.metadata.name.as_deref() == Some(name))
    };
    Placed {
        pods: cluster
            .pods
            .iter()
            .filter(|pod| !ended(pod))
            .filter_map(|pod| Some((pod, node(pod)?)))
            .collect(),
        namespaces: &cluster.namespaces,
    }
}

/// Where a pod goes in the cluster.
pub fn decide(pod: &Pod, cluster: &Cluster) -> Decision {
    if cluster.nodes.is_empty() {
        return Decision::Nowhere("no nodes available to schedule pods".to_owned());
    }
    let waiting = match cluster.volumes.waiting(pod) {
        Ok(waiting) => waiting,
        Err(reason) => return Decision::Nowhere(text(cluster, &reason, Some(HELPLESS))),
    };
    let placed = placed(pod, cluster);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut passing = Vec::new();
    for node in &cluster.nodes {
        let obstacles = obstacles(pod, node, cluster, &placed, &waiting);
        if obstacles.is_empty() {
            return on(node, &waiting);
        }
        if obstacles.iter().all(|obstacle| obstacle.passing) {
            passing.push(node);
        }
        for obstacle in obstacles {
            *reasons.entry(obstacle.reason).or_default() += 1;
        }
    }
    let mut reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    reasons.sort();
    preempt(pod, cluster, &waiting, &reasons.join(", "), &passing)
}

const HELPLESS: &str = "Preemption is not helpful for scheduling";

fn on(node: &Node, waiting: &Waiting) -> Decision {
    let name = node.name_any();
    let untold: Vec<_> = volumes::untold(waiting, &name).into_iter().cloned().collect();
    if !untold.is_empty() {
        Decision::Choose(name, untold)
    } else if waiting.for_node.is_empty() {
        Decision::Bind(name)
    } else {
        Decision::Wait
    }
}

fn text(cluster: &Cluster, reasons: &str, preemption: Option<&str>) -> String {
    let nodes = cluster.nodes.len();
    let plain = format!("0/{nodes} nodes are available: {reasons}.");
    match preemption {
        None => plain,
        Some(why) => format!("{plain} preemption: 0/{nodes} nodes are available: {nodes} {why}."),
    }
}

/// Whether pods that matter less make room for one that finds none.
fn preempt(pod: &Pod, cluster: &Cluster, waiting: &Waiting, reasons: &str, nodes: &[&Arc<Node>]) -> Decision {
    let policy = pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") {
        let plain = text(cluster, reasons, None);
        return Decision::Nowhere(format!(
            "{plain} preemption: not eligible due to preemptionPolicy=Never."
        ));
    }
    if nodes.is_empty() {
        return Decision::Nowhere(text(cluster, reasons, Some(HELPLESS)));
    }
    // Those that were asked to go for it are still going.
    let promised = pod
        .status
        .as_ref()
        .and_then(|status| status.nominated_node_name.as_deref());
    let is_going = |other: &&Arc<Pod>| {
        other.metadata.deletion_timestamp.is_some()
            && priority(other) < priority(pod)
            && other.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == promised
    };
    if promised.is_some() && cluster.pods.iter().any(|other| is_going(&other)) {
        return Decision::Nowhere(text(cluster, reasons, None));
    }
    for node in nodes {
        if let Some(victims) = victims(pod, cluster, waiting, node) {
            return Decision::Preempt(node.name_any(), text(cluster, reasons, None), victims);
        }
    }
    Decision::Nowhere(text(
        cluster,
        reasons,
        Some("No preemption victims found for incoming pod"),
    ))
}

/// The pods whose going makes room on a node, as few and as unimportant as can be; nothing where none would.
fn victims(pod: &Pod, cluster: &Cluster, waiting: &Waiting, node: &Arc<Node>) -> Option<Vec<Arc<Pod>>> {
    let here =
        |other: &Pod| other.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == node.metadata.name.as_ref();
    let (mut less, rest): (Vec<_>, Vec<_>) = cluster
        .pods
        .iter()
        .cloned()
        .partition(|other| here(other) && !ended(other) && priority(other) < priority(pod));
    if less.is_empty() {
        return None;
    }
    let mut left = Cluster {
        pods: rest,
        ..cluster.clone()
    };
    let fits = |cluster: &Cluster| obstacles(pod, node, cluster, &placed(pod, cluster), waiting).is_empty();
    if !fits(&left) {
        return None;
    }
    // Those that matter most, and have been there longest, are the first to be spared.
    less.sort_by_key(|other| {
        let started = other.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(priority(other)), started, other.name_any())
    });
    let mut victims = Vec::new();
    for other in less {
        left.pods.push(other.clone());
        if !fits(&left) {
            left.pods.pop();
            victims.push(other);
        }
    }
    (!victims.is_empty()).then_some(victims)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(value: serde_json::Value) -> Arc<Node> {
        let mut node = json!({"metadata": {"name": "node", "labels": {"kubernetes.io/os": "linux"}}, "spec": {}});
        json_patch::merge(&mut node, &value);
        Arc::new(serde_json::from_value(node).unwrap())
    }

    #[test]
    fn pods_go_where_they_may() {
        let bind = Decision::Bind("node".into());
        let nowhere = |reason: &str| {
            let tail = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
            Decision::Nowhere(format!("0/1 nodes are available: 1 {reason}. {tail}"))
        };
        let taint = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
        for (spec, on, expected) in [
            (json!({}), json!({}), bind.clone()),
            (
                json!({"nodeSelector": {"kubernetes.io/os": "linux"}}),
                json!({}),
                bind.clone(),
            ),
            (
                json!({"nodeSelector": {"disk": "ssd"}}),
                json!({}),
                nowhere("node(s) didn't match Pod's node affinity/selector"),
            ),
            (
                json!({}),
                taint.clone(),
                nowhere("node(s) had untolerated taint {k: v}"),
            ),
            (
                json!({"tolerations": [{"key": "k", "operator": "Exists"}]}),
                taint.clone(),
                bind.clone(),
            ),
            (
                json!({"tolerations": [{"key": "k", "value": "w"}]}),
                taint,
                nowhere("node(s) had untolerated taint {k: v}"),
            ),
            (
                json!({}),
                json!({"spec": {"unschedulable": true}}),
                nowhere("node(s) were unschedulable"),
            ),
        ] {
            let mut full = json!({"spec": {"containers": []}});
            json_patch::merge(&mut full, &json!({"spec": spec}));
            let pod: Pod = serde_json::from_value(full.clone()).unwrap();
            assert_eq!(
                decide(
                    &pod,
                    &Cluster {
                        nodes: vec![node(on)],
                        ..Cluster::default()
                    }
                ),
                expected,
                "{full}"
            );
        }
    }

    fn cluster(pods: Vec<Pod>) -> Cluster {
        let node = node(json!({"status": {"allocatable": {"cpu": "2", "pods": "10"}}}));
        Cluster {
            nodes: vec![node],
            pods: pods.into_iter().map(Arc::new).collect(),
            ..Cluster::default()
        }
    }

    fn pod(name: &str, cpu: &str, priority: i32, more: serde_json::Value) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        let mut all = json!({"metadata": {"name": name, "uid": name, "namespace": "ns"},
            "spec": {"containers": [container], "priority": priority}});
        json_patch::merge(&mut all, &more);
        serde_json::from_value(all).unwrap()
    }

    fn there(name: &str, cpu: &str, priority: i32) -> Pod {
        pod(name, cpu, priority, json!({"spec": {"nodeName": "node"}}))
    }

    fn said(pod: &Pod, cluster: &Cluster) -> String {
        match decide(pod, cluster) {
            Decision::Bind(node) => format!("bind {node}"),
            Decision::Nowhere(text) => text,
            Decision::Preempt(_, text, victims) => {
                let names: Vec<_> = victims.iter().map(|pod| pod.name_any()).collect();
                format!("{text} {}", names.join(" "))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_least_important_pods_make_room() {
        let none = json!({});
        let full = "0/1 nodes are available: 1 Insufficient cpu.";
        let all = vec![there("low", "1", 1), there("mid", "500m", 2), there("high", "500m", 9)];
        let cluster = cluster(all.clone());
        assert_eq!(
            said(&pod("new", "500m", 3, none.clone()), &cluster),
            format!("{full} low")
        );
        assert_eq!(
            said(&pod("new", "1500m", 3, none.clone()), &cluster),
            format!("{full} mid low")
        );
        assert_eq!(
            said(&pod("new", "500m", 1, none.clone()), &cluster),
            format!("{full} preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
        );
        assert_eq!(
            said(&pod("new", "2", 5, none.clone()), &cluster),
            format!("{full} preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
        );
        assert_eq!(
            said(&pod("new", "3", 5, none.clone()), &cluster),
            format!("{full} preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
        );
        let polite = json!({"spec": {"preemptionPolicy": "Never"}});
        assert_eq!(
            said(&pod("new", "500m", 3, polite), &cluster),
            format!("{full} preemption: not eligible due to preemptionPolicy=Never.")
        );
    }

    #[test]
    fn room_that_is_promised_is_taken() {
        let promised = json!({"status": {"nominatedNodeName": "node"}});
        let mut going = there("going", "1500m", 0);
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let waits = pod("waits", "1", 5, promised);
        let full = "0/1 nodes are available: 1 Insufficient cpu.";
        // it asks nobody else to go
        assert_eq!(
            said(&waits, &cluster(vec![going, there("other", "500m", 0), waits.clone()])),
            full
        );
        let freed = cluster(vec![waits.clone()]);
        assert_eq!(said(&waits, &freed), "bind node");
        assert!(said(&pod("thief", "1500m", 4, json!({})), &freed).starts_with(full));
        assert_eq!(said(&pod("important", "1500m", 6, json!({})), &freed), "bind node");
        assert_eq!(said(&pod("small", "1", 0, json!({})), &freed), "bind node");
    }

    #[test]
    fn what_has_ended_takes_no_room() {
        let mut done = there("done", "2", 0);
        done.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
        assert_eq!(said(&pod("new", "2", 0, json!({})), &cluster(vec![done])), "bind node");
    }
}
