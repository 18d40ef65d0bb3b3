//! Volumes, claims, classes.

use serde_json::json;

use super::{super::super::view::Object, Errors, FieldError};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

pub fn claim(object: Object<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    if spec.items("accessModes").len() == 0 {
        errors.push(FieldError::required(
            "spec.accessModes",
            "at least 1 access mode is required",
        ));
    }
    for (index, mode) in spec.items("accessModes").enumerate() {
        if !MODES.contains(&mode.0.as_str().unwrap_or_default()) {
            errors.push(FieldError::not_supported(
                format!("spec.accessModes[{index}]"),
                mode.0,
                &MODES,
            ));
        }
    }
    if spec
        .entries("resources.requests")
        .is_none_or(|r| !r.contains_key("storage"))
    {
        errors.push(FieldError::required("spec.resources[storage]", ""));
    }
}

fn one_of(object: Object<'_>, path: &str, all: &[&str], errors: &mut Errors) {
    let value = object.str(path);
    if !value.is_empty() && !all.contains(&value) {
        errors.push(FieldError::not_supported(path, &json!(value), all));
    }
}

/// What a volume's spec has beside its source.
const NOT_A_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// The sources that a volume's spec names.
pub fn sources<'a>(spec: Object<'a>) -> Vec<(&'a str, &'a serde_json::Value)> {
    let fields = spec.0.as_object().into_iter().flatten();
    let set = fields.filter(|(name, value)| !NOT_A_SOURCE.contains(&name.as_str()) && !value.is_null());
    set.map(|(name, value)| (name.as_str(), value)).collect()
}

pub fn volume(object: Object<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    if spec.items("accessModes").len() == 0 {
        errors.push(FieldError::required("spec.accessModes", ""));
    }
    for mode in spec.items("accessModes") {
        if !MODES.contains(&mode.0.as_str().unwrap_or_default()) {
            errors.push(FieldError::not_supported("spec.accessModes", mode.0, &MODES));
        }
    }
    let capacity = spec.entries("capacity");
    if capacity.is_none_or(serde_json::Map::is_empty) {
        errors.push(FieldError::required("spec.capacity", ""));
    } else if capacity.is_none_or(|capacity| !capacity.contains_key("storage")) {
        let given = json!(
            spec.at("capacity")
                .0
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        );
        errors.push(FieldError::not_supported("spec.capacity", &given, &["storage"]));
    }
    match sources(spec).as_slice() {
        [] => errors.push(FieldError::required("spec", "must specify a volume type")),
        [_] => {}
        [_, more @ ..] => {
            for (name, _) in more {
                let text = "may not specify more than 1 volume type";
                errors.push(FieldError::forbidden(format!("spec.{name}"), text));
            }
        }
    }
    let path = spec.at("hostPath");
    if path.is_set() {
        if path.str("path").is_empty() {
            errors.push(FieldError::required("spec.hostPath.path", ""));
        } else if path.str("path").split('/').any(|part| part == "..") {
            let text = "must not contain '..'";
            errors.push(FieldError::invalid("spec.hostPath.path", path.at("path").0, text));
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    one_of(object, "spec.persistentVolumeReclaimPolicy", &policies, errors);
    one_of(object, "spec.volumeMode", &["Block", "Filesystem"], errors);
}

pub fn class(object: Object<'_>, errors: &mut Errors) {
    if object.str("provisioner").is_empty() {
        errors.push(FieldError::required("provisioner", ""));
    }
    one_of(object, "reclaimPolicy", &["Delete", "Retain"], errors);
    one_of(
        object,
        "volumeBindingMode",
        &["Immediate", "WaitForFirstConsumer"],
        errors,
    );
}

/// What may not change of a class.
pub fn class_update(new: Object<'_>, old: Object<'_>, errors: &mut Errors) {
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if new.at(field).0 != old.at(field).0 {
            errors.push(FieldError::forbidden(
                field,
                format!("updates to {field} are forbidden."),
            ));
        }
    }
    if new.at("volumeBindingMode").0 != old.at("volumeBindingMode").0 {
        let value = new.at("volumeBindingMode").0;
        errors.push(FieldError::invalid("volumeBindingMode", value, "field is immutable"));
    }
}

/// What may not change of a volume.
pub fn volume_update(new: Object<'_>, old: Object<'_>, errors: &mut Errors) {
    if sources(new.at("spec")) != sources(old.at("spec")) {
        let text = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden("spec.persistentvolumesource", text));
    }
    if new.at("spec.volumeMode").0 != old.at("spec.volumeMode").0 {
        let value = new.at("spec.volumeMode").0;
        errors.push(FieldError::invalid("spec.volumeMode", value, "field is immutable"));
    }
}

/// What may not change of a claim: all but its size, the volume that it is given once, and the class that it did not have.
pub fn claim_update(new: Object<'_>, old: Object<'_>, errors: &mut Errors) {
    let comparable = |object: Object<'_>, other: Object<'_>| {
        let mut spec = object.at("spec").0.as_object().cloned().unwrap_or_default();
        if let Some(requests) = spec
            .get_mut("resources")
            .and_then(|resources| resources.get_mut("requests"))
            .and_then(serde_json::Value::as_object_mut)
        {
            requests.remove("storage");
        }
        if old.str("spec.volumeName").is_empty() {
            spec.remove("volumeName");
        }
        if !old.at("spec.storageClassName").is_set() {
            spec.remove("storageClassName");
        }
        if other.str("status.phase") == "Bound" {
            spec.remove("volumeAttributesClassName");
        }
        spec.retain(|_, value| !value.is_null());
        spec
    };
    if comparable(new, old) != comparable(old, old) {
        let text =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden("spec", text));
    }
    let size = |object: Object<'_>, path: &str| super::super::quantity::parse(object.str(path));
    let path = "spec.resources.requests.storage";
    if size(new, path) < size(old, path) {
        let text = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden(path, text));
    }
}
