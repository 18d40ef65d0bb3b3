//! The identities of a StatefulSet's pods: names, labels, host names, claims. Pure.
//!
//! Source: Kubernetes' StatefulSet concept ("Pod Identity", "PersistentVolumeClaim retention").

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt;
use serde_json::json;

use crate::control_plane::controllers::{
    owner,
    pods::{self, ReferenceChange},
    revision::POD_LABEL,
};

/// The label that names the pod, so that a Service can select one.
pub const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// The label that holds the ordinal.
pub const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The first ordinal.
pub fn first(set: &StatefulSet) -> i32 {
    let ordinals = set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref());
    ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0)
}

/// How many pods are wanted.
pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

/// The ordinal in a pod's name, where it is a name of this set.
pub fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set.metadata.name.as_deref()?)?.strip_prefix('-')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain)
}

/// Whether an ordinal is one that the set wants.
pub fn in_range(set: &StatefulSet, ordinal: i32) -> bool {
    ordinal >= first(set) && i64::from(ordinal) < i64::from(first(set)) + i64::from(replicas(set))
}

/// The name of the pod with this ordinal.
pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name_any())
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.name_any(), set.name_any())
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| spec.volume_claim_templates.as_deref())
        .unwrap_or_default()
}

/// The claims of the pod with this ordinal.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
    let make = |template: &PersistentVolumeClaim| {
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(selector.clone().unwrap_or_default());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim_name(set, template, ordinal)),
                namespace: set.namespace(),
                labels: (!labels.is_empty()).then_some(labels),
                annotations: template.metadata.annotations.clone(),
                finalizers: template.metadata.finalizers.clone(),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    };
    templates(set).iter().map(make).collect()
}

/// The pod with this ordinal, from a template of the named revision.
pub fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pods::from_template(set, template);
    let name = pod_name(set, ordinal);
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    labels.insert(POD_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    let claimed: Vec<Volume> = templates(set)
        .iter()
        .map(|template| Volume {
            name: template.name_any(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, template, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    if !claimed.is_empty() {
        let volumes = spec.volumes.get_or_insert_default();
        volumes.retain(|volume| !claimed.iter().any(|claim| claim.name == volume.name));
        volumes.extend(claimed);
    }
    pod
}

/// The merge patch that gives a pod the labels of its identity, where somebody took them.
pub fn mend(set: &StatefulSet, pod: &Pod, ordinal: i32) -> Option<serde_json::Value> {
    let name = pod_name(set, ordinal);
    let index = ordinal.to_string();
    let held = |label: &str, value: &String| pod.labels().get(label) == Some(value);
    if held(NAME_LABEL, &name) && held(INDEX_LABEL, &index) {
        return None;
    }
    Some(json!({"metadata": {"uid": pod.uid(), "labels": {NAME_LABEL: name, INDEX_LABEL: index}}}))
}

fn owns(references: &[OwnerReference], uid: Option<&String>) -> bool {
    references.iter().any(|reference| Some(&reference.uid) == uid)
}

/// The owners that a claim of `pod` should have under the retention policy, where they are not those it has.
///
/// A claim that the set deletes with itself is owned by the set; one that goes when the set is scaled down is owned by the pod
/// that goes. What others own is left alone.
pub fn retain(set: &StatefulSet, pod: &Pod, ordinal: i32, claim: &PersistentVolumeClaim) -> Option<ReferenceChange> {
    let policy = set.spec.as_ref()?.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    let with_set = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let condemned = when_scaled && !in_range(set, ordinal);
    let held = claim.metadata.owner_references.clone().unwrap_or_default();
    let (set_uid, pod_uid) = (set.metadata.uid.as_ref(), pod.metadata.uid.as_ref());
    let foreign = owner::controller_of(&claim.metadata)
        .is_some_and(|owner| Some(&owner.uid) != set_uid && !is_pod_of(set, owner, pod));
    if foreign {
        return None;
    }
    let mut wanted: Vec<_> = held
        .iter()
        .filter(|reference| Some(&reference.uid) != set_uid && !is_pod_of(set, reference, pod))
        .cloned()
        .collect();
    if condemned {
        wanted.push(owner::controller_reference(pod));
    } else if with_set {
        wanted.push(owner::controller_reference(set));
    }
    let right = wanted.len() == held.len()
        && owns(&held, pod_uid) == owns(&wanted, pod_uid)
        && owns(&held, set_uid) == owns(&wanted, set_uid);
    (!right).then(|| ReferenceChange {
        name: claim.name_any(),
        patch: json!({"metadata": {"uid": claim.uid(), "ownerReferences": wanted}}),
    })
}

/// Whether a reference is to the pod, or to an earlier one of its name.
fn is_pod_of(set: &StatefulSet, reference: &OwnerReference, pod: &Pod) -> bool {
    reference.kind == "Pod"
        && Some(&reference.name) == pod.metadata.name.as_ref()
        && ordinal(set, &reference.name).is_some()
}
