//! What a snapshot holds of volumes and claims: what was asked for, not what was bound to what. Pure.

use serde_json::{Map, Value, json};

use crate::control_plane::volume_binding::{BY_CONTROLLER, COMPLETED, EMPTY_FIRST, SELECTED_NODE};

/// Whether a volume was made for a claim: another is made for the claim that comes back.
pub fn is_provisioned(volume: &Value) -> bool {
    let annotations = volume.pointer("/metadata/annotations");
    annotations.is_some_and(|annotations| annotations.get("pv.kubernetes.io/provisioned-by").is_some())
}

/// Takes away what a controller bound. A volume made by hand is marked: what is in it goes before it is bound again.
pub fn unbind(resource: &str, fields: &mut Map<String, Value>) {
    let metadata = fields.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else { return };
    let is_volume = resource == "persistentvolumes";
    if is_volume && !metadata.get("annotations").is_some_and(Value::is_object) {
        metadata.insert("annotations".to_owned(), json!({}));
    }
    let mut by_controller = false;
    let mut empty = false;
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        by_controller = annotations.remove(BY_CONTROLLER).is_some();
        for made in [
            COMPLETED,
            SELECTED_NODE,
            "volume.kubernetes.io/storage-provisioner",
            "volume.beta.kubernetes.io/storage-provisioner",
        ] {
            annotations.remove(made);
        }
        if is_volume {
            annotations.insert(EMPTY_FIRST.to_owned(), json!("true"));
        }
        empty = annotations.is_empty();
    }
    if empty {
        metadata.remove("annotations");
    }
    let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if by_controller {
        spec.remove(if is_volume { "claimRef" } else { "volumeName" });
    } else if let Some(of) = spec.get_mut("claimRef").and_then(Value::as_object_mut) {
        of.remove("uid");
        of.remove("resourceVersion");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unbound(resource: &str, object: Value) -> Value {
        let mut fields = object.as_object().unwrap().clone();
        unbind(resource, &mut fields);
        Value::Object(fields)
    }

    #[test]
    fn what_a_controller_bound_is_not_kept() {
        let claim = json!({"metadata": {"annotations": {BY_CONTROLLER: "yes", COMPLETED: "yes", SELECTED_NODE: "n"}},
            "spec": {"volumeName": "v", "accessModes": ["ReadWriteOnce"]}});
        assert_eq!(
            unbound("persistentvolumeclaims", claim),
            json!({"metadata": {}, "spec": {"accessModes": ["ReadWriteOnce"]}})
        );
        let volume = json!({"metadata": {"annotations": {BY_CONTROLLER: "yes"}}, "spec": {"claimRef": {"name": "c", "uid": "1"}}});
        assert_eq!(
            unbound("persistentvolumes", volume),
            json!({"metadata": {"annotations": {EMPTY_FIRST: "true"}}, "spec": {}})
        );
    }

    #[test]
    fn what_was_asked_for_by_name_is_kept() {
        let claim = json!({"metadata": {"annotations": {COMPLETED: "yes", "mine": "x"}}, "spec": {"volumeName": "v"}});
        assert_eq!(
            unbound("persistentvolumeclaims", claim),
            json!({"metadata": {"annotations": {"mine": "x"}}, "spec": {"volumeName": "v"}})
        );
        let volume = json!({"metadata": {}, "spec": {"claimRef": {"name": "c", "uid": "1", "resourceVersion": "2"}}});
        assert_eq!(
            unbound("persistentvolumes", volume)["spec"],
            json!({"claimRef": {"name": "c"}})
        );
    }
}
