//! What may not change.

use serde_json::Value;

use super::{
    super::super::{Resource, view::Object},
    Errors, FieldError, storage,
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
        ("batch", "Job") => {
            for path in ["spec.selector", "spec.template", "spec.completions"] {
                same(path, IMMUTABLE);
            }
        }
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

/// A pod's spec without what may change, and without a node name that scheduling sets once.
fn comparable(spec: Object<'_>, before: Object<'_>) -> Vec<(String, Value)> {
    let mut without = vec!["activeDeadlineSeconds", "tolerations", "ephemeralContainers"];
    if before.str("nodeName").is_empty() {
        without.push("nodeName");
    }
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
