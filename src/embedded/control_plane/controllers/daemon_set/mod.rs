//! The DaemonSet controller: one pod on each node that its template fits.
//!
//! Source: Kubernetes' DaemonSet concept and API reference (apps/v1).

mod fit;
mod plan;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet},
        core::v1::Pod,
    },
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};

use super::{
    Context, follow, owner, pods,
    revision::{self, POD_LABEL},
    revisions::{self, Revised},
};
use crate::{
    events::{Happening, Recorder, reference},
    informer::Key,
    queue::Queue,
    write::{delete_this, unless_gone, write_status},
};
use plan::{Facts, Plan};

/// The pause after a first failed pod of a node, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));
/// The most pods made or deleted in one go.
const BURST: usize = 250;

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let cache = &context.informers;
    follow::objects(&cache.daemon_sets, &queue);
    let sets = cache.daemon_sets.clone();
    follow::owned(&cache.pods, &queue, "DaemonSet", move |pod, namespace| {
        let takes = |set: &Arc<DaemonSet>| {
            set.spec
                .as_ref()
                .is_some_and(|spec| owner::selects(&spec.selector, pod.metadata.labels.as_ref()))
        };
        let sets = sets.in_namespace(namespace);
        let taking = sets.iter().filter(|set| takes(set));
        taking.map(|set| Key::of(set.as_ref())).collect()
    });
    follow::owned(&cache.controller_revisions, &queue, "DaemonSet", |_, _| Vec::new());
    let (sets, feed) = (cache.daemon_sets.clone(), queue.clone());
    follow::changes(&cache.nodes, move |_| {
        sets.all().iter().for_each(|set| feed.add(Key::of(set.as_ref())));
    });
    let controller = Arc::new(Controller {
        context: context.clone(),
        recorder: context.recorder.of("daemonset-controller", None),
        failures: Mutex::default(),
    });
    context
        .tasks
        .spawn(queue.run("daemonset", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        }));
}

/// How often pods of a node failed in a row, and until when the next one is left alone.
struct Failures {
    count: u32,
    until: Instant,
}

struct Controller {
    context: Context,
    recorder: Recorder,
    failures: Mutex<HashMap<(Key, String), Failures>>,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let Some(set) = cache.daemon_sets.get(key) else {
            self.failures().retain(|(of, _), _| of != key);
            return Ok(None);
        };
        let Some(spec) = &set.spec else { return Ok(None) };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let revisions = match revisions::settle(&self.context, set.as_ref(), &spec.template, collisions).await? {
            Revised::Chosen(revisions) => revisions,
            Revised::Collided => return self.collided(&set, collisions).await,
        };
        let hash = revisions.last().map(hash_of).unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let (_, changes) = pods::claim(set.as_ref(), &spec.selector, &cache.pods.in_namespace(&key.namespace));
        for change in changes {
            let patched = api
                .patch(&change.name, &PatchParams::default(), &Patch::Merge(&change.patch))
                .await;
            if let Some(pod) = unless_gone(patched)? {
                cache.pods.wrote(pod);
            }
        }
        let held = self.held(&set);
        let plan = plan::plan(&Facts {
            set: &set,
            pods: &held,
            nodes: &cache.nodes.all(),
            hash: &hash,
            pause: &|node| self.pause(key, node),
            now: Timestamp::now(),
        });
        let again = plan.again;
        let applied = self.apply(&set, &api, plan, &hash).await;
        self.write_status(&set, &hash, collisions).await?;
        self.forget(&set, &revisions, &hash).await?;
        applied.map(|()| again)
    }

    fn held(&self, set: &DaemonSet) -> Vec<Arc<Pod>> {
        let mut held = self
            .context
            .informers
            .pods
            .in_namespace(&set.namespace().unwrap_or_default());
        held.retain(|pod| owner::controls(set, &pod.metadata));
        held
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<(Key, String), Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self, set: &Key, node: &str) -> Duration {
        let failures = self.failures();
        let until = failures
            .get(&(set.clone(), node.to_owned()))
            .map(|failures| failures.until);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Counts a failed pod; a node whose pods have been well for twice the longest pause starts anew.
    fn failed(&self, set: &Key, node: &str) {
        let now = Instant::now();
        let mut failures = self.failures();
        failures.retain(|_, one| now.saturating_duration_since(one.until) < PAUSES.1 * 2);
        let one = failures
            .entry((set.clone(), node.to_owned()))
            .or_insert(Failures { count: 0, until: now });
        one.until = now + PAUSES.0.saturating_mul(1 << one.count.min(16)).min(PAUSES.1);
        one.count += 1;
    }

    async fn apply(&self, set: &DaemonSet, api: &Api<Pod>, plan: Plan, hash: &str) -> Result<(), kube::Error> {
        let cache = &self.context.informers;
        for node in &plan.failed {
            self.failed(&Key::of(set), node);
        }
        for event in plan.events {
            self.recorder.tell(reference(set), event);
        }
        for node in plan.create.iter().take(BURST) {
            let made = api
                .create(&PostParams::default(), &plan::pod(set, node, hash))
                .await
                .inspect_err(|error| {
                    let message = format!("Error creating: {error}");
                    self.recorder
                        .tell(reference(set), Happening::warning("FailedCreate", message));
                })?;
            let message = format!("Created pod: {}", made.name_any());
            self.recorder
                .tell(reference(set), Happening::normal("SuccessfulCreate", message));
            cache.pods.wrote(made);
        }
        for (name, uid) in plan.delete.iter().take(BURST) {
            let gone = delete_this(api, name, uid).await.inspect_err(|error| {
                let message = format!("Error deleting: {error}");
                self.recorder
                    .tell(reference(set), Happening::warning("FailedDelete", message));
            })?;
            let message = format!("Deleted pod: {name}");
            self.recorder
                .tell(reference(set), Happening::normal("SuccessfulDelete", message));
            if let Some(pod) = gone {
                cache.pods.wrote(pod);
            }
        }
        Ok(())
    }

    async fn collided(&self, set: &DaemonSet, collisions: Option<i32>) -> Result<Option<Duration>, kube::Error> {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(collisions.unwrap_or(0).saturating_add(1));
        let sets: Api<DaemonSet> = Api::namespaced(self.context.client.clone(), &set.namespace().unwrap_or_default());
        if let Some(written) = unless_gone(write_status(&sets, &set.name_any(), &status).await)? {
            self.context.informers.daemon_sets.wrote(written);
        }
        Ok(None)
    }

    async fn write_status(&self, set: &DaemonSet, hash: &str, collisions: Option<i32>) -> Result<(), kube::Error> {
        // After writes of our own the counts are those of the pods as they are now.
        let status = plan::status(
            &Facts {
                set,
                pods: &self.held(set),
                nodes: &self.context.informers.nodes.all(),
                hash,
                pause: &|_| Duration::ZERO,
                now: Timestamp::now(),
            },
            collisions,
        );
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let sets: Api<DaemonSet> = Api::namespaced(self.context.client.clone(), &set.namespace().unwrap_or_default());
        if let Some(written) = unless_gone(write_status(&sets, &set.name_any(), &status).await)? {
            self.context.informers.daemon_sets.wrote(written);
        }
        Ok(())
    }

    /// Deletes the oldest revisions beyond the history's limit.
    async fn forget(&self, set: &DaemonSet, revisions: &[ControllerRevision], hash: &str) -> Result<(), kube::Error> {
        let used: Vec<String> = self
            .held(set)
            .iter()
            .filter_map(|pod| pod.labels().get(POD_LABEL).cloned())
            .chain([hash.to_owned()])
            .collect();
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let surplus = revision::surplus(revisions, |one| used.contains(&hash_of(one)), limit.unwrap_or(10));
        revisions::delete(&self.context, &set.namespace().unwrap_or_default(), &surplus).await
    }
}

fn hash_of(revision: &ControllerRevision) -> String {
    revision.labels().get(POD_LABEL).cloned().unwrap_or_default()
}
