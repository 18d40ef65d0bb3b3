//! What may not change.

use serde_json::Value;

use super::{
    super::super::{Resource, view::Object},
    Errors, FieldError, batch, storage,
};

const IMMUTABLE: &str = "field is immutable";

pub fn check(resource: &Resource, new: Object<'_>, old: Object<'_>, errors: &mut Errors) {
    let mut same = |path: &str, text: &str| {
        if new.at(path).0 != old.at(path).0 {
            errors.push(FieldError::invalid(path, new.at(path).0, text));
        }
    };
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => same("spec.selector", IMMUTABLE),
        ("apps", "StatefulSet") => stateful_set(new, old, errors),
        ("batch", "Job") => batch::job_update(new, old, errors),
        ("discovery.k8s.io", "EndpointSlice") => same("addressType", IMMUTABLE),
        ("rbac.authorization.k8s.io", _) => same("roleRef", "cannot change roleRef"),
        ("", "Secret") => {
            same("type", IMMUTABLE);
            sealed(new, old, &["data"], errors);
        }
        ("", "ConfigMap") => sealed(new, old, &["data", "binaryData"], errors),
        ("", "Service") => service(new, old, errors),
        ("", "PersistentVolumeClaim") => storage::claim_update(new, old, errors),
        ("", "PersistentVolume") => storage::volume_update(new, old, errors),
        ("scheduling.k8s.io", "PriorityClass") => {
            let text = "may not be changed in an update.";
            if new.int("value") != old.int("value") {
                errors.push(FieldError::forbidden("value", text));
            }
            if new.at("preemptionPolicy").0 != old.at("preemptionPolicy").0 {
                errors.push(FieldError::invalid(
                    "preemptionPolicy",
                    new.at("preemptionPolicy").0,
                    "field is immutable",
                ));
            }
        }
        ("storage.k8s.io", "StorageClass") => storage::class_update(new, old, errors),
        ("", "Pod") => pod(new, old, errors),
        _ => {}
    }
}

/// `immutable: true` of ConfigMaps and Secrets.
fn sealed(new: Object<'_>, old: Object<'_>, fields: &[&str], errors: &mut Errors) {
    if !old.bool("immutable") {
        return;
    }
    let text = "field is immutable when `immutable` is set";
    if !new.bool("immutable") {
        errors.push(FieldError::forbidden("immutable", text));
    }
    for field in fields {
        if new.at(field).0 != old.at(field).0 {
            errors.push(FieldError::forbidden(*field, text));
        }
    }
}

fn service(new: Object<'_>, old: Object<'_>, errors: &mut Errors) {
    let external = |o: Object<'_>| o.str("spec.type") == "ExternalName";
    let before = old.str("spec.clusterIP");
    if !before.is_empty() && !external(old) && !external(new) && new.str("spec.clusterIP") != before {
        let value = Value::from(vec![new.str("spec.clusterIP")]);
        errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            &value,
            "may not change once set",
        ));
    }
}

fn stateful_set(new: Object<'_>, old: Object<'_>, errors: &mut Errors) {
    const MAY_CHANGE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    if rest(new.at("spec"), &MAY_CHANGE) != rest(old.at("spec"), &MAY_CHANGE) {
        let text = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
            'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
            forbidden";
        errors.push(FieldError::forbidden("spec", text));
    }
}

fn rest(spec: Object<'_>, without: &[&str]) -> Vec<(String, Value)> {
    let fields = spec.0.as_object().into_iter().flatten();
    let kept = fields.filter(|(key, value)| !without.contains(&key.as_str()) && !value.is_null());
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn pod(new: Object<'_>, old: Object<'_>, errors: &mut Errors) {
    let (spec, before) = (new.at("spec"), old.at("spec"));
    for kind in ["containers", "initContainers"] {
        if spec.items(kind).len() != before.items(kind).len() {
            let text = format!("pod updates may not add or remove {kind}");
            errors.push(FieldError::forbidden(format!("spec.{kind}"), text));
            return;
        }
    }
    let text = "existing ephemeral containers may not be changed or removed";
    let kept = |was: Object<'_>| spec.items("ephemeralContainers").any(|is| is.0 == was.0);
    if !before.items("ephemeralContainers").all(kept) {
        errors.push(FieldError::forbidden("spec.ephemeralContainers", text));
    }
    let gate = |is: Object<'_>| before.items("schedulingGates").any(|was| was.0 == is.0);
    if !spec.items("schedulingGates").all(gate) {
        let text = "only deletion is allowed, but found new scheduling gate";
        errors.push(FieldError::forbidden("spec.schedulingGates", text));
    }
    let tolerated = |was: Object<'_>| spec.items("tolerations").any(|is| is.0 == was.0);
    let unchanged =
        comparable(spec, before) == comparable(before, before) && before.items("tolerations").all(tolerated);
    if !unchanged {
        let text = "pod updates may not change fields other than `spec.containers[*].image`,\
            `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
            tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";
        errors.push(FieldError::forbidden("spec", text));
    }
}

/// A spec without what it asks of nodes beyond what it did before: as long as a pod is held back, that may be added.
fn as_wide_as(spec: Object<'_>, before: Object<'_>) -> Value {
    let mut wide = spec.0.clone();
    let Some(fields) = wide.as_object_mut() else {
        return wide;
    };
    if let Some(selector) = fields.get_mut("nodeSelector").and_then(Value::as_object_mut) {
        let held = before.entries("nodeSelector");
        selector.retain(|key, _| held.is_some_and(|held| held.contains_key(key)));
        if selector.is_empty() && held.is_none() {
            fields.remove("nodeSelector");
        }
    }
    if !before.at("affinity.nodeAffinity").is_set()
        && let Some(affinity) = fields.get_mut("affinity").and_then(Value::as_object_mut)
    {
        affinity.remove("nodeAffinity");
        if affinity.is_empty() && !before.at("affinity").is_set() {
            fields.remove("affinity");
        }
    }
    wide
}

/// A pod's spec without what may change, and without a node name that scheduling sets once.
fn comparable(spec: Object<'_>, before: Object<'_>) -> Vec<(String, Value)> {
    let mut without = vec![
        "activeDeadlineSeconds",
        "tolerations",
        "ephemeralContainers",
        "schedulingGates",
    ];
    if before.str("nodeName").is_empty() {
        without.push("nodeName");
    }
    let narrowed;
    let spec = if before.items("schedulingGates").len() > 0 {
        narrowed = as_wide_as(spec, before);
        Object(&narrowed)
    } else {
        spec
    };
    let mut fields = rest(spec, &without);
    for (_, containers) in fields
        .iter_mut()
        .filter(|(key, _)| matches!(key.as_str(), "containers" | "initContainers"))
    {
        for container in containers
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            container.remove("image");
        }
    }
    fields
}
