//! A pod's status from what the kubelet knows. Pure.

use std::net::Ipv4Addr;

use k8s_openapi::{
    api::core::v1::{
        ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::{
    security,
    state::{self, ContainerState, Ended, Kind, Phase, PodState},
};

/// The scheme of container ids.
pub const ID_SCHEME: &str = "ztlab://";

/// The types of the conditions that the kubelet writes.
const OURS: [&str; 6] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    security::NOT_HONOURED,
];

/// The status to write.
pub fn status(pod: &Pod, held: &PodState, host_ip: Ipv4Addr, now: Timestamp) -> PodStatus {
    let Some(spec) = &pod.spec else {
        return PodStatus::default();
    };
    let old = pod.status.clone().unwrap_or_default();
    let ip = held.ip.map(|ip| ip.to_string());
    let list = |statuses: Vec<ContainerStatus>| (!statuses.is_empty()).then_some(statuses);
    let waiting = if spec.init_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let of = |kind: Kind, name: &str, image: Option<&str>| {
        container(kind, name, image.unwrap_or(""), held.containers.get(name), waiting)
    };
    let phase = state::phase(spec, held);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        reason: held.failed.as_ref().map(|failed| failed.reason.to_owned()),
        message: held.failed.as_ref().map(|failed| failed.message.clone()),
        host_ip: Some(host_ip.to_string()),
        host_ips: Some(vec![HostIP {
            ip: host_ip.to_string(),
        }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        start_time: old.start_time.clone().or(held.since.map(Time)),
        qos_class: old.qos_class.clone().or_else(|| Some(qos(spec).to_owned())),
        init_container_statuses: list(
            spec.init_containers
                .iter()
                .flatten()
                .map(|c| of(Kind::Init, &c.name, c.image.as_deref()))
                .collect(),
        ),
        container_statuses: list(
            spec.containers
                .iter()
                .map(|c| of(Kind::Main, &c.name, c.image.as_deref()))
                .collect(),
        ),
        ephemeral_container_statuses: list(
            spec.ephemeral_containers
                .iter()
                .flatten()
                .map(|c| of(Kind::Ephemeral, &c.name, c.image.as_deref()))
                .collect(),
        ),
        observed_generation: old.observed_generation,
        ..PodStatus::default()
    };
    status.conditions = Some(conditions(
        pod,
        spec,
        held,
        phase,
        &old.conditions.unwrap_or_default(),
        now,
    ));
    status
}

/// The patch that writes a status and leaves to others what is theirs: conditions of types that the kubelet does not have, and
/// fields that it does not know.
pub fn patch(pod: &Pod, uid: &str, status: &PodStatus) -> serde_json::Value {
    let mut written = serde_json::to_value(status).unwrap_or_default();
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    let gates: Vec<&str> = gates
        .into_iter()
        .flatten()
        .map(|gate| gate.condition_type.as_str())
        .collect();
    if let Some(conditions) = written.get_mut("conditions").and_then(serde_json::Value::as_array_mut) {
        conditions.retain(|condition| {
            let kind = condition["type"].as_str().unwrap_or_default();
            OURS.contains(&kind) && !gates.contains(&kind)
        });
    }
    // What is not there any more is taken away by name; of lists that are merged the whole is ours.
    for field in ["reason", "message", "podIP"] {
        if written.get(field).is_none() {
            written[field] = serde_json::Value::Null;
        }
    }
    let mut addresses = vec![serde_json::json!({"$patch": "replace"})];
    addresses.extend(written["podIPs"].as_array().into_iter().flatten().cloned());
    written["podIPs"] = addresses.into();
    serde_json::json!({"metadata": {"uid": uid}, "status": written})
}

/// Whether a condition holds; if not, the reason and the message.
type Holds<'a> = Result<(), (&'a str, String)>;

fn conditions(
    pod: &Pod,
    spec: &PodSpec,
    held: &PodState,
    phase: &str,
    old: &[PodCondition],
    now: Timestamp,
) -> Vec<PodCondition> {
    let containers_ready = containers_ready(spec, held, phase);
    let sandbox = if held.sandbox { Ok(()) } else { Err(("", String::new())) };
    let closed = closed_gates(spec, old);
    let ready = match (&containers_ready, closed.is_empty()) {
        (Ok(()), false) => Err(("ReadinessGatesNotReady", closed.join(", "))),
        _ => containers_ready.clone(),
    };
    let initialized = initialized(spec, held);
    let ours: [(&str, Holds<'_>); 5] = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Ok(())),
    ];
    let mut all: Vec<PodCondition> = ours
        .into_iter()
        .map(|(kind, result)| condition(pod, kind, result, old, now))
        .collect();
    if phase == "Succeeded" {
        for condition in &mut all {
            if condition.type_ == "Initialized" {
                condition.reason = Some("PodCompleted".to_owned());
            }
        }
    }
    if !held.otherwise.is_empty() {
        let mut said = condition(pod, security::NOT_HONOURED, Ok(()), old, now);
        said.reason = Some("NotSupported".to_owned());
        said.message = Some(held.otherwise.join(", "));
        all.push(said);
    }
    // Conditions of others (readiness gates, disruption) stay.
    all.extend(
        old.iter()
            .filter(|c| !all.iter().any(|ours| ours.type_ == c.type_))
            .cloned()
            .collect::<Vec<_>>(),
    );
    all
}

fn containers_ready(spec: &PodSpec, held: &PodState, phase: &str) -> Holds<'static> {
    match phase {
        "Succeeded" => return Err(("PodCompleted", String::new())),
        "Failed" => return Err(("PodFailed", String::new())),
        _ => {}
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|c| state::sidecar(c));
    let ready = |name: &str| {
        let container = held.containers.get(name);
        container.is_some_and(|c| c.running() && c.ready && c.started && !c.hook)
    };
    let unready: Vec<&str> = sidecars
        .chain(&spec.containers)
        .map(|c| c.name.as_str())
        .filter(|name| !ready(name))
        .collect();
    if unready.is_empty() {
        return Ok(());
    }
    let text = format!("containers with unready status: [{}]", unready.join(" "));
    Err(("ContainersNotReady", text))
}

fn initialized(spec: &PodSpec, held: &PodState) -> Holds<'static> {
    if state::initialized(spec, held) {
        return Ok(());
    }
    let left: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| !state::passed(container, held))
        .map(|c| c.name.as_str())
        .collect();
    let text = format!("containers with incomplete status: [{}]", left.join(" "));
    Err(("ContainersNotInitialized", text))
}

/// What is said of each readiness gate that is not open.
fn closed_gates(spec: &PodSpec, conditions: &[PodCondition]) -> Vec<String> {
    let gates = spec.readiness_gates.iter().flatten().map(|gate| &gate.condition_type);
    gates
        .filter_map(|gate| match conditions.iter().find(|c| c.type_ == *gate) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{gate}\" does not exist."
            )),
            Some(c) if c.status == "True" => None,
            Some(c) => Some(format!(
                "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
                c.status
            )),
        })
        .collect()
}

fn condition(pod: &Pod, kind: &str, result: Holds<'_>, old: &[PodCondition], now: Timestamp) -> PodCondition {
    let (value, reason, message) = match result {
        Ok(()) => ("True", None, None),
        Err((reason, message)) => {
            let some = |text: String| (!text.is_empty()).then_some(text);
            ("False", some(reason.to_owned()), some(message))
        }
    };
    let before = old
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == value);
    PodCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason,
        message,
        last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        observed_generation: before
            .and_then(|c| c.observed_generation)
            .filter(|_| pod.metadata.generation.is_some()),
        ..PodCondition::default()
    }
}

fn container(kind: Kind, name: &str, image: &str, held: Option<&ContainerState>, waiting: &str) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: name.to_owned(),
        image: image.to_owned(),
        image_id: String::new(),
        started: Some(false),
        ..ContainerStatus::default()
    };
    let Some(held) = held else {
        status.state = Some(pause(waiting, None));
        return status;
    };
    status.image_id.clone_from(&held.image_id);
    status.restart_count = held.restarts;
    status.last_state = held.last.as_ref().map(ended);
    match &held.phase {
        Phase::Waiting { reason, message } => {
            status.container_id = held.last.as_ref().map(|last| format!("{ID_SCHEME}{}", last.id));
            status.state = Some(pause(reason, message.clone()));
        }
        Phase::Running { id, .. } if held.hook => {
            status.container_id = Some(format!("{ID_SCHEME}{id}"));
            status.state = Some(pause(waiting, None));
        }
        Phase::Running { id, since } => {
            status.container_id = Some(format!("{ID_SCHEME}{id}"));
            status.ready = held.ready && held.started;
            status.started = Some(held.started);
            let running = ContainerStateRunning {
                started_at: Some(Time(*since)),
            };
            status.state = Some(ApiState {
                running: Some(running),
                ..ApiState::default()
            });
        }
        Phase::Ended(last) => {
            status.container_id = Some(format!("{ID_SCHEME}{}", last.id));
            // An init container that is done is ready.
            status.ready = kind == Kind::Init && last.code == 0;
            status.state = Some(ended(last));
        }
    }
    status
}

fn pause(reason: &str, message: Option<String>) -> ApiState {
    ApiState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ApiState::default()
    }
}

fn ended(last: &Ended) -> ApiState {
    let terminated = ContainerStateTerminated {
        container_id: Some(format!("{ID_SCHEME}{}", last.id)),
        exit_code: last.code,
        signal: None,
        reason: Some(last.reason.clone()),
        message: last.message.clone(),
        started_at: Some(Time(last.started_at)),
        finished_at: Some(Time(last.finished_at)),
    };
    ApiState {
        terminated: Some(terminated),
        ..ApiState::default()
    }
}

/// The quality-of-service class.
///
/// Source: Kubernetes' "Pod Quality of Service Classes".
pub fn qos(spec: &PodSpec) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let resources = container.resources.clone().unwrap_or_default();
        let (limits, requests) = (
            resources.limits.unwrap_or_default(),
            resources.requests.unwrap_or_default(),
        );
        any |= !limits.is_empty() || !requests.is_empty();
        for name in ["cpu", "memory"] {
            let limit = limits.get(name);
            guaranteed &= limit.is_some() && requests.get(name).is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
