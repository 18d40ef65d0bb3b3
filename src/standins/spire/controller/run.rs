//! Watches the cluster and keeps the server's entries in step with it.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture};
use k8s_openapi::{
    api::core::v1::{Endpoints, Namespace, Node, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    config::Config,
    kinds::{ClusterFederatedTrustDomain, ClusterSpiffeId, ClusterStaticEntry},
    plan::{Declared, Plan, Snapshot, of_our_class, plan},
    server::{Entries, Refused},
    status,
};
use crate::entries;

/// How soon it is tried again when the server or the API server did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// What is known of the cluster, kept up to date by watches.
pub struct Caches {
    namespaces: Store<Namespace>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    endpoints: Store<Endpoints>,
    cluster_spiffe_ids: Store<ClusterSpiffeId>,
    static_entries: Store<ClusterStaticEntry>,
    federated: Store<ClusterFederatedTrustDomain>,
    changed: Arc<Notify>,
    _watches: JoinSet<()>,
}

impl Caches {
    /// Begins to watch.
    pub fn start(client: &Client) -> Self {
        let changed = Arc::new(Notify::new());
        let mut watches = JoinSet::new();
        macro_rules! watch {
            () => {
                watch(&mut watches, client, Arc::clone(&changed))
            };
        }
        Self {
            namespaces: watch!(),
            pods: watch!(),
            nodes: watch!(),
            endpoints: watch!(),
            cluster_spiffe_ids: watch!(),
            static_entries: watch!(),
            federated: watch!(),
            changed,
            _watches: watches,
        }
    }

    /// Waits until everything was seen once: before that, entries would be deleted whose pods are only not known yet.
    async fn ready(&self) -> bool {
        let ready: [BoxFuture<'_, bool>; 7] = [
            Box::pin(async { self.namespaces.wait_until_ready().await.is_ok() }),
            Box::pin(async { self.pods.wait_until_ready().await.is_ok() }),
            Box::pin(async { self.nodes.wait_until_ready().await.is_ok() }),
            Box::pin(async { self.endpoints.wait_until_ready().await.is_ok() }),
            Box::pin(async { self.cluster_spiffe_ids.wait_until_ready().await.is_ok() }),
            Box::pin(async { self.static_entries.wait_until_ready().await.is_ok() }),
            Box::pin(async { self.federated.wait_until_ready().await.is_ok() }),
        ];
        futures::future::join_all(ready).await.into_iter().all(|ready| ready)
    }

    fn snapshot(&self, config: &Config) -> Snapshot {
        let mut snapshot = Snapshot {
            namespaces: self.namespaces.state(),
            pods: self.pods.state(),
            nodes: self.nodes.state(),
            endpoints: self.endpoints.state(),
            ..Snapshot::default()
        };
        if config.cluster_spiffe_ids {
            snapshot.cluster_spiffe_ids = self.cluster_spiffe_ids.state();
        }
        if config.static_entries {
            snapshot.static_entries = self.static_entries.state();
        }
        snapshot.namespaces.sort_by_key(|namespace| namespace.name_any());
        snapshot
    }
}

fn watch<K>(watches: &mut JoinSet<()>, client: &Client, changed: Arc<Notify>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .modify(|object| object.meta_mut().managed_fields = None)
        .default_backoff()
        .reflect(writer);
    watches.spawn(async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                // Of a list that is not whole yet nothing is seen.
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                Ok(_) => changed.notify_one(),
                Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watching failed; it is tried again"),
            }
        }
    });
    store
}

/// Keeps entries in step for ever. `seen` is told when everything was seen once.
pub async fn keep(config: &Config, client: &Client, server: &dyn Entries, seen: impl FnOnce()) {
    let caches = Caches::start(client);
    if !caches.ready().await {
        tracing::error!("a watch ended before it began");
        return;
    }
    seen();
    let mut away = false;
    loop {
        let rest = match reconcile(config, &caches, client, server).await {
            Ok(()) => {
                away = false;
                config.interval
            }
            Err(error) => {
                // Once: at the start of a pod the server comes after, and it is tried every second.
                if !away {
                    tracing::warn!(
                        code = ?error.code(),
                        error = error.message(),
                        "Failed to list SPIRE entries; it is tried again until the server answers on its admin socket"
                    );
                }
                away = true;
                config.interval.min(AGAIN)
            }
        };
        // One notice is kept, so nothing that came while this went on is missed.
        let _ = tokio::time::timeout(rest, caches.changed.notified()).await;
    }
}

async fn reconcile(
    config: &Config,
    caches: &Caches,
    client: &Client,
    server: &dyn Entries,
) -> Result<(), tonic::Status> {
    let there = server.list().await?;
    let snapshot = caches.snapshot(config);
    let mut plan = plan(&config.scope, &snapshot, &there);
    apply(&config.scope.prefix, &mut plan, server).await;
    let now = Timestamp::now();
    for outcome in &plan.spiffe_ids {
        write_status(client, &*outcome.object, status::of_spiffe_id(outcome, now)).await;
    }
    for outcome in &plan.static_entries {
        write_status(client, &*outcome.object, status::of_static_entry(outcome, now)).await;
    }
    if config.federated {
        for object in caches.federated.state() {
            if of_our_class(&config.scope, &object.spec.class_name) {
                write_status(client, &*object, status::of_federated(&object, now)).await;
            }
        }
    }
    Ok(())
}

/// Makes the server have what `plan` says, and takes down in it what the server refused.
pub async fn apply(prefix: &str, plan: &mut Plan, server: &dyn Entries) {
    let delete = std::mem::take(&mut plan.delete);
    if !delete.is_empty() {
        match server.delete(delete.clone()).await {
            Ok(answers) => {
                for (id, refused) in delete.iter().zip(answers) {
                    match refused {
                        None => tracing::info!(id, "Deleted entry"),
                        Some(why) => tracing::warn!(id, error = why, "Failed to delete entry"),
                    }
                }
            }
            Err(error) => tracing::warn!(error = error.message(), "Failed to delete entries"),
        }
    }
    let create = std::mem::take(&mut plan.create);
    let messages: Vec<_> = create
        .iter()
        .map(|declared| {
            let id = if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}{}", entries::new_id())
            };
            declared.entry.message(id)
        })
        .collect();
    if !messages.is_empty() {
        settle(plan, "create", create, server.create(messages).await);
    }
    let update = std::mem::take(&mut plan.update);
    let messages: Vec<_> = update
        .iter()
        .map(|(id, declared)| declared.entry.message(id.clone()))
        .collect();
    if !messages.is_empty() {
        let declared = update.into_iter().map(|(_, declared)| declared).collect();
        settle(plan, "update", declared, server.update(messages).await);
    }
}

fn settle(plan: &mut Plan, doing: &str, declared: Vec<Declared>, answer: Result<Vec<Refused>, tonic::Status>) {
    let answers = answer.unwrap_or_else(|error| {
        let why = format!("{:?}: {}", error.code(), error.message());
        vec![Some(why); declared.len()]
    });
    // An entry that the server gave no answer for is not known to be there.
    let answers = answers
        .into_iter()
        .chain(std::iter::repeat(Some("the server gave no answer".to_owned())));
    for (declared, refused) in declared.into_iter().zip(answers) {
        let (id, parent) = (&declared.entry.spiffe_id, &declared.entry.parent_id);
        match refused {
            None => {
                tracing::info!(spiffeID = %id, parentID = %parent, "Entry set: {doing}");
                plan.accepted(declared.by);
            }
            Some(why) => {
                tracing::warn!(spiffeID = %id, parentID = %parent, error = why, "Failed to {doing} entry");
                plan.refused(declared.by, &why);
            }
        }
    }
}

async fn write_status<K>(client: &Client, object: &K, status: Option<impl Serialize>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let Some(status) = status else { return };
    let api = Api::<K>::all(client.clone());
    let name = object.name_any();
    let patch = Patch::Merge(json!({ "status": status }));
    if let Err(error) = api.patch_status(&name, &PatchParams::default(), &patch).await {
        // It may have been deleted just now; if not, the next reconciliation writes it.
        tracing::warn!(kind = %K::kind(&()), name, %error, "failed to update status");
    }
}
