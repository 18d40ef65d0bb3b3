//! Pods: READY, STATUS and RESTARTS.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Layout,
    text::{Ages, NONE, Object, name, since},
};

pub const LAYOUT: Layout = Layout {
    columns: "Name|Ready|Status|Restarts|Age|*IP|*Node|*Nominated Node|*Readiness Gates",
    row,
};

/// What the container statuses add up to.
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

fn row(pod: Object<'_>, now: Timestamp) -> Vec<Value> {
    let summary = summary(pod);
    let sidecars = pod.items("spec.initContainers").filter(|c| is_sidecar(*c)).count();
    let total = pod.items("spec.containers").len() + sidecars;
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, since(Some(last), now)),
        _ => summary.restarts.to_string(),
    };
    let ip = pod
        .items("status.podIPs")
        .next()
        .map_or_else(|| pod.str("status.podIP"), |ip| ip.str("ip"));
    vec![
        name(pod),
        json!(format!("{}/{total}", summary.ready)),
        json!(summary.reason),
        json!(restarts),
        pod.age(now),
        json!(if ip.is_empty() { NONE } else { ip }),
        pod.str_or("spec.nodeName", NONE),
        pod.str_or("status.nominatedNodeName", NONE),
        json!(readiness_gates(pod)),
    ]
}

fn is_sidecar(container: Object<'_>) -> bool {
    container.str("restartPolicy") == "Always"
}

fn summary(pod: Object<'_>) -> Summary {
    let mut reason = pod.str("status.phase").to_owned();
    if !pod.str("status.reason").is_empty() {
        reason = pod.str("status.reason").to_owned();
    }
    if pod
        .items("status.conditions")
        .any(|c| c.str("type") == "PodScheduled" && c.str("reason") == "SchedulingGated")
    {
        reason = "SchedulingGated".into();
    }
    let mut all = Summary {
        reason,
        ready: 0,
        restarts: 0,
        last_restart: None,
    };
    let mut sidecars = (0, None);
    let initializing = initialize(pod, &mut all, &mut sidecars);
    if !initializing || has_condition(pod, "Initialized") {
        (all.restarts, all.last_restart) = sidecars;
        run(pod, &mut all);
    }
    let deleted = pod.at("metadata.deletionTimestamp").is_set();
    if deleted && pod.str("status.reason") == "NodeLost" {
        all.reason = "Unknown".into();
    } else if deleted && !matches!(pod.str("status.phase"), "Succeeded" | "Failed") {
        all.reason = "Terminating".into();
    }
    all
}

/// Goes through the init containers; returns whether they are still at work.
fn initialize(pod: Object<'_>, all: &mut Summary, sidecars: &mut (i64, Option<Timestamp>)) -> bool {
    let total = pod.items("spec.initContainers").len();
    for (index, status) in pod.items("status.initContainerStatuses").enumerate() {
        all.restarts = all.restarts.saturating_add(status.int("restartCount"));
        all.last_restart = all.last_restart.max(last_restart(status));
        let same = |c: &Object<'_>| c.str("name") == status.str("name");
        let sidecar = pod.items("spec.initContainers").find(same).is_some_and(is_sidecar);
        if sidecar {
            sidecars.0 = sidecars.0.saturating_add(status.int("restartCount"));
            sidecars.1 = sidecars.1.max(last_restart(status));
        }
        let (terminated, waiting) = (status.at("state.terminated"), status.str("state.waiting.reason"));
        if terminated.is_set() && terminated.int("exitCode") == 0 {
            continue;
        }
        if sidecar && status.bool("started") {
            all.ready += usize::from(status.bool("ready"));
            continue;
        }
        all.reason = if terminated.is_set() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{total}")
        };
        return true;
    }
    false
}

/// Goes through the containers, last to first, so that the first one's trouble is shown.
fn run(pod: Object<'_>, all: &mut Summary) {
    let mut running = false;
    for status in pod.items("status.containerStatuses").rev() {
        all.restarts = all.restarts.saturating_add(status.int("restartCount"));
        all.last_restart = all.last_restart.max(last_restart(status));
        let (terminated, waiting) = (status.at("state.terminated"), status.str("state.waiting.reason"));
        if !waiting.is_empty() {
            all.reason = waiting.to_owned();
        } else if terminated.is_set() {
            all.reason = ended(terminated);
        } else if status.bool("ready") && status.at("state.running").is_set() {
            running = true;
            all.ready += 1;
        }
    }
    if all.reason == "Completed" && running {
        all.reason = if has_condition(pod, "Ready") {
            "Running"
        } else {
            "NotReady"
        }
        .into();
    }
}

fn ended(terminated: Object<'_>) -> String {
    match (terminated.str("reason"), terminated.int("signal")) {
        ("", 0) => format!("ExitCode:{}", terminated.int("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn last_restart(status: Object<'_>) -> Option<Timestamp> {
    status.time("lastState.terminated.finishedAt")
}

fn has_condition(pod: Object<'_>, kind: &str) -> bool {
    pod.items("status.conditions")
        .any(|c| c.str("type") == kind && c.str("status") == "True")
}

fn readiness_gates(pod: Object<'_>) -> String {
    let gates = pod.items("spec.readinessGates");
    let total = gates.len();
    if total == 0 {
        return NONE.into();
    }
    let passed = gates
        .filter(|gate| has_condition(pod, gate.str("conditionType")))
        .count();
    format!("{passed}/{total}")
}

/// The row condition of a pod that is done.
pub fn completed(pod: Object<'_>) -> Option<Value> {
    let (reason, message) = match pod.str("status.phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}
