//! What every controller of pods asks about a pod, and which pods are its own. Pure.
//!
//! Source: Kubernetes' `controller.PodControllerRefManager` and `podutil`.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::owner;

/// A patch of an object's owner references.
#[derive(Debug, PartialEq)]
pub struct ReferenceChange {
    /// The object's name.
    pub name: String,
    /// A merge patch.
    pub patch: serde_json::Value,
}

fn owned_by(uid: &str, references: &[OwnerReference]) -> serde_json::Value {
    json!({"metadata": {"uid": uid, "ownerReferences": references}})
}

/// The phase, or nothing.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whether a pod has ended: it never runs again.
pub fn ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether a pod is being deleted.
pub fn terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether a pod counts: neither ended nor being deleted.
pub fn active(pod: &Pod) -> bool {
    !terminating(pod) && !ended(pod)
}

/// A condition of a pod.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Since when a pod is ready, where it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    let since = condition.last_transition_time.as_ref();
    Some(since.map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// How long until a ready pod counts as available; nothing for a pod that is not ready.
pub fn available_in(pod: &Pod, min_ready_seconds: Option<i32>, now: Timestamp) -> Option<Duration> {
    let wait = Duration::from_secs(u64::try_from(min_ready_seconds.unwrap_or(0)).unwrap_or(0));
    let at = ready_since(pod)?.checked_add(wait).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// Whether a pod has been ready for long enough.
pub fn available(pod: &Pod, min_ready_seconds: Option<i32>, now: Timestamp) -> bool {
    available_in(pod, min_ready_seconds, now).is_some_and(|left| left.is_zero())
}

/// When the first of these pods becomes available by the mere passing of time.
pub fn next_available<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    min_ready_seconds: Option<i32>,
    now: Timestamp,
) -> Option<Duration> {
    pods.into_iter()
        .filter_map(|pod| available_in(pod, min_ready_seconds, now))
        .filter(|left| !left.is_zero())
        .min()
}

/// A number as statuses hold it.
pub fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The pods of a controller among those of its namespace, with the references to change: pods without a controller that its
/// selector takes are adopted, its own that the selector no longer takes are let go.
pub fn claim<K: Resource<DynamicType = ()>>(
    controller: &K,
    selector: &LabelSelector,
    pods: &[Arc<Pod>],
) -> (Vec<Arc<Pod>>, Vec<ReferenceChange>) {
    let deleting = controller.meta().deletion_timestamp.is_some();
    let (mut held, mut changes) = (Vec::new(), Vec::new());
    for pod in pods {
        let ours = owner::controls(controller, &pod.metadata);
        let selected = owner::selects(selector, pod.metadata.labels.as_ref());
        let change = |references: &[OwnerReference]| ReferenceChange {
            name: pod.name_any(),
            patch: owned_by(&pod.uid().unwrap_or_default(), references),
        };
        let mut references = pod.metadata.owner_references.clone().unwrap_or_default();
        if ours && !selected && !terminating(pod) && !deleting {
            references.retain(|reference| Some(&reference.uid) != controller.meta().uid.as_ref());
            changes.push(change(&references));
        } else if ours {
            held.push(pod.clone());
        } else if selected && owner::controller_of(&pod.metadata).is_none() && active(pod) && !deleting {
            references.push(owner::controller_reference(controller));
            changes.push(change(&references));
            held.push(pod.clone());
        }
    }
    (held, changes)
}

/// A pod from a template, controlled by `controller`, without a name of its own.
pub fn from_template<K: Resource<DynamicType = ()>>(controller: &K, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", controller.name_any())),
            namespace: controller.meta().namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner::controller_reference(controller)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
