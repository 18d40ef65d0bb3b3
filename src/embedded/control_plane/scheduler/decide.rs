//! Where a pod may go: pure.
//!
//! Source: kube-scheduler's default plugins, their order, and the texts of `FailedScheduling`.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Taint, Toleration};
use kube::ResourceExt;

use super::volumes::{self, Volumes, Waiting};

/// What a decision looks at.
#[derive(Default)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Arc<Node>>,
    /// Every pod.
    pub pods: Vec<Arc<Pod>>,
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
}

/// Whether a pod has ended: it takes no room.
pub fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a toleration answers a taint.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or("");
    match toleration.operator.as_deref() {
        Some("Exists") => key.is_empty() || key == taint.key,
        _ => key == taint.key && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
    }
}

/// Why a node does not take a pod, in the scheduler's words.
fn obstacle(pod: &Pod, node: &Node) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let selector = spec.node_selector.as_ref().unwrap_or(&empty);
    if selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let node_spec = node.spec.clone().unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let mut taints = node_spec.taints.unwrap_or_default();
    if node_spec.unschedulable == Some(true) {
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        if !tolerations.iter().any(|toleration| tolerates(toleration, &cordon)) {
            return Some("node(s) were unschedulable".to_owned());
        }
        taints.retain(|taint| taint.key != cordon.key);
    }
    taints
        .iter()
        .filter(|taint| taint.effect != "PreferNoSchedule")
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
        .map(|taint| {
            format!(
                "node(s) had untolerated taint {{{}: {}}}",
                taint.key,
                taint.value.as_deref().unwrap_or("")
            )
        })
}

/// Where a pod goes in the cluster.
pub fn decide(pod: &Pod, cluster: &Cluster) -> Decision {
    let waiting = match cluster.volumes.waiting(pod) {
        Ok(waiting) => waiting,
        Err(reason) => return nowhere(cluster, &reason),
    };
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for node in &cluster.nodes {
        match obstacle(pod, node).or_else(|| volume_obstacle(pod, node, cluster, &waiting)) {
            None => return on(node, &waiting),
            Some(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    if reasons.is_empty() {
        return nowhere(cluster, "no nodes available to schedule pods");
    }
    let mut reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    reasons.sort();
    nowhere(cluster, &reasons.join(", "))
}

fn volume_obstacle(pod: &Pod, node: &Node, cluster: &Cluster, waiting: &Waiting) -> Option<String> {
    if volumes::is_taken(pod, &cluster.pods, &cluster.volumes.claims) {
        let text = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
        return Some(text.to_owned());
    }
    cluster.volumes.obstacle(waiting, node).map(str::to_owned)
}

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

fn nowhere(cluster: &Cluster, reasons: &str) -> Decision {
    Decision::Nowhere(format!("0/{} nodes are available: {reasons}.", cluster.nodes.len()))
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
        let nowhere = |reason: &str| Decision::Nowhere(format!("0/1 nodes are available: 1 {reason}."));
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
}
