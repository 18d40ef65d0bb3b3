//! When a CronJob makes a Job, and which of those it made it remembers and keeps: pure, told the time.
//!
//! Source: Kubernetes' CronJob concept and API reference (batch/v1).

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::{Timestamp, tz::TimeZone},
};
use kube::ResourceExt;

use crate::{
    control_plane::{controllers::owner, schedule},
    events::Happening,
};

/// The annotation of a Job with the time that it was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Missed times beyond which the clock is more likely wrong than the cluster late.
const TOO_MANY: usize = 100;

/// What to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Finished Jobs beyond the limits, by name.
    pub forget: Vec<String>,
    /// Running Jobs that the new one replaces, by name.
    pub replace: Vec<String>,
    /// A Job to make, and the time that it is for.
    pub create: Option<(Box<Job>, Timestamp)>,
    /// The status, before the new Job.
    pub status: CronJobStatus,
    /// What to tell.
    pub events: Vec<Happening>,
    /// When the next one is due.
    pub again: Option<Duration>,
}

/// The condition that a Job ended with.
fn ended(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions
        .iter()
        .find(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True")?;
    Some(&end.type_)
}

/// A reference to a running Job, as the status holds it.
pub fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace: job.namespace(),
        name: job.metadata.name.clone(),
        uid: job.uid(),
        resource_version: job.resource_version(),
        field_path: None,
    }
}

/// What to do for a CronJob among the Jobs that it controls.
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan {
        status: cron.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    let Some(spec) = &cron.spec else { return plan };
    remember(cron, jobs, &mut plan);
    forget(jobs, "Complete", spec.successful_jobs_history_limit, &mut plan);
    forget(jobs, "Failed", spec.failed_jobs_history_limit, &mut plan);
    if cron.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        schedule(cron, now, &mut plan);
    }
    plan
}

/// Brings the list of running Jobs up to date.
fn remember(cron: &CronJob, jobs: &[Arc<Job>], plan: &mut Plan) {
    let mut active = Vec::new();
    for held in plan.status.active.take().into_iter().flatten() {
        let name = held.name.clone().unwrap_or_default();
        match jobs.iter().find(|job| job.uid() == held.uid) {
            None => {
                let message = format!("Active job went missing: {name}");
                plan.events.push(Happening::normal("MissingJob", message));
            }
            Some(job) => match ended(job) {
                Some(end) => {
                    let message = format!("Saw completed job: {name}, condition: {end}");
                    plan.events.push(Happening::normal("SawCompletedJob", message));
                }
                None => active.push(held),
            },
        }
    }
    for job in jobs.iter().filter(|job| ended(job).is_none()) {
        if active.iter().any(|held| held.uid == job.uid()) {
            continue;
        }
        let made_here = plan.status.last_schedule_time.as_ref();
        if made_here.is_some_and(|time| job.name_any() == name(cron, time.0)) {
            active.push(reference(job));
            continue;
        }
        let message = format!(
            "Saw a job that the controller did not create or forgot: {}",
            job.name_any()
        );
        plan.events.push(Happening::warning("UnexpectedJob", message));
    }
    plan.status.active = (!active.is_empty()).then_some(active);
    let well = jobs.iter().filter(|job| ended(job) == Some("Complete"));
    let ends = well.filter_map(|job| job.status.as_ref()?.completion_time.clone());
    plan.status.last_successful_time = ends
        .chain(plan.status.last_successful_time.take())
        .max_by_key(|time| time.0);
}

/// Lets the oldest go of the Jobs that ended so, beyond the limit.
fn forget(jobs: &[Arc<Job>], end: &str, limit: Option<i32>, plan: &mut Plan) {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
        return;
    };
    let mut all: Vec<_> = jobs
        .iter()
        .filter(|job| ended(job) == Some(end) && job.metadata.deletion_timestamp.is_none())
        .collect();
    let since = |job: &Job| {
        job.status
            .as_ref()
            .and_then(|status| status.start_time.as_ref())
            .map(|time| time.0)
    };
    all.sort_by_key(|job| (since(job), job.name_any()));
    let surplus = all.len().saturating_sub(limit);
    plan.forget.extend(all.iter().take(surplus).map(|job| job.name_any()));
}

fn schedule(cron: &CronJob, now: Timestamp, plan: &mut Plan) {
    let Some(spec) = &cron.spec else { return };
    let zone = match schedule::zone(spec.time_zone.as_deref()) {
        Ok(zone) => zone,
        Err(error) => {
            let name = spec.time_zone.as_deref().unwrap_or_default();
            let message = format!("invalid timeZone: {name:?} : {error}");
            return plan.events.push(Happening::warning("UnknownTimeZone", message));
        }
    };
    let times = match schedule::parse(&spec.schedule, zone.clone()) {
        Ok(times) => times,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            return plan.events.push(Happening::warning("UnparseableSchedule", message));
        }
    };
    let last = plan.status.last_schedule_time.as_ref().map(|time| time.0);
    let born = cron.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let mut since = last.or(born).unwrap_or(now);
    let deadline = spec.starting_deadline_seconds.map(|seconds| {
        let earliest = now.as_second().saturating_sub(seconds);
        Timestamp::from_second(earliest).unwrap_or(Timestamp::UNIX_EPOCH)
    });
    since = since.max(deadline.unwrap_or(since));
    let (due, missed) = times.missed(since, now);
    plan.again = times.after(now).map(|next| {
        // A moment later, so that the time has come when it is looked at.
        Duration::try_from(next.duration_since(now)).unwrap_or_default() + Duration::from_millis(10)
    });
    if missed > TOO_MANY {
        let message = format!(
            "too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        );
        plan.events.push(Happening::warning("TooManyMissedTimes", message));
    }
    let Some(due) = due else { return };
    let running = plan.status.active.iter().flatten();
    let running: Vec<String> = running.filter_map(|held| held.name.clone()).collect();
    if running.contains(&name(cron, due)) {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !running.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.events.push(Happening::normal("JobAlreadyActive", message));
        }
        Some("Replace") => plan.replace = running,
        _ => {}
    }
    plan.create = Some((Box::new(job(cron, due, &zone)), due));
}

/// The name of the Job for a time: the same time makes no second one.
fn name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron.name_any(), at.as_second() / 60)
}

fn job(cron: &CronJob, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron
        .spec
        .as_ref()
        .map(|spec| spec.job_template.clone())
        .unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let time = at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let time = time
        .strip_suffix("+00:00")
        .map(|time| format!("{time}Z"))
        .unwrap_or(time);
    annotations.insert(SCHEDULED.to_owned(), time);
    Job {
        metadata: ObjectMeta {
            name: Some(name(cron, at)),
            namespace: cron.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner::controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The status when a Job was made for a time; one that has ended already is not running.
pub fn started(mut status: CronJobStatus, job: &Job, at: Timestamp) -> CronJobStatus {
    let known = status.active.iter().flatten().any(|held| held.uid == job.uid());
    if ended(job).is_none() && !known {
        status.active.get_or_insert_default().push(reference(job));
    }
    status.last_schedule_time = Some(Time(at));
    status
}

#[cfg(test)]
mod tests;
