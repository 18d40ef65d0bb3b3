//! Which pods a ReplicaSet makes, takes, lets go and removes, and its status: pure.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt;

use crate::control_plane::controllers::{
    owner,
    pods::{self, ReferenceChange, active, available, phase, ready_since},
};

/// The most pods made in one go.
const BURST: usize = 500;

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Pods to adopt or to let go.
    pub references: Vec<ReferenceChange>,
    /// How many pods to make.
    pub create: usize,
    /// Which pods to remove.
    pub delete: Vec<String>,
    /// When a pod becomes available by the mere passing of time.
    pub again: Option<Duration>,
}

/// What to do for a ReplicaSet among the pods of its namespace.
pub fn plan(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &set.spec else { return plan };
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let (held, references) = pods::claim(set, &spec.selector, pods);
    plan.references = references;
    let mut held: Vec<_> = held.into_iter().filter(|pod| active(pod)).collect();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if held.len() < wanted {
        plan.create = (wanted - held.len()).min(BURST);
    } else if held.len() > wanted {
        let excess = held.len() - wanted;
        held.sort_by_key(|pod| worth(pod));
        plan.delete = held.iter().take(excess).map(|pod| pod.name_any()).collect();
    }
    plan.again = pods::next_available(held.iter().map(AsRef::as_ref), spec.min_ready_seconds, now);
    plan
}

/// What a pod says it costs to remove it.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The order in which pods are removed: unscheduled, then not running, then not ready, then cheap, then ready for a short time,
/// then often restarted, then the youngest.
fn worth(pod: &Pod) -> impl Ord + use<> {
    let status = pod.status.as_ref();
    let scheduled = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let restarts: i32 = status
        .and_then(|status| status.container_statuses.as_ref())
        .into_iter()
        .flatten()
        .map(|c| c.restart_count)
        .sum();
    let ready = ready_since(pod);
    let cost: i32 = pod
        .annotations()
        .get(COST)
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0);
    let age = pod.metadata.creation_timestamp.as_ref().map(|time| Reverse(time.0));
    (
        scheduled,
        phase(pod) == "Running",
        ready.is_some(),
        cost,
        ready.map(Reverse),
        Reverse(restarts),
        age,
        pod.name_any(),
    )
}

/// The status to write.
pub fn status(set: &ReplicaSet, pods: &[Arc<Pod>], failure: Option<String>, now: Timestamp) -> ReplicaSetStatus {
    let labels = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.clone())
        .unwrap_or_default();
    let seconds = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let held: Vec<_> = pods
        .iter()
        .filter(|pod| owner::controls(set, &pod.metadata) && active(pod))
        .collect();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        let number = held.iter().filter(|pod| test(pod)).count();
        i32::try_from(number).unwrap_or(i32::MAX)
    };
    let some = |number: i32| (number != 0).then_some(number);
    let held_before = set
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let conditions = failure.map(|message| {
        let since = held_before
            .iter()
            .find(|c| c.type_ == "ReplicaFailure")
            .and_then(|c| c.last_transition_time.clone());
        vec![ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some("FailedCreate".to_owned()),
            message: Some(message),
            last_transition_time: since.or(Some(Time(now))),
        }]
    });
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&|pod| {
            labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
        })),
        ready_replicas: some(count(&|pod| ready_since(pod).is_some())),
        available_replicas: some(count(&|pod| available(pod, seconds, now))),
        observed_generation: set.metadata.generation,
        conditions,
        ..ReplicaSetStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "default", "uid": "set"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}}}
        }))
        .unwrap()
    }

    fn pod_named(name: &str, more: serde_json::Value) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "set", "controller": true}]},
            "spec": {"nodeName": "node", "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"}]}
        });
        json_patch::merge(&mut value, &more);
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn missing_pods_are_made_and_ended_or_leaving_ones_do_not_count() {
        let pods = [
            pod_named("a", json!({})),
            pod_named("b", json!({"status": {"phase": "Failed"}})),
            pod_named("c", json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}})),
        ];
        let plan = plan(&set(3), &pods, Timestamp::UNIX_EPOCH);
        assert_eq!((plan.create, plan.delete.len()), (2, 0));
        assert_eq!(status(&set(3), &pods, None, Timestamp::UNIX_EPOCH).replicas, 1);
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        let pods = [
            pod_named("serving", json!({})),
            pod_named(
                "unready",
                json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            ),
            pod_named("pending", json!({"status": {"phase": "Pending", "conditions": []}})),
            pod_named("cheap", json!({"metadata": {"annotations": {COST: "-1"}}})),
            pod_named(
                "fresh",
                json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:01Z"}]}}),
            ),
        ];
        assert_eq!(
            plan(&set(1), &pods, Timestamp::UNIX_EPOCH).delete,
            ["pending", "unready", "cheap", "fresh"]
        );
    }

    #[test]
    fn a_relabelled_pod_is_let_go_and_an_orphan_taken() {
        let pods = [
            pod_named("strayed", json!({"metadata": {"labels": {"app": "other"}}})),
            pod_named("orphan", json!({"metadata": {"ownerReferences": null}})),
        ];
        let plan = plan(&set(2), &pods, Timestamp::UNIX_EPOCH);
        assert_eq!(plan.references[0].patch["metadata"]["ownerReferences"], json!([]));
        assert_eq!(plan.references[1].patch["metadata"]["ownerReferences"][0]["uid"], "set");
        assert_eq!(plan.create, 1);
    }

    #[test]
    fn ready_is_available_only_after_the_minimum() {
        let mut set = set(1);
        set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
        let pods = [pod_named("a", json!({}))];
        let early = status(&set, &pods, None, Timestamp::from_second(4).unwrap());
        assert_eq!((early.ready_replicas, early.available_replicas), (Some(1), None));
        assert_eq!(
            plan(&set, &pods, Timestamp::from_second(4).unwrap()).again,
            Some(Duration::from_secs(6))
        );
        assert_eq!(
            status(&set, &pods, None, Timestamp::from_second(10).unwrap()).available_replicas,
            Some(1)
        );
    }
}
