//! The Deployment controller: ReplicaSets for each revision of a template, rolled over within the limits of the strategy.
//!
//! Source: Kubernetes' Deployment concept and API reference (apps/v1).

mod plan;
mod proportion;
mod status;
mod template;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    queue::Queue,
    write::{unless_gone, write_status},
};

use super::{Context, owner};
use crate::{
    events::reference,
    informer::{Change, Key},
};
use plan::{Plan, REVISION};

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let mut deployments = context.informers.deployments.subscribe();
    let mut replica_sets = context.informers.replica_sets.subscribe();
    let (feed, cache) = (queue.clone(), context.informers.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                change = deployments.recv() => match change {
                    Some(change) => feed.add(Key::of(change.object().as_ref())),
                    None => return,
                },
                change = replica_sets.recv() => match change {
                    Some(change) => enqueue_owners(&feed, &cache, &change),
                    None => return,
                },
            }
        }
    });
    let controller = Arc::new(Controller {
        context: context.clone(),
    });
    context
        .tasks
        .spawn(queue.run("deployment", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        }));
}

fn enqueue_owners(queue: &Queue, cache: &crate::informer::Informers, change: &Change<ReplicaSet>) {
    let set = change.object();
    let namespace = set.namespace().unwrap_or_default();
    if let Some(owner) = owner::controller_of(&set.metadata) {
        queue.add(Key::new(namespace, owner.name.clone()));
        return;
    }
    for deployment in cache.deployments.in_namespace(&namespace) {
        let selects = deployment
            .spec
            .as_ref()
            .is_some_and(|spec| owner::selects(&spec.selector, set.metadata.labels.as_ref()));
        if selects {
            queue.add(Key::of(deployment.as_ref()));
        }
    }
}

struct Controller {
    context: Context,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let Some(deployment) = cache.deployments.get(key) else {
            return Ok(None);
        };
        let sets = cache.replica_sets.in_namespace(&key.namespace);
        if deployment.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        self.adopt(&deployment, &sets).await?;
        let mut owned: Vec<ReplicaSet> = cache
            .replica_sets
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|set| {
                owner::controls(deployment.as_ref(), &set.metadata) && set.metadata.deletion_timestamp.is_none()
            })
            .map(|set| set.as_ref().clone())
            .collect();
        owned.sort_by_key(|set| (set.metadata.creation_timestamp.clone(), set.name_any()));
        let plan = plan::plan(&deployment, &owned, Timestamp::now());
        self.apply(&deployment, plan).await
    }

    async fn adopt(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Result<(), kube::Error> {
        let Some(spec) = &deployment.spec else { return Ok(()) };
        let api = self.sets(deployment);
        for set in sets {
            let orphan = owner::controller_of(&set.metadata).is_none() && set.metadata.deletion_timestamp.is_none();
            if orphan && owner::selects(&spec.selector, set.metadata.labels.as_ref()) {
                let mut references = set.metadata.owner_references.clone().unwrap_or_default();
                references.push(owner::controller_reference(deployment));
                let patch = json!({"metadata": {"uid": set.uid(), "ownerReferences": references}});
                let adopted = api
                    .patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
                    .await;
                if let Some(adopted) = unless_gone(adopted)? {
                    self.context.informers.replica_sets.wrote(adopted);
                }
            }
        }
        Ok(())
    }

    fn sets(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        Api::namespaced(self.context.client.clone(), &deployment.namespace().unwrap_or_default())
    }

    async fn apply(&self, deployment: &Deployment, plan: Plan) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let sets = self.sets(deployment);
        let deployments: Api<Deployment> =
            Api::namespaced(self.context.client.clone(), &deployment.namespace().unwrap_or_default());
        let mut status = plan.status;
        if let Some(new) = plan.create {
            match sets.create(&PostParams::default(), &new).await {
                Ok(created) => cache.replica_sets.wrote(created),
                Err(kube::Error::Api(answer)) if answer.is_already_exists() => {
                    // Ours and not yet in the cache, or another template with the same hash: then the next hash differs.
                    if let Some(existing) = sets.get_opt(&new.name_any()).await?
                        && !(owner::controls(deployment, &existing.metadata) && template::same(&existing, deployment))
                    {
                        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        for change in plan.changes {
            let changed = sets
                .patch(&change.name, &PatchParams::default(), &Patch::Merge(&change.patch))
                .await;
            if let Some(changed) = unless_gone(changed)? {
                cache.replica_sets.wrote(changed);
            }
        }
        for name in plan.delete {
            unless_gone(sets.delete(&name, &DeleteParams::background()).await)?;
        }
        let recorder = self.context.recorder.of("deployment-controller", None);
        for event in plan.events {
            recorder.tell(reference(deployment), event);
        }
        let name = deployment.name_any();
        if let Some(revision) = plan.revision {
            let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
            let patched = deployments
                .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            if let Some(patched) = unless_gone(patched)? {
                cache.deployments.wrote(patched);
            }
        }
        if deployment.status.as_ref() != Some(&status)
            && let Some(written) = unless_gone(write_status(&deployments, &name, &status).await)?
        {
            cache.deployments.wrote(written);
        }
        Ok(plan.again)
    }
}
