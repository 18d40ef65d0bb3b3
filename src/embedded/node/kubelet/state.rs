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
    /// How often it ended soon after its start: what the pause before the next start grows with.
    pub crashes: u32,
    /// Whether its `postStart` hook is at work: until it is done, the container does not count as running.
    pub hook: bool,
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
            crashes: 0,
            hook: false,
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
        if self.crashes == 0 || forgiven(ended) {
            return ended.finished_at;
        }
        let pause = pull_pause(self.crashes);
        ended.finished_at.checked_add(pause).unwrap_or(Timestamp::MAX)
    }

    /// `crashes` of the instance that follows.
    pub fn crashes_after(&self) -> u32 {
        match self.last.as_ref() {
            None => 0,
            Some(ended) if forgiven(ended) => 1,
            Some(_) => self.crashes.saturating_add(1),
        }
    }

    /// Its program could not be executed. Where it is tried again, the first time is shown as the kubelet does; later ones are
    /// restarts like any other.
    pub fn not_started(&mut self, ended: Ended, policy: &str) {
        if policy == "Never" || self.crashes > 0 {
            self.phase = Phase::Ended(ended);
            return;
        }
        self.not_before = ended.finished_at.checked_add(FIRST_PAUSE).ok();
        self.phase = Phase::Waiting {
            reason: "RunContainerError".to_owned(),
            message: ended.message.clone(),
        };
        self.last = Some(ended);
    }

    /// Whether it was started in this life of the node or an earlier one.
    fn was_started(&self) -> bool {
        self.last.is_some() || !matches!(self.phase, Phase::Waiting { .. })
    }
}

/// Whether an instance ran so long that the ends before it count no more.
fn forgiven(ended: &Ended) -> bool {
    Duration::try_from(ended.finished_at.duration_since(ended.started_at)).unwrap_or_default() >= FORGIVEN
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
    /// Whether a container of `containers` was started in this sandbox: from then on the pod is initialized.
    pub begun: bool,
    /// Whether everything is to end.
    pub stopping: bool,
    /// Why the pod as a whole has failed (`DeadlineExceeded`).
    pub failed: Option<Failed>,
    /// What runs otherwise than asked, in words.
    pub otherwise: Vec<String>,
}

/// Why a pod as a whole has failed, as its status says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
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

/// The containers that are to end before this one: before a sidecar, all but those that were started before it. Ephemeral
/// containers are not waited for.
///
/// Source: KEP-753, "Sidecar Containers", termination.
pub fn ends_after<'a>(spec: &'a PodSpec, name: &str) -> Vec<&'a str> {
    let inits = || spec.init_containers.iter().flatten();
    let Some(at) = inits().position(|container| container.name == name && sidecar(container)) else {
        return Vec::new();
    };
    let plain = inits().take(at).filter(|container| !sidecar(container));
    let later = inits().skip(at + 1);
    let all = plain.chain(later).chain(&spec.containers);
    all.map(|container| container.name.as_str()).collect()
}

/// The pod's restart policy.
pub fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// What of a container's ends is followed by another start: those of its list may differ from the pod's.
pub fn restart_policy_of<'a>(spec: &'a PodSpec, kind: Kind, container: &Container) -> &'a str {
    match (kind, restart_policy(spec)) {
        (Kind::Ephemeral, _) => "Never",
        (Kind::Init, _) if sidecar(container) => "Always",
        (Kind::Init, "Always") => "OnFailure",
        (_, policy) => policy,
    }
}

/// Whether every init container has done its part. What comes later, a sidecar that starts again, takes that back no more.
pub fn initialized(spec: &PodSpec, state: &PodState) -> bool {
    state.begun
        || spec
            .init_containers
            .iter()
            .flatten()
            .all(|container| passed(container, state))
}

/// Whether an init container lets the next one start.
pub fn passed(container: &Container, state: &PodState) -> bool {
    state.containers.get(&container.name).is_some_and(|held| {
        if sidecar(container) {
            held.started && !held.hook
        } else {
            held.ended().is_some_and(|ended| ended.code == 0)
        }
    })
}

/// What to do for a pod now.
pub fn next(pod: &Pod, state: &PodState, now: Timestamp) -> Next {
    let mut next = Next::default();
    let Some(spec) = &pod.spec else { return next };
    if !state.sandbox || ending(spec, state) {
        return next;
    }
    let policy = restart_policy(spec);
    for container in spec.init_containers.iter().flatten() {
        let held = state.containers.get(&container.name);
        if sidecar(container) {
            consider(&mut next, Kind::Init, &container.name, held, "Always", now);
        } else if !state.begun && held.and_then(ContainerState::ended).is_none_or(|ended| ended.code != 0) {
            let policy = if policy == "Never" { "Never" } else { "OnFailure" };
            consider(&mut next, Kind::Init, &container.name, held, policy, now);
        }
        if !state.begun && !passed(container, state) {
            return next;
        }
    }
    for container in &spec.containers {
        let held = state.containers.get(&container.name);
        consider(&mut next, Kind::Main, &container.name, held, policy, now);
        // A hook holds up the containers after its own, as Kubernetes' kubelet has it.
        if held.is_some_and(|held| held.hook) {
            return next;
        }
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        let held = state.containers.get(&container.name);
        consider(&mut next, Kind::Ephemeral, &container.name, held, "Never", now);
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

/// Whether a container's end is its last.
fn done(policy: &str, held: Option<&ContainerState>) -> bool {
    held.and_then(ContainerState::ended)
        .is_some_and(|ended| policy == "Never" || (policy == "OnFailure" && ended.code == 0))
}

fn init_failed(spec: &PodSpec, state: &PodState) -> bool {
    let plain = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| !sidecar(container));
    !state.begun
        && plain
            .filter_map(|container| state.containers.get(&container.name)?.ended())
            .any(|ended| ended.code != 0)
}

/// Whether what still runs of the pod (its sidecars) is to end: it was told to, it has failed as a whole, or its containers
/// are done.
pub fn ending(spec: &PodSpec, state: &PodState) -> bool {
    let policy = restart_policy(spec);
    state.stopping
        || state.failed.is_some()
        || (policy == "Never" && init_failed(spec, state))
        || spec
            .containers
            .iter()
            .all(|container| done(policy, state.containers.get(&container.name)))
}

/// Whether the pod has ended for good: nothing runs, and nothing will run again.
pub fn over(spec: &PodSpec, state: &PodState) -> bool {
    ending(spec, state) && !any_runs(spec, state)
}

fn any_runs(spec: &PodSpec, state: &PodState) -> bool {
    let inits = spec.init_containers.iter().flatten();
    inits.chain(&spec.containers).any(|container| {
        state
            .containers
            .get(&container.name)
            .is_some_and(ContainerState::running)
    })
}

/// The pod's phase.
///
/// Source: Kubernetes' "Pod Lifecycle".
pub fn phase(spec: &PodSpec, state: &PodState) -> &'static str {
    let held = || {
        spec.containers
            .iter()
            .map(|container| state.containers.get(&container.name))
    };
    let never_started = held().any(|held| held.is_none_or(|held| !held.was_started()));
    if over(spec, state) {
        let failed = state.failed.is_some() || init_failed(spec, state);
        let code = |held: Option<&ContainerState>| {
            held.and_then(|held| held.ended().or(held.last.as_ref()))
                .map(|ended| ended.code)
        };
        if failed || held().any(|held| code(held).is_some_and(|code| code != 0)) {
            return "Failed";
        }
        return if never_started { "Pending" } else { "Succeeded" };
    }
    if never_started || !initialized(spec, state) && !held().any(|held| held.is_some_and(ContainerState::was_started)) {
        "Pending"
    } else {
        "Running"
    }
}

#[cfg(test)]
mod tests;
