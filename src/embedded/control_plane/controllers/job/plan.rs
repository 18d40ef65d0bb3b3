//! What a Job's pods and status should become: pure.
//!
//! A pod that has ended is counted once and never twice: its uid stands among the uncounted of the status before its finalizer is
//! taken, and becomes a number when the finalizer is gone.
//!
//! Source: Kubernetes' Job concept and API reference (batch/v1), KEP-2307 (tracking with finalizers), KEP-3939 (replacement),
//! KEP-3998 (success policy), KEP-3850 (limit per index).

mod manage;

use std::{collections::HashSet, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::{
    indexes::Indexes,
    pod::{self, New},
    policy::{self, Verdict},
};
use crate::{
    control_plane::controllers::pods::{self, count},
    events::Happening,
};

/// The most pods made in one go, and the most uids among the uncounted.
const BURST: usize = 500;

/// What there is, to decide about.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The Job.
    pub job: &'a Job,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// The time.
    pub now: Timestamp,
}

/// What to do, in this order.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Pods to delete that are not to count, by name and uid.
    pub abandon: Vec<(String, String)>,
    /// Pods to delete.
    pub delete: Vec<(String, String)>,
    /// Pods to make.
    pub create: Vec<New>,
    /// The status to write.
    pub status: JobStatus,
    /// Pods to take the finalizer from when the status is written.
    pub release: Vec<String>,
    /// What to tell when the status is written.
    pub events: Vec<Happening>,
    /// Whether the Job has been over for as long as it may stay.
    pub expired: bool,
    /// When to look again without a change.
    pub again: Option<Duration>,
}

/// Name and uid.
fn reference(pod: &Pod) -> (String, String) {
    (pod.name_any(), pod.uid().unwrap_or_default())
}

fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    let held = status.conditions.iter().flatten();
    held.into_iter().find(|one| one.type_ == kind && one.status == "True")
}

/// The condition that says that a Job is over.
pub fn finished(job: &Job) -> Option<&JobCondition> {
    let status = job.status.as_ref()?;
    condition(status, "Complete").or_else(|| condition(status, "Failed"))
}

/// What to do for a Job.
pub fn plan(facts: Facts<'_>) -> Plan {
    let Some(spec) = &facts.job.spec else {
        return Plan::default();
    };
    if let Some(end) = finished(facts.job) {
        return over(&facts, spec, end);
    }
    let mut planner = Planner::new(facts, spec);
    planner.count();
    planner.decide();
    planner.finish()
}

/// A Job that is over has nothing to count, and may have to go.
fn over(facts: &Facts<'_>, spec: &JobSpec, end: &JobCondition) -> Plan {
    let tracked = facts.pods.iter().filter(|pod| pod::tracked(pod));
    let mut plan = Plan {
        release: tracked.map(|pod| pod.name_any()).collect(),
        status: facts.job.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    if let (Some(seconds), Some(at)) = (spec.ttl_seconds_after_finished, &end.last_transition_time) {
        let passed = facts.now.as_second().saturating_sub(at.0.as_second());
        match u64::try_from(i64::from(seconds) - passed) {
            Ok(left) if left > 0 => plan.again = Some(Duration::from_secs(left)),
            _ => plan.expired = true,
        }
    }
    plan
}

/// Why a Job ends: the condition that says so first, its reason and its message.
#[derive(Debug, Clone, PartialEq)]
struct End {
    well: bool,
    reason: String,
    message: String,
}

struct Planner<'a> {
    facts: Facts<'a>,
    spec: &'a JobSpec,
    indexed: bool,
    completions: u32,
    active: Vec<&'a Pod>,
    leaving: Vec<&'a Pod>,
    done: Indexes,
    failed_indexes: Indexes,
    waiting: UncountedTerminatedPods,
    status: JobStatus,
    /// What a rule of the failure policy said of a pod.
    verdict: Option<String>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(facts: Facts<'a>, spec: &'a JobSpec) -> Self {
        let status = facts.job.status.clone().unwrap_or_default();
        let completions = spec
            .completions
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(0);
        let read = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        let running = facts.pods.iter().map(AsRef::as_ref).filter(|pod| !pods::ended(pod));
        let (leaving, active) = running.partition(|pod| pods::terminating(pod));
        Self {
            indexed: spec.completion_mode.as_deref() == Some("Indexed"),
            completions,
            active,
            leaving,
            done: read(&status.completed_indexes),
            failed_indexes: read(&status.failed_indexes),
            waiting: status.uncounted_terminated_pods.clone().unwrap_or_default(),
            status,
            verdict: None,
            plan: Plan::default(),
            facts,
            spec,
        }
    }

    fn per_index(&self) -> Option<i32> {
        self.spec.backoff_limit_per_index.filter(|_| self.indexed)
    }

    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Counts the pods that have ended.
    fn count(&mut self) {
        let tracked: Vec<&Pod> = self
            .facts
            .pods
            .iter()
            .map(AsRef::as_ref)
            .filter(|pod| pod::tracked(pod))
            .collect();
        let uids: HashSet<String> = tracked.iter().filter_map(|pod| pod.uid()).collect();
        for (waiting, total) in [
            (&mut self.waiting.succeeded, &mut self.status.succeeded),
            (&mut self.waiting.failed, &mut self.status.failed),
        ] {
            let list = waiting.get_or_insert_default();
            let before = list.len();
            list.retain(|uid| uids.contains(uid));
            let counted = count(before - list.len());
            if counted > 0 {
                *total = Some(total.unwrap_or(0).saturating_add(counted));
            }
        }
        for pod in tracked {
            self.take(pod);
        }
    }

    fn take(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        let full = |list: &Vec<String>| list.len() >= BURST && !list.contains(&uid);
        if pod::succeeded(pod) {
            if self.indexed {
                if let Some(index) = pod::index(pod).filter(|index| *index < self.completions) {
                    self.done.insert(index);
                }
            } else {
                let list = self.waiting.succeeded.get_or_insert_default();
                if full(list) {
                    return;
                }
                if !list.contains(&uid) {
                    list.push(uid);
                }
            }
        } else if pod::failed(self.facts.job, pod) || self.facts.job.metadata.deletion_timestamp.is_some() {
            let list = self.waiting.failed.get_or_insert_default();
            if full(list) {
                return;
            }
            if !list.contains(&uid) {
                self.take_failed(pod, uid);
            }
        } else {
            return;
        }
        self.plan.release.push(pod.name_any());
    }

    fn take_failed(&mut self, pod: &Pod, uid: String) {
        let verdict = policy::judge(self.spec, pod);
        if verdict != Verdict::Ignore {
            self.waiting.failed.get_or_insert_default().push(uid);
        }
        let index = pod::index(pod).filter(|index| *index < self.completions);
        if let (Some(most), Some(index)) = (self.per_index(), index) {
            let used_up = verdict == Verdict::Count && pod::failures(pod) >= most;
            if used_up || verdict == Verdict::FailIndex {
                self.failed_indexes.insert(index);
            }
        }
        if let Verdict::FailJob(message) = verdict {
            self.verdict.get_or_insert(message);
        }
    }

    fn succeeded(&self) -> usize {
        let counted = usize::try_from(self.status.succeeded.unwrap_or(0)).unwrap_or(0);
        match self.indexed {
            true => self.done.len(),
            false => counted + self.waiting.succeeded.as_ref().map_or(0, Vec::len),
        }
    }

    fn failed(&self) -> usize {
        let counted = usize::try_from(self.status.failed.unwrap_or(0)).unwrap_or(0);
        counted + self.waiting.failed.as_ref().map_or(0, Vec::len)
    }

    fn wait(&mut self, seconds: i64) {
        let pause = Duration::from_secs(u64::try_from(seconds.max(1)).unwrap_or(1));
        self.plan.again = Some(self.plan.again.map_or(pause, |again| again.min(pause)));
    }

    /// Why the Job ends, where it does.
    fn end(&mut self) -> Option<End> {
        for (kind, well) in [("FailureTarget", false), ("SuccessCriteriaMet", true)] {
            if let Some(held) = condition(&self.status, kind) {
                return Some(End {
                    well,
                    reason: held.reason.clone().unwrap_or_default(),
                    message: held.message.clone().unwrap_or_default(),
                });
            }
        }
        let failed = |reason: &str, message: &str| {
            Some(End {
                well: false,
                reason: reason.to_owned(),
                message: message.to_owned(),
            })
        };
        if let Some(message) = self.verdict.take() {
            return failed("PodFailurePolicy", &message);
        }
        if self.beyond_limit() {
            return failed("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if self.beyond_deadline() {
            return failed("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        if self.per_index().is_some() {
            let lost = self.failed_indexes.len();
            let most = self.spec.max_failed_indexes.and_then(|most| usize::try_from(most).ok());
            if most.is_some_and(|most| lost > most) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return failed("MaxFailedIndexesExceeded", message);
            }
            if lost > 0 && lost + self.done.len() >= usize::try_from(self.completions).unwrap_or(usize::MAX) {
                return failed("FailedIndexes", "Job has failed indexes");
            }
        }
        let rule = policy::succeeded(self.spec, &self.done).filter(|_| self.indexed)?;
        Some(End {
            well: true,
            reason: "SuccessPolicy".to_owned(),
            message: format!("Matched rules at index {rule}"),
        })
    }

    fn beyond_limit(&self) -> bool {
        let limit = i64::from(self.spec.backoff_limit.unwrap_or(6));
        if i64::try_from(self.failed()).unwrap_or(i64::MAX) > limit {
            return true;
        }
        let template = self.spec.template.spec.as_ref();
        if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let restarts: i64 = self.active.iter().map(|pod| pod::restarts(pod)).sum();
        restarts > 0 && restarts >= limit
    }

    fn beyond_deadline(&mut self) -> bool {
        let (Some(seconds), Some(start)) = (self.spec.active_deadline_seconds, self.status.start_time.clone()) else {
            return false;
        };
        if self.suspended() {
            return false;
        }
        let left = seconds.saturating_sub(self.facts.now.as_second().saturating_sub(start.0.as_second()));
        if left > 0 {
            self.wait(left);
        }
        left <= 0
    }

    fn decide(&mut self) {
        if self.status.start_time.is_none() && !self.suspended() {
            self.status.start_time = Some(Time(self.facts.now));
        }
        let mut end = self.end();
        if end.is_some() {
            self.plan.delete = self.active.drain(..).map(reference).collect();
        } else if self.facts.job.metadata.deletion_timestamp.is_none() {
            self.manage();
            let wanted = self.spec.completions.and_then(|number| usize::try_from(number).ok());
            let enough = match wanted {
                Some(wanted) => self.succeeded() >= wanted,
                None => self.succeeded() > 0,
            };
            let none_left = self.active.is_empty() && self.plan.create.is_empty();
            end = (enough && none_left).then(|| End {
                well: true,
                reason: "CompletionsReached".to_owned(),
                message: "Reached expected number of succeeded pods".to_owned(),
            });
            if end.is_none() {
                self.tell_whether_suspended();
            }
        }
        if let Some(end) = end {
            self.conclude(end);
        }
    }

    fn tell_whether_suspended(&mut self) {
        let held = condition(&self.status, "Suspended").is_some();
        match (held, self.suspended()) {
            (false, true) => {
                self.set("Suspended", "True", "JobSuspended", "Job suspended");
                self.plan.events.push(Happening::normal("Suspended", "Job suspended"));
            }
            (true, false) => {
                self.set("Suspended", "False", "JobResumed", "Job resumed");
                self.status.start_time = Some(Time(self.facts.now));
                self.plan.events.push(Happening::normal("Resumed", "Job resumed"));
            }
            _ => {}
        }
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let conditions = self.status.conditions.get_or_insert_default();
        if conditions.iter().any(|one| one.type_ == kind && one.status == status) {
            return;
        }
        conditions.retain(|one| one.type_ != kind);
        conditions.push(JobCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(self.facts.now)),
            last_transition_time: Some(Time(self.facts.now)),
        });
    }

    /// Says that the Job ends, and that it is over when no pod is left and every one is counted.
    fn conclude(&mut self, end: End) {
        let (first, last) = match end.well {
            true => ("SuccessCriteriaMet", "Complete"),
            false => ("FailureTarget", "Failed"),
        };
        self.set(first, "True", &end.reason, &end.message);
        let waiting = [&self.waiting.succeeded, &self.waiting.failed];
        let counted = waiting.iter().all(|list| list.as_ref().is_none_or(Vec::is_empty));
        let left = !self.active.is_empty() || !self.leaving.is_empty() || !self.plan.delete.is_empty();
        let abandoned = !self.plan.abandon.is_empty();
        if !counted || left || abandoned || !self.plan.release.is_empty() {
            return;
        }
        self.set(last, "True", &end.reason, &end.message);
        if end.well {
            self.status.completion_time = Some(Time(self.facts.now));
            self.plan.events.push(Happening::normal("Completed", "Job completed"));
        } else {
            let reason = failure(&end.reason);
            self.plan.events.push(Happening::warning(reason, end.message));
        }
    }

    fn finish(mut self) -> Plan {
        let some = |number: usize| (number != 0).then(|| count(number));
        if self.indexed {
            self.status.succeeded = some(self.done.len());
            self.status.completed_indexes = (!self.done.is_empty()).then(|| self.done.to_string());
            self.status.failed_indexes = self.per_index().map(|_| self.failed_indexes.to_string());
        }
        let waiting = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty());
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: waiting(self.waiting.succeeded.take()),
            failed: waiting(self.waiting.failed.take()),
        });
        self.status.active = some(self.active.len() + self.plan.create.len());
        let ready = self.active.iter().filter(|pod| pods::ready_since(pod).is_some());
        self.status.ready = Some(count(ready.count()));
        self.status.terminating = Some(count(self.leaving.len()));
        self.plan.status = self.status;
        self.plan
    }
}

/// The reasons of failures, as events need them.
fn failure(reason: &str) -> &'static str {
    const ALL: [&str; 5] = [
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
        "PodFailurePolicy",
    ];
    ALL.into_iter().find(|known| *known == reason).unwrap_or("Failed")
}

#[cfg(test)]
mod tests;
