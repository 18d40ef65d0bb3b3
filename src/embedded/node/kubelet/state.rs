//! What the kubelet knows of a pod and its containers, and what follows from it. Pure.

mod resume;

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    jiff::Timestamp,
};

/// A restart waits this long the second time, then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause between restarts.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A container that ran this long starts again without a pause.
const FORGIVEN: Duration = Duration::from_secs(600);

/// How a container's program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The instance's id.
    pub id: String,
    /// The exit code.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `StartError`, …
    pub reason: String,
    /// Why, where there is more to say.
    pub message: Option<String>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// Where a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not started; reason and message as the status shows them.
    Waiting {
        /// `ContainerCreating`, `ErrImagePull`, …
        reason: String,
        /// More words.
        message: Option<String>,
    },
    /// Running.
    Running {
        /// The instance's id.
        id: String,
        /// Since when.
        since: Timestamp,
    },
    /// Ended.
    Ended(Ended),
}

/// A container's state over its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Where it is.
    pub phase: Phase,
    /// How often it was started again.
    pub restarts: i32,
    /// How the instance before this one ended.
    pub last: Option<Ended>,
    /// Its readiness probe's result; `true` where it has none.
    pub ready: bool,
    /// Whether its startup probe has passed; `true` where it has none.
    pub started: bool,
    /// Failed attempts to get it started (image, configuration), for the pause between them.
    pub failures: u32,
    /// No attempt before this.
    pub not_before: Option<Timestamp>,
    /// The stand-in that runs it.
    pub image_id: String,
}

impl Default for ContainerState {
    fn default() -> Self {
        Self {
            phase: Phase::Waiting {
                reason: "PodInitializing".to_owned(),
                message: None,
            },
            restarts: 0,
            last: None,
            ready: false,
            started: false,
            failures: 0,
            not_before: None,
            image_id: String::new(),
        }
    }
}

impl ContainerState {
    /// Whether its program runs.
    pub fn running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.phase {
            Phase::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// When an ended instance may be followed by another: at once the first time, then after a growing pause.
    pub fn restart_at(&self) -> Timestamp {
        let Some(ended) = self.ended() else {
            return self.not_before.unwrap_or(Timestamp::MIN);
        };
        let ran = Duration::try_from(ended.finished_at.duration_since(ended.started_at)).unwrap_or_default();
        if self.restarts == 0 || ran >= FORGIVEN {
            return ended.finished_at;
        }
        let doublings = u32::try_from(self.restarts - 1).unwrap_or(0).min(10);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
        ended.finished_at.checked_add(pause).unwrap_or(Timestamp::MAX)
    }
}

/// The pause after the n-th failed attempt to get an image.
pub fn pull_pause(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST_PAUSE)
}

/// Which list of the pod a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `initContainers`.
    Init,
    /// `containers`.
    Main,
    /// `ephemeralContainers`.
    Ephemeral,
}

/// What the kubelet knows of a pod.
#[derive(Debug, Clone, Default)]
pub struct PodState {
    /// The address, once there is a sandbox.
    pub ip: Option<Ipv4Addr>,
    /// Whether the sandbox is there.
    pub sandbox: bool,
    /// Since when the kubelet has the pod.
    pub since: Option<Timestamp>,
    /// Its containers by name: names are unique over all three lists.
    pub containers: BTreeMap<String, ContainerState>,
    /// Whether everything is to end.
    pub stopping: bool,
}

/// Something to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start a container.
    Start(Kind, String),
    /// Show that a container waits for its restart.
    BackOff(Kind, String),
}

/// What to do now, and when to look again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// In this order.
    pub steps: Vec<Step>,
    /// When a pause is over.
    pub wake: Option<Timestamp>,
}

/// `restartPolicy: Always` on an init container: a sidecar.
pub fn sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The pod's restart policy.
pub fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// Whether every init container has done its part.
pub fn initialized(spec: &PodSpec, state: &PodState) -> bool {
    spec.init_containers.iter().flatten().all(|container| {
        state.containers.get(&container.name).is_some_and(|held| {
            if sidecar(container) {
                held.started
            } else {
                held.ended().is_some_and(|ended| ended.code == 0)
            }
        })
    })
}

/// What to do for a pod now.
pub fn next(pod: &Pod, state: &PodState, now: Timestamp) -> Next {
    let mut next = Next::default();
    let Some(spec) = &pod.spec else { return next };
    if state.stopping || !state.sandbox || over(spec, state) {
        return next;
    }
    let policy = restart_policy(spec);
    for container in spec.init_containers.iter().flatten() {
        let held = state.containers.get(&container.name);
        if sidecar(container) {
            consider(&mut next, Kind::Init, &container.name, held, "Always", now);
            if held.is_none_or(|held| !held.started) {
                return next;
            }
        } else if held.and_then(ContainerState::ended).is_none_or(|ended| ended.code != 0) {
            let policy = if policy == "Never" { "Never" } else { "OnFailure" };
            consider(&mut next, Kind::Init, &container.name, held, policy, now);
            return next;
        }
    }
    for container in &spec.containers {
        consider(
            &mut next,
            Kind::Main,
            &container.name,
            state.containers.get(&container.name),
            policy,
            now,
        );
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        consider(
            &mut next,
            Kind::Ephemeral,
            &container.name,
            state.containers.get(&container.name),
            "Never",
            now,
        );
    }
    next
}

fn consider(next: &mut Next, kind: Kind, name: &str, held: Option<&ContainerState>, policy: &str, now: Timestamp) {
    let start = || Step::Start(kind, name.to_owned());
    let Some(held) = held else {
        next.steps.push(start());
        return;
    };
    let at = match &held.phase {
        Phase::Running { .. } => return,
        Phase::Waiting { .. } => held.not_before.unwrap_or(Timestamp::MIN),
        Phase::Ended(ended) => {
            let again = policy == "Always" || (policy == "OnFailure" && ended.code != 0);
            if !again {
                return;
            }
            held.restart_at()
        }
    };
    if at <= now {
        next.steps.push(start());
    } else {
        let failed_pull = matches!(&held.phase, Phase::Waiting { reason, .. } if reason == "ErrImagePull");
        if held.ended().is_some() || failed_pull {
            next.steps.push(Step::BackOff(kind, name.to_owned()));
        }
        next.wake = Some(next.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// Whether the pod has ended for good: nothing will run again.
pub fn over(spec: &PodSpec, state: &PodState) -> bool {
    matches!(phase(spec, state), "Succeeded" | "Failed")
}

/// The pod's phase.
///
/// Source: Kubernetes' "Pod Lifecycle".
pub fn phase(spec: &PodSpec, state: &PodState) -> &'static str {
    let policy = restart_policy(spec);
    let failed_init = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| !sidecar(container))
        .any(|container| {
            let ended = state.containers.get(&container.name).and_then(ContainerState::ended);
            ended.is_some_and(|ended| ended.code != 0)
        });
    if failed_init && (policy == "Never" || state.stopping) {
        return "Failed";
    }
    let mut waiting = false;
    let (mut running, mut failed) = (false, false);
    for container in &spec.containers {
        match state.containers.get(&container.name) {
            None => waiting = true,
            Some(held) => match &held.phase {
                Phase::Waiting { .. } if held.last.is_some() => running = true,
                Phase::Waiting { .. } => waiting = true,
                Phase::Running { .. } => running = true,
                Phase::Ended(ended) => {
                    let again = !state.stopping && (policy == "Always" || (policy == "OnFailure" && ended.code != 0));
                    running |= again;
                    failed |= ended.code != 0;
                }
            },
        }
    }
    if waiting && !state.stopping {
        return "Pending";
    }
    if running {
        return "Running";
    }
    if waiting {
        return if failed { "Failed" } else { "Pending" };
    }
    if failed { "Failed" } else { "Succeeded" }
}

#[cfg(test)]
mod tests;
