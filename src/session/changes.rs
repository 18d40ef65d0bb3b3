//! What changes in a lab's namespace: pods, Services, and calls that checks wait for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{AsyncBufReadExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api, Resource,
    api::LogParams,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    snapshot::WorkloadView,
    world::{Change, Changes},
};
use crate::{
    check::Call,
    lab::{CheckKind, Lab, Seen},
};

/// How many changes may wait; a reader that is slower blocks the watches, not the cluster.
const WAITING: usize = 64;
/// A cluster that refuses this many times in a row to be watched is taken for gone.
const REFUSALS: u32 = 3;
/// How long to wait before a log that ended is followed again.
const AGAIN: Duration = Duration::from_millis(500);

/// Watches until the stream is dropped.
pub fn watch(client: kube::Client, lab: &Lab) -> Changes {
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut tasks = JoinSet::new();
    let followed = Followed::of(lab);
    tasks.spawn(pods(client.clone(), lab.namespace.clone(), followed, sender.clone()));
    tasks.spawn(services(client, lab.namespace.clone(), sender));
    // The tasks end with the stream that owns them.
    let stream = futures::stream::unfold((receiver, tasks), async |(mut receiver, tasks)| {
        receiver.recv().await.map(|change| (change, (receiver, tasks)))
    });
    Box::pin(stream)
}

/// Which workloads' logs are followed, and whose calls in them matter.
#[derive(Clone, Default)]
struct Followed {
    callees: BTreeMap<String, BTreeSet<String>>,
}

impl Followed {
    fn of(lab: &Lab) -> Self {
        let mut callees: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for check in lab.steps.iter().flat_map(|step| &step.checks) {
            let (from, to) = match &check.kind {
                CheckKind::Http(http) if http.seen == Seen::ByStudent => (&http.from, &http.to),
                CheckKind::Database(database) => (&database.from, &database.to),
                _ => continue,
            };
            callees.entry(to.to_string()).or_default().insert(from.to_string());
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
                    view.pod.clone(),
                    container,
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
            if sender.send(Change::Cluster).await.is_err() {
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
    pod: String,
    container: Option<String>,
    callers: BTreeSet<String>,
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
                let by = Call::read(&line).filter(|call| call.probe.is_none()).and_then(|call| {
                    let addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
                    addresses.get(&call.caller_ip).cloned()
                });
                if by.is_some_and(|workload| callers.contains(&workload)) && sender.send(Change::Cluster).await.is_err()
                {
                    return;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
        // What was there before was told already.
        params.tail_lines = Some(1);
    }
}

async fn services(client: kube::Client, namespace: String, sender: mpsc::Sender<Change>) {
    let api: Api<Service> = Api::namespaced(client, &namespace);
    let mut events = pin!(settled(watcher(api, watcher::Config::default()).default_backoff()));
    while events.next().await.is_some() {
        if sender.send(Change::Cluster).await.is_err() {
            return;
        }
    }
}

/// Only what changes after the first list.
fn settled<K, E>(events: impl Stream<Item = Result<watcher::Event<K>, E>>) -> impl Stream<Item = watcher::Event<K>> {
    events.filter_map(async |event| match event {
        Ok(event @ (watcher::Event::Apply(_) | watcher::Event::Delete(_))) => Some(event),
        _ => None,
    })
}
