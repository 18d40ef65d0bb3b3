//! The scheduler: chooses a node for each pod, and binds it there.
//!
//! Source: Kubernetes' kube-scheduler: its default plugins, their order and their texts, and the `binding` subresource.

mod affinity;
mod decide;
mod resources;
mod volumes;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Binding, Namespace, Node, ObjectReference, PersistentVolumeClaim, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    control_plane::volume_binding::SELECTED_NODE,
    events::{Happening, Recorder, reference},
    informer::{Change, Informer, Informers, Key},
};
use crate::{
    queue::Queue,
    tasks::Tasks,
    write::{delete_this, unless_gone},
};
use decide::{Cluster, Decision, decide};
use volumes::Volumes;

const NAME: &str = "default-scheduler";

/// Starts the scheduler, as one of `tasks`.
pub fn start(client: Client, informers: Informers, recorder: &Recorder, tasks: &Tasks, stop: CancellationToken) {
    let queue = Queue::default();
    feed_from_pods(&informers, &queue);
    feed_from_claims(&informers, &queue);
    again_when_changed(&informers.nodes, &informers, &queue, changes_node);
    again_when_changed(&informers.persistent_volumes, &informers, &queue, |_| true);
    again_when_changed(&informers.storage_classes, &informers, &queue, |_| true);
    again_when_changed(&informers.namespaces, &informers, &queue, relabels);
    let scheduler = Arc::new(Scheduler {
        recorder: recorder.by(&client).of(NAME, None),
        client,
        informers,
        assumed: Mutex::default(),
    });
    tasks.spawn(queue.run("scheduler", stop, move |key| {
        let scheduler = scheduler.clone();
        async move { scheduler.reconcile(&key).await }
    }));
}

fn feed_from_pods(informers: &Informers, queue: &Queue) {
    let (mut pods, cache, feed) = (informers.pods.subscribe(), informers.pods.clone(), queue.clone());
    tokio::spawn(async move {
        while let Some(change) = pods.recv().await {
            if unbound(change.object()) && !matches!(change, Change::Deleted(_)) {
                feed.add(Key::of(change.object().as_ref()));
            }
            if makes_room(&change) {
                again(&cache, &feed);
            }
        }
    });
}

/// The pods that wait for a claim look again when it changes.
fn feed_from_claims(informers: &Informers, queue: &Queue) {
    let (mut claims, cache, feed) = (
        informers.persistent_volume_claims.subscribe(),
        informers.pods.clone(),
        queue.clone(),
    );
    tokio::spawn(async move {
        while let Some(change) = claims.recv().await {
            let (name, namespace) = (
                change.object().name_any(),
                change.object().namespace().unwrap_or_default(),
            );
            let waits = |pod: &Pod| {
                unbound(pod)
                    && pod.metadata.namespace.as_deref() == Some(&namespace)
                    && volumes::claims_of(pod).any(|(_, claim)| claim == name)
            };
            cache
                .all()
                .iter()
                .filter(|pod| waits(pod))
                .for_each(|pod| feed.add(Key::of(pod.as_ref())));
        }
    });
}

fn again_when_changed<K>(
    watched: &Informer<K>,
    informers: &Informers,
    queue: &Queue,
    matters: impl Fn(&Change<K>) -> bool + Send + 'static,
) where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (mut changes, cache, feed) = (watched.subscribe(), informers.pods.clone(), queue.clone());
    tokio::spawn(async move {
        while let Some(change) = changes.recv().await {
            if matters(&change) {
                again(&cache, &feed);
            }
        }
    });
}

/// Queues the pods that no node took.
fn again(pods: &Informer<Pod>, queue: &Queue) {
    let all = pods.all();
    all.iter()
        .filter(|pod| unbound(pod))
        .for_each(|pod| queue.add(Key::of(pod.as_ref())));
}

fn changes_node(change: &Change<Node>) -> bool {
    match change {
        Change::Applied { old: Some(old), new } => {
            let places = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
            old.spec != new.spec || old.metadata.labels != new.metadata.labels || places(old) != places(new)
        }
        _ => true,
    }
}

/// Whether a namespace's change may be what an affinity waits for.
fn relabels(change: &Change<Namespace>) -> bool {
    match change {
        Change::Applied { old: Some(old), new } => old.metadata.labels != new.metadata.labels,
        _ => true,
    }
}

/// Whether a pod's change may let another be scheduled: it went, it ended, or it is where others want to be.
fn makes_room(change: &Change<Pod>) -> bool {
    match change {
        Change::Deleted(_) => true,
        Change::Applied { old, new } => {
            let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            let ended = decide::ended(new) && !old.as_ref().is_some_and(|old| decide::ended(old));
            let moved = old
                .as_ref()
                .is_none_or(|old| node(old) != node(new) || old.metadata.labels != new.metadata.labels);
            ended || (moved && node(new).is_some())
        }
    }
}

fn unbound(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.node_name.as_deref().unwrap_or("").is_empty() && spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME
    }) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether somebody holds the pod back.
fn gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// Why a pod is not scheduled that somebody holds back.
const GATED: &str = "SchedulingGated";

struct Scheduler {
    client: Client,
    informers: Informers,
    recorder: Recorder,
    /// Pods bound here that the watch does not show bound yet, by uid: they take room already.
    assumed: Mutex<HashMap<String, Arc<Pod>>>,
}

impl Scheduler {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let Some(pod) = self.informers.pods.get(key).filter(|pod| unbound(pod)) else {
            return Ok(None);
        };
        if self
            .lock()
            .contains_key(pod.metadata.uid.as_deref().unwrap_or_default())
        {
            return Ok(None);
        }
        if gated(&pod) {
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            self.refuse(&pod, GATED, message.to_owned(), None).await?;
            return Ok(None);
        }
        match decide(&pod, &self.cluster(&pod).await?) {
            Decision::Bind(node) => self.bind(&pod, node).await?,
            Decision::Choose(node, claims) => self.choose(&node, &claims).await?,
            // What completes its claims queues it again.
            Decision::Wait => {}
            Decision::Nowhere(message) => self.refuse(&pod, "Unschedulable", message, None).await?,
            Decision::Preempt(node, message, victims) => {
                self.refuse(&pod, "Unschedulable", message, Some(&node)).await?;
                self.preempt(&pod, &node, &victims).await?;
            }
        }
        Ok(None)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Pod>>> {
        self.assumed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The claims that a pod may use. Asked anew: the caches follow each its own watch, and after a restore a pod may be known
    /// before its claim is; taken for the bound one of before, it would be sent to a node that nobody makes a volume on.
    async fn claims(&self, pod: &Pod) -> Result<Vec<Arc<PersistentVolumeClaim>>, kube::Error> {
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let list = claims.list(&ListParams::default()).await?;
        Ok(list.items.into_iter().map(Arc::new).collect())
    }

    async fn cluster(&self, pod: &Pod) -> Result<Cluster, kube::Error> {
        let cache = &self.informers;
        let claims = match volumes::claims_of(pod).next() {
            Some(_) => Some(self.claims(pod).await?),
            None => None,
        };
        let mut pods = cache.pods.all();
        let mut assumed = self.lock();
        let mut still = HashMap::new();
        for pod in &mut pods {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            if unbound(pod)
                && let Some((uid, bound)) = assumed.remove_entry(uid)
            {
                *pod = bound.clone();
                still.insert(uid, bound);
            }
        }
        *assumed = still;
        Ok(Cluster {
            nodes: cache.nodes.all(),
            pods,
            namespaces: cache.namespaces.all(),
            volumes: claims.map_or_else(Volumes::default, |claims| Volumes {
                claims,
                volumes: cache.persistent_volumes.all(),
                classes: cache.storage_classes.all(),
            }),
        })
    }

    /// Tells the pod's claims which node it will be on.
    async fn choose(&self, node: &str, claims: &[Arc<PersistentVolumeClaim>]) -> Result<(), kube::Error> {
        for claim in claims {
            let api: Api<PersistentVolumeClaim> =
                Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default());
            let patch = json!({"metadata": {"uid": claim.uid(), "annotations": {SELECTED_NODE: node}}});
            let told = api
                .patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            if let Some(claim) = unless_gone(told)? {
                self.informers.persistent_volume_claims.wrote(claim);
            }
        }
        Ok(())
    }

    async fn bind(&self, pod: &Arc<Pod>, node: String) -> Result<(), kube::Error> {
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                uid: pod.uid(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.clone()),
                ..ObjectReference::default()
            },
        };
        let bound: Result<serde_json::Value, _> = pods
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        if unless_gone(bound)?.is_some() {
            let message = format!("Successfully assigned {namespace}/{name} to {node}");
            self.recorder
                .tell(reference(pod.as_ref()), Happening::normal("Scheduled", message));
            let mut there = pod.as_ref().clone();
            there.spec.get_or_insert_default().node_name = Some(node);
            self.lock().insert(pod.uid().unwrap_or_default(), Arc::new(there));
        }
        Ok(())
    }

    /// Writes why a pod is not scheduled, and the node that is to have room for it soon.
    async fn refuse(
        &self,
        pod: &Pod,
        reason: &'static str,
        message: String,
        node: Option<&str>,
    ) -> Result<(), kube::Error> {
        let status = pod.status.clone().unwrap_or_default();
        let held = status.conditions.unwrap_or_default();
        let before = held.iter().find(|condition| condition.type_ == "PodScheduled");
        let told = before.is_some_and(|c| {
            c.status == "False" && c.reason.as_deref() == Some(reason) && c.message.as_ref() == Some(&message)
        });
        if told && (node.is_none() || status.nominated_node_name.as_deref() == node) {
            return Ok(());
        }
        if reason != GATED && !told {
            self.recorder
                .tell(reference(pod), Happening::warning("FailedScheduling", message.clone()));
        }
        let since = before
            .filter(|c| c.status == "False")
            .and_then(|c| c.last_transition_time.clone());
        let mut conditions: Vec<_> = held
            .iter()
            .filter(|condition| condition.type_ != "PodScheduled")
            .cloned()
            .collect();
        conditions.push(PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: since.or_else(|| Some(Time(Timestamp::now()))),
            ..PodCondition::default()
        });
        let mut patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": conditions}});
        if let Some(node) = node {
            patch["status"]["nominatedNodeName"] = json!(node);
        }
        self.patch_status(pod, &patch).await
    }

    async fn patch_status(&self, pod: &Pod, patch: &serde_json::Value) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let written = pods
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        if let Some(pod) = unless_gone(written)? {
            self.informers.pods.wrote(pod);
        }
        Ok(())
    }

    /// Asks pods that matter less to go.
    async fn preempt(&self, pod: &Pod, node: &str, victims: &[Arc<Pod>]) -> Result<(), kube::Error> {
        for victim in victims {
            if victim.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let mut conditions = victim
                .status
                .clone()
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            conditions.retain(|condition| condition.type_ != "DisruptionTarget");
            conditions.push(PodCondition {
                type_: "DisruptionTarget".into(),
                status: "True".into(),
                reason: Some("PreemptionByScheduler".into()),
                message: Some(format!("{NAME}: preempting to accommodate a higher priority pod")),
                last_transition_time: Some(Time(Timestamp::now())),
                ..PodCondition::default()
            });
            let patch = json!({"metadata": {"uid": victim.uid()}, "status": {"conditions": conditions}});
            self.patch_status(victim, &patch).await?;
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &victim.namespace().unwrap_or_default());
            let gone = delete_this(&pods, &victim.name_any(), &victim.uid().unwrap_or_default()).await?;
            if let Some(going) = gone {
                self.informers.pods.wrote(going);
            }
            let message = format!("Preempted by pod {} on node {node}", pod.uid().unwrap_or_default());
            self.recorder
                .tell(reference(victim.as_ref()), Happening::normal("Preempted", message));
        }
        Ok(())
    }
}
