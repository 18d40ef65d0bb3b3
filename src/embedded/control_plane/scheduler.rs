//! Binds pods to the node.
//!
//! Source: Kubernetes' scheduler: node selector, taints and tolerations, `Unschedulable`, the `binding` subresource.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Binding, Node, ObjectReference, Pod, PodCondition, Taint, Toleration},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::embedded::{
    events::{Happening, Recorder, reference},
    informer::{Informers, Key},
};
use crate::embedded::{queue::Queue, write::unless_gone};

const NAME: &str = "default-scheduler";

/// Where a pod may go. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Bind(String),
    /// Nowhere; the text is the event's.
    Nowhere(String),
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

/// Where a pod goes among the nodes.
pub fn decide(pod: &Pod, nodes: &[Arc<Node>]) -> Decision {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        match obstacle(pod, node) {
            None => return Decision::Bind(node.name_any()),
            Some(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    let list = if reasons.is_empty() {
        "no nodes available to schedule pods".to_owned()
    } else {
        reasons.join(", ")
    };
    Decision::Nowhere(format!("0/{} nodes are available: {list}.", nodes.len()))
}

/// Starts the scheduler.
pub fn start(client: Client, informers: Informers, recorder: &Recorder, stop: CancellationToken) {
    let queue = Queue::default();
    let mut pods = informers.pods.subscribe();
    let mut nodes = informers.nodes.subscribe();
    let (feed, cache) = (queue.clone(), informers.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                change = pods.recv() => match change {
                    Some(change) if unbound(change.object()) => feed.add(Key::of(change.object().as_ref())),
                    Some(_) => {}
                    None => return,
                },
                change = nodes.recv() => match change {
                    Some(_) => cache.pods.all().iter().filter(|pod| unbound(pod)).for_each(|pod| feed.add(Key::of(pod.as_ref()))),
                    None => return,
                },
            }
        }
    });
    let scheduler = Arc::new(Scheduler {
        client,
        informers,
        recorder: recorder.of(NAME, None),
    });
    tokio::spawn(queue.run("scheduler", stop, move |key| {
        let scheduler = scheduler.clone();
        async move { scheduler.reconcile(&key).await }
    }));
}

fn unbound(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.node_name.as_deref().unwrap_or("").is_empty() && spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME
    }) && pod.metadata.deletion_timestamp.is_none()
}

struct Scheduler {
    client: Client,
    informers: Informers,
    recorder: Recorder,
}

impl Scheduler {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let Some(pod) = self.informers.pods.get(key).filter(|pod| unbound(pod)) else {
            return Ok(None);
        };
        match decide(&pod, &self.informers.nodes.all()) {
            Decision::Bind(node) => self.bind(&pod, node).await?,
            Decision::Nowhere(message) => self.refuse(&pod, message).await?,
        }
        Ok(None)
    }

    async fn bind(&self, pod: &Pod, node: String) -> Result<(), kube::Error> {
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                uid: pod.uid(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.clone()),
                ..ObjectReference::default()
            },
        };
        let bound: Result<serde_json::Value, _> = pods
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        if unless_gone(bound)?.is_some() {
            let message = format!("Successfully assigned {namespace}/{name} to {node}");
            self.recorder
                .tell(reference(pod), Happening::normal("Scheduled", message));
        }
        Ok(())
    }

    async fn refuse(&self, pod: &Pod, message: String) -> Result<(), kube::Error> {
        let held = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        let told = held
            .iter()
            .any(|c| c.type_ == "PodScheduled" && c.status == "False" && c.message.as_ref() == Some(&message));
        if told {
            return Ok(());
        }
        self.recorder
            .tell(reference(pod), Happening::warning("FailedScheduling", message.clone()));
        let mut conditions: Vec<_> = held
            .into_iter()
            .filter(|condition| condition.type_ != "PodScheduled")
            .collect();
        conditions.push(PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some(message),
            last_transition_time: Some(Time(Timestamp::now())),
            ..PodCondition::default()
        });
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = json!({"status": {"conditions": conditions}});
        unless_gone(
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
                .await,
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(decide(&pod, &[node(on)]), expected, "{full}");
        }
    }
}
