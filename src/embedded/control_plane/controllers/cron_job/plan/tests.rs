use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    format!("2026-01-01T{text}Z").parse().unwrap()
}

fn cron(spec: Value, status: Value) -> CronJob {
    let mut whole = json!({"schedule": "*/10 * * * *", "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 2,
        "failedJobsHistoryLimit": 1, "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}});
    json_patch::merge(&mut whole, &spec);
    serde_json::from_value(
        json!({"metadata": {"name": "tick", "namespace": "default", "uid": "cron",
        "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": whole, "status": status}),
    )
    .unwrap()
}

fn job_named(name: &str, end: Option<(&str, &str)>) -> Arc<Job> {
    let status = match end {
        None => json!({}),
        Some((end, time)) => json!({"startTime": at(time).to_string(), "completionTime": at(time).to_string(),
            "conditions": [{"type": end, "status": "True"}]}),
    };
    Arc::new(
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "status": status}),
        )
        .unwrap(),
    )
}

fn active(names: &[&str]) -> Value {
    let list: Vec<Value> = names.iter().map(|name| json!({"name": name, "uid": name})).collect();
    json!({"active": list})
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.events.iter().map(|event| event.reason).collect()
}

fn made(plan: &Plan) -> Option<Timestamp> {
    plan.create.as_ref().map(|(_, time)| *time)
}

#[test]
fn a_job_is_made_when_its_time_has_come_and_once() {
    let new = cron(json!({}), json!({}));
    let early = plan(&new, &[], at("00:09:30"));
    assert_eq!((made(&early), early.again), (None, Some(Duration::from_millis(30_010))));
    let due = plan(&new, &[], at("00:10:00"));
    let (job, time) = due.create.unwrap();
    assert_eq!(time, at("00:10:00"));
    assert_eq!(job.name_any(), format!("tick-{}", at("00:10:00").as_second() / 60));
    assert_eq!(job.labels()["a"], "b");
    assert_eq!(job.annotations()[SCHEDULED], "2026-01-01T00:10:00Z");
    let status = started(due.status, &job, time);
    assert_eq!(status.active.as_ref().map(Vec::len), Some(1));
    let after = cron(json!({}), serde_json::to_value(status).unwrap());
    assert_eq!(made(&plan(&after, &[], at("00:10:05"))), None);
}

#[test]
fn of_what_was_missed_the_last_is_made_up_for_unless_it_is_too_late() {
    let last = json!({"lastScheduleTime": at("00:10:00").to_string()});
    assert_eq!(
        made(&plan(&cron(json!({}), last.clone()), &[], at("05:55:00"))),
        Some(at("05:50:00"))
    );
    let strict = cron(json!({"startingDeadlineSeconds": 60}), last.clone());
    assert_eq!(made(&plan(&strict, &[], at("05:55:00"))), None);
    assert_eq!(made(&plan(&strict, &[], at("05:50:30"))), Some(at("05:50:00")));
    let often = cron(json!({"schedule": "* * * * *"}), last);
    let plan = plan(&often, &[], at("05:55:00"));
    assert_eq!(
        (made(&plan), reasons(&plan)),
        (Some(at("05:55:00")), vec!["TooManyMissedTimes"])
    );
}

#[test]
fn policies_say_what_happens_while_one_runs() {
    let running = [job_named("x", None)];
    let with = |policy: &str| cron(json!({"concurrencyPolicy": policy}), active(&["x"]));
    let now = at("00:10:00");
    assert!(made(&plan(&with("Allow"), &running, now)).is_some());
    let forbidden = plan(&with("Forbid"), &running, now);
    assert_eq!(
        (made(&forbidden), reasons(&forbidden)),
        (None, vec!["JobAlreadyActive"])
    );
    let replaced = plan(&with("Replace"), &running, now);
    assert_eq!((made(&replaced), replaced.replace), (Some(now), vec!["x".to_owned()]));
    let suspended = cron(json!({"suspend": true}), json!({}));
    assert_eq!(made(&plan(&suspended, &[], now)), None);
}

#[test]
fn jobs_that_ended_are_seen_and_the_oldest_forgotten() {
    let jobs = [
        job_named("a", Some(("Complete", "00:01:00"))),
        job_named("b", Some(("Complete", "00:02:00"))),
        job_named("c", Some(("Complete", "00:03:00"))),
        job_named("d", Some(("Failed", "00:01:00"))),
        job_named("manual", None),
    ];
    let plan = plan(&cron(json!({}), active(&["c", "gone"])), &jobs, at("00:04:00"));
    assert_eq!(plan.forget, ["a"]);
    assert_eq!(reasons(&plan), ["SawCompletedJob", "MissingJob", "UnexpectedJob"]);
    assert_eq!(plan.events[0].message, "Saw completed job: c, condition: Complete");
    assert_eq!(plan.status.active, None);
    assert_eq!(plan.status.last_successful_time, Some(Time(at("00:03:00"))));
}

#[test]
fn the_zone_moves_the_clock_and_nonsense_is_told() {
    let berlin = cron(json!({"schedule": "0 2 * * *", "timeZone": "Europe/Berlin"}), json!({}));
    let plan_at = |cron: &CronJob| plan(cron, &[], at("01:00:00"));
    let (job, time) = plan_at(&berlin).create.unwrap();
    assert_eq!(
        (time, job.annotations()[SCHEDULED].as_str()),
        (at("01:00:00"), "2026-01-01T02:00:00+01:00")
    );
    assert_eq!(
        reasons(&plan_at(&cron(json!({"timeZone": "Nowhere"}), json!({})))),
        ["UnknownTimeZone"]
    );
    assert_eq!(
        reasons(&plan_at(&cron(json!({"schedule": "x"}), json!({})))),
        ["UnparseableSchedule"]
    );
}
