//! Ending a pod: asked first, made after its grace, then taken from the API.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    admission,
    hooks::Ending,
    lock, mounting,
    probes::Which,
    state::{self, Ended, Failed, Kind, Phase},
    translate,
    worker::{Event, GRACE, Message, SIGKILL, Worker},
};
use crate::{events::Happening, node::runtime::Exited, write::unless_gone};

impl Worker {
    fn grace(&self) -> Duration {
        let seconds = self.pod.metadata.deletion_grace_period_seconds.unwrap_or(GRACE);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// The grace that the pod itself asks for.
    pub(super) fn pod_grace(&self) -> Duration {
        let seconds = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds);
        Duration::from_secs(u64::try_from(seconds.unwrap_or(GRACE)).unwrap_or(0))
    }

    /// Ends the pod within its grace, which may be made shorter meanwhile.
    pub(super) async fn terminate(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        self.state.stopping = true;
        self.stop_all(self.grace());
        self.publish().await;
        let mut gone = false;
        while !self.live.is_empty() && !gone {
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Pod(pod)) => {
                        let before = self.grace();
                        self.accept(pod);
                        if self.grace() < before {
                            self.stop_all(self.grace());
                        }
                    }
                    Some(Message::Sources | Message::Release) => {}
                    // Its grace is over then.
                    Some(Message::Hold(how, done)) => {
                        self.hold(how).await;
                        let _ = done.send(());
                    }
                    Some(Message::Gone) | None => gone = true,
                },
                Some(event) = self.events.recv() => {
                    self.take(event).await;
                    if !self.live.is_empty() {
                        self.publish().await;
                    }
                }
            }
        }
        self.end_rest();
        // It can fail only where the runtime has stopped, and the pods with it.
        let _ = self.inner.runtime.remove_sandbox(&self.uid).await;
        self.state.sandbox = false;
        if !gone {
            self.publish().await;
            self.take_from_api().await;
        }
        self.remove().await;
    }

    /// Asks everything to end: all at once, but the sidecars after the containers, the one that was started last first.
    pub(super) fn stop_all(&mut self, grace: Duration) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let names: Vec<String> = self.live.keys().cloned().collect();
        for name in names {
            let after = state::ends_after(&spec, &name);
            let after = after.into_iter().filter_map(|other| self.live.get(other));
            let after = after.map(|live| live.started.exited.clone()).collect();
            self.stop(&name, &format!("Stopping container {name}"), grace, after);
        }
    }

    /// Asks one container to end, once those in `after` have, and sees to it that it does within this grace. One that was
    /// asked before keeps its grace, where that is not longer.
    pub(super) fn stop(&mut self, name: &str, text: &str, grace: Duration, after: Vec<Exited>) {
        let deadline = Instant::now() + grace;
        let spec = self.pod.spec.clone().unwrap_or_default();
        let container = [Kind::Main, Kind::Init]
            .into_iter()
            .find_map(|kind| translate::find(&spec, kind, name));
        let target = container.as_ref().and_then(|container| self.target(container));
        let Some(live) = self.live.get_mut(name) else { return };
        if let Some(asked) = &live.deadline {
            asked.send_if_modified(|held| {
                let sooner = deadline < *held;
                if sooner {
                    *held = deadline;
                }
                sooner
            });
            return;
        }
        // Whether it takes requests may still change.
        live.probes.retain(|(which, probe)| {
            if *which != Which::Readiness {
                probe.abort();
            }
            *which == Which::Readiness
        });
        if let Some(hook) = live.hook.take() {
            hook.abort();
        }
        let (sender, receiver) = watch::channel(deadline);
        live.deadline = Some(sender);
        let hook = container
            .and_then(|container| container.lifecycle?.pre_stop)
            .zip(target)
            .filter(|_| !grace.is_zero());
        let ending = Ending {
            runtime: self.inner.runtime.clone(),
            instance: live.id.clone(),
            exited: live.started.exited.clone(),
            deadline: receiver,
            hook,
            after,
        };
        self.happened(Some(name), Happening::normal("Killing", text));
        let (tell, name) = (self.tell.clone(), name.to_owned());
        tokio::spawn(ending.run(move |why| {
            // The pod's task may have ended before its hooks.
            let _ = tell.send(Event::Unwell { name, why });
        }));
    }

    /// Fails the pod once it was active for `activeDeadlineSeconds`.
    pub(super) fn watch_deadline(&mut self, spec: &PodSpec) {
        let written = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.start_time.as_ref())
            .map(|time| time.0);
        let (Some(seconds), Some(since)) = (spec.active_deadline_seconds, written.or(self.state.since)) else {
            return;
        };
        if self.state.failed.is_some() || state::over(spec, &self.state) {
            return;
        }
        let life = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let Ok(end) = since.checked_add(life) else { return };
        if end > Timestamp::now() {
            self.wake_at(end);
            return;
        }
        let message = "Pod was active on the node longer than the specified deadline";
        self.happened(None, Happening::normal("DeadlineExceeded", message));
        self.state.failed = Some(Failed {
            reason: "DeadlineExceeded",
            message: message.to_owned(),
        });
    }

    /// What runs on is killed with the sandbox.
    pub(super) fn end_rest(&mut self) {
        for (name, live) in std::mem::take(&mut self.live) {
            if let Some(held) = self.state.containers.get_mut(&name) {
                held.ready = false;
                held.phase = Phase::Ended(Ended {
                    id: live.id.clone(),
                    code: 128 + SIGKILL,
                    signal: Some(SIGKILL),
                    reason: "Error".to_owned(),
                    message: None,
                    started_at: live.started.started_at,
                    finished_at: Timestamp::now(),
                });
            }
        }
    }

    async fn take_from_api(&self) {
        let pods: Api<Pod> = Api::namespaced(self.inner.client.clone(), &self.pod.namespace().unwrap_or_default());
        let only = Preconditions {
            uid: Some(self.uid.clone()),
            resource_version: None,
        };
        let delete = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        }
        .preconditions(only);
        for _ in 0..5 {
            match unless_gone(pods.delete(&self.pod.name_any(), &delete).await) {
                Ok(_) => return,
                // Another pod has the name by now.
                Err(kube::Error::Api(status)) if status.code == 409 => return,
                Err(error) => {
                    tracing::warn!(pod = self.pod.name_any(), %error, "pod not taken from the API; it is tried again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Frees all that the pod had on the node.
    pub(super) async fn remove(&mut self) {
        self.live.clear();
        // It can fail only where the runtime has stopped, and the pods with it.
        let _ = self.inner.runtime.remove_sandbox(&self.uid).await;
        lock(&self.inner.instances).remove(&self.uid);
        if let Some(ip) = self.state.ip.take() {
            admission::free(&self.inner, ip);
        }
        mounting::take_down(&self.inner.config.volumes.join(&self.uid));
        // What is not there needs no removing.
        let _ = std::fs::remove_dir_all(self.inner.log_dir(&self.pod));
    }
}
