//! Garbage collection by owner: dependents go when their owners are gone.
//!
//! Source: Kubernetes' garbage collector (background, foreground and orphan deletion).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Resource,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::embedded::{queue::Queue, write::unless_gone};

use super::Context;
use crate::embedded::informer::{Change, Informer, Key};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// When an owner is looked for again that is there and not yet known.
const AGAIN: Duration = Duration::from_millis(20);

/// An object as the collector sees it.
#[derive(Debug, Clone)]
struct Node {
    resource: ApiResource,
    key: Key,
    owners: Vec<OwnerReference>,
    finalizers: Vec<String>,
    deleting: bool,
}

/// Who owns whom.
#[derive(Default)]
struct Graph {
    nodes: HashMap<String, Node>,
    /// Kinds whose objects are all known: an owner of such a kind that is not here does not exist.
    kinds: HashMap<(String, String), ApiResource>,
}

/// What to do with an object.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    /// Its owners are gone: delete it.
    Delete,
    /// Its owner waits for it (foreground).
    DeleteInForeground,
    /// Take the owners with these uids from its references.
    Release(Vec<String>),
    /// Take a finalizer from it: its dependents are done with.
    Unblock(&'static str),
}

impl Graph {
    fn set(&mut self, uid: String, node: Node) {
        self.nodes.insert(uid, node);
    }

    fn dependents<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = (&'a String, &'a Node)> {
        self.nodes
            .iter()
            .filter(move |(_, node)| node.owners.iter().any(|owner| owner.uid == uid))
    }

    fn absent(&self, owner: &OwnerReference) -> bool {
        !self.nodes.contains_key(&owner.uid)
            && self
                .kinds
                .contains_key(&(owner.api_version.clone(), owner.kind.clone()))
    }

    /// What to do with the object `uid` now.
    fn judge(&self, uid: &str) -> Option<Action> {
        let node = self.nodes.get(uid)?;
        if node.deleting {
            let holds = |finalizer: &str| node.finalizers.iter().any(|held| held == finalizer);
            if holds(ORPHAN) && self.dependents(uid).next().is_none() {
                return Some(Action::Unblock(ORPHAN));
            }
            let blocking = |owner: &OwnerReference| owner.uid == uid && owner.block_owner_deletion == Some(true);
            if holds(FOREGROUND) && !self.dependents(uid).any(|(_, node)| node.owners.iter().any(blocking)) {
                return Some(Action::Unblock(FOREGROUND));
            }
            return None;
        }
        if node.owners.is_empty() {
            return None;
        }
        let with = |owner: &OwnerReference, finalizer: &str| {
            self.nodes
                .get(&owner.uid)
                .is_some_and(|o| o.deleting && o.finalizers.iter().any(|held| held == finalizer))
        };
        let orphaned: Vec<String> = node
            .owners
            .iter()
            .filter(|o| with(o, ORPHAN))
            .map(|o| o.uid.clone())
            .collect();
        if !orphaned.is_empty() {
            return Some(Action::Release(orphaned));
        }
        let (gone, left): (Vec<_>, Vec<_>) = node.owners.iter().partition(|owner| self.absent(owner));
        let (waiting, solid): (Vec<_>, Vec<_>) = left.into_iter().partition(|owner| with(owner, FOREGROUND));
        match (gone.is_empty(), waiting.is_empty(), solid.is_empty()) {
            (true, true, _) => None,
            (_, false, true) => Some(Action::DeleteInForeground),
            (false, _, true) => Some(Action::Delete),
            (true, false, false) => None,
            (false, _, false) => Some(Action::Release(
                gone.into_iter().map(|owner| owner.uid.clone()).collect(),
            )),
        }
    }
}

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
    fn follow<K>(self: &Arc<Self>, informer: &Informer<K>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let resource = ApiResource::erase::<K>(&());
        let kind = (resource.api_version.clone(), resource.kind.clone());
        self.graph
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kinds
            .insert(kind, resource.clone());
        let mut changes = informer.subscribe();
        let collector = self.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                let gone = matches!(change, Change::Deleted(_));
                collector.take(&resource, change.object().meta(), gone);
            }
        });
    }

    fn take(&self, resource: &ApiResource, meta: &ObjectMeta, gone: bool) {
        let Some(uid) = meta.uid.clone() else { return };
        let mut graph = self.graph.lock().unwrap_or_else(PoisonError::into_inner);
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
            graph.set(uid.clone(), node);
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
    async fn lives(
        &self,
        owner: &OwnerReference,
        resource: &ApiResource,
        namespace: &str,
    ) -> Result<bool, kube::Error> {
        let client = self.context.client.clone();
        let api: Api<DynamicObject> = match owner.kind.as_str() {
            "Node" | "Namespace" => Api::all_with(client, resource),
            _ => Api::namespaced_with(client, namespace, resource),
        };
        let found = api.get_opt(&owner.name).await?;
        Ok(found.is_some_and(|found| found.metadata.uid.as_ref() == Some(&owner.uid)))
    }

    async fn reconcile(&self, uid: &str) -> Result<Option<Duration>, kube::Error> {
        let (action, node, gone) = {
            let graph = self.graph.lock().unwrap_or_else(PoisonError::into_inner);
            match (graph.judge(uid), graph.nodes.get(uid)) {
                (Some(action), Some(node)) => {
                    let gone = node.owners.iter().filter(|owner| graph.absent(owner));
                    let kind = |owner: &OwnerReference| {
                        let kind = (owner.api_version.clone(), owner.kind.clone());
                        Some((owner.clone(), graph.kinds.get(&kind)?.clone()))
                    };
                    (action, node.clone(), gone.filter_map(kind).collect::<Vec<_>>())
                }
                _ => return Ok(None),
            }
        };
        for (owner, resource) in gone {
            if self.lives(&owner, &resource, &node.key.namespace).await? {
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};

    use super::*;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: uid.into(),
            uid: uid.into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn graph(owners: &[(&str, bool, &[&str])], pod_owners: &[&str]) -> Graph {
        let mut graph = Graph::default();
        let kind = ("apps/v1".into(), "ReplicaSet".into());
        graph.kinds.insert(kind, ApiResource::erase::<ReplicaSet>(&()));
        for (uid, deleting, finalizers) in owners {
            graph.set(
                (*uid).into(),
                Node {
                    resource: ApiResource::erase::<ReplicaSet>(&()),
                    key: Key::new("default", *uid),
                    owners: vec![],
                    finalizers: finalizers.iter().map(|f| (*f).into()).collect(),
                    deleting: *deleting,
                },
            );
        }
        graph.set(
            "pod".into(),
            Node {
                resource: ApiResource::erase::<Pod>(&()),
                key: Key::new("default", "pod"),
                owners: pod_owners.iter().map(|uid| owner(uid)).collect(),
                finalizers: vec![],
                deleting: false,
            },
        );
        graph
    }

    #[test]
    fn dependents_follow_their_owners() {
        type Owners<'a> = &'a [(&'a str, bool, &'a [&'a str])];
        let cases: [(Owners, &[&str], Option<Action>); 6] = [
            (&[("a", false, &[])], &["a"], None),
            (&[], &["a"], Some(Action::Delete)),
            (
                &[("b", false, &[])],
                &["a", "b"],
                Some(Action::Release(vec!["a".into()])),
            ),
            (&[("a", true, &[FOREGROUND])], &["a"], Some(Action::DeleteInForeground)),
            (
                &[("a", true, &[ORPHAN])],
                &["a"],
                Some(Action::Release(vec!["a".into()])),
            ),
            (&[], &[], None),
        ];
        for (owners, of_pod, expected) in cases {
            assert_eq!(graph(owners, of_pod).judge("pod"), expected, "{owners:?} {of_pod:?}");
        }
    }

    #[test]
    fn an_owner_of_an_unknown_kind_is_taken_to_exist() {
        let mut graph = graph(&[], &["a"]);
        graph.kinds.clear();
        assert_eq!(graph.judge("pod"), None);
    }

    #[test]
    fn an_owner_is_let_go_when_its_dependents_are() {
        let blocked = graph(&[("a", true, &[FOREGROUND])], &["a"]);
        assert_eq!(blocked.judge("a"), None);
        assert_eq!(
            graph(&[("a", true, &[FOREGROUND])], &[]).judge("a"),
            Some(Action::Unblock(FOREGROUND))
        );
        assert_eq!(
            graph(&[("a", true, &[ORPHAN])], &[]).judge("a"),
            Some(Action::Unblock(ORPHAN))
        );
    }
}
