//! Garbage collection by owner: dependents go when their owners are gone, whatever their kinds.
//!
//! Source: Kubernetes' garbage collector (background, foreground and orphan deletion).

mod graph;
mod kinds;

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Resource,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Context;
use crate::{
    informer::{Change, Informer, Key},
    queue::Queue,
    write::unless_gone,
};
use graph::{Action, Graph, Kind, Node};

/// When an owner is looked for again that is there and not yet known.
const AGAIN: Duration = Duration::from_millis(20);

/// Starts the collector.
pub fn start(context: &Context) {
    let collector = Arc::new(Collector {
        context: context.clone(),
        graph: Mutex::new(Graph::default()),
        queue: Queue::default(),
    });
    let cache = &context.informers;
    let inner = context.informers.clone();
    let watching = collector.clone();
    collector.follow(&cache.pods);
    collector.follow(&cache.deployments);
    collector.follow(&cache.replica_sets);
    collector.follow(&cache.stateful_sets);
    collector.follow(&cache.daemon_sets);
    collector.follow(&cache.jobs);
    collector.follow(&cache.cron_jobs);
    collector.follow(&cache.pod_disruption_budgets);
    collector.follow(&cache.controller_revisions);
    collector.follow(&cache.persistent_volume_claims);
    collector.follow(&cache.services);
    collector.follow(&cache.endpoint_slices);
    collector.follow(&cache.config_maps);
    collector.follow(&cache.secrets);
    collector.follow(&cache.service_accounts);
    tokio::spawn(async move {
        // Until every list is in, an owner that is not here may only not have come yet.
        inner.synced().await;
        tokio::spawn(kinds::follow(watching.clone()));
        let runner = watching.clone();
        watching
            .queue
            .clone()
            .run("garbage", watching.context.stop.clone(), move |key| {
                let collector = runner.clone();
                async move { collector.reconcile(&key.name).await }
            })
            .await;
    });
}

struct Collector {
    context: Context,
    graph: Mutex<Graph>,
    queue: Queue,
}

impl Collector {
    /// Follows a kind of which there is a shared cache.
    fn follow<K>(self: &Arc<Self>, informer: &Informer<K>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let resource = ApiResource::erase::<K>(&());
        let kind = (resource.api_version.clone(), resource.kind.clone());
        let known = Kind {
            resource: resource.clone(),
            namespaced: true,
        };
        self.graph().kinds.insert(kind, known);
        let mut changes = informer.subscribe();
        let collector = self.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                let gone = matches!(change, Change::Deleted(_));
                collector.take(&resource, change.object().meta(), gone);
            }
        });
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, resource: &ApiResource, meta: &ObjectMeta, gone: bool) {
        let Some(uid) = meta.uid.clone() else { return };
        let mut graph = self.graph();
        let mut touched: Vec<String> = Vec::new();
        let owners = meta.owner_references.clone().unwrap_or_default();
        let before = graph.nodes.get(&uid).cloned();
        if gone {
            graph.nodes.remove(&uid);
        } else {
            let node = Node {
                resource: resource.clone(),
                key: Key::new(
                    meta.namespace.clone().unwrap_or_default(),
                    meta.name.clone().unwrap_or_default(),
                ),
                owners: owners.clone(),
                finalizers: meta.finalizers.clone().unwrap_or_default(),
                deleting: meta.deletion_timestamp.is_some(),
            };
            if !owners.is_empty() || node.deleting {
                touched.push(uid.clone());
            }
            graph.nodes.insert(uid.clone(), node);
        }
        if gone || meta.deletion_timestamp.is_some() {
            touched.extend(graph.dependents(&uid).map(|(uid, _)| uid.clone()));
        }
        // An owner that waits for its dependents looks again when one of them changes.
        for owner in owners.iter().chain(before.iter().flat_map(|node| &node.owners)) {
            if graph.nodes.get(&owner.uid).is_some_and(|node| node.deleting) {
                touched.push(owner.uid.clone());
            }
        }
        drop(graph);
        for uid in touched {
            self.queue.add(Key::new("", uid));
        }
    }

    /// Asks the API whether an owner is there that the graph does not know.
    async fn lives(&self, owner: &OwnerReference, kind: &Kind, namespace: &str) -> Result<bool, kube::Error> {
        let client = self.context.client.clone();
        let api: Api<DynamicObject> = match (kind.namespaced, namespace) {
            (false, _) => Api::all_with(client, &kind.resource),
            // Nothing in a namespace owns what is in none.
            (true, "") => return Ok(false),
            (true, _) => Api::namespaced_with(client, namespace, &kind.resource),
        };
        let found = api.get_opt(&owner.name).await?;
        Ok(found.is_some_and(|found| found.metadata.uid.as_ref() == Some(&owner.uid)))
    }

    async fn reconcile(&self, uid: &str) -> Result<Option<Duration>, kube::Error> {
        let (action, node, gone) = {
            let graph = self.graph();
            match (graph.judge(uid), graph.nodes.get(uid)) {
                (Some(action), Some(node)) => {
                    let gone = node
                        .owners
                        .iter()
                        .filter(|owner| graph.absent(owner, &node.key.namespace));
                    let kind = |owner: &OwnerReference| Some((owner.clone(), graph.kind_of(owner)?.clone()));
                    (action, node.clone(), gone.filter_map(kind).collect::<Vec<_>>())
                }
                _ => return Ok(None),
            }
        };
        for (owner, kind) in gone {
            if self.lives(&owner, &kind, &node.key.namespace).await? {
                // Each kind is watched by itself: this owner is on its way into the graph.
                return Ok(Some(AGAIN));
            }
        }
        let client = self.context.client.clone();
        let api: Api<DynamicObject> = if node.key.namespace.is_empty() {
            Api::all_with(client, &node.resource)
        } else {
            Api::namespaced_with(client, &node.key.namespace, &node.resource)
        };
        let name = &node.key.name;
        let only = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        match action {
            Action::Delete => {
                unless_gone(api.delete(name, &DeleteParams::background().preconditions(only)).await)?;
            }
            Action::DeleteInForeground => {
                unless_gone(api.delete(name, &DeleteParams::foreground().preconditions(only)).await)?;
            }
            Action::Release(uids) => {
                let left: Vec<_> = node.owners.iter().filter(|owner| !uids.contains(&owner.uid)).collect();
                let patch = json!({"metadata": {"uid": uid, "ownerReferences": left}});
                unless_gone(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)?;
            }
            Action::Unblock(finalizer) => {
                let left: Vec<_> = node.finalizers.iter().filter(|held| *held != finalizer).collect();
                let patch = json!({"metadata": {"uid": uid, "finalizers": left}});
                unless_gone(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)?;
            }
        }
        Ok(None)
    }
}
