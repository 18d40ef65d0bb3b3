//! The StatefulSet controller: pods with names, claims and an order.
//!
//! Source: Kubernetes' StatefulSet concept and API reference (apps/v1).

mod identity;
mod plan;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{PersistentVolumeClaim, Pod},
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
    events::{Happening, reference},
    informer::Key,
    queue::Queue,
    write::{delete_this, unless_gone, write_status},
};
use plan::{Action, Facts, Revisions};

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let cache = &context.informers;
    let feed = queue.clone();
    follow::objects(&cache.stateful_sets, &queue);
    let sets = cache.stateful_sets.clone();
    follow::owned(&cache.pods, &queue, "StatefulSet", move |pod, namespace| {
        let takes = |set: &Arc<StatefulSet>| {
            set.spec
                .as_ref()
                .is_some_and(|spec| owner::selects(&spec.selector, pod.metadata.labels.as_ref()))
        };
        let sets = sets.in_namespace(namespace);
        sets.iter()
            .filter(|set| takes(set))
            .map(|set| Key::of(set.as_ref()))
            .collect()
    });
    follow::owned(&cache.controller_revisions, &queue, "StatefulSet", |_, _| Vec::new());
    let sets = cache.stateful_sets.clone();
    follow::changes(&cache.persistent_volume_claims, move |change| {
        let claim = change.object();
        let (name, namespace) = (claim.name_any(), claim.namespace().unwrap_or_default());
        for set in sets.in_namespace(&namespace) {
            if name.contains(&set.name_any()) {
                feed.add(Key::of(set.as_ref()));
            }
        }
    });
    let controller = Arc::new(Controller {
        context: context.clone(),
    });
    context
        .tasks
        .spawn(queue.run("statefulset", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        }));
}

struct Controller {
    context: Context,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let Some(set) = cache.stateful_sets.get(key) else {
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
        let pair = self.pair(&set, &revisions);
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
        let held = self.held(&set, &key.namespace);
        let plan = plan::plan(&Facts {
            set: &set,
            pods: &held,
            claims: &cache.persistent_volume_claims.in_namespace(&key.namespace),
            revisions: &pair,
            now: Timestamp::now(),
        });
        let mut failure = None;
        for action in plan.actions {
            if let Err(error) = self.act(&set, action).await {
                failure = Some(error);
                break;
            }
        }
        self.write_status(&set, &pair, collisions).await?;
        self.forget(&set, &revisions, &pair).await?;
        failure.map_or(Ok(plan.again), Err)
    }

    fn held(&self, set: &StatefulSet, namespace: &str) -> Vec<Arc<Pod>> {
        let mut held = self.context.informers.pods.in_namespace(namespace);
        held.retain(|pod| owner::controls(set, &pod.metadata));
        held
    }

    /// The revision that the pods come from and the one that they go to: the newest.
    fn pair(&self, set: &StatefulSet, revisions: &[ControllerRevision]) -> Revisions {
        let update = revisions.last().cloned().unwrap_or_default();
        let name = set.status.as_ref().and_then(|status| status.current_revision.as_ref());
        let current = revisions.iter().find(|one| one.metadata.name.as_ref() == name);
        Revisions {
            current: current.unwrap_or(&update).clone(),
            update,
        }
    }

    async fn collided(&self, set: &StatefulSet, collisions: Option<i32>) -> Result<Option<Duration>, kube::Error> {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(collisions.unwrap_or(0).saturating_add(1));
        let sets: Api<StatefulSet> = Api::namespaced(self.context.client.clone(), &set.namespace().unwrap_or_default());
        if let Some(written) = unless_gone(write_status(&sets, &set.name_any(), &status).await)? {
            self.context.informers.stateful_sets.wrote(written);
        }
        Ok(None)
    }

    async fn write_status(
        &self,
        set: &StatefulSet,
        pair: &Revisions,
        collisions: Option<i32>,
    ) -> Result<(), kube::Error> {
        let namespace = set.namespace().unwrap_or_default();
        // After writes of our own the counts are those of the pods as they are now.
        let facts = Facts {
            set,
            pods: &self.held(set, &namespace),
            claims: &[],
            revisions: pair,
            now: Timestamp::now(),
        };
        let status = plan::status(&facts, collisions);
        if set.status.as_ref() != Some(&status) {
            let sets: Api<StatefulSet> = Api::namespaced(self.context.client.clone(), &namespace);
            if let Some(written) = unless_gone(write_status(&sets, &set.name_any(), &status).await)? {
                self.context.informers.stateful_sets.wrote(written);
            }
        }
        Ok(())
    }

    /// Deletes the oldest revisions beyond the history's limit.
    async fn forget(
        &self,
        set: &StatefulSet,
        revisions: &[ControllerRevision],
        pair: &Revisions,
    ) -> Result<(), kube::Error> {
        let used: Vec<String> = self
            .held(set, &set.namespace().unwrap_or_default())
            .iter()
            .filter_map(|pod| pod.labels().get(POD_LABEL).cloned())
            .chain([pair.current.name_any(), pair.update.name_any()])
            .collect();
        let limit = set
            .spec
            .as_ref()
            .and_then(|spec| spec.revision_history_limit)
            .unwrap_or(10);
        let surplus = revision::surplus(revisions, |one| used.contains(&one.name_any()), limit);
        revisions::delete(&self.context, &set.namespace().unwrap_or_default(), &surplus).await
    }

    async fn act(&self, set: &StatefulSet, action: Action) -> Result<(), kube::Error> {
        let cache = &self.context.informers;
        let namespace = set.namespace().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), &namespace);
        match action {
            Action::Create(pod, missing) => {
                let name = pod.name_any();
                self.make_claims(set, &claims, &name, missing).await?;
                let made = pods.create(&PostParams::default(), &pod).await;
                self.tell(set, "Create", &format!("Pod {name} in StatefulSet"), &made);
                cache.pods.wrote(made?);
            }
            Action::Claim(pod, missing) => self.make_claims(set, &claims, &pod, missing).await?,
            Action::Delete(name, uid) => {
                let gone = delete_this(&pods, &name, &uid).await;
                self.tell(set, "Delete", &format!("Pod {name} in StatefulSet"), &gone);
                if let Some(pod) = gone? {
                    cache.pods.wrote(pod);
                }
            }
            Action::Mend(name, patch) => {
                let mended = pods.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                if let Some(pod) = unless_gone(mended)? {
                    cache.pods.wrote(pod);
                }
            }
            Action::Own(change) => {
                let owned = claims
                    .patch(&change.name, &PatchParams::default(), &Patch::Merge(&change.patch))
                    .await;
                if let Some(claim) = unless_gone(owned)? {
                    cache.persistent_volume_claims.wrote(claim);
                }
            }
        }
        Ok(())
    }

    async fn make_claims(
        &self,
        set: &StatefulSet,
        api: &Api<PersistentVolumeClaim>,
        pod: &str,
        missing: Vec<PersistentVolumeClaim>,
    ) -> Result<(), kube::Error> {
        for claim in missing {
            let made = api.create(&PostParams::default(), &claim).await;
            let what = format!("Claim {} Pod {pod} in StatefulSet", claim.name_any());
            self.tell(set, "Create", &what, &made);
            self.context.informers.persistent_volume_claims.wrote(made?);
        }
        Ok(())
    }

    fn tell<T>(&self, set: &StatefulSet, verb: &str, what: &str, result: &Result<T, kube::Error>) {
        let (name, lower) = (set.name_any(), verb.to_lowercase());
        let happening = match (result, verb) {
            (Ok(_), "Create") => Happening::normal("SuccessfulCreate", format!("{lower} {what} {name} successful")),
            (Ok(_), _) => Happening::normal("SuccessfulDelete", format!("{lower} {what} {name} successful")),
            (Err(error), "Create") => {
                Happening::warning("FailedCreate", format!("{lower} {what} {name} failed error: {error}"))
            }
            (Err(error), _) => {
                Happening::warning("FailedDelete", format!("{lower} {what} {name} failed error: {error}"))
            }
        };
        let recorder = self.context.recorder.of("statefulset-controller", None);
        recorder.tell(reference(set), happening);
    }
}
