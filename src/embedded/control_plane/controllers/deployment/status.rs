//! A Deployment's status: counts and conditions. Pure.

use std::time::Duration;

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::plan::limits;

/// Pods of all ReplicaSets together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    replicas: i32,
    updated: i32,
    ready: i32,
    available: i32,
}

impl Totals {
    /// Adds up the ReplicaSets; `new` has the current template.
    pub fn of(sets: &[ReplicaSet], new: Option<&ReplicaSet>) -> Self {
        let mut totals = Self::default();
        for status in sets.iter().filter_map(|set| set.status.as_ref()) {
            totals.replicas += status.replicas;
            totals.ready += status.ready_replicas.unwrap_or(0);
            totals.available += status.available_replicas.unwrap_or(0);
        }
        totals.updated = new
            .and_then(|set| set.status.as_ref())
            .map_or(0, |status| status.replicas);
        totals
    }
}

/// Whether every pod is of the current template and available.
pub fn complete(spec: &DeploymentSpec, status: &DeploymentStatus) -> bool {
    let replicas = spec.replicas.unwrap_or(1);
    status.updated_replicas.unwrap_or(0) == replicas
        && status.replicas.unwrap_or(0) == replicas
        && status.available_replicas.unwrap_or(0) == replicas
}

/// The status to write.
pub fn status(
    deployment: &Deployment,
    totals: &Totals,
    new: Option<&ReplicaSet>,
    created: Option<&str>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let spec = deployment.spec.clone().unwrap_or_default();
    let some = |count: i32| (count != 0).then_some(count);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(totals.replicas),
        updated_replicas: some(totals.updated),
        ready_replicas: some(totals.ready),
        available_replicas: some(totals.available),
        unavailable_replicas: some((spec.replicas.unwrap_or(1).max(totals.replicas) - totals.available).max(0)),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
        ..DeploymentStatus::default()
    };
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let enough = totals.available >= spec.replicas.unwrap_or(1) - limits(&spec).unavailable;
    let (value, reason, message) = if enough {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set(
        &mut conditions,
        "Available",
        value,
        reason,
        message.to_owned(),
        now,
        false,
    );
    progressing(&mut conditions, &spec, &old, &status, new, created, now);
    status.conditions = Some(conditions);
    status
}

const PAUSED: &str = "DeploymentPaused";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

fn progressing(
    conditions: &mut Vec<DeploymentCondition>,
    spec: &DeploymentSpec,
    old: &DeploymentStatus,
    status: &DeploymentStatus,
    new: Option<&ReplicaSet>,
    created: Option<&str>,
    now: Timestamp,
) {
    let kind = "Progressing";
    if let Some(name) = created {
        let message = format!("Created new replica set \"{name}\"");
        return set(conditions, kind, "True", "NewReplicaSetCreated", message, now, true);
    }
    let reason = |conditions: &[DeploymentCondition]| {
        let current = conditions.iter().find(|condition| condition.type_ == kind);
        current
            .and_then(|condition| condition.reason.clone())
            .unwrap_or_default()
    };
    if spec.paused == Some(true) {
        if reason(conditions) == TIMED_OUT {
            return;
        }
        return set(
            conditions,
            kind,
            "Unknown",
            PAUSED,
            "Deployment is paused".to_owned(),
            now,
            false,
        );
    }
    if reason(conditions) == PAUSED {
        // The deadline begins anew.
        let message = "Deployment is resumed".to_owned();
        return set(conditions, kind, "Unknown", "DeploymentResumed", message, now, true);
    }
    let Some(new) = new else { return };
    let name = new.name_any();
    if complete(spec, status) {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        return set(conditions, kind, "True", "NewReplicaSetAvailable", message, now, false);
    }
    let count = |value: Option<i32>| value.unwrap_or(0);
    let moved = count(status.updated_replicas) > count(old.updated_replicas)
        || count(status.replicas) - count(status.updated_replicas) < count(old.replicas) - count(old.updated_replicas)
        || count(status.ready_replicas) > count(old.ready_replicas)
        || count(status.available_replicas) > count(old.available_replicas);
    let current = conditions.iter().find(|condition| condition.type_ == kind);
    let was_done = current.is_some_and(|condition| condition.reason.as_deref() == Some("NewReplicaSetAvailable"));
    if moved || current.is_none() || (was_done && old.observed_generation != status.observed_generation) {
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        return set(conditions, kind, "True", "ReplicaSetUpdated", message, now, true);
    }
    if !was_done && deadline_of(spec, current).is_some_and(|deadline| now >= deadline) {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        set(conditions, kind, "False", TIMED_OUT, message, now, false);
    }
}

fn deadline_of(spec: &DeploymentSpec, condition: Option<&DeploymentCondition>) -> Option<Timestamp> {
    let seconds = spec.progress_deadline_seconds.unwrap_or(600);
    let since = condition?.last_update_time.as_ref()?.0;
    since
        .checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
        .ok()
}

/// How long until the progress deadline may pass.
pub fn deadline(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let spec = deployment.spec.as_ref()?;
    if complete(spec, status) || spec.paused == Some(true) {
        return None;
    }
    let condition = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Progressing")?;
    if condition.status == "False" {
        return None;
    }
    let deadline = deadline_of(spec, Some(condition))?;
    Some(Duration::try_from(deadline.duration_since(now)).unwrap_or_default() + Duration::from_secs(1))
}

fn set(
    conditions: &mut Vec<DeploymentCondition>,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
    fresh: bool,
) {
    let held = conditions.iter_mut().find(|condition| condition.type_ == kind);
    let new = DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
        last_update_time: Some(Time(now)),
    };
    match held {
        None => conditions.push(new),
        Some(held) => {
            let same = held.status == new.status && held.reason == new.reason && held.message == new.message;
            if same && !fresh {
                return;
            }
            let since = if held.status == new.status {
                held.last_transition_time.clone()
            } else {
                new.last_transition_time.clone()
            };
            *held = DeploymentCondition {
                last_transition_time: since,
                ..new
            };
        }
    }
}
