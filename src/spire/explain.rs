//! Why a pod has the identity it has, or none: each link of the chain from the pod to its SVID, and what the first broken one
//! asks for. Pure.

mod advice;
mod chain;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;

use self::{
    advice::entry_there,
    chain::{agent_known, agent_there, can_ask, mounted, runs, server_answers},
};
use super::{
    gather::{Scope, World},
    model::Selector,
    registration::{Compared, Reach, compare},
    rules::Verdict as RuleVerdict,
    seen::Sight,
    selectors::selectors,
};
use crate::{identity::SpiffeId, posture::Answer};

/// The CSI driver that mounts the Workload API's socket.
const CSI_DRIVER: &str = "csi.spiffe.io";

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
    let found = &world.found;
    let nowhere = found.servers.is_empty() && found.agents.is_empty() && found.declared.is_empty();
    if verdict == Verdict::Nothing && nowhere && world.scope == Scope::Cluster {
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
