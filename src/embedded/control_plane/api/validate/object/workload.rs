//! What makes pods: deployments and the like.

use serde_json::{Value, json};

use super::{
    super::super::{selector::LabelSelector, view::Object},
    Errors, FieldError, meta, pod,
};

pub fn deployment(object: Object<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    replicated(object, errors);
    for number in ["revisionHistoryLimit", "progressDeadlineSeconds"] {
        errors.not_negative(spec, number, "spec");
    }
    let (deadline, ready) = (spec.at("progressDeadlineSeconds"), spec.int("minReadySeconds"));
    if deadline.0.as_i64().is_some_and(|deadline| deadline <= ready) {
        let text = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline.0, text));
    }
    strategy(spec.at("strategy"), errors);
}

fn strategy(strategy: Object<'_>, errors: &mut Errors) {
    errors.one_of(strategy, "type", "spec.strategy", &["Recreate", "RollingUpdate"]);
    let rolling = strategy.at("rollingUpdate");
    if strategy.str("type") == "Recreate" && rolling.is_set() {
        let text = "may not be specified when strategy `type` is 'Recreate'";
        errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", text));
        return;
    }
    let field = "spec.strategy.rollingUpdate";
    for name in ["maxUnavailable", "maxSurge"] {
        count_or_percent(rolling.at(name), &format!("{field}.{name}"), errors);
    }
    let zero = |name: &str| matches!(rolling.at(name).text().as_str(), "0" | "0%");
    if rolling.is_set() && zero("maxUnavailable") && zero("maxSurge") {
        let value = rolling.at("maxUnavailable").0;
        errors.push(FieldError::invalid(
            format!("{field}.maxUnavailable"),
            value,
            "may not be 0 when `maxSurge` is 0",
        ));
    }
}

pub fn daemon_set(object: Object<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    replicated(object, errors);
    errors.not_negative(spec, "revisionHistoryLimit", "spec");
    let strategy = spec.at("updateStrategy");
    errors.one_of(strategy, "type", "spec.updateStrategy", &["OnDelete", "RollingUpdate"]);
    if strategy.str("type") != "RollingUpdate" {
        return;
    }
    let rolling = strategy.at("rollingUpdate");
    let field = "spec.updateStrategy.rollingUpdate";
    for name in ["maxUnavailable", "maxSurge"] {
        let (value, field) = (rolling.at(name), format!("{field}.{name}"));
        count_or_percent(value, &field, errors);
        let percent = value
            .text()
            .strip_suffix('%')
            .and_then(|number| number.parse::<u64>().ok());
        if percent.is_some_and(|percent| percent > 100) {
            errors.push(FieldError::invalid(field, value.0, "must not be greater than 100%"));
        }
    }
    let zero = |name: &str| matches!(rolling.at(name).text().as_str(), "null" | "0" | "0%");
    match (zero("maxUnavailable"), zero("maxSurge")) {
        (true, true) => errors.push(FieldError::required(
            format!("{field}.maxUnavailable"),
            "cannot be 0 when maxSurge is 0",
        )),
        (false, false) => errors.push(FieldError::invalid(
            format!("{field}.maxSurge"),
            rolling.at("maxSurge").0,
            "may not be set when maxUnavailable is non-zero",
        )),
        _ => {}
    }
}

/// A PodDisruptionBudget.
pub fn budget(object: Object<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    if spec.at("minAvailable").is_set() && spec.at("maxUnavailable").is_set() {
        let text = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid("spec", spec.0, text));
    }
    for name in ["minAvailable", "maxUnavailable"] {
        let (value, field) = (spec.at(name), format!("spec.{name}"));
        count_or_percent(value, &field, errors);
        let percent = value
            .text()
            .strip_suffix('%')
            .and_then(|number| number.parse::<u64>().ok());
        if percent.is_some_and(|percent| percent > 100) {
            errors.push(FieldError::invalid(field, value.0, "must not be greater than 100%"));
        }
    }
    errors.one_of(
        spec,
        "unhealthyPodEvictionPolicy",
        "spec",
        &["AlwaysAllow", "IfHealthyBudget"],
    );
    meta::selector(spec.at("selector"), "spec.selector", errors);
}

fn count_or_percent(value: Object<'_>, field: &str, errors: &mut Errors) {
    match value.0 {
        Value::String(text) => {
            let number = text
                .strip_suffix('%')
                .filter(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
            if number.is_none() {
                let text = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                    '93%', regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(field, value.0, text));
            }
        }
        Value::Number(number) if number.as_i64().is_some_and(|n| n < 0) => {
            errors.push(FieldError::invalid(
                field,
                value.0,
                "must be greater than or equal to 0",
            ));
        }
        _ => {}
    }
}

/// What Deployment, ReplicaSet, StatefulSet and DaemonSet have in common.
pub fn replicated(object: Object<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    errors.not_negative(spec, "replicas", "spec");
    errors.not_negative(spec, "minReadySeconds", "spec");
    let selector = spec.at("selector");
    let template = spec.at("template");
    if !selector.is_set() {
        errors.push(FieldError::required("spec.selector", ""));
    } else {
        meta::selector(selector, "spec.selector", errors);
        let known = LabelSelector::from_object(selector.0);
        if known.as_ref().is_ok_and(LabelSelector::is_empty) {
            let kind = object.str("kind").to_lowercase();
            let kind = if kind == "replicaset" {
                "deployment".into()
            } else {
                kind
            };
            let text = format!("empty selector is invalid for {kind}");
            errors.push(FieldError::invalid("spec.selector", selector.0, text));
        } else if known.is_ok_and(|known| !known.matches(template.0)) {
            let none = Value::Object(serde_json::Map::new());
            let labels = template.at("metadata.labels");
            let value = if labels.is_set() { labels.0 } else { &none };
            let text = "`selector` does not match template `labels`";
            errors.push(FieldError::invalid("spec.template.metadata.labels", value, text));
        }
    }
    match with_claims(spec) {
        Some(whole) => self::template(Object(&whole), &["Always"], errors),
        None => self::template(template, &["Always"], errors),
    }
}

/// A StatefulSet's template with the volumes that its claims become in its pods: its containers mount them.
fn with_claims(spec: Object<'_>) -> Option<Value> {
    let claims = spec.items("volumeClaimTemplates");
    if claims.len() == 0 {
        return None;
    }
    let mut template = spec.at("template").0.clone();
    let pod = template.get_mut("spec")?.as_object_mut()?;
    let volumes = pod.entry("volumes").or_insert_with(|| json!([]));
    if volumes.is_null() {
        *volumes = json!([]);
    }
    let volumes = volumes.as_array_mut()?;
    for claim in claims {
        let name = claim.str("metadata.name");
        volumes.retain(|volume| volume.get("name") != Some(&json!(name)));
        volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    }
    Some(template)
}

fn template(template: Object<'_>, restart: &[&str], errors: &mut Errors) {
    let field = "spec.template";
    meta::labels(
        template.at("metadata"),
        "labels",
        &format!("{field}.metadata.labels"),
        errors,
    );
    pod::spec(template.at("spec"), &format!("{field}.spec"), errors);
    let policy = template.at("spec.restartPolicy");
    let known = ["Always", "OnFailure", "Never"].contains(&policy.0.as_str().unwrap_or_default());
    if known && !restart.contains(&policy.0.as_str().unwrap_or_default()) {
        errors.push(FieldError::not_supported(
            format!("{field}.spec.restartPolicy"),
            policy.0,
            restart,
        ));
    }
}
