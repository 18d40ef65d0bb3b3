//! Pods are kept from volumes while a snapshot of these is taken or put back.
//!
//! Every pod's task is told, and says when it starts nothing more; then what runs already is held. A pod that comes meanwhile finds
//! the word in [`Inner::held`].

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::sync::oneshot;

use super::{
    Inner, Kubelet, Running, lock,
    worker::{Message, Worker},
};
use crate::{kubelet_api::Hold, node::runtime};

/// How long pods may take to be held.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the dispatcher is told.
pub(super) enum Command {
    /// Have all pods stay away from volumes; the answer comes when they do.
    Hold(Hold, oneshot::Sender<()>),
    /// Let them go on, but those with these uids.
    Release(HashSet<String>),
}

impl Command {
    pub(super) fn carry_out(self, inner: &Inner, running: &HashMap<String, Running>) {
        match self {
            Self::Hold(how, done) => {
                inner.held.send_replace(true);
                let mut waiting = Vec::new();
                for pod in running.values() {
                    let (tell, told) = oneshot::channel();
                    // A task that has ended starts nothing.
                    let _ = pod.inbox.send(Message::Hold(how, tell));
                    waiting.push(told);
                }
                tokio::spawn(async move {
                    for told in waiting {
                        // Nor does one that ends before it answers.
                        let _ = told.await;
                    }
                    // Who asked may have given up.
                    let _ = done.send(());
                });
            }
            Self::Release(gone) => {
                inner.held.send_replace(false);
                for (_, pod) in running.iter().filter(|(uid, _)| !gone.contains(*uid)) {
                    let _ = pod.inbox.send(Message::Release);
                }
            }
        }
    }
}

/// Whether a pod has a part of the node's disk or of its own directories.
pub(super) fn persists(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().any(|volume| {
        volume.persistent_volume_claim.is_some() || volume.host_path.is_some() || volume.ephemeral.is_some()
    })
}

impl Worker {
    /// Starts nothing more until it is released; what runs is ended, where that is asked for.
    pub(super) async fn hold(&mut self, how: Hold) {
        if !persists(&self.pod) {
            return;
        }
        self.held = true;
        if how == Hold::Ended {
            self.end_rest();
            self.state.sandbox = false;
            // It can fail only where the runtime has stopped, and the pods with it.
            let _ = self.inner.runtime.remove_sandbox(&self.uid).await;
        }
    }
}

impl Kubelet {
    pub(super) async fn hold(&self, how: Hold) -> Result<(), String> {
        let stopped = || "the node is stopping".to_owned();
        let (done, held) = oneshot::channel();
        self.commands.send(Command::Hold(how, done)).map_err(|_| stopped())?;
        let answer = tokio::time::timeout(PATIENCE, held).await;
        let mut result = match answer {
            Ok(answer) => answer.map_err(|_| stopped()),
            Err(_) => Err(format!(
                "pods that use volumes did not stop within {PATIENCE:?}: try again"
            )),
        };
        if result.is_ok() && how == Hold::Still {
            let first = self.first_processes();
            let frozen = tokio::task::spawn_blocking(move || runtime::Frozen::freeze(&first)).await;
            result = match frozen {
                Ok(Ok(frozen)) => {
                    *lock(&self.inner.frozen) = Some(frozen);
                    Ok(())
                }
                Ok(Err(why)) => Err(why),
                Err(error) => Err(error.to_string()),
            };
        }
        if result.is_err() {
            self.release(HashSet::new());
        }
        result
    }

    pub(super) fn release(&self, gone: HashSet<String>) {
        drop(lock(&self.inner.frozen).take());
        // A node that is stopping has nobody to release.
        let _ = self.commands.send(Command::Release(gone));
    }

    /// The first process of every running container of pods that have volumes.
    fn first_processes(&self) -> Vec<i32> {
        let of: HashSet<String> = self
            .inner
            .informers
            .pods
            .all()
            .iter()
            .filter(|pod| persists(pod))
            .filter_map(|pod| pod.uid())
            .collect();
        let instances = lock(&self.inner.instances);
        let started = instances
            .iter()
            .filter(|(uid, _)| of.contains(*uid))
            .flat_map(|(_, containers)| containers.values())
            .filter_map(|instance| instance.started.as_ref());
        started
            .filter(|started| started.exited.now().is_none())
            .map(|started| started.pid)
            .collect()
    }

    /// Waits until no pod is held.
    pub(super) async fn released(&self) {
        // The sender is the kubelet's own.
        let _ = self.inner.held.subscribe().wait_for(|held| !held).await;
    }
}
