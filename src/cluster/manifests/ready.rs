//! Waiting for workloads: what "Ready" means, and what is missing when it does not come.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    core::v1::Pod,
};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;

use crate::cluster::{ClusterError, ClusterHandle, Progress, ProgressEvent};

/// How long a topology may take. On a slow cluster an image may have to be pulled.
const LIMIT: Duration = Duration::from_secs(120);

/// How far a namespace's workloads are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Workloads that are ready.
    pub ready: u32,
    /// Of how many.
    pub total: u32,
    /// The others, each with what keeps it (`deployment ledger: 0 of 1 ready`, `pod ledger-x: ImagePullBackOff`).
    pub missing: Vec<String>,
}

impl Readiness {
    /// Judges Deployments and Pods: a Deployment is ready when its newest template is rolled out and available, and as many
    /// of its pods are Ready (its status may be of before a restore), a Pod when it is Ready or has Succeeded. A pod that is on its way out keeps its namespace from being ready.
    pub fn judge<'a>(
        deployments: impl IntoIterator<Item = &'a Deployment>,
        pods: impl IntoIterator<Item = &'a Pod>,
    ) -> Self {
        let mut judged = Self {
            ready: 0,
            total: 0,
            missing: Vec::new(),
        };
        let pods: Vec<&Pod> = pods.into_iter().collect();
        for deployment in deployments {
            let missing = deployment_missing(deployment).or_else(|| pods_missing(deployment, &pods));
            judged.add(missing.map(|what| format!("deployment {}: {what}", deployment.name_any())));
        }
        for pod in pods {
            judged.add(pod_missing(pod).map(|what| format!("pod {}: {what}", pod.name_any())));
        }
        judged
    }

    /// Adds what is missing of the pods of StatefulSets and DaemonSets, of which the latter want what their controller last
    /// reckoned.
    fn judge_sets(
        &mut self,
        stateful: &BTreeMap<String, StatefulSet>,
        daemons: &BTreeMap<String, DaemonSet>,
        pods: &[&Pod],
    ) {
        for set in stateful.values() {
            let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let missing = owned_missing(set.metadata.uid.as_deref(), wanted, pods);
            self.add(missing.map(|what| format!("statefulset {}: {what}", set.name_any())));
        }
        for set in daemons.values() {
            let wanted = set.status.as_ref().map_or(0, |status| status.desired_number_scheduled);
            let missing = owned_missing(set.metadata.uid.as_deref(), wanted, pods);
            self.add(missing.map(|what| format!("daemonset {}: {what}", set.name_any())));
        }
    }

    fn add(&mut self, missing: Option<String>) {
        self.total += 1;
        match missing {
            None => self.ready += 1,
            Some(text) => self.missing.push(text),
        }
    }

    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.missing.is_empty()
    }
}

fn deployment_missing(deployment: &Deployment) -> Option<String> {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Some("waits for its controller".to_owned());
    }
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let all = status.replicas.unwrap_or(0);
    if updated >= wanted && available >= wanted && all <= wanted {
        None
    } else {
        Some(format!("{} of {wanted} ready", available.min(updated)))
    }
}

/// What is missing of a Deployment's pods, whatever its status says.
fn pods_missing(deployment: &Deployment, pods: &[&Pod]) -> Option<String> {
    let spec = deployment.spec.as_ref()?;
    let labels = spec.template.metadata.as_ref()?.labels.as_ref()?;
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let is_its = |pod: &&&Pod| labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
    let ready = pods
        .iter()
        .filter(is_its)
        .filter(|pod| pod_missing(pod).is_none())
        .count();
    (ready < wanted).then(|| format!("{ready} of {wanted} pods ready"))
}

/// What is missing of the pods that a set owns.
fn owned_missing(set: Option<&str>, wanted: i32, pods: &[&Pod]) -> Option<String> {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    let is_its = |pod: &&&Pod| {
        pod.owner_references()
            .iter()
            .any(|owner| Some(owner.uid.as_str()) == set)
    };
    let ready = pods
        .iter()
        .filter(is_its)
        .filter(|pod| pod_missing(pod).is_none())
        .count();
    (ready < wanted).then(|| format!("{ready} of {wanted} pods ready"))
}

fn pod_missing(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("is ending".to_owned());
    }
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let condition = |name: &str| {
        status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == name)
    };
    if phase == "Succeeded" || condition("Ready").is_some_and(|ready| ready.status == "True") {
        return None;
    }
    let containers = status.into_iter().flat_map(|status| {
        status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten()
    });
    let waiting = containers
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref())
        .map(|waiting| {
            let reason = waiting.reason.clone().unwrap_or_default();
            match &waiting.message {
                Some(message) => format!("{reason} ({message})"),
                None => reason,
            }
        })
        .next();
    let unschedulable = condition("PodScheduled")
        .filter(|scheduled| scheduled.status == "False")
        .and_then(|scheduled| scheduled.message.clone());
    Some(
        waiting
            .or(unschedulable)
            .unwrap_or_else(|| format!("{phase}, not ready yet")),
    )
}

enum Seen {
    Deployment(Box<watcher::Event<Deployment>>),
    StatefulSet(Box<watcher::Event<StatefulSet>>),
    DaemonSet(Box<watcher::Event<DaemonSet>>),
    Pod(Box<watcher::Event<Pod>>),
    Failed(watcher::Error),
}

fn keep<K: ResourceExt + Clone>(held: &mut BTreeMap<String, K>, listed: &mut bool, event: watcher::Event<K>) {
    match event {
        watcher::Event::Init => held.clear(),
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
            held.insert(object.name_any(), object);
        }
        watcher::Event::Delete(object) => {
            held.remove(&object.name_any());
        }
        watcher::Event::InitDone => *listed = true,
    }
}

/// Waits until every Deployment, StatefulSet, DaemonSet and Pod of the namespace is ready.
///
/// # Errors
/// When that takes longer than two minutes, naming what is not ready and why.
pub async fn wait_ready(cluster: &ClusterHandle, namespace: &str, progress: &Progress) -> Result<(), ClusterError> {
    wait_ready_for(LIMIT, cluster, namespace, progress).await
}

/// The same for another time.
///
/// # Errors
/// When that takes longer than `limit`, naming what is not ready and why.
pub async fn wait_ready_for(
    limit: Duration,
    cluster: &ClusterHandle,
    namespace: &str,
    progress: &Progress,
) -> Result<(), ClusterError> {
    let mut last = None;
    match tokio::time::timeout(limit, watch(cluster, namespace, progress, &mut last)).await {
        Ok(result) => result,
        Err(_) => Err(ClusterError::NotReady {
            what: format!("namespace {namespace}"),
            seconds: limit.as_secs(),
            state: last.map_or_else(
                || "nothing was seen of it".to_owned(),
                |seen: Readiness| seen.missing.join("; "),
            ),
        }),
    }
}

async fn watch(
    cluster: &ClusterHandle,
    namespace: &str,
    progress: &Progress,
    last: &mut Option<Readiness>,
) -> Result<(), ClusterError> {
    let mut events = futures::stream::select_all([
        changes(cluster, namespace, Seen::Deployment),
        changes(cluster, namespace, Seen::StatefulSet),
        changes(cluster, namespace, Seen::DaemonSet),
        changes(cluster, namespace, Seen::Pod),
    ]);
    let (mut deployments, mut stateful, mut daemons, mut pods) = Default::default();
    let mut listed = [false; 4];
    while let Some(event) = events.next().await {
        match event {
            Seen::Deployment(event) => keep(&mut deployments, &mut listed[0], *event),
            Seen::StatefulSet(event) => keep(&mut stateful, &mut listed[1], *event),
            Seen::DaemonSet(event) => keep(&mut daemons, &mut listed[2], *event),
            Seen::Pod(event) => keep(&mut pods, &mut listed[3], *event),
            Seen::Failed(error) => {
                tracing::debug!(%error, "watch failed; it is tried again");
                continue;
            }
        }
        if listed.contains(&false) {
            continue;
        }
        let mut seen = Readiness::judge(deployments.values(), pods.values());
        seen.judge_sets(&stateful, &daemons, &pods.values().collect::<Vec<_>>());
        if last.as_ref() != Some(&seen) {
            progress(ProgressEvent {
                phase: "wait for pods".to_owned(),
                done: seen.ready,
                total: seen.total,
                detail: seen.missing.first().cloned().unwrap_or_default(),
            });
        }
        if seen.is_ready() {
            return Ok(());
        }
        *last = Some(seen);
    }
    Ok(())
}

/// What is there of a kind, and how it changes.
fn changes<'a, K>(
    cluster: &ClusterHandle,
    namespace: &str,
    seen: impl Fn(Box<watcher::Event<K>>) -> Seen + Send + 'a,
) -> BoxStream<'a, Seen>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), namespace);
    watcher(api, watcher::Config::default())
        .default_backoff()
        .map(move |event| event.map_or_else(Seen::Failed, |event| seen(Box::new(event))))
        .boxed()
}

/// Waits until a pod of the namespace cannot get its image, and says which.
pub async fn never_pulled(cluster: &ClusterHandle, namespace: &str) -> String {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let mut events = watcher(pods, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod)) = event else {
            continue;
        };
        if let Some(image) = unpulled(&pod) {
            return image;
        }
    }
    std::future::pending().await
}

/// The image that the node gave up on for now. A first `ErrImagePull` may be a moment's trouble; what is tried again later is not.
fn unpulled(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    let waits = |container: &&k8s_openapi::api::core::v1::ContainerStatus| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        matches!(
            reason,
            Some("ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull")
        )
    };
    containers.filter(waits).map(|container| container.image.clone()).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_image_that_is_given_up_on_is_named() {
        let of = |reason: &str| {
            pod(
                json!({"status": {"containerStatuses": [{"name": "c", "image": "ztlab.dev/x:1", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": reason}}}]}}),
            )
        };
        assert_eq!(unpulled(&of("ImagePullBackOff")).as_deref(), Some("ztlab.dev/x:1"));
        assert_eq!(unpulled(&of("ErrImagePull")), None);
        assert_eq!(unpulled(&pod(json!({}))), None);
    }

    fn deployment(generation: i64, observed: i64, status: serde_json::Value) -> Deployment {
        let mut value = json!({"metadata": {"name": "d", "generation": generation}, "spec": {"replicas": 2,
            "selector": {}, "template": {}}, "status": status});
        value["status"]["observedGeneration"] = json!(observed);
        serde_json::from_value(value).unwrap()
    }

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_deployment_is_ready_when_its_newest_template_is_out() {
        let full = json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        for (deployment, expected) in [
            (deployment(1, 1, full.clone()), None),
            (deployment(2, 1, full), Some("waits for its controller")),
            (
                deployment(
                    1,
                    1,
                    json!({"replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}),
                ),
                Some("2 of 2 ready"),
            ),
            (
                deployment(
                    1,
                    1,
                    json!({"replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}),
                ),
                Some("1 of 2 ready"),
            ),
            (deployment(1, 1, json!({})), Some("0 of 2 ready")),
        ] {
            assert_eq!(deployment_missing(&deployment).as_deref(), expected);
        }
    }

    #[test]
    fn a_set_is_ready_when_the_pods_that_it_owns_are() {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "spire-server", "uid": "u-1"}, "spec": {"replicas": 1, "serviceName": "s",
                "selector": {"matchLabels": {"app": "s"}}, "template": {"metadata": {"labels": {"app": "s"}}}},
            "status": {"replicas": 1, "readyReplicas": 1},
        }))
        .unwrap();
        let daemons: DaemonSet = serde_json::from_value(json!({
            "metadata": {"name": "spire-agent", "uid": "u-2"},
            "status": {"currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 1},
        }))
        .unwrap();
        let pod = |owner: &str, ready: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": owner, "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Set", "name": "s", "uid": owner}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap()
        };
        let (stateful, daemons) = (
            BTreeMap::from([("spire-server".to_owned(), set)]),
            BTreeMap::from([("spire-agent".to_owned(), daemons)]),
        );
        let judged = |pods: &[&Pod]| {
            let mut judged = Readiness::judge([], pods.iter().copied());
            judged.judge_sets(&stateful, &daemons, pods);
            judged.missing
        };
        let (server, agent, waits) = (pod("u-1", "True"), pod("u-2", "True"), pod("u-2", "False"));
        assert!(judged(&[&server, &agent]).is_empty());
        let none = "daemonset spire-agent: 0 of 1 pods ready";
        assert_eq!(judged(&[&server]), [none]);
        assert_eq!(judged(&[&server, &waits])[1..], [none.to_owned()]);
        assert_eq!(judged(&[]), ["statefulset spire-server: 0 of 1 pods ready", none]);
    }

    #[test]
    fn a_status_of_before_does_not_make_a_deployment_ready() {
        let status = json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        let mut deployment = deployment(1, 1, status);
        if let Some(spec) = &mut deployment.spec {
            spec.template = serde_json::from_value(json!({"metadata": {"labels": {"app": "d"}}})).unwrap();
        }
        let ready = |name: &str| {
            pod(
                json!({"metadata": {"name": name, "labels": {"app": "d", "pod-template-hash": "1"}},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
            )
        };
        let other = pod(json!({"metadata": {"name": "o"}, "status": {"phase": "Succeeded"}}));
        let judged = Readiness::judge([&deployment], [&ready("a"), &other]);
        assert_eq!(judged.missing, ["deployment d: 1 of 2 pods ready"]);
        assert!(Readiness::judge([&deployment], [&ready("a"), &ready("b")]).is_ready());
    }

    #[test]
    fn a_pod_says_what_keeps_it() {
        for (pod, expected) in [
            (
                pod(json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})),
                None,
            ),
            (pod(json!({"status": {"phase": "Succeeded"}})), None),
            (pod(json!({})), Some("Pending, not ready yet")),
            (
                pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
                Some("is ending"),
            ),
            (
                pod(
                    json!({"status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ErrImagePull", "message": "no stand-in"}}}]}}),
                ),
                Some("ErrImagePull (no stand-in)"),
            ),
            (
                pod(
                    json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]}}),
                ),
                Some("no node"),
            ),
        ] {
            assert_eq!(pod_missing(&pod).as_deref(), expected);
        }
    }

    #[test]
    fn nothing_there_is_ready() {
        assert!(Readiness::judge([], []).is_ready());
    }
}
