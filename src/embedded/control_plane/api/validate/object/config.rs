//! ConfigMaps, Secrets, RBAC, priorities.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{super::super::view::Object, Errors, FieldError, names};

/// Bytes of data that one ConfigMap or Secret may hold.
const MAX_DATA: usize = 1024 * 1024;

pub fn config_map(object: Object<'_>, errors: &mut Errors) {
    let mut total = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object.entries(field).into_iter().flatten() {
            errors.named(&format!("{field}[{key}]"), key, names::config_key(key));
            total += value.as_str().map_or(0, str::len);
            if field == "binaryData" && object.entries("data").is_some_and(|data| data.contains_key(key)) {
                let text = "duplicate of key present in data";
                errors.push(FieldError::invalid(format!("{field}[{key}]"), &json!(key), text));
            }
        }
    }
    too_long(total, "", errors);
}

fn too_long(total: usize, field: &str, errors: &mut Errors) {
    if total > MAX_DATA {
        errors.push(FieldError {
            field: field.into(),
            cause: super::super::Cause::TooLong(MAX_DATA),
        });
    }
}

pub fn secret(object: Object<'_>, errors: &mut Errors) {
    let data = object.entries("data");
    let mut total = 0;
    for (key, value) in data.into_iter().flatten() {
        errors.named(&format!("data[{key}]"), key, names::config_key(key));
        total += value.as_str().map_or(0, |text| text.len() / 4 * 3);
    }
    too_long(total, "data", errors);
    let has = |key: &str| data.is_some_and(|data| data.contains_key(key));
    let need = |key: &str, errors: &mut Errors| {
        if !has(key) {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    };
    match object.str("type") {
        "kubernetes.io/tls" => {
            need("tls.crt", errors);
            need("tls.key", errors);
        }
        "kubernetes.io/ssh-auth" => need("ssh-privatekey", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            for key in ["username", "password"] {
                errors.push(FieldError::required(format!("data[{key}]"), ""));
            }
        }
        "kubernetes.io/dockerconfigjson" => docker_config(object, errors),
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let annotations = object.entries("metadata.annotations");
            if annotations
                .and_then(|a| a.get(key))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                errors.push(FieldError::required(format!("metadata.annotations[{key}]"), ""));
            }
        }
        _ => {}
    }
}

fn docker_config(object: Object<'_>, errors: &mut Errors) {
    let key = ".dockerconfigjson";
    let Some(text) = object
        .entries("data")
        .and_then(|data| data.get(key))
        .and_then(Value::as_str)
    else {
        errors.push(FieldError::required(format!("data[{key}]"), ""));
        return;
    };
    let json = STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if json.is_none() {
        // the content stays out of the message: it is a secret
        let text = "must be valid JSON";
        errors.push(FieldError::invalid(
            format!("data[{key}]"),
            &json!("<secret contents redacted>"),
            text,
        ));
    }
}

pub fn role(object: Object<'_>, errors: &mut Errors) {
    for (index, rule) in object.items("rules").enumerate() {
        let field = format!("rules[{index}]");
        let empty = |list: &str| rule.items(list).len() == 0;
        if empty("verbs") {
            errors.push(FieldError::required(
                format!("{field}.verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !empty("nonResourceURLs") {
            if object.str("kind") == "Role" {
                let text = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(
                    format!("{field}.nonResourceURLs"),
                    rule.at("nonResourceURLs").0,
                    text,
                ));
            }
            if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
                let text = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(
                    format!("{field}.nonResourceURLs"),
                    rule.at("nonResourceURLs").0,
                    text,
                ));
            }
            continue;
        }
        if empty("apiGroups") {
            let text = "resource rules must supply at least one api group";
            errors.push(FieldError::required(format!("{field}.apiGroups"), text));
        }
        if empty("resources") {
            let text = "resource rules must supply at least one resource";
            errors.push(FieldError::required(format!("{field}.resources"), text));
        }
    }
}

pub fn binding(object: Object<'_>, errors: &mut Errors) {
    let role = object.at("roleRef");
    let kinds: &[&str] = if object.str("kind") == "ClusterRoleBinding" {
        &["ClusterRole"]
    } else {
        &["ClusterRole", "Role"]
    };
    if role.str("apiGroup") != "rbac.authorization.k8s.io" {
        let value = json!(role.str("apiGroup"));
        errors.push(FieldError::not_supported(
            "roleRef.apiGroup",
            &value,
            &["rbac.authorization.k8s.io"],
        ));
    }
    if !kinds.contains(&role.str("kind")) {
        errors.push(FieldError::not_supported(
            "roleRef.kind",
            &json!(role.str("kind")),
            kinds,
        ));
    }
    errors.required_name("roleRef.name", role.str("name"), names::path_segment);
    for (index, subject) in object.items("subjects").enumerate() {
        let field = format!("subjects[{index}]");
        if subject.str("name").is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        }
        match subject.str("kind") {
            "ServiceAccount" => {
                if subject.str("namespace").is_empty() {
                    errors.push(FieldError::required(format!("{field}.namespace"), ""));
                }
            }
            "User" | "Group" => {}
            other => {
                let kinds = ["Group", "ServiceAccount", "User"];
                errors.push(FieldError::not_supported(
                    format!("{field}.kind"),
                    &json!(other),
                    &kinds,
                ));
            }
        }
    }
}

/// The most that a class of a user's may be worth.
const MOST_PRIORITY: i64 = 1_000_000_000;

pub fn priority_class(object: Object<'_>, errors: &mut Errors) {
    let name = object.str("metadata.name");
    if name.starts_with("system-") {
        // The two that every cluster has.
        let own = [
            ("system-node-critical", 2_000_001_000),
            ("system-cluster-critical", 2_000_000_000),
        ];
        if !own.contains(&(name, object.int("value"))) {
            let text = "priority class names with 'system-' prefix are reserved for system use only. error: \
                priority class is not one of the known system priority classes";
            errors.push(FieldError::forbidden("metadata.name", text));
        }
    } else if object.int("value") > MOST_PRIORITY {
        let text = format!("maximum allowed value of a user defined priority is {MOST_PRIORITY}");
        errors.push(FieldError::forbidden("value", text));
    }
    let policies = ["Never", "PreemptLowerPriority"];
    let policy = object.str("preemptionPolicy");
    if !policy.is_empty() && !policies.contains(&policy) {
        errors.push(FieldError::not_supported("preemptionPolicy", &json!(policy), &policies));
    }
}
