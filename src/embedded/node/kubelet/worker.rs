//! One pod's task: looks at what is, does what is next, writes the status, waits for news.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    jiff::Timestamp,
};
use kube::ResourceExt;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
    time::Instant,
};

use super::{
    Inner,
    env::Facts,
    ephemeral, hold,
    mounting::{self, Token},
    probes::{Finding, Which},
    security,
    state::{self, ContainerState, Ended, Phase, PodState, Step},
    translate,
    volumes::{Files, Mounted, TokenRequest},
};
use crate::{
    events::{Happening, reference},
    kubelet_api::Hold,
    node::runtime::{ContainerExit, Started},
};

/// When to try again what failed without a sign of when it may work.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(2);
/// The grace of a pod that names none, seconds.
pub(super) const GRACE: i64 = 30;
/// Signals by number, as POSIX fixes them.
pub(super) const SIGKILL: i32 = 9;
pub(super) const SIGTERM: i32 = 15;

/// What a pod's task is told.
#[derive(Debug)]
pub enum Message {
    /// The pod changed.
    Pod(Arc<Pod>),
    /// A ConfigMap or Secret of its namespace changed.
    Sources,
    /// Stay away from volumes; what runs is held in this way. Answered when that is done.
    Hold(Hold, oneshot::Sender<()>),
    /// Go on.
    Release,
    /// The pod is gone from the API.
    Gone,
}

/// What happens in the pod.
#[derive(Debug)]
pub(super) enum Event {
    Exited {
        name: String,
        id: String,
        exit: ContainerExit,
    },
    Probe {
        name: String,
        id: String,
        which: Which,
        finding: Finding,
    },
    /// A `postStart` hook is done.
    Begun {
        name: String,
        id: String,
        result: Result<(), String>,
    },
    /// A `preStop` hook failed.
    Unwell { name: String, why: String },
}

/// A running instance.
pub(super) struct Live {
    pub(super) id: String,
    pub(super) started: Started,
    pub(super) probes: Vec<(Which, AbortHandle)>,
    /// Its `postStart` hook, while that is at work.
    pub(super) hook: Option<AbortHandle>,
    /// When it will have ended, once it was asked to.
    pub(super) deadline: Option<watch::Sender<Instant>>,
}

impl Drop for Live {
    fn drop(&mut self) {
        for (_, probe) in &self.probes {
            probe.abort();
        }
        if let Some(hook) = &self.hook {
            hook.abort();
        }
    }
}

/// One pod's task.
pub struct Worker {
    pub(super) inner: Arc<Inner>,
    pub(super) pod: Arc<Pod>,
    pub(super) uid: String,
    pub(super) state: PodState,
    pub(super) live: BTreeMap<String, Live>,
    pub(super) tell: mpsc::UnboundedSender<Event>,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) mounts: BTreeMap<String, Mounted>,
    pub(super) stand_ins: BTreeMap<String, String>,
    pub(super) written: BTreeMap<String, Files>,
    pub(super) tokens: BTreeMap<TokenRequest, Token>,
    pub(super) published: Option<PodStatus>,
    pub(super) annotated: Option<BTreeMap<&'static str, String>>,
    wake: Option<Timestamp>,
    /// Whether it is kept from volumes: nothing is started.
    pub(super) held: bool,
}

fn newer(pod: &Pod, than: &Pod) -> bool {
    let number = |pod: &Pod| {
        pod.resource_version()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    number(pod) >= number(than)
}

impl Worker {
    pub(super) fn new(inner: Arc<Inner>, pod: Arc<Pod>) -> Self {
        let (tell, events) = mpsc::unbounded_channel();
        let now = Timestamp::now();
        Self {
            uid: pod.uid().unwrap_or_default(),
            held: *inner.held.borrow() && hold::persists(&pod),
            inner,
            state: PodState {
                since: Timestamp::from_second(now.as_second()).ok(),
                ..PodState::resumed(&pod, now)
            },
            pod,
            live: BTreeMap::new(),
            tell,
            events,
            mounts: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
            written: BTreeMap::new(),
            tokens: BTreeMap::new(),
            published: None,
            annotated: None,
            wake: None,
        }
    }

    /// Runs the pod to its end.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        loop {
            if self.pod.metadata.deletion_timestamp.is_some() {
                self.terminate(&mut inbox).await;
                return;
            }
            self.wake = None;
            if !self.held {
                self.sync().await;
                self.publish().await;
                self.annotate().await;
            }
            let wake = self.wake;
            let sleep = async {
                match wake {
                    Some(at) => {
                        let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
                        tokio::time::sleep(left + Duration::from_millis(1)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Pod(pod)) => {
                        let before = self.pod.clone();
                        self.accept(pod);
                        // The downward API's files tell of them.
                        if before.labels() != self.pod.labels() || before.annotations() != self.pod.annotations() {
                            self.refresh_volumes().await;
                        }
                    }
                    Some(Message::Sources) => self.sources_changed().await,
                    Some(Message::Hold(how, done)) => {
                        self.hold(how).await;
                        // Who asked may have given up.
                        let _ = done.send(());
                    }
                    Some(Message::Release) => self.held = false,
                    Some(Message::Gone) | None => {
                        self.remove().await;
                        return;
                    }
                },
                Some(event) = self.events.recv() => self.take(event).await,
                () = sleep => {}
            }
        }
    }

    pub(super) fn accept(&mut self, pod: Arc<Pod>) {
        if newer(&pod, &self.pod) {
            self.pod = pod;
        }
    }

    pub(super) fn happened(&self, container: Option<&str>, what: Happening) {
        let mut about = reference(self.pod.as_ref());
        about.field_path = container.map(|name| {
            let spec = self.pod.spec.clone().unwrap_or_default();
            let is = |list: Option<Vec<k8s_openapi::api::core::v1::Container>>| {
                list.into_iter().flatten().any(|c| c.name == name)
            };
            let list = if is(Some(spec.containers)) {
                "containers"
            } else if is(spec.init_containers) {
                "initContainers"
            } else {
                "ephemeralContainers"
            };
            format!("spec.{list}{{{name}}}")
        });
        self.inner.recorder.tell(about, what);
    }

    pub(super) fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(super) fn wake_in(&mut self, pause: Duration) {
        if let Ok(at) = Timestamp::now().checked_add(pause) {
            self.wake_at(at);
        }
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            pod_ip: self.state.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_ip: self.inner.config.node_ip.to_string(),
            cpus: self.inner.machine.cpus,
            memory: self.inner.machine.memory(),
        }
    }

    async fn sync(&mut self) {
        let Some(spec) = self.pod.spec.clone() else { return };
        self.watch_deadline(&spec);
        if self.state.failed.is_none()
            && !self.state.sandbox
            && let Some(failed) = security::rejected(&self.pod)
        {
            self.happened(None, Happening::warning(failed.reason, failed.message.clone()));
            self.state.failed = Some(failed);
        }
        if state::over(&spec, &self.state) {
            if self.state.sandbox {
                self.state.sandbox = false;
                // It can fail only where the runtime has stopped, and the pods with it.
                let _ = self.inner.runtime.remove_sandbox(&self.uid).await;
                // What it was evicted for is not kept until somebody deletes it.
                if self
                    .state
                    .failed
                    .as_ref()
                    .is_some_and(|failed| failed.reason == ephemeral::EVICTED)
                {
                    mounting::take_down(&self.inner.config.volumes.join(&self.uid));
                }
            }
            return;
        }
        if state::ending(&spec, &self.state) {
            self.stop_all(self.pod_grace());
            return;
        }
        if !self.state.sandbox && !self.prepare().await {
            return;
        }
        self.renew_tokens().await;
        self.bound_disk().await;
        self.bound_ephemeral_storage();
        // Each round starts or pauses at least one container; a pod has only so many.
        for _ in 0..64 {
            let next = state::next(&self.pod, &self.state, Timestamp::now());
            if let Some(wake) = next.wake {
                self.wake_at(wake);
            }
            if next.steps.is_empty() {
                return;
            }
            for step in next.steps {
                match step {
                    Step::Start(kind, name) => {
                        self.start(kind, &name).await;
                        // Its hook holds up those after it.
                        if self.state.containers.get(&name).is_some_and(|held| held.hook) {
                            break;
                        }
                    }
                    Step::BackOff(_, name) => self.back_off(&name),
                }
            }
        }
    }

    pub(super) fn otherwise(&self) -> Vec<String> {
        security::not_honoured(&self.pod, self.inner.runtime.groups())
    }

    async fn sources_changed(&mut self) {
        if self.state.sandbox {
            self.refresh_volumes().await;
        }
        for held in self.state.containers.values_mut() {
            if matches!(&held.phase, Phase::Waiting { reason, .. } if reason == "CreateContainerConfigError") {
                held.not_before = None;
            }
        }
    }

    pub(super) async fn take(&mut self, event: Event) {
        match event {
            Event::Exited { name, id, exit } => self.ended(&name, &id, exit).await,
            Event::Probe {
                name,
                id,
                which,
                finding,
            } => {
                if self.live.get(&name).is_some_and(|live| live.id == id) {
                    self.probed(&name, which, finding);
                }
            }
            Event::Begun { name, id, result } => {
                if self.live.get(&name).is_some_and(|live| live.id == id) {
                    self.begun(&name, result);
                }
            }
            Event::Unwell { name, why } => {
                tracing::debug!(container = name, why, "preStop hook failed");
                let text = "PreStopHook failed";
                self.happened(Some(&name), Happening::warning("FailedPreStopHook", text));
            }
        }
    }

    async fn ended(&mut self, name: &str, id: &str, exit: ContainerExit) {
        if self.live.get(name).is_none_or(|live| live.id != id) {
            return;
        }
        self.live.remove(name);
        let message = self.last_words(name, exit.code);
        let Some(held) = self.state.containers.get_mut(name) else {
            return;
        };
        let reason = match exit.code {
            _ if exit.oom_killed => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        };
        held.ready = exit.code == 0;
        held.started = false;
        held.hook = false;
        held.phase = Phase::Ended(Ended {
            id: id.to_owned(),
            code: exit.code,
            signal: exit.signal,
            reason: reason.to_owned(),
            message,
            started_at: exit.started_at,
            finished_at: exit.finished_at,
        });
        // Only its record: the program is gone.
        let _ = self.inner.runtime.remove_container(id).await;
    }

    fn back_off(&mut self, name: &str) {
        let pod = format!(
            "{}_{}({})",
            self.pod.name_any(),
            self.pod.namespace().unwrap_or_default(),
            self.uid
        );
        let Some(held) = self.state.containers.get_mut(name) else {
            return;
        };
        let at = held.restart_at();
        if let Phase::Ended(ended) = &held.phase {
            let pause = at.duration_since(ended.finished_at).as_secs();
            held.last = Some(ended.clone());
            held.not_before = Some(at);
            held.phase = Phase::Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message: Some(format!(
                    "back-off {} restarting failed container={name} pod={pod}",
                    words(pause)
                )),
            };
            let text = format!("Back-off restarting failed container {name} in pod {pod}");
            self.happened(Some(name), Happening::warning("BackOff", text));
        } else {
            let image = self.image_of(name);
            held_waiting(
                &mut self.state.containers,
                name,
                "ImagePullBackOff",
                format!("Back-off pulling image \"{image}\""),
            );
            self.happened(
                Some(name),
                Happening::normal("BackOff", format!("Back-off pulling image \"{image}\"")),
            );
            self.happened(Some(name), Happening::warning("Failed", "Error: ImagePullBackOff"));
        }
    }

    fn image_of(&self, name: &str) -> String {
        let spec = self.pod.spec.clone().unwrap_or_default();
        [state::Kind::Init, state::Kind::Main, state::Kind::Ephemeral]
            .into_iter()
            .find_map(|kind| translate::find(&spec, kind, name))
            .and_then(|container| container.image)
            .unwrap_or_default()
    }
}

/// A duration as Kubernetes writes it (`10s`, `2m40s`, `5m0s`).
fn words(seconds: i64) -> String {
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{}s", seconds / 60, seconds % 60)
    }
}

pub(super) fn held_waiting(
    containers: &mut BTreeMap<String, ContainerState>,
    name: &str,
    reason: &str,
    message: String,
) {
    containers.entry(name.to_owned()).or_default().phase = Phase::Waiting {
        reason: reason.to_owned(),
        message: Some(message),
    };
}
