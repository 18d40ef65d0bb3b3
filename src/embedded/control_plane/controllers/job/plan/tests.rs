use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut whole = json!({"completions": 1, "parallelism": 1, "backoffLimit": 2, "completionMode": "NonIndexed",
        "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}});
    json_patch::merge(&mut whole, &spec);
    serde_json::from_value(
        json!({"metadata": {"name": "j", "namespace": "default", "uid": "job"}, "spec": whole,
        "status": status}),
    )
    .unwrap()
}

fn indexed(spec: Value, status: Value) -> Job {
    let mut whole = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 2});
    json_patch::merge(&mut whole, &spec);
    job(whole, status)
}

/// A pod that waits to be counted.
fn pod_of(name: &str, phase: &str, more: Value) -> Arc<Pod> {
    let code = i32::from(phase == "Failed");
    let ended = json!({"terminated": {"exitCode": code, "finishedAt": at(0).to_string()}});
    let state = if matches!(phase, "Failed" | "Succeeded") {
        ended
    } else {
        json!({})
    };
    let mut value = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "finalizers": [pod::FINALIZER]},
        "spec": {"nodeName": "n", "containers": []}, "status": {"phase": phase, "containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}});
    json_patch::merge(&mut value, &more);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn at_index(index: u32) -> Value {
    json!({"metadata": {"annotations": {pod::INDEX: index.to_string()}}})
}

fn counted() -> Value {
    json!({"metadata": {"finalizers": null}})
}

fn decide(job: &Job, pods: &[Arc<Pod>], seconds: i64) -> Plan {
    plan(Facts {
        job,
        pods,
        now: at(seconds),
    })
}

fn with(job: &Job, status: JobStatus) -> Job {
    Job {
        status: Some(status),
        ..job.clone()
    }
}

fn conditions(status: &JobStatus) -> Vec<String> {
    let held = status.conditions.iter().flatten();
    held.map(|one| {
        format!(
            "{}={} {}",
            one.type_,
            one.status,
            one.reason.clone().unwrap_or_default()
        )
    })
    .collect()
}

fn uncounted(plan: &Plan) -> (Vec<String>, Vec<String>) {
    let waiting = plan.status.uncounted_terminated_pods.clone().unwrap_or_default();
    (
        waiting.succeeded.unwrap_or_default(),
        waiting.failed.unwrap_or_default(),
    )
}

#[test]
fn a_pod_is_made_counted_once_and_ends_the_job() {
    let first = job(json!({}), json!({}));
    let plan = decide(&first, &[], 0);
    assert_eq!((plan.create.len(), plan.status.active), (1, Some(1)));
    assert_eq!(plan.status.start_time, Some(Time(at(0))));
    let made = with(&first, plan.status);
    // it has ended: its uid stands in the status before its finalizer goes
    let plan = decide(&made, &[pod_of("a", "Succeeded", json!({}))], 5);
    assert_eq!(uncounted(&plan), (vec!["a".to_owned()], vec![]));
    assert_eq!((plan.status.succeeded, plan.release), (None, vec!["a".to_owned()]));
    assert_eq!(conditions(&plan.status), ["SuccessCriteriaMet=True CompletionsReached"]);
    // the finalizer did not go: it is tried again, and nothing counts twice
    let waiting = with(&first, plan.status);
    let again = decide(&waiting, &[pod_of("a", "Succeeded", json!({}))], 5);
    assert_eq!(uncounted(&again), (vec!["a".to_owned()], vec![]));
    assert!(again.events.is_empty());
    let plan = decide(&waiting, &[pod_of("a", "Succeeded", counted())], 6);
    assert_eq!((plan.status.succeeded, uncounted(&plan)), (Some(1), (vec![], vec![])));
    assert_eq!(conditions(&plan.status)[1], "Complete=True CompletionsReached");
    assert_eq!(plan.status.completion_time, Some(Time(at(6))));
    assert_eq!(plan.events, [Happening::normal("Completed", "Job completed")]);
    let over = decide(&with(&first, plan.status.clone()), &[], 7);
    assert_eq!((over.status, over.expired), (plan.status, false));
}

#[test]
fn failures_are_tried_again_after_a_growing_pause_up_to_the_limit() {
    let failed = |name: &str, seconds: i64| {
        let ended = json!({"exitCode": 1, "finishedAt": at(seconds).to_string()});
        pod_of(
            name,
            "Failed",
            json!({"metadata": {"finalizers": null}, "status": {"containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": ended}}]}}),
        )
    };
    let after = |failures: i32| job(json!({}), json!({"failed": failures, "startTime": at(0).to_string()}));
    let one = [failed("a", 0)];
    let plan = decide(&after(1), &one, 4);
    assert_eq!((plan.create.len(), plan.again), (0, Some(Duration::from_secs(6))));
    assert_eq!(decide(&after(1), &one, 10).create.len(), 1);
    let two = [failed("a", 0), failed("b", 10)];
    assert_eq!(decide(&after(2), &two, 20).again, Some(Duration::from_secs(10)));
    assert_eq!(decide(&after(2), &two, 30).create.len(), 1);
    let plan = decide(
        &after(2),
        &[failed("a", 0), failed("b", 10), pod_of("c", "Failed", json!({}))],
        30,
    );
    assert_eq!(conditions(&plan.status), ["FailureTarget=True BackoffLimitExceeded"]);
    let last = decide(&with(&after(2), plan.status), &[failed("c", 30)], 31);
    assert_eq!(
        (last.status.failed, conditions(&last.status)[1].as_str()),
        (Some(3), "Failed=True BackoffLimitExceeded")
    );
    assert_eq!(
        last.events,
        [Happening::warning(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit"
        )]
    );
}

#[test]
fn restarts_in_place_count_too() {
    let job = job(
        json!({"backoffLimit": 3, "template": {"spec": {"restartPolicy": "OnFailure"}}}),
        json!({}),
    );
    let restarted = |count: i32| {
        pod_of(
            "a",
            "Running",
            json!({"status": {"containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": count}]}}),
        )
    };
    assert!(decide(&job, &[restarted(2)], 0).delete.is_empty());
    let plan = decide(&job, &[restarted(3)], 0);
    assert_eq!((plan.delete.len(), plan.status.active), (1, None));
    assert_eq!(conditions(&plan.status), ["FailureTarget=True BackoffLimitExceeded"]);
}

#[test]
fn a_deadline_ends_what_runs_and_the_job_when_it_has_ended() {
    let job = job(
        json!({"activeDeadlineSeconds": 30}),
        json!({"startTime": at(0).to_string()}),
    );
    let running = [pod_of("a", "Running", json!({}))];
    let plan = decide(&job, &running, 10);
    assert_eq!((plan.delete.len(), plan.again), (0, Some(Duration::from_secs(20))));
    let plan = decide(&job, &running, 30);
    assert_eq!(
        (plan.delete.len(), conditions(&plan.status)),
        (1, vec!["FailureTarget=True DeadlineExceeded".to_owned()])
    );
    let leaving = [pod_of(
        "a",
        "Running",
        json!({"metadata": {"finalizers": null, "deletionTimestamp": at(30).to_string()}}),
    )];
    let waits = decide(&with(&job, plan.status.clone()), &leaving, 31);
    assert_eq!(
        (conditions(&waits.status).len(), waits.status.terminating),
        (1, Some(1))
    );
    assert_eq!(
        conditions(&decide(&with(&job, plan.status), &[], 32).status)[1],
        "Failed=True DeadlineExceeded"
    );
}

#[test]
fn suspending_takes_pods_away_without_counting_them_and_resuming_starts_the_clock_anew() {
    let suspended = job(
        json!({"suspend": true, "activeDeadlineSeconds": 5}),
        json!({"startTime": at(0).to_string()}),
    );
    let plan = decide(&suspended, &[pod_of("a", "Running", json!({}))], 9);
    assert_eq!(
        (plan.abandon.len(), plan.delete.len(), plan.status.failed),
        (1, 0, None)
    );
    assert_eq!(conditions(&plan.status), ["Suspended=True JobSuspended"]);
    let resumed = job(
        json!({"activeDeadlineSeconds": 20}),
        serde_json::to_value(plan.status).unwrap(),
    );
    let plan = decide(&resumed, &[], 15);
    assert_eq!(
        (conditions(&plan.status), plan.create.len()),
        (vec!["Suspended=False JobResumed".to_owned()], 1)
    );
    assert_eq!(plan.status.start_time, Some(Time(at(15))));
}

#[test]
fn each_index_is_done_once() {
    let job = indexed(
        json!({}),
        json!({"completedIndexes": "0", "succeeded": 1, "startTime": at(0).to_string()}),
    );
    let new = |index: u32| New {
        index: Some(index),
        failures: None,
    };
    assert_eq!(decide(&job, &[], 0).create, [new(1), new(2)]);
    let pods = [
        pod_of("a", "Succeeded", at_index(2)),
        pod_of("b", "Running", at_index(1)),
        pod_of("b2", "Running", at_index(1)),
        pod_of("x", "Running", at_index(9)),
    ];
    let plan = decide(&job, &pods, 0);
    assert_eq!(plan.status.completed_indexes.as_deref(), Some("0,2"));
    let names: Vec<_> = plan.abandon.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        (names, plan.create.len(), plan.status.succeeded),
        (vec!["b2", "x"], 0, Some(2))
    );
    let pod = pod::make(&job, new(3));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("j-3-"));
    assert_eq!(pod.spec.unwrap().hostname.as_deref(), Some("j-3"));
}

#[test]
fn policies_say_what_a_failure_means() {
    let policy = |rules: Value| {
        job(
            json!({"backoffLimit": 0, "podFailurePolicy": {"rules": rules}}),
            json!({}),
        )
    };
    let codes = |action: &str| json!([{"action": action, "onExitCodes": {"operator": "In", "values": [1]}}]);
    let failed = [pod_of("a", "Failed", json!({}))];
    let plan = decide(&policy(codes("Ignore")), &failed, 60);
    assert_eq!(
        (uncounted(&plan).1.len(), plan.create.len(), plan.release.len()),
        (0, 1, 1)
    );
    let plan = decide(&policy(codes("FailJob")), &failed, 60);
    let message = plan.status.conditions.as_ref().unwrap()[0].message.clone().unwrap();
    assert_eq!(
        message,
        "Container c for pod default/a failed with exit code 1 matching FailJob rule at index 0"
    );
    let disrupted = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]);
    assert_eq!(
        conditions(&decide(&policy(disrupted.clone()), &failed, 60).status).len(),
        1
    );
    let target = json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}});
    assert_eq!(
        uncounted(&decide(&policy(disrupted), &[pod_of("a", "Failed", target)], 60))
            .1
            .len(),
        0
    );
}

#[test]
fn some_indexes_may_be_enough_and_some_may_fail() {
    let enough = json!({"successPolicy": {"rules": [{"succeededIndexes": "0,1", "succeededCount": 1}]}});
    let pods = [
        pod_of("a", "Succeeded", at_index(1)),
        pod_of("b", "Running", at_index(0)),
    ];
    let plan = decide(&indexed(enough, json!({})), &pods, 0);
    assert_eq!(
        (conditions(&plan.status), plan.delete.len()),
        (vec!["SuccessCriteriaMet=True SuccessPolicy".to_owned()], 1)
    );
    let limited = json!({"backoffLimitPerIndex": 1, "backoffLimit": 2_147_483_647});
    let plan = decide(
        &indexed(limited.clone(), json!({})),
        &[pod_of("a", "Failed", at_index(0))],
        60,
    );
    assert_eq!((plan.create[0].index, plan.create[0].failures), (Some(0), Some(1)));
    let mut again = at_index(0);
    again["metadata"]["annotations"][pod::FAILURES] = json!("1");
    let plan = decide(
        &indexed(limited, json!({"completedIndexes": "1-3"})),
        &[pod_of("a", "Failed", again)],
        60,
    );
    assert_eq!(plan.status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(conditions(&plan.status), ["FailureTarget=True FailedIndexes"]);
}

#[test]
fn a_pod_that_is_leaving_is_replaced_at_once_or_when_it_has_ended() {
    let leaving = |grace: i64| {
        let meta = json!({"deletionTimestamp": at(0).to_string(), "deletionGracePeriodSeconds": grace});
        [pod_of("a", "Running", json!({"metadata": meta}))]
    };
    let policy = |policy: &str| job(json!({"podReplacementPolicy": policy}), json!({}));
    let at_once = decide(&policy("TerminatingOrFailed"), &leaving(30), 0);
    assert_eq!((at_once.create.len(), uncounted(&at_once).1.len()), (1, 1));
    let later = decide(&policy("Failed"), &leaving(30), 0);
    assert_eq!(
        (later.create.len(), uncounted(&later).1.len(), later.release.len()),
        (0, 0, 0)
    );
    let ended = decide(&policy("Failed"), &leaving(0), 0);
    assert_eq!((uncounted(&ended).1.len(), ended.release.len()), (1, 1));
}

#[test]
fn a_finished_job_goes_after_its_time() {
    let end = json!([{"type": "Complete", "status": "True", "lastTransitionTime": at(0).to_string()}]);
    let job = job(json!({"ttlSecondsAfterFinished": 20}), json!({"conditions": end}));
    assert_eq!(decide(&job, &[], 5).again, Some(Duration::from_secs(15)));
    assert!(!decide(&job, &[], 19).expired);
    assert!(decide(&job, &[], 20).expired);
}

proptest! {
    /// Whatever becomes of its pods, and whenever a step is cut off between the status and the finalizers, a Job counts each pod once
    /// and comes to an end.
    #[test]
    fn every_pod_is_counted_once(
        fates in proptest::collection::vec((any::<bool>(), any::<bool>()), 40),
        completions in 1_i32..5, parallelism in 1_i32..4, in_order in any::<bool>(),
    ) {
        let mode = if in_order { "Indexed" } else { "NonIndexed" };
        let mut job = job(json!({"completions": completions, "parallelism": parallelism, "backoffLimit": 5,
            "completionMode": mode}), json!({}));
        let mut pods: Vec<Arc<Pod>> = Vec::new();
        let (mut succeeded, mut failed, mut made) = (0, 0, 0);
        let mut fates = fates.into_iter().cycle();
        for step in 0..400_i64 {
            let plan = decide(&job, &pods, step * 1000);
            pods.retain(|pod| !plan.abandon.iter().chain(&plan.delete).any(|(name, _)| *name == pod.name_any()));
            for new in &plan.create {
                let more = new.index.map_or(json!({}), at_index);
                pods.push(pod_of(&format!("p{made}"), "Running", more));
                made += 1;
            }
            job.status = Some(plan.status);
            let (_, cut) = fates.next().unwrap();
            for name in plan.release.iter().skip(usize::from(cut)) {
                for pod in pods.iter_mut().filter(|pod| pod.name_any() == *name) {
                    Arc::make_mut(pod).metadata.finalizers = None;
                }
            }
            if finished(&job).is_some() {
                break;
            }
            prop_assert!(step < 399, "no end: {:?}", job.status);
            if let Some(pod) = pods.iter_mut().find(|pod| pods::phase(pod) == "Running") {
                let (well, _) = fates.next().unwrap();
                let phase = if well { "Succeeded" } else { "Failed" };
                *if well { &mut succeeded } else { &mut failed } += 1;
                let more = pod::index(pod).map_or(json!({}), at_index);
                *pod = pod_of(&pod.name_any(), phase, more);
            }
        }
        let status = job.status.clone().unwrap();
        prop_assert_eq!((status.succeeded.unwrap_or(0), status.failed.unwrap_or(0)), (succeeded, failed));
        prop_assert_eq!(finished(&job).unwrap().type_.as_str(), if failed > 5 { "Failed" } else { "Complete" });
    }
}
