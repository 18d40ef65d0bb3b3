//! The pods of a Job: how they are made, and what became of them. Pure.
//!
//! Source: Kubernetes' Job concept ("Completion mode", "Job tracking with finalizers").

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
    },
    jiff::Timestamp,
};
use kube::ResourceExt;

use crate::control_plane::controllers::pods;

/// What keeps a pod until it is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The annotation and label of a pod with its index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The annotation of a pod with how often its index had failed before.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// A pod to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct New {
    /// Its index, in an Indexed Job.
    pub index: Option<u32>,
    /// How often its index has failed, where the Job counts that.
    pub failures: Option<i32>,
}

/// A new pod.
pub fn make(job: &Job, new: New) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pods::from_template(job, &template);
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(FINALIZER.to_owned());
    let Some(index) = new.index else { return pod };
    let name = job.name_any();
    let base: String = name.chars().take(57 - index.to_string().len()).collect();
    pod.metadata.generate_name = Some(format!("{base}-{index}-"));
    for map in [&mut pod.metadata.labels, &mut pod.metadata.annotations] {
        map.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    }
    if let Some(failures) = new.failures {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(FAILURES.to_owned(), failures.to_string());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    let variable = EnvVar {
        name: "JOB_COMPLETION_INDEX".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..EnvVarSource::default()
        }),
    };
    let inits = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(inits) {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|held| held.name == variable.name) {
            env.push(variable.clone());
        }
    }
    pod
}

/// Whether a pod waits to be counted.
pub fn tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|held| held == FINALIZER)
}

/// A pod's index.
pub fn index(pod: &Pod) -> Option<u32> {
    pod.annotations().get(INDEX)?.parse().ok()
}

/// How often the index of a pod had failed before it.
pub fn failures(pod: &Pod) -> i32 {
    let count = pod.annotations().get(FAILURES).and_then(|text| text.parse().ok());
    count.unwrap_or(0)
}

/// Whether a pod has succeeded.
pub fn succeeded(pod: &Pod) -> bool {
    pods::phase(pod) == "Succeeded"
}

/// Whether a pod counts as failed. One that is being deleted does, at once or, where only failed pods are replaced, when it has
/// ended: it never ran, or its node is done with it.
pub fn failed(job: &Job, pod: &Pod) -> bool {
    let phase = pods::phase(pod);
    let ended = phase == "Pending" || pod.metadata.deletion_grace_period_seconds == Some(0);
    phase == "Failed" || (pods::terminating(pod) && phase != "Succeeded" && (ended || !replaces_only_failed(job)))
}

/// Whether a pod that is being deleted holds its place until it has ended.
pub fn replaces_only_failed(job: &Job) -> bool {
    let policy = job
        .spec
        .as_ref()
        .and_then(|spec| spec.pod_replacement_policy.as_deref());
    policy == Some("Failed")
}

/// When a pod ended.
pub fn ended_at(pod: &Pod) -> Timestamp {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let finished = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let unready = || pods::condition(pod, "Ready")?.last_transition_time.as_ref();
    let last = finished.map(|time| time.0).max();
    last.or_else(|| unready().map(|time| time.0))
        .or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|time| time.0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// How often the containers of a pod were started again.
pub fn restarts(pod: &Pod) -> i64 {
    let Some(status) = &pod.status else { return 0 };
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    containers
        .flatten()
        .map(|container| i64::from(container.restart_count))
        .sum()
}
