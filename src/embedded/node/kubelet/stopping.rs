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
use tokio::{sync::mpsc, time::Instant};

use super::{
    admission, lock, mounting,
    state::{self, Ended, Failed, Kind, Phase},
    translate,
    worker::{Message, SIGKILL, SIGTERM, Worker},
};
use crate::embedded::{events::Happening, write::unless_gone};

impl Worker {
    fn grace(&self) -> Duration {
        let seconds = self.pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// Ends the pod within its grace.
    pub(super) async fn terminate(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        self.state.stopping = true;
        let began = Instant::now();
        let mut deadline = began + self.grace();
        let names: Vec<String> = self.live.keys().cloned().collect();
        for name in &names {
            self.happened(
                Some(name),
                Happening::normal("Killing", format!("Stopping container {name}")),
            );
            if let Some(live) = self.live.get_mut(name) {
                live.probes.drain(..).for_each(|probe| probe.abort());
            }
        }
        if !self.grace().is_zero() {
            for name in &names {
                self.ask_to_end(name, deadline).await;
            }
            self.publish().await;
        }
        let mut gone = false;
        while !self.live.is_empty() && !gone {
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Pod(pod)) => {
                        self.accept(pod);
                        deadline = deadline.min(began + self.grace());
                    }
                    Some(Message::Sources) => {}
                    Some(Message::Gone) | None => gone = true,
                },
                Some(event) = self.events.recv() => self.take(event).await,
                () = tokio::time::sleep_until(deadline) => break,
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

    /// Asks what runs on to end: the containers at once, then the sidecars, the one that was started last first.
    pub(super) async fn end_what_is_left(&mut self, spec: &PodSpec) {
        let sidecars: Vec<&str> = spec
            .init_containers
            .iter()
            .flatten()
            .filter(|container| state::sidecar(container))
            .map(|container| container.name.as_str())
            .collect();
        let others: Vec<String> = self
            .live
            .keys()
            .filter(|name| !sidecars.contains(&name.as_str()))
            .cloned()
            .collect();
        let names = if others.is_empty() {
            let last = sidecars.into_iter().rev().find(|name| self.live.contains_key(*name));
            last.map(str::to_owned).into_iter().collect()
        } else {
            others
        };
        for name in names {
            if self.live.get(&name).is_some_and(|live| !live.asked) {
                let text = format!("Stopping container {name}");
                self.happened(Some(&name), Happening::normal("Killing", text));
                self.kill(&name, "the pod is done").await;
            }
        }
    }

    async fn ask_to_end(&self, name: &str, deadline: Instant) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let container = [Kind::Main, Kind::Init]
            .into_iter()
            .find_map(|kind| translate::find(&spec, kind, name));
        let hook = container
            .and_then(|container| container.lifecycle)
            .and_then(|lifecycle| lifecycle.pre_stop);
        if let Some(hook) = hook {
            match tokio::time::timeout_at(deadline, self.hook(name, &hook)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.happened(
                        Some(name),
                        Happening::warning("FailedPreStopHook", format!("PreStopHook failed: {error}")),
                    );
                }
                Err(_) => self.happened(
                    Some(name),
                    Happening::warning("FailedPreStopHook", "PreStopHook took longer than the grace"),
                ),
            }
        }
        if let Some(live) = self.live.get(name) {
            // It may have ended by itself just now.
            let _ = self.inner.runtime.signal_container(&live.id, SIGTERM).await;
        }
    }

    /// What runs on is killed with the sandbox.
    fn end_rest(&mut self) {
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
