//! Shared informers: one watch per kind for all components of a node, with a cache that sees its own writes.
//!
//! Source: client-go's shared informers and mutation cache.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::{CronJob, Job},
    certificates::v1::CertificateSigningRequest,
    core::v1::{
        ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Secret,
        Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::ClusterRole,
    storage::v1::StorageClass,
};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Namespace and name; the namespace is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key {
    /// The namespace, or nothing.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of `namespace`/`name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self::new(
            object.meta().namespace.clone().unwrap_or_default(),
            object.meta().name.clone().unwrap_or_default(),
        )
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// What happened to an object.
#[derive(Debug)]
pub enum Change<K> {
    /// It is there, new or changed.
    Applied {
        /// What the cache held before.
        old: Option<Arc<K>>,
        /// What it holds now.
        new: Arc<K>,
    },
    /// It is gone.
    Deleted(Arc<K>),
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied { old, new } => Self::Applied {
                old: old.clone(),
                new: new.clone(),
            },
            Self::Deleted(gone) => Self::Deleted(gone.clone()),
        }
    }
}

impl<K> Change<K> {
    /// The object: as it is now, or as it last was.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(gone) => gone,
        }
    }
}

/// How many deletions are remembered: more than come while one write is answered.
const PAST: usize = 256;

struct State<K> {
    objects: HashMap<Key, Arc<K>>,
    /// Uids whose deletion this process did, until the watch says so too.
    gone: HashSet<String>,
    /// Uids whose deletion the watch told last, and at which revision. The answer to a write may come after the watch has told that
    /// another deleted the object: taken in, it would stay forever, for the watch never speaks of it again.
    past: VecDeque<(String, u64)>,
    /// The newest revision of an object in the list that is coming in. The list's own, which is not older, is not told here.
    listed: u64,
    subscribers: Vec<mpsc::UnboundedSender<Change<K>>>,
}

impl<K: Resource> State<K> {
    fn apply(&mut self, object: K) {
        if object.meta().uid.as_ref().is_some_and(|uid| self.gone.contains(uid)) {
            return;
        }
        let key = Key::of(&object);
        let old = self.objects.get(&key).cloned();
        if old
            .as_ref()
            .is_some_and(|old| same_uid(old.as_ref(), &object) && revision(old.as_ref()) >= revision(&object))
        {
            return;
        }
        let new = Arc::new(object);
        self.objects.insert(key, new.clone());
        self.tell(&Change::Applied { old, new });
    }

    /// Whether the watch has told of a deletion of this object that is later than what is held here.
    fn is_past(&self, object: &K) -> bool {
        object.meta().uid.as_ref().is_some_and(|uid| {
            self.past
                .iter()
                .any(|(past, deleted)| past == uid && revision(object) <= *deleted)
        })
    }

    fn remember(&mut self, uid: String, deleted: u64) {
        self.past.truncate(PAST - 1);
        self.past.push_front((uid, deleted));
    }

    fn delete(&mut self, key: &Key, uid: Option<&str>) {
        if uid.is_some()
            && self
                .objects
                .get(key)
                .is_some_and(|held| held.meta().uid.as_deref() != uid)
        {
            return;
        }
        if let Some(gone) = self.objects.remove(key) {
            self.tell(&Change::Deleted(gone));
        }
    }

    fn tell(&mut self, change: &Change<K>) {
        self.subscribers
            .retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }
}

fn same_uid<K: Resource>(a: &K, b: &K) -> bool {
    a.meta().uid == b.meta().uid
}

fn revision<K: Resource>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// A cache of all objects of one kind, kept by one watch.
pub struct Informer<K> {
    state: Arc<Mutex<State<K>>>,
    synced: watch::Receiver<bool>,
    told: Arc<watch::Sender<u64>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            synced: self.synced.clone(),
            told: self.told.clone(),
        }
    }
}

impl<K> Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Starts watching every object of the kind.
    pub fn start(client: kube::Client, stop: CancellationToken) -> Self {
        let (tell_synced, synced) = watch::channel(false);
        let state = Arc::new(Mutex::new(State {
            objects: HashMap::new(),
            gone: HashSet::new(),
            past: VecDeque::new(),
            listed: 0,
            subscribers: Vec::new(),
        }));
        let told = Arc::new(watch::Sender::new(0));
        let informer = Self { state, synced, told };
        let worker = informer.clone();
        tokio::spawn(async move {
            let stream = watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff();
            let mut stream = std::pin::pin!(stream);
            let mut listed = HashSet::new();
            loop {
                let event = tokio::select! {
                    () = stop.cancelled() => return,
                    event = stream.next() => event,
                };
                match event {
                    None => return,
                    Some(Ok(event)) => worker.take(event, &mut listed, &tell_synced),
                    Some(Err(error)) => tracing::warn!(kind = %K::kind(&()), %error, "watch failed; it is tried again"),
                }
            }
        });
        informer
    }

    fn take(&self, event: watcher::Event<K>, listed: &mut HashSet<Key>, synced: &watch::Sender<bool>) {
        let mut state = self.lock();
        let told = match &event {
            watcher::Event::Apply(object) | watcher::Event::Delete(object) => revision(object),
            watcher::Event::InitDone => state.listed,
            watcher::Event::Init | watcher::Event::InitApply(_) => 0,
        };
        match event {
            watcher::Event::Init => {
                listed.clear();
                state.listed = 0;
            }
            watcher::Event::InitApply(object) => {
                listed.insert(Key::of(&object));
                state.listed = state.listed.max(revision(&object));
                state.apply(object);
            }
            watcher::Event::InitDone => {
                let stale: Vec<(Key, Option<String>)> = state
                    .objects
                    .iter()
                    .filter(|(key, _)| !listed.contains(*key))
                    .map(|(key, object)| (key.clone(), object.uid()))
                    .collect();
                for (key, uid) in stale {
                    state.delete(&key, None);
                    // At which revision it went, a list does not say.
                    if let Some(uid) = uid {
                        state.remember(uid, u64::MAX);
                    }
                }
                state.gone.clear();
                synced.send_replace(true);
            }
            watcher::Event::Apply(object) => state.apply(object),
            watcher::Event::Delete(object) => {
                let uid = object.uid();
                state.delete(&Key::of(&object), uid.as_deref());
                if let Some(uid) = uid {
                    state.gone.remove(&uid);
                    state.remember(uid, revision(&object));
                }
            }
        }
        self.told.send_if_modified(|before| {
            let more = told > *before;
            *before = told.max(*before);
            more
        });
    }

    /// The revision up to which the watch has told of every change, to subscribers too. What this process wrote itself may be
    /// known here already and be newer.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Waits until the first list is in.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        // An error means that the watch was stopped: then nobody needs to wait any longer either.
        let _ = synced.wait_for(|done| *done).await;
    }

    /// Every change from now on, after one `Applied` for each object that is there.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Change<K>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.lock();
        for object in state.objects.values() {
            // The receiver is in our hands: this cannot fail.
            let _ = sender.send(Change::Applied {
                old: None,
                new: object.clone(),
            });
        }
        state.subscribers.push(sender);
        receiver
    }

    /// The object with this key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.lock().objects.get(key).cloned()
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.lock().objects.values().cloned().collect()
    }

    /// Every object of a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let mut found: Vec<_> = self
            .lock()
            .objects
            .iter()
            .filter(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect();
        found.sort_by_key(|object| object.name_any());
        found
    }

    /// Takes in the answer to a write of this process, ahead of the watch.
    pub fn wrote(&self, object: K) {
        let mut state = self.lock();
        if !state.is_past(&object) {
            state.apply(object);
        }
    }

    /// Takes in that this process deleted an object for good, ahead of the watch.
    pub fn deleted(&self, object: &K) {
        let mut state = self.lock();
        let key = Key::of(object);
        // Only what the cache still holds: for the others the watch has spoken already, and will not again.
        if let Some(held) = state.objects.get(&key)
            && same_uid(held.as_ref(), object)
        {
            if let Some(uid) = object.meta().uid.clone() {
                state.gone.insert(uid);
            }
            state.delete(&key, object.meta().uid.as_deref());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caches that the components of a node share.
#[derive(Clone)]
pub struct Informers {
    /// Namespaces.
    pub namespaces: Informer<Namespace>,
    /// Nodes.
    pub nodes: Informer<Node>,
    /// Pods.
    pub pods: Informer<Pod>,
    /// Deployments.
    pub deployments: Informer<Deployment>,
    /// ReplicaSets.
    pub replica_sets: Informer<ReplicaSet>,
    /// StatefulSets.
    pub stateful_sets: Informer<StatefulSet>,
    /// DaemonSets.
    pub daemon_sets: Informer<DaemonSet>,
    /// Jobs.
    pub jobs: Informer<Job>,
    /// CronJobs.
    pub cron_jobs: Informer<CronJob>,
    /// ResourceQuotas.
    pub resource_quotas: Informer<ResourceQuota>,
    /// PodDisruptionBudgets.
    pub pod_disruption_budgets: Informer<PodDisruptionBudget>,
    /// ControllerRevisions.
    pub controller_revisions: Informer<ControllerRevision>,
    /// PersistentVolumeClaims.
    pub persistent_volume_claims: Informer<PersistentVolumeClaim>,
    /// PersistentVolumes.
    pub persistent_volumes: Informer<PersistentVolume>,
    /// StorageClasses.
    pub storage_classes: Informer<StorageClass>,
    /// Services.
    pub services: Informer<Service>,
    /// EndpointSlices.
    pub endpoint_slices: Informer<EndpointSlice>,
    /// Endpoints.
    pub endpoints: Informer<Endpoints>,
    /// ConfigMaps.
    pub config_maps: Informer<ConfigMap>,
    /// Secrets.
    pub secrets: Informer<Secret>,
    /// ServiceAccounts.
    pub service_accounts: Informer<ServiceAccount>,
    /// ClusterRoles.
    pub cluster_roles: Informer<ClusterRole>,
    /// NetworkPolicies.
    pub network_policies: Informer<NetworkPolicy>,
    /// CertificateSigningRequests.
    pub certificate_signing_requests: Informer<CertificateSigningRequest>,
}

impl Informers {
    /// Starts one watch per kind.
    pub fn start(client: &kube::Client, stop: &CancellationToken) -> Self {
        macro_rules! informer {
            () => {
                Informer::start(client.clone(), stop.clone())
            };
        }
        Self {
            namespaces: informer!(),
            nodes: informer!(),
            pods: informer!(),
            deployments: informer!(),
            replica_sets: informer!(),
            stateful_sets: informer!(),
            daemon_sets: informer!(),
            jobs: informer!(),
            cron_jobs: informer!(),
            resource_quotas: informer!(),
            pod_disruption_budgets: informer!(),
            controller_revisions: informer!(),
            persistent_volume_claims: informer!(),
            persistent_volumes: informer!(),
            storage_classes: informer!(),
            services: informer!(),
            endpoint_slices: informer!(),
            endpoints: informer!(),
            config_maps: informer!(),
            secrets: informer!(),
            service_accounts: informer!(),
            cluster_roles: informer!(),
            network_policies: informer!(),
            certificate_signing_requests: informer!(),
        }
    }

    /// Waits until every first list is in.
    pub async fn synced(&self) {
        futures::join!(
            self.namespaces.synced(),
            self.nodes.synced(),
            self.pods.synced(),
            self.deployments.synced(),
            self.replica_sets.synced(),
            self.stateful_sets.synced(),
            self.daemon_sets.synced(),
            self.jobs.synced(),
            self.cron_jobs.synced(),
            self.resource_quotas.synced(),
            self.pod_disruption_budgets.synced(),
            self.controller_revisions.synced(),
            self.persistent_volume_claims.synced(),
            self.persistent_volumes.synced(),
            self.storage_classes.synced(),
            self.services.synced(),
            self.endpoint_slices.synced(),
            self.endpoints.synced(),
            self.config_maps.synced(),
            self.secrets.synced(),
            self.service_accounts.synced(),
            self.cluster_roles.synced(),
            self.network_policies.synced(),
            self.certificate_signing_requests.synced(),
        );
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, uid: &str, revision: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.namespace = Some("default".into());
        object.metadata.uid = Some(uid.into());
        object.metadata.resource_version = Some(revision.to_string());
        object
    }

    fn informer() -> (Informer<ConfigMap>, watch::Sender<bool>) {
        let (tell, synced) = watch::channel(false);
        let state = State {
            objects: HashMap::new(),
            gone: HashSet::new(),
            past: VecDeque::new(),
            listed: 0,
            subscribers: Vec::new(),
        };
        (
            Informer {
                state: Arc::new(Mutex::new(state)),
                synced,
                told: Arc::new(watch::Sender::new(0)),
            },
            tell,
        )
    }

    #[test]
    fn an_older_event_does_not_undo_a_write() {
        let (informer, tell) = informer();
        let mut changes = informer.subscribe();
        informer.wrote(object("a", "1", 5));
        informer.take(watcher::Event::Apply(object("a", "1", 4)), &mut HashSet::new(), &tell);
        assert_eq!(informer.all()[0].metadata.resource_version.as_deref(), Some("5"));
        assert!(changes.try_recv().is_ok());
        assert!(changes.try_recv().is_err(), "the older event must not be told");
    }

    #[test]
    fn a_deleted_object_does_not_come_back_but_its_successor_does() {
        let (informer, tell) = informer();
        informer.wrote(object("a", "1", 5));
        informer.deleted(&object("a", "1", 5));
        informer.take(watcher::Event::Apply(object("a", "1", 6)), &mut HashSet::new(), &tell);
        assert!(informer.all().is_empty());
        informer.wrote(object("a", "2", 8));
        informer.take(watcher::Event::Delete(object("a", "1", 7)), &mut HashSet::new(), &tell);
        assert_eq!(informer.all().len(), 1, "the successor has another uid");
    }

    #[test]
    fn an_answer_that_comes_after_the_deletion_brings_nothing_back() {
        let (informer, tell) = informer();
        informer.take(watcher::Event::Apply(object("a", "1", 5)), &mut HashSet::new(), &tell);
        informer.take(watcher::Event::Delete(object("a", "1", 7)), &mut HashSet::new(), &tell);
        informer.wrote(object("a", "1", 6));
        assert!(
            informer.all().is_empty(),
            "the watch will not say again that it is gone"
        );
        informer.wrote(object("a", "1", 8));
        assert_eq!(informer.all().len(), 1, "a restore brought it back since");
    }

    #[test]
    fn a_new_list_removes_what_it_does_not_hold() {
        let (informer, tell) = informer();
        informer.wrote(object("a", "1", 5));
        let mut listed = HashSet::new();
        for event in [
            watcher::Event::Init,
            watcher::Event::InitApply(object("b", "2", 6)),
            watcher::Event::InitDone,
        ] {
            informer.take(event, &mut listed, &tell);
        }
        assert_eq!(informer.all().iter().map(|o| o.name_any()).collect::<Vec<_>>(), ["b"]);
        assert!(*informer.synced.borrow());
    }

    #[test]
    fn what_the_watch_has_told_is_in_order_whatever_was_written_ahead() {
        let (informer, tell) = informer();
        let told = informer.told();
        let mut listed = HashSet::new();
        informer.wrote(object("mine", "1", 9));
        assert_eq!(*told.borrow(), 0, "the watch has said nothing yet");
        for (event, expected) in [
            (watcher::Event::Init, 0),
            (watcher::Event::InitApply(object("a", "2", 4)), 0),
            (watcher::Event::InitDone, 4),
            (watcher::Event::Apply(object("b", "3", 7)), 7),
            (watcher::Event::Delete(object("b", "3", 8)), 8),
            (watcher::Event::Apply(object("mine", "1", 9)), 9),
            // a list of later, all of whose objects are older
            (watcher::Event::Init, 9),
            (watcher::Event::InitApply(object("a", "2", 4)), 9),
            (watcher::Event::InitDone, 9),
        ] {
            informer.take(event, &mut listed, &tell);
            assert_eq!(*told.borrow(), expected);
        }
    }
}
