//! The links of the chain from a pod to its SVID, but for the entry: the pod, its way to the agent, the agent, the server.

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec};
use kube::ResourceExt;

use super::{CSI_DRIVER, Step, step};
use crate::{
    posture::Answer,
    spire::{
        absence::{self, Absence},
        find::Part,
        gather::World,
        model::Agent,
        registration::{Reach, is_of},
    },
};

/// Where the Workload API is, for programs (SPIFFE Workload Endpoint section 4).
const SOCKET_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

pub(super) fn runs(pod: &Pod, warning: Option<&str>) -> Step {
    const WHAT: &str = "the pod runs";
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    if pod.metadata.deletion_timestamp.is_some() {
        return step(WHAT, Answer::No, "it is being deleted", None);
    }
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("unknown");
    if phase == "Running" {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        return step(WHAT, Answer::Yes, format!("on the node {}", node.unwrap_or("?")), None);
    }
    let waits = status
        .and_then(|status| status.container_statuses.as_ref())
        .into_iter()
        .flatten()
        .find_map(|one| one.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let mut says = format!("its phase is {phase}");
    if let Some(reason) = waits {
        says += &format!(", it waits for {reason}");
    }
    if let Some(warning) = warning {
        says += &format!("; the last warning: {}", crate::text::one_line(warning));
    }
    let next = format!("see what keeps it: `kubectl -n {namespace} describe pod {name}`");
    step(WHAT, Answer::No, says, Some(next))
}

/// Directories of nodes in which agents have their sockets.
fn socket_directories(world: &World) -> Vec<String> {
    let is = |part: &Part, pod: &Pod| part.pod == pod.name_any() && pod.namespace().as_deref() == Some(&part.namespace);
    let agents = world
        .pods
        .iter()
        .filter(|pod| world.found.agents.iter().any(|part| is(part, pod)));
    let volumes = agents.filter_map(|pod| pod.spec.as_ref()?.volumes.as_ref()).flatten();
    let mut paths: Vec<String> = volumes
        .filter_map(|volume| Some(volume.host_path.as_ref()?.path.trim_end_matches('/').to_owned()))
        .filter(|path| path.contains("spire") || path.contains("spiffe"))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The volumes by which a pod reaches the Workload API.
fn api_volumes<'a>(world: &World, spec: &'a PodSpec) -> Vec<&'a str> {
    let sockets = socket_directories(world);
    let volumes = spec.volumes.iter().flatten();
    let of_it = volumes.filter(|volume| {
        let csi = volume.csi.as_ref().is_some_and(|csi| csi.driver == CSI_DRIVER);
        let host = volume.host_path.as_ref().is_some_and(|host| {
            let path = host.path.trim_end_matches('/');
            sockets
                .iter()
                .any(|socket| path == socket || path.starts_with(&format!("{socket}/")))
        });
        csi || host
    });
    of_it.map(|volume| volume.name.as_str()).collect()
}

/// Where a container has one of these volumes.
pub(super) fn mounted<'a>(container: &'a Container, volumes: &[&str]) -> Option<&'a str> {
    let mounts = container.volume_mounts.iter().flatten();
    let mut of_it = mounts.filter(|mount| volumes.contains(&mount.name.as_str()));
    of_it.next().map(|mount| mount.mount_path.as_str())
}

pub(super) fn can_ask(world: &World, pod: &Pod) -> Step {
    const WHAT: &str = "it can reach the Workload API";
    let Some(spec) = &pod.spec else {
        return step(WHAT, Answer::No, "it has no spec", None);
    };
    let volumes = api_volumes(world, spec);
    let give = "give its template a volume `csi: {driver: csi.spiffe.io, readOnly: true}` and mount it, as at \
                /spiffe-workload-api";
    if volumes.is_empty() {
        let says = format!(
            "it has no volume of the CSI driver {CSI_DRIVER}, nor the agent's directory of the node: it cannot ask the agent"
        );
        return step(WHAT, Answer::No, says, Some(give.to_owned()));
    }
    let in_them: Vec<(&Container, &str)> = spec
        .containers
        .iter()
        .filter_map(|container| Some((container, mounted(container, &volumes)?)))
        .collect();
    if in_them.is_empty() {
        let says = format!(
            "it has the volume `{}`, and no container mounts it: none can ask the agent",
            volumes.join("`, `")
        );
        return step(
            WHAT,
            Answer::No,
            says,
            Some("mount it, as at /spiffe-workload-api".to_owned()),
        );
    }
    for (container, path) in &in_them {
        if let Some(socket) = endpoint(container)
            && !socket.starts_with(&format!("{}/", path.trim_end_matches('/')))
        {
            let says = format!(
                "{SOCKET_VARIABLE} of the container {} is {socket}, and the Workload API is mounted at {path}",
                container.name
            );
            let next = format!("set {SOCKET_VARIABLE} to unix://{path}/ and the socket's name");
            return step(WHAT, Answer::No, says, Some(next));
        }
    }
    let (container, path) = in_them[0];
    let says = format!("the container {} has the agent's socket at {path}", container.name);
    step(WHAT, Answer::Yes, says, None)
}

/// The path that a container's program is told to ask at.
fn endpoint(container: &Container) -> Option<&str> {
    let mut variables = container.env.iter().flatten();
    let value = variables.find(|one| one.name == SOCKET_VARIABLE)?.value.as_deref()?;
    value.strip_prefix("unix://").or_else(|| value.strip_prefix("unix:"))
}

pub(super) fn agent_there(world: &World, node: Option<&str>) -> Step {
    const WHAT: &str = "an agent is ready on its node";
    let Some(node) = node else {
        return step(WHAT, Answer::No, "the pod has no node yet", None);
    };
    let Some(part) = world.found.agent_on(node) else {
        if let Some(absence) = absence::agents(&world.found, &world.scope) {
            return absent(WHAT, absence);
        }
        let says = format!(
            "no SPIRE agent runs on the node {node}; there are agents on {}",
            agent_nodes(world)
        );
        let namespace = &world.found.agents[0].namespace;
        let next = format!(
            "see why the agents' DaemonSet leaves the node out (taints, nodeSelector): `kubectl -n {namespace} describe daemonset`"
        );
        return step(WHAT, Answer::No, says, Some(next));
    };
    let place = format!("{}/{}", part.namespace, part.pod);
    if part.ready {
        return step(WHAT, Answer::Yes, format!("{place} on the node {node}"), None);
    }
    absent(
        WHAT,
        absence::not_ready("the agent", part, &format!(" on the node {node}")),
    )
}

fn absent(what: &'static str, absence: Absence) -> Step {
    let holds = if absence.known {
        Answer::No
    } else {
        Answer::Undetermined
    };
    step(what, holds, absence.says, Some(absence.next))
}

fn agent_nodes(world: &World) -> String {
    let nodes: Vec<&str> = world
        .found
        .agents
        .iter()
        .filter_map(|part| part.node.as_deref())
        .collect();
    nodes.join(", ")
}

pub(super) fn server_answers(world: &World) -> Step {
    const WHAT: &str = "the SPIRE server answers";
    let absence = absence::server(&world.found, &world.scope);
    match (&world.answers.health, world.found.server(), absence) {
        (Ok(said), Some(part), _) => step(
            WHAT,
            Answer::Yes,
            format!("{}/{}: {said}", part.namespace, part.pod),
            None,
        ),
        (Err(why), _, Some(absence)) => absent(
            WHAT,
            Absence {
                says: why.clone(),
                ..absence
            },
        ),
        // A pod that is ready and cannot be asked is a matter of rights, not of the server.
        (Err(why), Some(part), None) => {
            let next = format!(
                "see how it is: `kubectl -n {} get pod {}`, `kubectl -n {} logs {} -c {}`; whoever asks it needs the right to \
                 exec in its pod",
                part.namespace, part.pod, part.namespace, part.pod, part.container
            );
            step(WHAT, Answer::Undetermined, why.clone(), Some(next))
        }
        (_, None, _) => step(WHAT, Answer::Undetermined, "the server did not say", None),
    }
}

pub(super) fn agent_known(world: &World, node: Option<&str>, reach: &Reach<'_>) -> Step {
    const WHAT: &str = "the server has attested that agent";
    let agents = match &world.answers.agents {
        Ok(agents) => agents,
        Err(_) => return step(WHAT, Answer::Undetermined, "the server did not say", None),
    };
    let node = world.nodes.iter().find(|one| one.metadata.name.as_deref() == node);
    let Some(agent) = reach.agent() else {
        let banned = node.and_then(|node| agents.iter().find(|agent| is_of(agent, node)));
        return match (banned, node) {
            (Some(agent), _) => {
                let says = format!("the agent {} is banned", agent.id);
                let next = "let it attest again: `spire-server agent evict -spiffeID` with its id".to_owned();
                step(WHAT, Answer::No, says, Some(next))
            }
            (None, Some(node)) => unattested(world, node, agents),
            (None, None) if world.nodes_unknown.is_some() => {
                let says = "which agent is that of its node is not known: you may not list nodes";
                step(WHAT, Answer::Undetermined, says, None)
            }
            (None, None) => step(WHAT, Answer::No, "the pod has no node yet", None),
        };
    };
    if agent.expires_at <= world.now_s {
        let says = format!("the SVID of {} ended, and it did not attest again", agent.id);
        return step(
            WHAT,
            Answer::No,
            says,
            Some("see its log: it says why the server refuses it".to_owned()),
        );
    }
    step(WHAT, Answer::Yes, agent.id.to_string(), None)
}

fn unattested(world: &World, node: &Node, agents: &[Agent]) -> Step {
    let name = node.name_any();
    let says = format!(
        "of the {} agents that the server knows none is that of the node {name}",
        agents.len()
    );
    // Agents that prove their node in another way than k8s_psat are not known by the node's UID.
    let others = agents.iter().any(|agent| agent.attestation_type != "k8s_psat");
    let holds = if others { Answer::Undetermined } else { Answer::No };
    let next = world.found.agent_on(&name).map(|part| {
        format!(
            "see why it is refused: `kubectl -n {} logs {} -c {}`",
            part.namespace, part.pod, part.container
        )
    });
    step("the server has attested that agent", holds, says, next)
}
