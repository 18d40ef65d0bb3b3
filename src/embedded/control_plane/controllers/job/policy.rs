//! What a Job's policies say of its pods: which failures end it or do not count, and when enough has succeeded. Pure.
//!
//! Source: Kubernetes' Job concept ("Pod failure policy", "Success policy").

use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule},
    core::v1::{ContainerStatus, Pod},
};
use kube::ResourceExt;

use super::indexes::Indexes;

/// What a failed pod means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It counts against the limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The Job has failed, with this message.
    FailJob(String),
}

/// The verdict of the first rule that a failed pod matches; without one it counts.
pub fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (at, rule) in rules.enumerate() {
        let Some(what) = matches(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {at}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let full = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let status = pod.status.as_ref()?;
    if let Some(codes) = &rule.on_exit_codes {
        let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
        let (container, code) = containers.flatten().find_map(|container| exit(codes, container))?;
        return Some(format!(
            "Container {container} for pod {full} failed with exit code {code}"
        ));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let found = status.conditions.iter().flatten().find(|condition| {
        let is = |condition: &&k8s_openapi::api::core::v1::PodCondition, kind: &str, status: &str| {
            condition.type_ == kind && condition.status == status
        };
        patterns
            .iter()
            .any(|pattern| is(condition, &pattern.type_, &pattern.status))
    })?;
    Some(format!("Pod {full} has condition {}", found.type_))
}

fn exit<'a>(codes: &PodFailurePolicyOnExitCodesRequirement, container: &'a ContainerStatus) -> Option<(&'a str, i32)> {
    let named = codes.container_name.as_ref().is_none_or(|name| *name == container.name);
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let listed = codes.values.contains(&code);
    let holds = match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (named && code != 0 && holds).then_some((container.name.as_str(), code))
}

/// The first rule of the success policy that the indexes satisfy.
pub fn succeeded(spec: &JobSpec, done: &Indexes) -> Option<usize> {
    let completions = spec
        .completions
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(0);
    let rules = &spec.success_policy.as_ref()?.rules;
    rules.iter().position(|rule| {
        let count = rule.succeeded_count.and_then(|count| usize::try_from(count).ok());
        match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = Indexes::parse(text, completions);
                done.shared(&wanted) >= count.unwrap_or(wanted.len())
            }
            None => count.is_some_and(|count| done.len() >= count),
        }
    })
}
