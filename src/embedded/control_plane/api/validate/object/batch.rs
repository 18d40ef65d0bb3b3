//! Jobs and CronJobs.
//!
//! Source: Kubernetes' `pkg/apis/batch/validation`.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::{
    super::super::{selector::LabelSelector, view::Object},
    Errors, FieldError, meta, pod,
};
use crate::control_plane::schedule;

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const IMMUTABLE: &str = "field is immutable";
/// The most rules of a policy, and the most exit codes of a rule.
const MOST: (usize, usize) = (20, 255);
/// The most indexes.
const MOST_INDEXES: i64 = 100_000;

/// A Job.
pub fn job(object: Object<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    job_spec(spec, "spec", errors);
    let (selector, template) = (spec.at("selector"), spec.at("template"));
    let none = Value::Object(serde_json::Map::new());
    let labels = Some(template.at("metadata.labels").0)
        .filter(|labels| !labels.is_null())
        .unwrap_or(&none);
    if selector.is_set() {
        meta::selector(selector, "spec.selector", errors);
        if LabelSelector::from_object(selector.0).is_ok_and(|known| !known.matches(template.0)) {
            let text = "`selector` does not match template `labels`";
            errors.push(FieldError::invalid("spec.template.metadata.labels", labels, text));
        }
    } else {
        errors.push(FieldError::required("spec.selector", ""));
    }
    let uid = object.str("metadata.uid");
    let generated = selector.entries("matchLabels").into_iter().flatten();
    let others = generated.filter(|(key, _)| key.as_str() != UID_LABEL).count();
    let expressions = selector.items("matchExpressions").len();
    if !spec.bool("manualSelector") && !uid.is_empty() {
        if others + expressions > 0 {
            errors.push(FieldError::invalid(
                "spec.selector",
                selector.0,
                "`selector` not auto-generated",
            ));
        }
        if labels.get(UID_LABEL).and_then(Value::as_str) != Some(uid) {
            let text = format!("must be '{uid}'");
            errors.push(FieldError::invalid("spec.template.metadata.labels", labels, text));
        }
    }
}

/// A Job's spec at `field`.
fn job_spec(spec: Object<'_>, field: &str, errors: &mut Errors) {
    for number in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.not_negative(spec, number, field);
    }
    errors.one_of(spec, "completionMode", field, &["NonIndexed", "Indexed"]);
    let indexed = spec.str("completionMode") == "Indexed";
    if indexed {
        if !spec.at("completions").is_set() {
            errors.push(FieldError::required(
                format!("{field}.completions"),
                "when completion mode is Indexed",
            ));
        }
        for number in ["completions", "parallelism"] {
            if spec.int(number) > MOST_INDEXES {
                let text = format!("must be less than or equal to {MOST_INDEXES}");
                errors.push(FieldError::invalid(
                    format!("{field}.{number}"),
                    spec.at(number).0,
                    text,
                ));
            }
        }
    }
    per_index(spec, indexed, field, errors);
    let policies: &[&str] = match spec.at("podFailurePolicy").is_set() {
        true => &["Failed"],
        false => &["Failed", "TerminatingOrFailed"],
    };
    errors.one_of(spec, "podReplacementPolicy", field, policies);
    let template = spec.at("template");
    pod::spec(template.at("spec"), &format!("{field}.template.spec"), errors);
    let restart = template.str("spec.restartPolicy");
    if !matches!(restart, "OnFailure" | "Never") {
        let field = format!("{field}.template.spec.restartPolicy");
        errors.push(FieldError::required(field, "valid values: \"OnFailure\", \"Never\""));
    }
    if spec.at("podFailurePolicy").is_set() && restart != "Never" {
        let text = "only \"Never\" is supported when podFailurePolicy is specified";
        let value = template.at("spec.restartPolicy").0;
        errors.push(FieldError::invalid(
            format!("{field}.template.spec.restartPolicy"),
            value,
            text,
        ));
    }
    failure_policy(spec, &format!("{field}.podFailurePolicy"), errors);
    success_policy(
        spec.at("successPolicy"),
        indexed,
        &format!("{field}.successPolicy"),
        errors,
    );
}

fn per_index(spec: Object<'_>, indexed: bool, field: &str, errors: &mut Errors) {
    if !spec.at("backoffLimitPerIndex").is_set() {
        if spec.at("maxFailedIndexes").is_set() {
            let text = "when maxFailedIndexes is specified";
            errors.push(FieldError::required(format!("{field}.backoffLimitPerIndex"), text));
        }
    } else if !indexed {
        let text = "requires indexed completion mode";
        let value = spec.at("backoffLimitPerIndex").0;
        errors.push(FieldError::invalid(
            format!("{field}.backoffLimitPerIndex"),
            value,
            text,
        ));
    }
}

fn failure_policy(spec: Object<'_>, field: &str, errors: &mut Errors) {
    let rules = spec.items("podFailurePolicy.rules");
    if rules.len() > MOST.0 {
        errors.push(FieldError {
            field: format!("{field}.rules"),
            cause: super::super::Cause::TooMany(rules.len(), MOST.0),
        });
    }
    for (at, rule) in rules.take(MOST.0).enumerate() {
        let field = format!("{field}.rules[{at}]");
        let actions: &[&str] = match spec.at("backoffLimitPerIndex").is_set() {
            true => &["Count", "FailIndex", "FailJob", "Ignore"],
            false => &["Count", "FailJob", "Ignore"],
        };
        if rule.str("action").is_empty() {
            let text = "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]";
            errors.push(FieldError::required(format!("{field}.action"), text));
        } else {
            errors.one_of(rule, "action", &field, actions);
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.items("onPodConditions"));
        match (codes.is_set(), conditions.len() > 0) {
            (true, true) => {
                let text = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.push(FieldError::invalid(field, &Value::Null, text));
            }
            (false, false) => {
                let text = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.push(FieldError::invalid(field, &Value::Null, text));
            }
            (true, false) => exit_codes(spec, codes, &format!("{field}.onExitCodes"), errors),
            (false, true) => {
                for (at, condition) in conditions.enumerate() {
                    let field = format!("{field}.onPodConditions[{at}]");
                    errors.one_of(condition, "status", &field, &["False", "True", "Unknown"]);
                }
            }
        }
    }
}

fn exit_codes(spec: Object<'_>, codes: Object<'_>, field: &str, errors: &mut Errors) {
    errors.one_of(codes, "operator", field, &["In", "NotIn"]);
    let values = codes.items("values");
    if values.len() == 0 {
        let text = "at least one value is required";
        errors.push(FieldError::invalid(
            format!("{field}.values"),
            codes.at("values").0,
            text,
        ));
    }
    if values.len() > MOST.1 {
        errors.push(FieldError {
            field: format!("{field}.values"),
            cause: super::super::Cause::TooMany(values.len(), MOST.1),
        });
    }
    if codes.str("operator") == "In" {
        for (at, value) in values.enumerate().filter(|(_, value)| value.0.as_i64() == Some(0)) {
            let text = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(format!("{field}.values[{at}]"), value.0, text));
        }
    }
    let name = codes.at("containerName");
    let of = |list: &str| {
        spec.items(&format!("template.spec.{list}"))
            .any(|one| one.at("name").0 == name.0)
    };
    if name.is_set() && !of("containers") && !of("initContainers") {
        let text = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(format!("{field}.containerName"), name.0, text));
    }
}

fn success_policy(policy: Object<'_>, indexed: bool, field: &str, errors: &mut Errors) {
    if !policy.is_set() {
        return;
    }
    if !indexed {
        errors.push(FieldError::invalid(field, policy.0, "requires indexed completion mode"));
    }
    let rules = policy.items("rules");
    if rules.len() == 0 {
        let text = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(format!("{field}.rules"), text));
    }
    if rules.len() > MOST.0 {
        errors.push(FieldError {
            field: format!("{field}.rules"),
            cause: super::super::Cause::TooMany(rules.len(), MOST.0),
        });
    }
    for (at, rule) in rules.take(MOST.0).enumerate() {
        let field = format!("{field}.rules[{at}]");
        errors.not_negative(rule, "succeededCount", &field);
        if !rule.at("succeededCount").is_set() && !rule.at("succeededIndexes").is_set() {
            let text = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(FieldError::required(field, text));
        }
    }
}

/// What may not change of a Job.
pub fn job_update(new: Object<'_>, old: Object<'_>, errors: &mut Errors) {
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let mut same = |path: &str| {
        if spec.at(path).0 != before.at(path).0 {
            errors.push(FieldError::invalid(format!("spec.{path}"), spec.at(path).0, IMMUTABLE));
        }
    };
    for path in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "successPolicy",
        "backoffLimitPerIndex",
        "managedBy",
    ] {
        same(path);
    }
    // An Indexed Job may grow and shrink as a whole.
    let elastic = spec.str("completionMode") == "Indexed" && spec.at("completions").0 == spec.at("parallelism").0;
    if !elastic {
        same("completions");
    }
    // One that was never started may still be told where to run.
    let not_started = before.bool("suspend") && !old.at("status.startTime").is_set();
    if !not_started {
        same("template");
    } else if placed(spec.at("template")) != placed(before.at("template")) {
        errors.push(FieldError::invalid("spec.template", spec.at("template").0, IMMUTABLE));
    }
}

/// A template without what says where its pods go.
fn placed(template: Object<'_>) -> Value {
    let mut template = template.0.clone();
    for (part, fields) in [
        ("metadata", &["labels", "annotations"][..]),
        (
            "spec",
            &["nodeSelector", "affinity", "tolerations", "schedulingGates"][..],
        ),
    ] {
        if let Some(part) = template.get_mut(part).and_then(Value::as_object_mut) {
            fields.iter().for_each(|field| drop(part.remove(*field)));
        }
    }
    template
}

/// A CronJob.
pub fn cron_job(object: Object<'_>, errors: &mut Errors) {
    const LONGEST_NAME: usize = 52;
    let spec = object.at("spec");
    let name = object.at("metadata.name");
    if object.str("metadata.name").len() > LONGEST_NAME {
        let text = format!("must be no more than {LONGEST_NAME} characters");
        errors.push(FieldError::invalid("metadata.name", name.0, text));
    }
    let text = spec.str("schedule");
    if text.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else if let Err(error) = schedule::parse(text, TimeZone::UTC) {
        errors.push(FieldError::invalid("spec.schedule", spec.at("schedule").0, error));
    }
    let zone = spec.at("timeZone");
    if let Some(Err(error)) = zone.0.as_str().map(|name| schedule::zone(Some(name))) {
        errors.push(FieldError::invalid("spec.timeZone", zone.0, error));
    }
    errors.one_of(spec, "concurrencyPolicy", "spec", &["Allow", "Forbid", "Replace"]);
    for number in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        errors.not_negative(spec, number, "spec");
    }
    if spec.at("jobTemplate.spec.manualSelector").is_set() {
        let value = spec.at("jobTemplate.spec.manualSelector").0;
        errors.push(FieldError::not_supported(
            "spec.jobTemplate.spec.manualSelector",
            value,
            &["false"],
        ));
    }
    job_spec(spec.at("jobTemplate.spec"), "spec.jobTemplate.spec", errors);
}
