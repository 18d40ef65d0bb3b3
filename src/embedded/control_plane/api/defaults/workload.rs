//! Workloads: what makes pods, and claims.

use serde_json::{Value, json};

use super::{
    Fields,
    fill::{child, items, pointer, text},
    pod, with,
};

/// A pod template.
pub fn template(template: &mut Fields) {
    with(template, "metadata", |metadata| {
        // clients write the zero time; a hash of the template must not see it
        if metadata.get("creationTimestamp").is_some_and(Value::is_null) {
            metadata.remove("creationTimestamp");
        }
    });
    with(template, "spec", pod::pod_spec);
}

pub fn deployment(spec: &mut Fields) {
    pointer(spec, "replicas", json!(1));
    pointer(spec, "revisionHistoryLimit", json!(10));
    pointer(spec, "progressDeadlineSeconds", json!(600));
    // an empty strategy, as Go clients send it, is none
    if let Some(strategy) = child(spec, "strategy") {
        text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            pointer(rolling, "maxUnavailable", json!("25%"));
            pointer(rolling, "maxSurge", json!("25%"));
        }
    }
    with(spec, "template", template);
}

pub fn replica_set(spec: &mut Fields) {
    pointer(spec, "replicas", json!(1));
    with(spec, "template", template);
}

pub fn replication_controller(fields: &mut Fields) {
    with(fields, "spec", |spec| {
        let labels = spec
            .get("template")
            .and_then(|t| t.pointer("/metadata/labels"))
            .cloned();
        if let Some(labels) = labels {
            pointer(spec, "selector", labels);
        }
        replica_set(spec);
    });
}

pub fn stateful_set(spec: &mut Fields) {
    pointer(spec, "replicas", json!(1));
    pointer(spec, "revisionHistoryLimit", json!(10));
    text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = child(spec, "updateStrategy") {
        text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            pointer(rolling, "partition", json!(0));
        }
    }
    if let Some(retention) = child(spec, "persistentVolumeClaimRetentionPolicy") {
        text(retention, "whenDeleted", "Retain");
        text(retention, "whenScaled", "Retain");
    }
    items(spec, "volumeClaimTemplates").for_each(|template| {
        text(template, "apiVersion", "v1");
        text(template, "kind", "PersistentVolumeClaim");
        claim(template);
    });
    with(spec, "template", template);
}

pub fn daemon_set(spec: &mut Fields) {
    pointer(spec, "revisionHistoryLimit", json!(10));
    if let Some(strategy) = child(spec, "updateStrategy") {
        text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            pointer(rolling, "maxUnavailable", json!(1));
            pointer(rolling, "maxSurge", json!(0));
        }
    }
    with(spec, "template", template);
}

pub fn job(spec: &mut Fields) {
    if spec.get("parallelism").is_none_or(Value::is_null) {
        pointer(spec, "completions", json!(1));
    }
    pointer(spec, "parallelism", json!(1));
    // each index has a limit of its own then
    let limit = if spec.contains_key("backoffLimitPerIndex") {
        i32::MAX
    } else {
        6
    };
    pointer(spec, "backoffLimit", json!(limit));
    pointer(spec, "completionMode", json!("NonIndexed"));
    pointer(spec, "suspend", json!(false));
    let policy = if spec.contains_key("podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    pointer(spec, "podReplacementPolicy", json!(policy));
    with(spec, "template", template);
}

pub fn cron_job(spec: &mut Fields) {
    text(spec, "concurrencyPolicy", "Allow");
    pointer(spec, "suspend", json!(false));
    pointer(spec, "successfulJobsHistoryLimit", json!(3));
    pointer(spec, "failedJobsHistoryLimit", json!(1));
    with(spec, "jobTemplate", |job| {
        // the job itself is defaulted when it is made; only its pods' template is here
        with(job, "spec", |spec| with(spec, "template", template));
    });
}

/// A PersistentVolumeClaim.
pub fn claim(fields: &mut Fields) {
    with(fields, "spec", |spec| pointer(spec, "volumeMode", json!("Filesystem")));
    if let Some(status) = child(fields, "status") {
        text(status, "phase", "Pending");
    }
}
