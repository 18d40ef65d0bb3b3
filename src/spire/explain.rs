//! Why a pod has the identity it has, or none: each link of the chain from the pod to its SVID, and what the first broken one
//! asks for. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec};
use kube::ResourceExt;
use serde::Serialize;

use super::{
    find::Part,
    gather::World,
    model::{Agent, Selector},
    registration::{Compared, Reach, compare, is_of},
    rules::Verdict as RuleVerdict,
    seen::Sight,
    selectors::selectors,
};
use crate::{identity::SpiffeId, posture::Answer};

/// The CSI driver that mounts the Workload API's socket.
const CSI_DRIVER: &str = "csi.spiffe.io";
/// Where the Workload API is, for programs (SPIFFE Workload Endpoint section 4).
const SOCKET_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It gets an identity, or was seen with one that is renewed.
    Identified,
    /// It was seen with one, and will not get the next.
    Fading,
    /// It gets none.
    Nothing,
    /// What is known does not tell.
    Undetermined,
}

/// A link of the chain from a pod to its SVID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is about.
    pub what: &'static str,
    /// Whether it holds.
    pub holds: Answer,
    /// Why.
    pub says: String,
    /// What to do, where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Why a pod has the identity it has, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub because: String,
    /// The identities that entries give it.
    pub ids: Vec<SpiffeId>,
    /// The links of the chain, in order.
    pub steps: Vec<Step>,
    /// What the pod shows to the agent.
    pub selectors: Vec<Selector>,
    /// The container that these are of.
    pub container: String,
    /// Entries that match, each with the ClusterSPIFFEIDs that select the pod where it was made by one.
    pub matching: Vec<Matched>,
    /// Entries that almost match.
    pub near: Vec<Compared>,
    /// How many entries there are; `None` where that is not known.
    pub entries: Option<usize>,
    /// The ClusterSPIFFEIDs, those that select the pod first, then those that almost do.
    pub rules: Vec<RuleVerdict>,
    /// Why the ClusterSPIFFEIDs are not known, where they are not.
    pub rules_unknown: Option<String>,
    /// What it showed in a handshake.
    pub seen: Sight,
}

/// An entry that matches, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matched {
    /// The entry.
    #[serde(flatten)]
    pub compared: Compared,
    /// Where it comes from, in words.
    pub origin: String,
}

/// Explains a pod's identity. `warning` is the last warning event about it.
pub fn explain(world: &World, pod: &Pod, warning: Option<&str>, seen: Sight) -> Explanation {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let (no_entries, no_agents) = (Vec::new(), Vec::new());
    let entries = world.answers.entries.as_ref().unwrap_or(&no_entries);
    let agents = world.answers.agents.as_ref().unwrap_or(&no_agents);
    let reach = Reach::of(node, &world.nodes, agents, entries, world.now_s);
    let (matching, near) = compare(entries, pod, &world.pods, &reach, world.now_s);
    let rules = rules(world, pod);
    let container = container(pod);
    let steps = vec![
        runs(pod, warning),
        can_ask(world, pod),
        agent_there(world, node),
        server_answers(world),
        agent_known(world, node, &reach),
        entry_there(world, pod, &reach, &matching, &near, &rules),
    ];
    let mut ids: Vec<SpiffeId> = matching.iter().map(|one| one.entry.spiffe_id.clone()).collect();
    ids.dedup();
    let (verdict, mut because) = verdict(&steps, &ids, &seen, world.now_s);
    if verdict == Verdict::Nothing && world.found.servers.is_empty() && world.found.agents.is_empty() {
        // Whatever else is missing: this comes first.
        "there is no SPIRE in the cluster, neither a server nor an agent".clone_into(&mut because);
    }
    Explanation {
        namespace: pod.namespace().unwrap_or_default(),
        pod: pod.name_any(),
        verdict,
        because,
        ids,
        steps,
        selectors: selectors(pod, &container).into_iter().collect(),
        container,
        matching: matching
            .into_iter()
            .map(|compared| Matched {
                origin: origin(world, &compared, &rules),
                compared,
            })
            .collect(),
        near,
        entries: world.answers.entries.as_ref().ok().map(Vec::len),
        rules,
        rules_unknown: world.rules.as_ref().err().cloned(),
        seen,
    }
}

fn step(what: &'static str, holds: Answer, says: impl Into<String>, next: Option<String>) -> Step {
    Step {
        what,
        holds,
        says: says.into(),
        next,
    }
}

fn verdict(steps: &[Step], ids: &[SpiffeId], seen: &Sight, now_s: i64) -> (Verdict, String) {
    let broken = steps.iter().find(|step| step.holds == Answer::No);
    let unknown = steps.iter().find(|step| step.holds == Answer::Undetermined);
    let shown = seen.svid().filter(|svid| svid.not_after > now_s);
    let id = shown.and_then(|svid| svid.spiffe_id.as_ref());
    let all = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    match (id, broken, unknown) {
        (Some(id), None, None) if ids.contains(id) => (
            Verdict::Identified,
            format!("{id}, which a handshake showed and an entry gives"),
        ),
        (Some(id), None, None) => (
            Verdict::Identified,
            format!("it shows {id}, which no entry gives it any more; the entries give {all}"),
        ),
        (Some(id), Some(step), _) => (
            Verdict::Fading,
            format!("it still shows {id}, and will not get the next: {}", step.says),
        ),
        (Some(id), None, Some(step)) => (
            Verdict::Identified,
            format!("{id}, which a handshake showed; not known: {}", step.says),
        ),
        (None, Some(step), _) => (Verdict::Nothing, step.says.clone()),
        (None, None, Some(step)) => (Verdict::Undetermined, step.says.clone()),
        (None, None, None) => (
            Verdict::Identified,
            format!("{all}, which an entry gives; no handshake showed it"),
        ),
    }
}

fn runs(pod: &Pod, warning: Option<&str>) -> Step {
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
fn mounted<'a>(container: &'a Container, volumes: &[&str]) -> Option<&'a str> {
    let mounts = container.volume_mounts.iter().flatten();
    let mut of_it = mounts.filter(|mount| volumes.contains(&mount.name.as_str()));
    of_it.next().map(|mount| mount.mount_path.as_str())
}

fn can_ask(world: &World, pod: &Pod) -> Step {
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

/// The container whose selectors are told: the first that can ask, else the first.
fn container(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let csi: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
        .filter(|volume| volume.csi.as_ref().is_some_and(|csi| csi.driver == CSI_DRIVER))
        .map(|volume| volume.name.as_str())
        .collect();
    let mut all = containers.clone();
    let asks = all.find(|container| mounted(container, &csi).is_some());
    asks.or_else(|| containers.clone().next())
        .map(|container| container.name.clone())
        .unwrap_or_default()
}

fn agent_there(world: &World, node: Option<&str>) -> Step {
    const WHAT: &str = "an agent is ready on its node";
    let Some(node) = node else {
        return step(WHAT, Answer::No, "the pod has no node yet", None);
    };
    let Some(part) = world.found.agent_on(node) else {
        let says = if world.found.agents.is_empty() {
            "no SPIRE agent runs in the cluster: no container's image or name is `spire-agent`".to_owned()
        } else {
            format!(
                "no SPIRE agent runs on the node {node}; there are agents on {}",
                agent_nodes(world)
            )
        };
        let next = if world.found.agents.is_empty() {
            "install SPIRE: `ztlab manifests spire | kubectl apply -f -`".to_owned()
        } else {
            let namespace = &world.found.agents[0].namespace;
            format!(
                "see why the agents' DaemonSet leaves the node out (taints, nodeSelector): `kubectl -n {namespace} describe daemonset`"
            )
        };
        return step(WHAT, Answer::No, says, Some(next));
    };
    let place = format!("{}/{}", part.namespace, part.pod);
    if part.ready {
        return step(WHAT, Answer::Yes, format!("{place} on the node {node}"), None);
    }
    let next = format!(
        "see what it waits for: `kubectl -n {} describe pod {}`, `kubectl -n {} logs {}`",
        part.namespace, part.pod, part.namespace, part.pod
    );
    step(
        WHAT,
        Answer::No,
        format!("the agent {place} on the node {node} is not ready"),
        Some(next),
    )
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

fn server_answers(world: &World) -> Step {
    const WHAT: &str = "the SPIRE server answers";
    let Some(part) = world.found.server() else {
        let says = world.answers.health.as_ref().err().cloned().unwrap_or_default();
        let next = "install SPIRE: `ztlab manifests spire | kubectl apply -f -`";
        return step(WHAT, Answer::No, says, Some(next.to_owned()));
    };
    let place = format!("{}/{}", part.namespace, part.pod);
    match &world.answers.health {
        Ok(said) => step(WHAT, Answer::Yes, format!("{place}: {said}"), None),
        Err(why) => {
            let next = format!(
                "see how it is: `kubectl -n {} get pod {}`, `kubectl -n {} logs {} -c {}`; whoever asks it needs the right to \
                 exec in its pod",
                part.namespace, part.pod, part.namespace, part.pod, part.container
            );
            // A pod that is ready and cannot be asked is a matter of rights, not of the server.
            let holds = if part.ready { Answer::Undetermined } else { Answer::No };
            step(WHAT, holds, why.clone(), Some(next))
        }
    }
}

fn agent_known(world: &World, node: Option<&str>, reach: &Reach<'_>) -> Step {
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

fn entry_there(
    world: &World,
    pod: &Pod,
    reach: &Reach<'_>,
    matching: &[Compared],
    near: &[Compared],
    rules: &[RuleVerdict],
) -> Step {
    const WHAT: &str = "a registration entry is for it";
    let count = match &world.answers.entries {
        Ok(entries) => entries.len(),
        Err(why) => {
            return step(
                WHAT,
                Answer::Undetermined,
                format!("the entries are not known: {why}"),
                None,
            );
        }
    };
    if let [first, rest @ ..] = matching {
        let more = match rest.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let says = format!("the entry {} gives {}{more}", first.entry.id, first.entry.spiffe_id);
        return step(WHAT, Answer::Yes, says, None);
    }
    if let Some(one) = near.iter().find(|one| one.may_match()) {
        let says = format!("the entry {} may: {}", one.entry.id, one.missing[0].says);
        return step(WHAT, Answer::Undetermined, says, None);
    }
    let says = match count {
        0 => "the server has no registration entry at all".to_owned(),
        1 => "the one registration entry that the server has does not match it".to_owned(),
        count => format!("none of the {count} registration entries matches it"),
    };
    step(WHAT, Answer::No, says, Some(advice(world, pod, reach, near, rules)))
}

/// What to do for an entry that matches: the nearest thing to it.
fn advice(world: &World, pod: &Pod, reach: &Reach<'_>, near: &[Compared], rules: &[RuleVerdict]) -> String {
    if let Some(rule) = rules.iter().find(|rule| rule.selects) {
        let logs = world.found.managers.first().map_or_else(
            || "no controller manager runs that would act on it".to_owned(),
            |part| {
                format!(
                    "ask the controller manager why: `kubectl -n {} logs {} -c {}`",
                    part.namespace, part.pod, part.container
                )
            },
        );
        let trouble = rule
            .trouble
            .as_ref()
            .map(|trouble| format!(" ({trouble})"))
            .unwrap_or_default();
        return format!(
            "the ClusterSPIFFEID {} selects it, and there is no entry for it{trouble}: {logs}",
            rule.name
        );
    }
    if let Some(one) = near.iter().find(|one| one.missing.iter().any(|one| one.slip)) {
        return mend(one);
    }
    if let Some(rule) = rules.iter().find(|rule| rule.almost) {
        let unmet = &rule.unmet[0];
        let whom = if unmet.of == "podSelector" {
            "in its template"
        } else {
            "on its namespace"
        };
        return match &unmet.label {
            Some(label) => format!(
                "if the ClusterSPIFFEID {} is meant for it: put the label {label} {whom}, or widen the {}",
                rule.name, unmet.of
            ),
            None => format!(
                "if the ClusterSPIFFEID {} is meant for it: change its {}, or the labels {whom}",
                rule.name, unmet.of
            ),
        };
    }
    match near.first() {
        Some(one) => mend(one),
        None => register(world, pod, reach),
    }
}

/// What to do for an entry that almost matches.
fn mend(one: &Compared) -> String {
    let wrong = match one.missing.as_slice() {
        [] if one.expired => "its time is over".to_owned(),
        [] => one.parent.because.clone(),
        missing => missing
            .iter()
            .map(|one| one.says.clone())
            .collect::<Vec<_>>()
            .join("; "),
    };
    format!(
        "if the entry {} is meant for it, mend it with `spire-server entry update`: {wrong}",
        one.entry.id
    )
}

/// How to register a pod by its namespace and service account.
fn register(world: &World, pod: &Pod, reach: &Reach<'_>) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.clone())
        .unwrap_or_else(|| "default".to_owned());
    let domain = world
        .own_bundle()
        .map_or_else(|| "TRUST-DOMAIN".to_owned(), |bundle| bundle.trust_domain.to_string());
    let parent = reach
        .agent()
        .map_or_else(|| "AGENT-ID".to_owned(), |agent| agent.id.to_string());
    format!(
        "register it with a ClusterSPIFFEID that selects it, or by hand: `spire-server entry create -parentID {parent} \
         -spiffeID spiffe://{domain}/ns/{namespace}/sa/{account} -selector k8s:ns:{namespace} -selector k8s:sa:{account}`"
    )
}

/// The ClusterSPIFFEIDs, those that select the pod first, then those that almost do.
fn rules(world: &World, pod: &Pod) -> Vec<RuleVerdict> {
    let place = pod.namespace();
    let labels: BTreeMap<String, String> = world
        .namespaces
        .iter()
        .find(|one| one.metadata.name == place)
        .and_then(|one| one.metadata.labels.clone())
        .unwrap_or_default();
    let all = world.rules.iter().flatten();
    let mut found: Vec<RuleVerdict> = all
        .map(|rule| rule.judge(pod, &labels, world.manager.as_ref()))
        .collect();
    found.sort_by_key(|one| {
        (
            !one.selects,
            one.fallback,
            !one.almost,
            one.unmet.len(),
            one.name.clone(),
        )
    });
    found
}

/// Where an entry comes from.
fn origin(world: &World, compared: &Compared, rules: &[RuleVerdict]) -> String {
    let by_uid = compared
        .entry
        .selectors
        .iter()
        .any(|one| one.kind == "k8s" && one.value.starts_with("pod-uid:"));
    let selecting: Vec<&str> = rules
        .iter()
        .filter(|rule| rule.selects)
        .map(|rule| rule.name.as_str())
        .collect();
    let marked = world.manager.as_ref().map(|manager| manager.made(&compared.entry.id));
    match (marked, by_uid, selecting.as_slice()) {
        (Some(true), _, [one]) | (None, true, [one]) => {
            format!("the controller manager made it; the ClusterSPIFFEID {one} selects the pod")
        }
        (Some(true), _, []) => {
            "the controller manager made it, and no ClusterSPIFFEID selects the pod any more: it will go".to_owned()
        }
        (Some(true), _, several) | (None, true, several) if !several.is_empty() => format!(
            "the controller manager made it; the ClusterSPIFFEIDs {} select the pod",
            several.join(", ")
        ),
        _ => "made by hand, or by a ClusterStaticEntry".to_owned(),
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
