//! From what the cluster and the server have to what has to change. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{Endpoints, Namespace, Node, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::core::SelectorExt;
use regex::Regex;

use super::{
    entry::{Entry, Key, key_of},
    kinds::{ClusterSpiffeId, ClusterStaticEntry, Stats},
    render::{Cluster, pod_entry, pods_in},
    spec::{Registration, static_entry},
};
use crate::api::types;

/// Where SPIRE's join tokens leave entries of their own, which nobody else may delete.
const JOIN_TOKENS: [&str; 3] = ["spire", "agent", "join_token"];

/// What the cluster has.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// All namespaces.
    pub namespaces: Vec<Arc<Namespace>>,
    /// All pods.
    pub pods: Vec<Arc<Pod>>,
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
    /// All endpoints.
    pub endpoints: Vec<Arc<Endpoints>>,
    /// All ClusterSPIFFEIDs.
    pub cluster_spiffe_ids: Vec<Arc<ClusterSpiffeId>>,
    /// All ClusterStaticEntries.
    pub static_entries: Vec<Arc<ClusterStaticEntry>>,
}

/// What is ours to act on.
#[derive(Debug)]
pub struct Scope {
    /// What holds for the whole cluster.
    pub cluster: Cluster,
    /// Namespaces that are left out.
    pub ignored_namespaces: Vec<Regex>,
    /// Objects of this class are acted on.
    pub class_name: String,
    /// And those without a class.
    pub watch_classless: bool,
    /// Ids of our entries begin with this; empty if every entry is ours.
    pub prefix: String,
    /// Entries whose ids begin with this are deleted; `Some("")` for those without any prefix.
    pub cleanup: Option<String>,
}

/// Which object declares an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The ClusterSPIFFEID of this index in [`Plan::spiffe_ids`].
    SpiffeId(usize),
    /// The ClusterStaticEntry of this index in [`Plan::static_entries`].
    Static(usize),
}

/// An entry that an object declares.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The entry.
    pub entry: Entry,
    /// Who declares it.
    pub by: By,
}

/// What came of a ClusterSPIFFEID so far.
#[derive(Debug)]
pub struct SpiffeIdOutcome {
    /// Which.
    pub object: Arc<ClusterSpiffeId>,
    /// Counts.
    pub stats: Stats,
    /// Why it cannot be acted on at all.
    pub invalid: Option<String>,
    /// Why the first pod of those that got no entry got none.
    pub render_failure: Option<String>,
    /// Why the first entry of those that the server refused was.
    pub refused: Option<String>,
}

/// What came of a ClusterStaticEntry so far.
#[derive(Debug)]
pub struct StaticOutcome {
    /// Which.
    pub object: Arc<ClusterStaticEntry>,
    /// Whether it could be read.
    pub rendered: bool,
    /// Whether it gave way.
    pub masked: bool,
    /// Whether the server has it.
    pub set: bool,
    /// What was wrong.
    pub problem: Option<String>,
}

/// What has to change, and what came of each object.
#[derive(Debug, Default)]
pub struct Plan {
    /// Entries that the server has not.
    pub create: Vec<Declared>,
    /// Entries that say something else there, with their ids.
    pub update: Vec<(String, Declared)>,
    /// Ids of entries that nobody declares any more.
    pub delete: Vec<String>,
    /// What came of the ClusterSPIFFEIDs.
    pub spiffe_ids: Vec<SpiffeIdOutcome>,
    /// What came of the ClusterStaticEntries.
    pub static_entries: Vec<StaticOutcome>,
}

#[derive(Default)]
struct Slot<'a> {
    current: Vec<&'a types::Entry>,
    declared: Vec<Declared>,
}

/// Works out what has to change so that the server has the entries that `snapshot` declares; `there` is what it has.
pub fn plan(scope: &Scope, snapshot: &Snapshot, there: &[types::Entry]) -> Plan {
    let mut plan = Plan::default();
    let mut slots: BTreeMap<Key, Slot<'_>> = BTreeMap::new();
    for entry in there {
        match ownership(scope, &entry.id) {
            Ownership::Ours => match key_of(entry) {
                Some(key) => slots.entry(key).or_default().current.push(entry),
                None => tracing::warn!(
                    id = entry.id,
                    "the server has an entry that is not well formed; it is left alone"
                ),
            },
            Ownership::Leftover => plan.delete.push(entry.id.clone()),
            Ownership::Foreign => {}
        }
    }
    for declared in static_entries(scope, snapshot, &mut plan) {
        slots.entry(declared.entry.key()).or_default().declared.push(declared);
    }
    for declared in pod_entries(scope, snapshot, &mut plan) {
        slots.entry(declared.entry.key()).or_default().declared.push(declared);
    }
    for slot in slots.into_values() {
        settle(&mut plan, slot);
    }
    plan
}

fn settle(plan: &mut Plan, mut slot: Slot<'_>) {
    slot.declared
        .sort_by_cached_key(|declared| plan.precedence(declared.by));
    let mut current = slot.current.into_iter();
    let mut declared = slot.declared.into_iter();
    if let Some(first) = declared.next() {
        match first.by {
            By::SpiffeId(index) => plan.spiffe_ids[index].stats.entries_to_set += 1,
            // It is set when the server has it: at once, or when it was created.
            By::Static(index) => plan.static_entries[index].set = current.len() > 0,
        }
        match current.next() {
            None => plan.create.push(first),
            Some(there) if first.entry.differs_from(there) => plan.update.push((there.id.clone(), first)),
            Some(_) => {}
        }
    }
    for masked in declared {
        match masked.by {
            By::SpiffeId(index) => plan.spiffe_ids[index].stats.entries_masked += 1,
            By::Static(index) => plan.static_entries[index].masked = true,
        }
    }
    let over = current.filter(|entry| !of_join_token(entry));
    plan.delete.extend(over.map(|entry| entry.id.clone()));
}

impl Plan {
    /// Sorts first the object that counts when two declare the same entry: the oldest.
    fn precedence(&self, by: By) -> (i128, i128, String) {
        let metadata = match by {
            By::SpiffeId(index) => &self.spiffe_ids[index].object.metadata,
            By::Static(index) => &self.static_entries[index].object.metadata,
        };
        let created = metadata
            .creation_timestamp
            .as_ref()
            .map_or(0, |time| time.0.as_nanosecond());
        // Of two that are being deleted the one that was deleted later counts, and before both one that stays.
        let deleted = metadata
            .deletion_timestamp
            .as_ref()
            .map_or(i128::MIN, |time| -time.0.as_nanosecond());
        (created, deleted, metadata.uid.clone().unwrap_or_default())
    }

    /// Takes down that the server refused an entry of `by`.
    pub fn refused(&mut self, by: By, why: &str) {
        match by {
            By::SpiffeId(index) => {
                let outcome = &mut self.spiffe_ids[index];
                outcome.stats.entry_failures += 1;
                outcome.refused.get_or_insert_with(|| why.to_owned());
            }
            By::Static(index) => {
                let outcome = &mut self.static_entries[index];
                outcome.set = false;
                outcome.problem.get_or_insert_with(|| why.to_owned());
            }
        }
    }

    /// Takes down that the server has an entry of `by` now.
    pub fn accepted(&mut self, by: By) {
        if let By::Static(index) = by {
            self.static_entries[index].set = true;
        }
    }
}

enum Ownership {
    Ours,
    Leftover,
    Foreign,
}

fn ownership(scope: &Scope, id: &str) -> Ownership {
    if id.starts_with(&scope.prefix) {
        return Ownership::Ours;
    }
    match scope.cleanup.as_deref() {
        Some("") if !id.contains('.') => Ownership::Leftover,
        Some(prefix) if !prefix.is_empty() && id.starts_with(prefix) => Ownership::Leftover,
        _ => Ownership::Foreign,
    }
}

fn of_join_token(entry: &types::Entry) -> bool {
    let parent = entry.parent_id.as_ref().map_or("", |parent| parent.path.as_str());
    let under = parent.split('/').skip(1).take(JOIN_TOKENS.len()).eq(JOIN_TOKENS);
    under && entry.selectors.iter().any(|selector| selector.r#type == "spiffe_id")
}

/// Whether an object of `class` is ours.
pub fn of_our_class(scope: &Scope, class: &str) -> bool {
    class == scope.class_name || (class.is_empty() && scope.watch_classless)
}

fn static_entries(scope: &Scope, snapshot: &Snapshot, plan: &mut Plan) -> Vec<Declared> {
    let mut declared = Vec::new();
    let ours = snapshot.static_entries.iter();
    for object in ours.filter(|object| of_our_class(scope, &object.spec.class_name)) {
        let read = static_entry(&object.spec);
        plan.static_entries.push(StaticOutcome {
            object: Arc::clone(object),
            rendered: read.is_ok(),
            masked: false,
            set: false,
            problem: read.as_ref().err().map(ToString::to_string),
        });
        let by = By::Static(plan.static_entries.len() - 1);
        declared.extend(read.ok().map(|entry| Declared { entry, by }));
    }
    declared
}

/// What is looked up again and again.
struct Index<'a> {
    nodes: HashMap<&'a str, &'a Node>,
    pods: BTreeMap<&'a str, Vec<&'a Pod>>,
    endpoints: HashMap<&'a str, BTreeSet<usize>>,
}

impl<'a> Index<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let nodes = snapshot.nodes.iter();
        let mut pods: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in &snapshot.pods {
            pods.entry(pod.metadata.namespace.as_deref().unwrap_or_default())
                .or_default()
                .push(pod);
        }
        for pods in pods.values_mut() {
            pods.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        }
        let mut endpoints: HashMap<&str, BTreeSet<usize>> = HashMap::new();
        for (index, one) in snapshot.endpoints.iter().enumerate() {
            for uid in pods_in(one) {
                endpoints.entry(uid).or_default().insert(index);
            }
        }
        Self {
            nodes: nodes
                .filter_map(|node| Some((node.metadata.name.as_deref()?, &**node)))
                .collect(),
            pods,
            endpoints,
        }
    }
}

fn pod_entries(scope: &Scope, snapshot: &Snapshot, plan: &mut Plan) -> Vec<Declared> {
    let index = Index::of(snapshot);
    let mut declared = Vec::new();
    let mut served: HashSet<String> = HashSet::new();
    let mut objects: Vec<_> = snapshot
        .cluster_spiffe_ids
        .iter()
        .filter(|object| of_our_class(scope, &object.spec.class_name))
        .collect();
    objects.sort_by_key(|object| (object.spec.fallback, object.metadata.name.clone()));
    for object in objects {
        let mut outcome = SpiffeIdOutcome {
            object: Arc::clone(object),
            stats: Stats::default(),
            invalid: None,
            render_failure: None,
            refused: None,
        };
        let by = By::SpiffeId(plan.spiffe_ids.len());
        match Registration::read(&object.spec) {
            Err(error) => outcome.invalid = Some(error.to_string()),
            Ok(registration) => {
                for pod in selected(scope, snapshot, &index, &registration, &mut outcome.stats) {
                    let uid = pod.metadata.uid.clone().unwrap_or_default();
                    if registration.fallback && served.contains(&uid) {
                        continue;
                    }
                    // A pod without a node has nobody yet who could serve it.
                    let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                    let Some(node) = node_name.and_then(|name| index.nodes.get(name)) else {
                        continue;
                    };
                    let endpoints = index.endpoints.get(uid.as_str()).into_iter().flatten();
                    let endpoints = endpoints.map(|at| &*snapshot.endpoints[*at]);
                    match pod_entry(&registration, &scope.cluster, node, pod, endpoints) {
                        Ok(entry) => {
                            declared.push(Declared { entry, by });
                            if !registration.fallback {
                                served.insert(uid);
                            }
                        }
                        Err(error) => {
                            outcome.stats.pod_entry_render_failures += 1;
                            outcome
                                .render_failure
                                .get_or_insert_with(|| format!("pod {}: {error}", name(&pod.metadata)));
                        }
                    }
                }
            }
        }
        plan.spiffe_ids.push(outcome);
    }
    declared
}

fn selected<'a>(
    scope: &Scope,
    snapshot: &Snapshot,
    index: &Index<'a>,
    registration: &Registration,
    stats: &mut Stats,
) -> Vec<&'a Pod> {
    let none = BTreeMap::new();
    let mut pods = Vec::new();
    for namespace in &snapshot.namespaces {
        if !registration
            .namespaces
            .matches(namespace.metadata.labels.as_ref().unwrap_or(&none))
        {
            continue;
        }
        stats.namespaces_selected += 1;
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        if scope.ignored_namespaces.iter().any(|ignored| ignored.is_match(name)) {
            stats.namespaces_ignored += 1;
            continue;
        }
        let of_it = index.pods.get(name).into_iter().flatten();
        pods.extend(of_it.filter(|pod| registration.pods.matches(pod.metadata.labels.as_ref().unwrap_or(&none))));
    }
    stats.pods_selected = u32::try_from(pods.len()).unwrap_or(u32::MAX);
    pods
}

/// `namespace/name`, or the name of what is in no namespace.
pub fn name(metadata: &ObjectMeta) -> String {
    let name = metadata.name.as_deref().unwrap_or_default();
    match metadata.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
