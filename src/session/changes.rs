//! What changes in a lab: the objects and the files that its checks look at, and calls that they wait for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Resource,
    api::LogParams,
    core::{DynamicObject, GroupVersionKind},
    discovery::{self, Scope},
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    snapshot::WorkloadView,
    topics::{self, Kind, Topic},
    work::fingerprint,
    world::{Change, Changes},
};
use crate::{
    check::{Call, Refused},
    lab::{CheckKind, Lab, Seen, Source},
};

/// How many changes may wait; a reader that is slower blocks the watches, not the cluster.
const WAITING: usize = 64;
/// A cluster that refuses this many times in a row to be watched is taken for gone.
const REFUSALS: u32 = 3;
/// How long to wait before a log that ended is followed again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a kind is looked for that the cluster does not have yet: the student may define it.
const DEFINED: Duration = Duration::from_secs(2);
/// How often the work directory is looked at.
const FILES: Duration = Duration::from_millis(400);
/// Kinds that are watched, at most.
const KINDS: usize = 32;

/// The kinds that are watched for a check that does not say which it looks at.
const COMMON: &[(&str, &str)] = &[
    ("v1", "Service"),
    ("v1", "Namespace"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("apps/v1", "Deployment"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
];

/// Watches what the lab's checks look at, until the stream is dropped.
pub fn watch(client: kube::Client, lab: &Lab, work: &Path) -> Changes {
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut tasks = JoinSet::new();
    let followed = Followed::of(lab);
    let watched = topics::watched(lab);
    // Pods always: a face shows them.
    tasks.spawn(pods(client.clone(), lab.namespace.clone(), followed, sender.clone()));
    let here = kinds(&watched).into_iter().map(|kind| (kind, lab.namespace.clone()));
    for (kind, namespace) in here.chain(elsewhere(lab)).take(KINDS) {
        tasks.spawn(objects(client.clone(), namespace, kind, sender.clone()));
    }
    if watched.contains(&Topic::Files) || watched.contains(&Topic::All) {
        tasks.spawn(files(work.to_owned(), sender));
    }
    // The tasks end with the stream that owns them.
    let stream = futures::stream::unfold((receiver, tasks), async |(mut receiver, tasks)| {
        receiver.recv().await.map(|change| (change, (receiver, tasks)))
    });
    Box::pin(stream)
}

/// The kinds to watch besides pods.
fn kinds(watched: &BTreeSet<Topic>) -> BTreeSet<Kind> {
    let named = watched.iter().filter_map(|topic| match topic {
        Topic::Objects(kind) => Some(kind.clone()),
        _ => None,
    });
    let mut kinds: BTreeSet<Kind> = named.collect();
    if watched.contains(&Topic::All) {
        kinds.extend(COMMON.iter().map(|(version, kind)| Kind::new(version, kind)));
    }
    kinds.remove(&Kind::pod());
    kinds
}

/// What checks look at outside the lab's namespace.
fn elsewhere(lab: &Lab) -> BTreeSet<(Kind, String)> {
    let checks = lab.steps.iter().flat_map(|step| &step.checks);
    let named = checks.filter_map(|check| match &check.kind {
        CheckKind::Object(object) => {
            let kind = Kind::new(&object.api_version, &object.kind);
            Some((kind, object.namespace.clone()?))
        }
        CheckKind::Exec(exec) => Some((Kind::pod(), exec.namespace.clone()?)),
        _ => None,
    });
    named.filter(|(_, namespace)| *namespace != lab.namespace).collect()
}

/// Which workloads' logs are followed, and whose calls in them matter.
#[derive(Clone, Default)]
struct Followed {
    callees: BTreeMap<String, Callers>,
}

/// Whose calls matter.
#[derive(Clone)]
enum Callers {
    /// Those of these workloads.
    These(BTreeSet<String>),
    /// Everybody's.
    Anybody,
}

impl Default for Callers {
    fn default() -> Self {
        Callers::These(BTreeSet::new())
    }
}

impl Callers {
    fn count(&self, workload: Option<&str>) -> bool {
        match self {
            Callers::These(known) => workload.is_some_and(|workload| known.contains(workload)),
            Callers::Anybody => true,
        }
    }
}

impl Followed {
    fn of(lab: &Lab) -> Self {
        let mut callees: BTreeMap<String, Callers> = BTreeMap::new();
        for check in lab.steps.iter().flat_map(|step| &step.checks) {
            let (from, to) = match &check.kind {
                CheckKind::Http(http) if http.seen == Seen::ByStudent => (&http.from, http.to.to_string()),
                CheckKind::Database(database) => (&database.from, database.to.to_string()),
                _ => continue,
            };
            let from = match from {
                Source::Workload(workload) => Some(workload.to_string()),
                Source::Pod(_) | Source::Labels(_) => None,
            };
            let callers = callees.entry(to).or_default();
            *callers = match (std::mem::take(callers), from) {
                (Callers::These(mut known), Some(from)) => {
                    known.insert(from);
                    Callers::These(known)
                }
                // Which pod that is is known only when it is looked for.
                (_, None) | (Callers::Anybody, _) => Callers::Anybody,
            };
        }
        Self { callees }
    }
}

/// Addresses of the workloads, shared with those who follow logs.
type Addresses = Arc<Mutex<HashMap<String, String>>>;

async fn pods(client: kube::Client, namespace: String, followed: Followed, sender: mpsc::Sender<Change>) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let mut known: BTreeMap<String, Pod> = BTreeMap::new();
    let mut shown = Vec::new();
    let mut significant = Vec::new();
    let addresses = Addresses::default();
    let mut logs: BTreeMap<String, tokio::task::AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut events = pin!(watcher(api.clone(), watcher::Config::default()).default_backoff());
    let mut fresh: BTreeMap<String, Pod> = BTreeMap::new();
    let mut listing = false;
    let mut refusals = 0;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                refusals += 1;
                if refusals == REFUSALS {
                    // Nobody listens any more: as good.
                    let _ = sender.send(Change::Lost(error.to_string())).await;
                    return;
                }
                continue;
            }
        };
        refusals = 0;
        match event {
            watcher::Event::Init => {
                listing = true;
                fresh.clear();
            }
            watcher::Event::InitApply(pod) => {
                fresh.insert(name_of(&pod), pod);
            }
            watcher::Event::InitDone => {
                listing = false;
                known = std::mem::take(&mut fresh);
            }
            watcher::Event::Apply(pod) => {
                known.insert(name_of(&pod), pod);
            }
            watcher::Event::Delete(pod) => {
                known.remove(&name_of(&pod));
            }
        }
        if listing {
            continue;
        }
        let views: Vec<WorkloadView> = known.values().map(view).collect();
        {
            let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
            *addresses = views
                .iter()
                .filter_map(|view| Some((view.ip.clone()?, view.name.clone())))
                .collect();
        }
        for view in views.iter().filter(|view| view.ip.is_some()) {
            if let Some(callers) = followed.callees.get(&view.name)
                && !logs.contains_key(&view.pod)
            {
                let container = known.get(&view.pod).and_then(first_container);
                let follow = follow(
                    api.clone(),
                    (view.pod.clone(), container),
                    view.name.clone(),
                    callers.clone(),
                    addresses.clone(),
                    sender.clone(),
                );
                logs.insert(view.pod.clone(), tasks.spawn(follow));
            }
        }
        logs.retain(|pod, task| {
            let stays = known.contains_key(pod);
            if !stays {
                task.abort();
            }
            stays
        });
        if views != shown {
            shown.clone_from(&views);
            if sender.send(Change::Workloads(views)).await.is_err() {
                return;
            }
        }
        let now: Vec<_> = known.values().map(what_matters).collect();
        if now != significant {
            significant = now;
            if sender.send(Change::Topic(Topic::Objects(Kind::pod()))).await.is_err() {
                return;
            }
        }
    }
}

fn name_of<K: Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

fn first_container(pod: &Pod) -> Option<String> {
    pod.spec
        .as_ref()?
        .containers
        .first()
        .map(|container| container.name.clone())
}

/// What of a pod can change a check's outcome. The observer is an ephemeral container and its statuses: not here, so
/// that observing does not look like a change.
fn what_matters(pod: &Pod) -> serde_json::Value {
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    serde_json::json!({
        "name": pod.metadata.name,
        "labels": pod.metadata.labels,
        "deleting": pod.metadata.deletion_timestamp.is_some(),
        "containers": spec.map(|spec| &spec.containers),
        "account": spec.and_then(|spec| spec.service_account_name.as_ref()),
        "phase": status.and_then(|status| status.phase.as_ref()),
        "ip": status.and_then(|status| status.pod_ip.as_ref()),
        "ready": view(pod).ready,
    })
}

/// A pod as a face shows it.
fn view(pod: &Pod) -> WorkloadView {
    let name = name_of(pod);
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let waiting = containers.iter().find_map(|container| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        waiting.or_else(|| {
            state
                .terminated
                .as_ref()
                .and_then(|terminated| terminated.reason.clone())
        })
    });
    let phase = status.phase.unwrap_or_else(|| "Unknown".to_owned());
    let deleting = pod.metadata.deletion_timestamp.is_some();
    WorkloadView {
        name: pod
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get("app").cloned())
            .unwrap_or_else(|| name.clone()),
        pod: name,
        ip: status.pod_ip.filter(|ip| !ip.is_empty()),
        ready: !deleting && !containers.is_empty() && containers.iter().all(|container| container.ready),
        status: if deleting {
            "Terminating".to_owned()
        } else {
            waiting.unwrap_or(phase)
        },
    }
}

/// Follows a log for as long as the pod is there, and tells of calls by `callers`.
async fn follow(
    api: Api<Pod>,
    (pod, container): (String, Option<String>),
    workload: String,
    callers: Callers,
    addresses: Addresses,
    sender: mpsc::Sender<Change>,
) {
    let mut params = LogParams {
        follow: true,
        container,
        ..LogParams::default()
    };
    loop {
        if let Ok(stream) = api.log_stream(&pod, &params).await {
            let mut lines = stream.lines();
            while let Some(Ok(line)) = lines.next().await {
                let Some(caller) = student(&line) else {
                    continue;
                };
                let by = {
                    let addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
                    addresses.get(&caller).cloned()
                };
                if !callers.count(by.as_deref()) {
                    continue;
                }
                let told = Change::Topic(Topic::Calls(workload.clone()));
                if sender.send(told).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
        // What was there before was told already.
        params.tail_lines = Some(1);
    }
}

/// Whose call, answered or refused in the handshake, a line of a log tells of, by its address; `None` where a probe called.
fn student(line: &str) -> Option<String> {
    if let Some(call) = Call::read(line) {
        return call.probe.is_none().then_some(call.caller_ip);
    }
    let refused = Refused::read(line)?;
    (!refused.by_probe()).then_some(refused.caller_ip)
}

/// Watches the objects of a kind, in the lab's namespace or, where they are in none, everywhere.
async fn objects(client: kube::Client, namespace: String, kind: Kind, sender: mpsc::Sender<Change>) {
    let api = resolve(&client, &namespace, &kind).await;
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let (mut known, mut fresh) = (BTreeMap::new(), BTreeMap::new());
    let mut listing = false;
    let mut told: Option<BTreeMap<String, u64>> = None;
    while let Some(event) = events.next().await {
        match event {
            // It is tried again, and what changed meanwhile is in the next list.
            Err(_) => continue,
            Ok(watcher::Event::Init) => {
                listing = true;
                fresh.clear();
            }
            Ok(watcher::Event::InitApply(object)) => {
                fresh.insert(place(&object), content(object));
            }
            Ok(watcher::Event::InitDone) => {
                listing = false;
                known = std::mem::take(&mut fresh);
            }
            Ok(watcher::Event::Apply(object)) => {
                known.insert(place(&object), content(object));
            }
            Ok(watcher::Event::Delete(object)) => {
                known.remove(&place(&object));
            }
        }
        if listing || told.as_ref() == Some(&known) {
            continue;
        }
        let news = told.is_some() || !known.is_empty();
        told = Some(known.clone());
        let change = Change::Topic(Topic::Objects(kind.clone()));
        if news && sender.send(change).await.is_err() {
            return;
        }
    }
}

/// The API of a kind, once the cluster has it.
async fn resolve(client: &kube::Client, namespace: &str, kind: &Kind) -> Api<DynamicObject> {
    let (group, version) = kind.api_version.rsplit_once('/').unwrap_or(("", &kind.api_version));
    let wanted = GroupVersionKind::gvk(group, version, &kind.kind);
    loop {
        match discovery::pinned_kind(client, &wanted).await {
            Ok((resource, can)) if can.scope == Scope::Cluster => {
                return Api::all_with(client.clone(), &resource);
            }
            Ok((resource, _)) => return Api::namespaced_with(client.clone(), namespace, &resource),
            Err(_) => tokio::time::sleep(DEFINED).await,
        }
    }
}

fn place(object: &DynamicObject) -> String {
    format!(
        "{}/{}",
        object.metadata.namespace.as_deref().unwrap_or_default(),
        name_of(object)
    )
}

/// What an object says, as a number: without the marks that every write leaves.
fn content(mut object: DynamicObject) -> u64 {
    object.metadata.managed_fields = None;
    object.metadata.resource_version = None;
    object.metadata.generation = None;
    let mut hasher = DefaultHasher::new();
    // An object that came as JSON is JSON.
    serde_json::to_string(&object).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// Looks at the work directory: a change there is seldom, and a look at a few files is cheap.
async fn files(work: PathBuf, sender: mpsc::Sender<Change>) {
    let mut known = None;
    loop {
        let dir = work.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || fingerprint(&dir)).await else {
            return;
        };
        if known.replace(now).is_some_and(|known| known != now)
            && sender.send(Change::Topic(Topic::Files)).await.is_err()
        {
            return;
        }
        tokio::time::sleep(FILES).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_observer_and_a_write_without_news_are_no_change() {
        let pod = |rest: serde_json::Value| {
            let mut pod = json!({"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"containers": [{"name": "c"}]},
                "status": {"phase": "Running"}});
            for (key, value) in rest.as_object().unwrap() {
                *pod.pointer_mut(key).unwrap() = value.clone();
            }
            what_matters(&serde_json::from_value(pod).unwrap())
        };
        let plain = pod(json!({}));
        assert_eq!(
            pod(json!({"/spec": {"containers": [{"name": "c"}], "ephemeralContainers": [{"name": "ztlab-observer"}]}})),
            plain
        );
        assert_eq!(pod(json!({"/metadata/resourceVersion": "2"})), plain);
        assert_ne!(pod(json!({"/status": {"phase": "Failed"}})), plain);
        let policy = |version: &str, spec: &str| {
            content(
                serde_json::from_value(json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "p",
                "resourceVersion": version, "managedFields": [{"manager": version}]}, "spec": spec}))
                .unwrap(),
            )
        };
        assert_eq!(policy("1", "a"), policy("2", "a"));
        assert_ne!(policy("1", "a"), policy("1", "b"));
    }

    #[test]
    fn what_no_check_names_is_not_watched_and_an_unknown_check_watches_what_is_common() {
        let secret = Kind::new("v1", "Secret");
        let one = BTreeSet::from([Topic::Objects(secret.clone()), Topic::Objects(Kind::pod())]);
        assert_eq!(kinds(&one), BTreeSet::from([secret.clone()]));
        assert!(kinds(&BTreeSet::from([Topic::All])).contains(&secret));
        assert!(kinds(&BTreeSet::from([Topic::Answers])).is_empty());
    }
}
