//! Ends pods on nodes whose taints they do not bear: taints with the effect `NoExecute`.
//!
//! Source: Kubernetes' "Taints and Tolerations" (taint based evictions) and its taint eviction controller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Node, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Context, follow, pods};
use crate::{
    control_plane::node_selector::tolerates,
    events::{Happening, reference},
    informer::{Change, Key},
    queue::Queue,
    write::{delete_this, unless_gone},
};

/// How long a pod may stay on a node with such taints; nothing where it may stay for good.
fn stay(pod: &Pod, node: &Node) -> Option<Duration> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let spec = pod.spec.as_ref();
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut shortest = None;
    for taint in taints.into_iter().flatten().filter(|taint| taint.effect == "NoExecute") {
        let mut answers = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .peekable();
        if answers.peek().is_none() {
            return Some(Duration::ZERO);
        }
        let seconds = answers.filter_map(|toleration| toleration.toleration_seconds).min();
        let seconds = seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        shortest = match (shortest, seconds) {
            (Some(held), Some(seconds)) => Some(seconds.min(held)),
            (held, seconds) => held.or(seconds),
        };
    }
    shortest
}

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let cache = &context.informers;
    let feed = queue.clone();
    follow::changes(&cache.pods, move |change| {
        let moved = match change {
            Change::Applied { old: Some(old), new } => old.spec != new.spec,
            _ => true,
        };
        if moved {
            feed.add(Key::of(change.object().as_ref()));
        }
    });
    let (feed, all) = (queue.clone(), cache.pods.clone());
    follow::changes(&cache.nodes, move |change| {
        let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
        let changed = match change {
            Change::Applied { old: Some(old), new } => taints(old) != taints(new),
            _ => true,
        };
        if changed {
            all.all().iter().for_each(|pod| feed.add(Key::of(pod.as_ref())));
        }
    });
    let controller = Arc::new(Controller {
        context: context.clone(),
        since: Mutex::default(),
    });
    context
        .tasks
        .spawn(queue.run("taint-eviction", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        }));
}

struct Controller {
    context: Context,
    /// Since when a pod is on a node that it may not stay on, by uid.
    since: Mutex<HashMap<String, Timestamp>>,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let Some(pod) = cache.pods.get(key).filter(|pod| !pods::terminating(pod)) else {
            self.forget();
            return Ok(None);
        };
        let name = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default();
        let node = cache.nodes.get(&Key::new("", name));
        let uid = pod.uid().unwrap_or_default();
        let Some(stay) = node.and_then(|node| stay(&pod, &node)) else {
            if self.lock().remove(&uid).is_some() {
                self.tell(&pod, format!("Cancelling deletion of Pod {key}"));
            }
            return Ok(None);
        };
        let now = Timestamp::now();
        let since = *self.lock().entry(uid).or_insert(now);
        let left = since.checked_add(stay).map_or(Duration::MAX, |end| {
            Duration::try_from(end.duration_since(now)).unwrap_or_default()
        });
        if !left.is_zero() {
            return Ok(Some(left));
        }
        self.evict(&pod).await?;
        Ok(None)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Timestamp>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what is known of pods that are no more.
    fn forget(&self) {
        let mut since = self.lock();
        if !since.is_empty() {
            let all = self.context.informers.pods.all();
            since.retain(|uid, _| all.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid)));
        }
    }

    fn tell(&self, pod: &Pod, message: String) {
        let recorder = self.context.recorder.of("taint-eviction-controller", None);
        recorder.tell(reference(pod), Happening::normal("TaintManagerEviction", message));
    }

    async fn evict(&self, pod: &Pod) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &pod.namespace().unwrap_or_default());
        self.tell(pod, format!("Marking for deletion Pod {}", Key::of(pod)));
        let mut conditions = pod
            .status
            .clone()
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        conditions.retain(|condition| condition.type_ != "DisruptionTarget");
        conditions.push(PodCondition {
            type_: "DisruptionTarget".into(),
            status: "True".into(),
            reason: Some("DeletionByTaintManager".into()),
            message: Some("Taint manager: deleting due to NoExecute taint".into()),
            last_transition_time: Some(Time(Timestamp::now())),
            ..PodCondition::default()
        });
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": conditions}});
        let marked = pods
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        if unless_gone(marked)?.is_some()
            && let Some(going) = delete_this(&pods, &pod.name_any(), &pod.uid().unwrap_or_default()).await?
        {
            self.context.informers.pods.wrote(going);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_pod_may_stay() {
        let bears = |key: &str, seconds: Option<i64>| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let now = Some(Duration::ZERO);
        let secs = |seconds| Some(Duration::from_secs(seconds));
        for (taints, tolerations, expected) in [
            (json!([]), json!([]), None),
            (json!([["a", "NoSchedule"]]), json!([]), None),
            (json!([["a", "NoExecute"]]), json!([]), now),
            (json!([["a", "NoExecute"]]), json!([bears("b", None)]), now),
            (json!([["a", "NoExecute"]]), json!([bears("a", None)]), None),
            (json!([["a", "NoExecute"]]), json!([bears("a", Some(5))]), secs(5)),
            (json!([["a", "NoExecute"]]), json!([bears("a", Some(-1))]), now),
            (
                json!([["a", "NoExecute"], ["b", "NoExecute"]]),
                json!([bears("a", None)]),
                now,
            ),
            (
                json!([["a", "NoExecute"], ["b", "NoExecute"]]),
                json!([bears("a", Some(9)), bears("b", Some(4))]),
                secs(4),
            ),
            (
                json!([["a", "NoExecute"], ["b", "NoExecute"]]),
                json!([bears("a", Some(9)), bears("b", None)]),
                secs(9),
            ),
        ] {
            let list: Vec<_> = taints
                .as_array()
                .unwrap()
                .iter()
                .map(|taint| json!({"key": taint[0], "effect": taint[1]}))
                .collect();
            let node: Node = serde_json::from_value(json!({"spec": {"taints": list}})).unwrap();
            let pod = json!({"spec": {"containers": [], "tolerations": tolerations}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(stay(&pod, &node), expected, "{taints} {tolerations}");
        }
    }
}
