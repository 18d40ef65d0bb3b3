//! The ReplicaSet controller: as many pods as it says.
//!
//! Source: Kubernetes' ReplicaSet concept and API reference (apps/v1).

mod plan;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{apps::v1::ReplicaSet, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};

use crate::{
    queue::Queue,
    write::{unless_gone, write_status},
};

use super::{Context, owner, pods};
use crate::{
    events::{Happening, reference},
    informer::{Change, Informers, Key},
};
use plan::Plan;

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let mut sets = context.informers.replica_sets.subscribe();
    let mut pods = context.informers.pods.subscribe();
    let (feed, cache) = (queue.clone(), context.informers.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                change = sets.recv() => match change {
                    Some(change) => feed.add(Key::of(change.object().as_ref())),
                    None => return,
                },
                change = pods.recv() => match change {
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
        .spawn(queue.run("replicaset", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        }));
}

fn enqueue_owners(queue: &Queue, cache: &Informers, change: &Change<Pod>) {
    let pod = change.object();
    let namespace = pod.namespace().unwrap_or_default();
    let before = match change {
        Change::Applied { old: Some(old), .. } => owner::controller_of(&old.metadata),
        _ => None,
    };
    for owner in before.into_iter().chain(owner::controller_of(&pod.metadata)) {
        if owner.kind == "ReplicaSet" {
            queue.add(Key::new(namespace.clone(), owner.name.clone()));
        }
    }
    if owner::controller_of(&pod.metadata).is_none() {
        for set in cache.replica_sets.in_namespace(&namespace) {
            if set
                .spec
                .as_ref()
                .is_some_and(|spec| owner::selects(&spec.selector, pod.metadata.labels.as_ref()))
            {
                queue.add(Key::of(set.as_ref()));
            }
        }
    }
}

struct Controller {
    context: Context,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let Some(set) = cache.replica_sets.get(key) else {
            return Ok(None);
        };
        let pods = cache.pods.in_namespace(&key.namespace);
        let plan = plan::plan(&set, &pods, Timestamp::now());
        self.apply(&set, plan).await
    }

    async fn apply(&self, set: &ReplicaSet, plan: Plan) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let namespace = set.namespace().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let recorder = self.context.recorder.of("replicaset-controller", None);
        for change in plan.references {
            let patched = pods
                .patch(&change.name, &PatchParams::default(), &Patch::Merge(&change.patch))
                .await;
            if let Some(pod) = unless_gone(patched)? {
                cache.pods.wrote(pod);
            }
        }
        let mut failure = None;
        let template = set
            .spec
            .as_ref()
            .and_then(|spec| spec.template.clone())
            .unwrap_or_default();
        let fresh = pods::from_template(set, &template);
        for _ in 0..plan.create {
            match pods.create(&PostParams::default(), &fresh).await {
                Ok(pod) => {
                    let message = format!("Created pod: {}", pod.name_any());
                    recorder.tell(reference(set), Happening::normal("SuccessfulCreate", message));
                    cache.pods.wrote(pod);
                }
                Err(error) => {
                    recorder.tell(
                        reference(set),
                        Happening::warning("FailedCreate", format!("Error creating: {error}")),
                    );
                    failure = Some(error);
                    break;
                }
            }
        }
        for name in plan.delete {
            if let Some(answer) = unless_gone(pods.delete(&name, &DeleteParams::default()).await)? {
                recorder.tell(
                    reference(set),
                    Happening::normal("SuccessfulDelete", format!("Deleted pod: {name}")),
                );
                answer.map_left(|pod| cache.pods.wrote(pod));
            }
        }
        // After writes of our own the counts are those of the pods as they are now.
        let status = plan::status(
            set,
            &cache.pods.in_namespace(&namespace),
            failure.as_ref().map(ToString::to_string),
            Timestamp::now(),
        );
        if set.status.as_ref() != Some(&status) {
            let sets: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), &namespace);
            if let Some(written) = unless_gone(write_status(&sets, &set.name_any(), &status).await)? {
                cache.replica_sets.wrote(written);
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(plan.again),
        }
    }
}
