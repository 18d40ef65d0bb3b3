//! Where SPIRE's parts run, known by the images of containers and by their names. Pure.
//!
//! Labels, namespaces and names of objects differ between SPIRE's guides, the Helm charts and these manifests; the images'
//! names do not, wherever they are mirrored to.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        core::v1::{Container, ContainerStatus, Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use serde::Serialize;

/// What is looked for, for a message.
pub const LOOKED_FOR: &str = "a running pod with a container whose image or name is `spire-server`, in every namespace, and what is \
                              to run one";

/// The annotation of a pod whose image is a stand-in's.
const STAND_IN: &str = "ztlab.dev/stand-in";

/// A container that is a part of SPIRE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// The pod's node.
    pub node: Option<String>,
    /// Whether the pod is ready.
    pub ready: bool,
    /// Whether this is not SPIRE's own program but a stand-in for it.
    pub stand_in: bool,
    /// What it waits for, where it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// Whether a DaemonSet put it on its node: an agent beside a single program serves nobody else.
    pub daemon: bool,
}

/// SPIRE's parts in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Servers.
    pub servers: Vec<Part>,
    /// Agents.
    pub agents: Vec<Part>,
    /// Controller managers.
    pub managers: Vec<Part>,
    /// What is to run servers and agents, looked at where one of them is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<Declared>,
}

/// An object that is to run one of SPIRE's programs, whether or not it has pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Declared {
    /// `spire-server` or `spire-agent`.
    pub program: String,
    /// `StatefulSet`, `Deployment` or `DaemonSet`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many pods it is to have.
    pub wants: i32,
}

impl Found {
    /// The server to ask: a ready one before others.
    pub fn server(&self) -> Option<&Part> {
        self.servers.iter().find(|part| part.ready).or(self.servers.first())
    }

    /// The namespaces that SPIRE itself runs in.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let parts = self.servers.iter().chain(&self.agents).chain(&self.managers);
        parts.map(|part| part.namespace.as_str())
    }

    /// The agent of a node.
    pub fn agent_on(&self, node: &str) -> Option<&Part> {
        let on_it = self.agents.iter().filter(|part| part.node.as_deref() == Some(node));
        on_it.max_by_key(|part| (part.daemon, part.ready))
    }
}

/// Finds SPIRE's parts among the pods of a cluster.
pub fn find(pods: &[Pod]) -> Found {
    let mut found = Found::default();
    for pod in pods.iter().filter(|pod| lives(pod)) {
        for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
            let list = match program(container) {
                Some("spire-server") => &mut found.servers,
                Some("spire-agent") => &mut found.agents,
                Some("spire-controller-manager") => &mut found.managers,
                _ => continue,
            };
            list.push(Part {
                namespace: pod.namespace().unwrap_or_default(),
                pod: pod.name_any(),
                container: container.name.clone(),
                node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
                ready: ready(pod),
                waits: waits(pod),
                stand_in: pod.annotations().contains_key(STAND_IN),
                daemon: pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet"),
            });
        }
    }
    found
}

/// Finds what is to run SPIRE's servers and agents.
pub fn declared(stateful: &[StatefulSet], deployments: &[Deployment], daemons: &[DaemonSet]) -> Vec<Declared> {
    let one = |kind: &str, meta: &ObjectMeta, wants: Option<i32>, template: Option<&PodTemplateSpec>| {
        let containers = template.iter().filter_map(|template| template.spec.as_ref());
        let programs = containers.flat_map(|spec| &spec.containers).filter_map(program);
        let found = programs.filter(|name| *name != "spire-controller-manager");
        found
            .map(|program| Declared {
                program: program.to_owned(),
                kind: kind.to_owned(),
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
                wants: wants.unwrap_or(1),
            })
            .collect::<Vec<_>>()
    };
    let stateful = stateful.iter().flat_map(|set| {
        let spec = set.spec.as_ref();
        one(
            "StatefulSet",
            &set.metadata,
            spec.and_then(|spec| spec.replicas),
            spec.map(|spec| &spec.template),
        )
    });
    let deployments = deployments.iter().flat_map(|set| {
        let spec = set.spec.as_ref();
        one(
            "Deployment",
            &set.metadata,
            spec.and_then(|spec| spec.replicas),
            spec.map(|spec| &spec.template),
        )
    });
    let daemons = daemons.iter().flat_map(|set| {
        let wants = set.status.as_ref().map(|status| status.desired_number_scheduled);
        one(
            "DaemonSet",
            &set.metadata,
            wants,
            set.spec.as_ref().map(|spec| &spec.template),
        )
    });
    stateful.chain(deployments).chain(daemons).collect()
}

/// What a pod that is not ready waits for.
fn waits(pod: &Pod) -> Option<String> {
    if ready(pod) {
        return None;
    }
    let status = pod.status.as_ref()?;
    let said = |reason: Option<&String>, message: Option<&String>| {
        let both: Vec<&str> = [reason, message].into_iter().flatten().map(String::as_str).collect();
        crate::text::one_line(&both.join(": "))
    };
    let mut conditions = status.conditions.iter().flatten();
    if let Some(not) = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "False") {
        return Some(format!("not scheduled: {}", said(None, not.message.as_ref())));
    }
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    let mut waiting = all
        .clone()
        .filter_map(|one| Some((one, one.state.as_ref()?.waiting.as_ref()?)));
    if let Some((one, waiting)) = waiting.next() {
        let why = said(waiting.reason.as_ref(), waiting.message.as_ref());
        return Some(format!("the container {} waits: {why}", one.name));
    }
    let running = |one: &&ContainerStatus| one.state.as_ref().is_some_and(|state| state.running.is_some());
    let mut unready = all.filter(running).filter(|one| !one.ready);
    let one = unready.next()?;
    let restarted = match one.restart_count {
        0 => String::new(),
        1 => "; it was restarted once".to_owned(),
        count => format!("; it was restarted {count} times"),
    };
    Some(format!(
        "the container {} runs and does not pass its readiness check{restarted}",
        one.name
    ))
}

/// Which of SPIRE's programs a container runs.
fn program(container: &Container) -> Option<&'static str> {
    let image = container.image.as_deref().map(repository).unwrap_or_default();
    ["spire-server", "spire-agent", "spire-controller-manager"]
        .into_iter()
        .find(|name| image == *name || container.name == *name)
}

/// The last part of an image's repository: `spire-server` of `mirror.example:5000/spiffe/spire-server:1.15.3@sha256:…`.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(':').next().unwrap_or(last)
}

/// Whether a pod is there, and not on its way out.
pub(super) fn lives(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a pod's condition `Ready` is true.
pub(super) fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spire::testing::read;

    #[test]
    fn parts_are_known_by_their_images_and_containers_wherever_they_are() {
        let pod = |name: &str, containers: serde_json::Value, status: serde_json::Value| -> Pod {
            read(
                json!({"metadata": {"name": name, "namespace": "any", "annotations": {"ztlab.dev/stand-in": "spire"}},
                "spec": {"nodeName": "n1", "containers": containers}, "status": status}),
            )
        };
        let running = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let pods = [
            pod(
                "down-0",
                json!([{"name": "server", "image": "mirror.example:5000/a/spire-server:1.15.3@sha256:abc"}]),
                json!({"phase": "Running"}),
            ),
            pod(
                "helm-0",
                json!([{"name": "spire-server", "image": "ours/identity:7"},
                    {"name": "cm", "image": "ghcr.io/spiffe/spire-controller-manager"}]),
                running.clone(),
            ),
            pod("agent-x", json!([{"name": "spire-agent"}]), running.clone()),
            pod("old", json!([{"name": "spire-server"}]), json!({"phase": "Failed"})),
            pod(
                "orders",
                json!([{"name": "main", "image": "spire-server-exporter:1"}]),
                running,
            ),
        ];
        let found = find(&pods);
        let names = |parts: &[Part]| -> Vec<String> { parts.iter().map(|part| part.pod.clone()).collect() };
        assert_eq!(names(&found.servers), ["down-0", "helm-0"]);
        assert_eq!(
            (names(&found.agents), names(&found.managers)),
            (vec!["agent-x".into()], vec!["helm-0".into()])
        );
        assert_eq!(found.server().unwrap().pod, "helm-0", "a ready one first");
        let daemon = json!({"metadata": {"name": "agent-d", "namespace": "any", "ownerReferences": [{"apiVersion": "apps/v1",
            "kind": "DaemonSet", "name": "d", "uid": "u"}]}, "spec": {"nodeName": "n1", "containers": [{"name": "spire-agent"}]}});
        let both = [pods[2].clone(), read(daemon), pods[2].clone()];
        assert_eq!(
            find(&both).agent_on("n1").unwrap().pod,
            "agent-d",
            "not the one beside a single program"
        );
        assert!(found.server().unwrap().stand_in && found.agent_on("n1").is_some() && found.agent_on("n2").is_none());
    }
}
