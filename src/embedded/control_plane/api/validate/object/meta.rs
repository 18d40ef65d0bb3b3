//! Metadata and label selectors.

use serde_json::Value;

use super::{
    super::super::{Resource, view::Object},
    Errors, FieldError, names,
};

/// All annotations of one object together, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Finalizers without a domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

pub fn check(resource: &Resource, object: Object<'_>, errors: &mut Errors) {
    let metadata = object.at("metadata");
    let (name, base) = (metadata.str("name"), metadata.str("generateName"));
    let check = name_check(resource);
    if !base.is_empty() {
        // what is generated ends in letters, so a trailing dash is fine
        let prefix = format!("{}a", base.trim_end_matches('-'));
        errors.named("metadata.generateName", base, check(&prefix));
    }
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        errors.named("metadata.name", name, check(name));
    }
    labels(metadata, "labels", "metadata.labels", errors);
    annotations(metadata, errors);
    // Definitions have one without a domain of their own, and custom objects may.
    let qualified = resource.builtin && resource.group != "apiextensions.k8s.io";
    for (index, finalizer) in metadata.items("finalizers").enumerate() {
        let text = finalizer.0.as_str().unwrap_or_default();
        errors.named("metadata.finalizers", text, names::qualified_name(text));
        if qualified && !text.contains('/') && !STANDARD_FINALIZERS.contains(&text) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.named(&format!("metadata.finalizers[{index}]"), text, vec![why.to_owned()]);
        }
    }
    owners(metadata, errors);
}

/// An object that is being deleted gets no new finalizers.
pub fn check_update(new: Object<'_>, old: Object<'_>, errors: &mut Errors) {
    if !old.at("metadata.deletionTimestamp").is_set() {
        return;
    }
    let finalizers = |of: Object<'_>| -> Vec<String> {
        let items = of.at("metadata").items("finalizers");
        let texts = items.filter_map(|item| Some(item.0.as_str()?.to_owned()));
        texts.collect()
    };
    let before = finalizers(old);
    let mut added = finalizers(new);
    added.retain(|finalizer| !before.contains(finalizer));
    if !added.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added
                .iter()
                .map(|text| format!("{text:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        errors.push(FieldError::forbidden("metadata.finalizers", why));
    }
}

fn name_check(resource: &Resource) -> fn(&str) -> Vec<String> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => names::dns1123_label,
        ("", "Service") => names::dns1035_label,
        ("rbac.authorization.k8s.io", _) => names::path_segment,
        _ => names::dns1123_subdomain,
    }
}

/// Labels under `path` of an object; the error names them by `field`.
pub fn labels(of: Object<'_>, path: &str, field: &str, errors: &mut Errors) {
    for (key, value) in of.entries(path).into_iter().flatten() {
        errors.named(field, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.named(field, value, names::label_value(value));
    }
}

fn annotations(metadata: Object<'_>, errors: &mut Errors) {
    let mut total = 0;
    for (key, value) in metadata.entries("annotations").into_iter().flatten() {
        // keys may have capitals before the slash, labels' keys may not
        errors.named("metadata.annotations", key, names::qualified_name(&key.to_lowercase()));
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MAX_ANNOTATIONS {
        let cause = super::super::Cause::TooLong(MAX_ANNOTATIONS);
        errors.push(FieldError {
            field: "metadata.annotations".into(),
            cause,
        });
    }
}

fn owners(metadata: Object<'_>, errors: &mut Errors) {
    let mut controllers = 0;
    for (index, owner) in metadata.items("ownerReferences").enumerate() {
        for (part, text) in [
            ("apiVersion", "version"),
            ("kind", "kind"),
            ("name", "name"),
            ("uid", "uid"),
        ] {
            if owner.str(part).is_empty() {
                let field = format!("metadata.ownerReferences[{index}].{part}");
                errors.push(FieldError::invalid(
                    field,
                    &Value::from(""),
                    format!("{text} must not be empty"),
                ));
            }
        }
        controllers += usize::from(owner.bool("controller"));
    }
    if controllers > 1 {
        let text = "Only one reference can have Controller set to true";
        let value = metadata.at("ownerReferences").0;
        errors.push(FieldError::invalid("metadata.ownerReferences", value, text));
    }
}

/// A `LabelSelector` object.
pub fn selector(selector: Object<'_>, field: &str, errors: &mut Errors) {
    labels(selector, "matchLabels", &format!("{field}.matchLabels"), errors);
    for (index, expression) in selector.items("matchExpressions").enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let (operator, values) = (expression.str("operator"), expression.items("values"));
        let empty = values.len() == 0;
        match operator {
            "In" | "NotIn" if empty => {
                let text = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{field}.values"), text));
            }
            "Exists" | "DoesNotExist" if !empty => {
                let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{field}.values"), text));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                let value = expression.at("operator").0;
                errors.push(FieldError::invalid(
                    format!("{field}.operator"),
                    value,
                    "not a valid selector operator",
                ));
            }
        }
        let key = expression.str("key");
        errors.named(&format!("{field}.key"), key, names::qualified_name(key));
        for (index, value) in values.enumerate() {
            let value = value.0.as_str().unwrap_or_default();
            errors.named(&format!("{field}.values[{index}]"), value, names::label_value(value));
        }
    }
}
