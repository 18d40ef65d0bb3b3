//! Pod specs.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{super::super::view::Object, Errors, FieldError, container, meta, names};

/// A pod's spec at `field` (`spec` or `spec.template.spec`).
pub fn spec(spec: Object<'_>, field: &str, errors: &mut Errors) {
    let volumes = volumes(spec, field, errors);
    if spec.items("containers").len() == 0 {
        errors.push(FieldError::required(format!("{field}.containers"), ""));
    }
    let mut seen = BTreeSet::new();
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in spec.items(kind).enumerate() {
            let field = format!("{field}.{kind}[{index}]");
            container::check(container, kind, &field, &volumes, errors);
            let name = container.str("name");
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), &Value::from(name)));
            }
        }
    }
    for (index, container) in spec.items("ephemeralContainers").enumerate() {
        let target = container.str("targetContainerName");
        if !target.is_empty() && !spec.items("containers").any(|c| c.str("name") == target) {
            let cause = super::super::Cause::NotFound(Value::from(target));
            errors.push(FieldError {
                field: format!("{field}.ephemeralContainers[{index}].targetContainerName"),
                cause,
            });
        }
    }
    policies(spec, field, errors);
    meta::labels(spec, "nodeSelector", &format!("{field}.nodeSelector"), errors);
    for (name, check) in [
        ("nodeName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("serviceAccountName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
    ] {
        let value = spec.str(name);
        if !value.is_empty() {
            errors.named(&format!("{field}.{name}"), value, check(value));
        }
    }
    if spec.items("schedulingGates").len() > 0 && !spec.str("nodeName").is_empty() {
        let text = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(format!("{field}.nodeName"), text));
    }
    for (index, alias) in spec.items("hostAliases").enumerate() {
        let ip = alias.str("ip");
        if ip.parse::<std::net::IpAddr>().is_err() {
            let text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(
                format!("{field}.hostAliases[{index}].ip"),
                &Value::from(ip),
                text,
            ));
        }
    }
}

fn policies(spec: Object<'_>, field: &str, errors: &mut Errors) {
    errors.one_of(spec, "restartPolicy", field, &["Always", "OnFailure", "Never"]);
    errors.one_of(
        spec,
        "dnsPolicy",
        field,
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    errors.not_negative(spec, "terminationGracePeriodSeconds", field);
    let deadline = spec.at("activeDeadlineSeconds");
    if deadline.is_set() && !(1..=i64::from(i32::MAX)).contains(&deadline.0.as_i64().unwrap_or_default()) {
        let text = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(
            format!("{field}.activeDeadlineSeconds"),
            deadline.0,
            text,
        ));
    }
    if spec.str("dnsPolicy") == "None" && spec.items("dnsConfig.nameservers").len() == 0 {
        let text = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(format!("{field}.dnsConfig.nameservers"), text));
    }
    for id in ["runAsUser", "runAsGroup", "fsGroup"] {
        container::check_id(
            spec.at("securityContext"),
            id,
            &format!("{field}.securityContext"),
            errors,
        );
    }
    for (index, toleration) in spec.items("tolerations").enumerate() {
        let field = format!("{field}.tolerations[{index}]");
        let (key, operator) = (toleration.str("key"), toleration.str("operator"));
        if !key.is_empty() {
            errors.named(&format!("{field}.key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let text = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(
                format!("{field}.operator"),
                &Value::from(operator),
                text,
            ));
        }
        if operator == "Exists" && !toleration.str("value").is_empty() {
            let text = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(format!("{field}.operator"), toleration.0, text));
        }
    }
}

/// Checks the volumes and returns their names.
fn volumes<'a>(spec: Object<'a>, field: &str, errors: &mut Errors) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (index, volume) in spec.items("volumes").enumerate() {
        let field = format!("{field}.volumes[{index}]");
        let name = volume.str("name");
        errors.required_name(&format!("{field}.name"), name, names::dns1123_label);
        if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{field}.name"), &Value::from(name)));
        }
        let fields = volume.0.as_object().into_iter().flatten();
        let sources: Vec<&String> = fields.map(|(key, _)| key).filter(|key| *key != "name").collect();
        match sources.as_slice() {
            [] => errors.push(FieldError::required(&field, "must specify a volume type")),
            [_] => {}
            [_, more @ ..] => {
                for extra in more {
                    let text = "may not specify more than 1 volume type";
                    errors.push(FieldError::forbidden(format!("{field}.{extra}"), text));
                }
            }
        }
        for (source, needed) in [
            ("secret", "secretName"),
            ("configMap", "name"),
            ("hostPath", "path"),
            ("persistentVolumeClaim", "claimName"),
        ] {
            if volume.at(source).is_set() && volume.at(source).str(needed).is_empty() {
                errors.push(FieldError::required(format!("{field}.{source}.{needed}"), ""));
            }
        }
        for source in ["secret", "configMap"] {
            key_paths(volume.at(source), &format!("{field}.{source}"), errors);
        }
    }
    seen
}

fn key_paths(source: Object<'_>, field: &str, errors: &mut Errors) {
    for (index, item) in source.items("items").enumerate() {
        let field = format!("{field}.items[{index}]");
        let path = item.str("path");
        if item.str("key").is_empty() {
            errors.push(FieldError::required(format!("{field}.key"), ""));
        }
        if path.is_empty() {
            errors.push(FieldError::required(format!("{field}.path"), ""));
        }
        relative_path(path, &format!("{field}.path"), errors);
    }
}

/// A path that stays below where it starts.
pub fn relative_path(path: &str, field: &str, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.push(FieldError::invalid(
            field,
            &Value::from(path),
            "must be a relative path",
        ));
    }
    if path.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(field, &Value::from(path), "must not contain '..'"));
    }
}
