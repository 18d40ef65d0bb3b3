//! Which pods a DaemonSet makes and removes, one for each node, and its status: pure.
//!
//! Source: Kubernetes' DaemonSet concept and "Perform a Rolling Update on a DaemonSet" (`maxUnavailable`, `maxSurge`, `OnDelete`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetStatus, RollingUpdateDaemonSet},
        core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::fit::{self, Fit, fit};
use crate::{
    control_plane::controllers::{
        pods::{self, count},
        revision::POD_LABEL,
    },
    events::Happening,
};

/// The annotation that counts a DaemonSet's templates, kept by the API server.
pub const GENERATION: &str = "deprecated.daemonset.template.generation";
/// The label of a pod with that count.
const GENERATION_LABEL: &str = "pod-template-generation";

/// What there is, to decide about.
pub struct Facts<'a> {
    /// The set.
    pub set: &'a DaemonSet,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// Every node.
    pub nodes: &'a [Arc<Node>],
    /// The hash of its newest revision.
    pub hash: &'a str,
    /// How long a failed pod of this node is left alone yet.
    pub pause: &'a dyn Fn(&str) -> Duration,
    /// The time.
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The nodes that get a pod.
    pub create: Vec<String>,
    /// Pods to delete, by name and uid.
    pub delete: Vec<(String, String)>,
    /// Nodes whose pod failed and is deleted now.
    pub failed: Vec<String>,
    /// What to tell.
    pub events: Vec<Happening>,
    /// When to look again without a change.
    pub again: Option<Duration>,
}

impl Plan {
    fn remove(&mut self, pod: &Pod) {
        self.delete.push((pod.name_any(), pod.uid().unwrap_or_default()));
    }

    fn wait(&mut self, pause: Duration) {
        self.again = Some(self.again.map_or(pause, |again| again.min(pause)));
    }
}

type ByNode<'a> = BTreeMap<&'a str, Vec<&'a Pod>>;

/// The node that a pod runs on, or is for.
fn node_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return Some(name);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.first()?.match_fields.as_ref()?;
    let by_name = |one: &&NodeSelectorRequirement| one.key == "metadata.name" && one.operator == "In";
    let values = fields.iter().find(by_name)?.values.as_ref()?;
    values.first().map(String::as_str)
}

/// The pods of each node, those that are scheduled first, then the oldest.
fn by_node(pods: &[Arc<Pod>]) -> ByNode<'_> {
    let mut all: ByNode<'_> = BTreeMap::new();
    for pod in pods {
        if let Some(node) = node_of(pod) {
            all.entry(node).or_default().push(pod);
        }
    }
    let order = |pod: &&Pod| {
        let unscheduled = pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none());
        let age = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (unscheduled, age, pod.name_any())
    };
    all.values_mut().for_each(|pods| pods.sort_by_key(order));
    all
}

fn template(set: &DaemonSet) -> Option<&PodSpec> {
    set.spec.as_ref()?.template.spec.as_ref()
}

fn fit_of(set: &DaemonSet, node: &Node) -> Fit {
    template(set).map_or(Fit::Not, |spec| fit(spec, node))
}

fn rolling(set: &DaemonSet) -> Option<RollingUpdateDaemonSet> {
    let strategy = set.spec.as_ref()?.update_strategy.clone().unwrap_or_default();
    (strategy.type_.as_deref() != Some("OnDelete")).then(|| strategy.rolling_update.unwrap_or_default())
}

/// A number or a percentage of `nodes`, rounded up.
fn scaled(value: Option<&IntOrString>, nodes: usize) -> usize {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(IntOrString::String(text)) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0).min(100);
            (percent * nodes).div_ceil(100)
        }
    }
}

/// How many pods may be missing and how many may be there twice, in a rolling update of so many nodes.
fn limits(rolling: &RollingUpdateDaemonSet, nodes: usize) -> (usize, usize) {
    let one = IntOrString::Int(1);
    let unavailable = scaled(rolling.max_unavailable.as_ref().or(Some(&one)), nodes);
    match (unavailable, scaled(rolling.max_surge.as_ref(), nodes)) {
        (0, 0) => (1, 0),
        limits => limits,
    }
}

struct Planner<'a> {
    facts: &'a Facts<'a>,
    by_node: ByNode<'a>,
    min_ready: Option<i32>,
    plan: Plan,
}

/// What to do for a set that is not being deleted.
pub fn plan(facts: &Facts<'_>) -> Plan {
    let mut planner = Planner {
        facts,
        by_node: by_node(facts.pods),
        min_ready: facts.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds),
        plan: Plan::default(),
    };
    planner.manage();
    if planner.plan.create.is_empty()
        && planner.plan.delete.is_empty()
        && let Some(rolling) = rolling(facts.set)
    {
        planner.update(&rolling);
    }
    let mut plan = planner.plan;
    let pods = facts.pods.iter().map(AsRef::as_ref);
    if let Some(pause) = pods::next_available(pods, planner.min_ready, facts.now) {
        plan.wait(pause);
    }
    plan
}

impl<'a> Planner<'a> {
    fn is_new(&self, pod: &Pod) -> bool {
        pod.labels().get(POD_LABEL).map(String::as_str) == Some(self.facts.hash)
    }

    fn available(&self, pod: &Pod) -> bool {
        pods::available(pod, self.min_ready, self.facts.now)
    }

    fn surges(&self) -> bool {
        let rolling = rolling(self.facts.set);
        rolling.is_some_and(|rolling| limits(&rolling, self.desired().count()).1 > 0)
    }

    fn desired(&self) -> impl Iterator<Item = &'a Arc<Node>> {
        let set = self.facts.set;
        let nodes = self.facts.nodes.iter();
        nodes.filter(move |node| fit_of(set, node) == Fit::Runs)
    }

    /// One pod on each node that should have one, none on the others.
    fn manage(&mut self) {
        let surges = self.surges();
        for node in self.facts.nodes {
            let name = node.name_any();
            let pods = self.by_node.get(name.as_str()).cloned().unwrap_or_default();
            match fit_of(self.facts.set, node) {
                Fit::Runs if pods.is_empty() => self.plan.create.push(name),
                Fit::Runs | Fit::Keeps => self.tidy(&name, &pods, surges),
                Fit::Not => self.clear(&pods),
            }
        }
        let known: Vec<String> = self.facts.nodes.iter().map(|node| node.name_any()).collect();
        let lost = self
            .by_node
            .iter()
            .filter(|(node, _)| !known.iter().any(|name| name == *node));
        let lost: Vec<_> = lost.map(|(_, pods)| pods.clone()).collect();
        lost.iter().for_each(|pods| self.clear(pods));
    }

    fn clear(&mut self, pods: &[&Pod]) {
        let left = pods.iter().filter(|pod| !pods::terminating(pod));
        left.for_each(|pod| self.plan.remove(pod));
    }

    /// Deletes the pods of a node that ended, and those that are too many.
    fn tidy(&mut self, node: &str, pods: &[&'a Pod], surges: bool) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !pods::terminating(pod)) {
            let what = format!(
                "{}/{} on node {node}",
                pod.namespace().unwrap_or_default(),
                pod.name_any()
            );
            match pods::phase(pod) {
                "Failed" => {
                    let pause = (self.facts.pause)(node);
                    if !pause.is_zero() {
                        self.plan.wait(pause);
                        continue;
                    }
                    let message = format!("Found failed daemon pod {what}, will try to kill it");
                    self.plan.events.push(Happening::warning("FailedDaemonPod", message));
                    self.plan.failed.push(node.to_owned());
                    self.plan.remove(pod);
                }
                "Succeeded" => {
                    let message = format!("Found succeeded daemon pod {what}, will try to delete it");
                    self.plan.events.push(Happening::normal("SucceededDaemonPod", message));
                    self.plan.remove(pod);
                }
                _ => running.push(*pod),
            }
        }
        if !surges {
            running.iter().skip(1).for_each(|pod| self.plan.remove(pod));
            return;
        }
        // While an update surges there may be one of each template; the old one goes when the new one can do its work.
        let (new, old): (Vec<&Pod>, Vec<&Pod>) = running.into_iter().partition(|pod| self.is_new(pod));
        new.iter().skip(1).for_each(|pod| self.plan.remove(pod));
        old.iter().skip(1).for_each(|pod| self.plan.remove(pod));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (pods::ready_since(old).is_none() || self.available(new))
        {
            self.plan.remove(old);
        }
    }

    /// The pod of the newest template and the one of an older, of a node; nothing where there are more.
    fn pair(&self, node: &str) -> Option<(Option<&'a Pod>, Option<&'a Pod>)> {
        let pods = self.by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        let live = pods.iter().copied().filter(|pod| !pods::terminating(pod));
        let (new, old): (Vec<_>, Vec<_>) = live.partition(|pod| self.is_new(pod));
        (new.len() <= 1 && old.len() <= 1).then(|| (new.first().copied(), old.first().copied()))
    }

    fn update(&mut self, rolling: &RollingUpdateDaemonSet) {
        let nodes: Vec<String> = self.desired().map(|node| node.name_any()).collect();
        match limits(rolling, nodes.len()) {
            (unavailable, 0) => self.replace(&nodes, unavailable),
            (_, surge) => self.surge(&nodes, surge),
        }
    }

    /// Deletes old pods, as many as may be missing.
    fn replace(&mut self, nodes: &[String], most: usize) {
        let (mut missing, mut at_once, mut candidates) = (0, Vec::new(), Vec::new());
        for node in nodes {
            match self.pair(node) {
                Some((None, Some(old))) if !self.available(old) => at_once.push(old),
                Some((None, Some(old))) => candidates.push(old),
                Some((Some(new), None)) if self.available(new) => {}
                _ => missing += 1,
            }
        }
        let left = candidates.into_iter().take(most.saturating_sub(missing));
        at_once.into_iter().chain(left).for_each(|pod| self.plan.remove(pod));
    }

    /// Makes new pods beside old ones, as many as may be there twice.
    fn surge(&mut self, nodes: &[String], most: usize) {
        let (mut twice, mut at_once, mut candidates) = (0, Vec::new(), Vec::new());
        for node in nodes {
            match self.pair(node) {
                None => twice += 1,
                Some((None, Some(old))) if !self.available(old) => at_once.push(node.clone()),
                Some((None, Some(_))) => candidates.push(node.clone()),
                Some((Some(new), Some(_))) if !self.available(new) => twice += 1,
                Some((Some(_), Some(old))) => self.plan.remove(old),
                Some((_, None)) => {}
            }
        }
        let left = candidates.into_iter().take(most.saturating_sub(twice));
        self.plan.create.extend(at_once.into_iter().chain(left));
    }
}

/// The pod for a node.
pub fn pod(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pods::from_template(set, &template);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = set.annotations().get(GENERATION) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    let affinity = spec
        .affinity
        .get_or_insert_default()
        .node_affinity
        .get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_expressions: None,
        }],
    });
    let host_network = spec.host_network == Some(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    for more in fit::tolerations(host_network) {
        tolerations.retain(|one| (&one.key, &one.operator, &one.effect) != (&more.key, &more.operator, &more.effect));
        tolerations.push(more);
    }
    pod
}

/// The status to write.
pub fn status(facts: &Facts<'_>, collisions: Option<i32>) -> DaemonSetStatus {
    let min_ready = facts.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let by_node = by_node(facts.pods);
    let (mut desired, mut current, mut misplaced, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for node in facts.nodes {
        let first = by_node.get(node.name_any().as_str()).and_then(|pods| pods.first());
        if fit_of(facts.set, node) != Fit::Runs {
            misplaced += usize::from(first.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = first else { continue };
        current += 1;
        ready += usize::from(pods::ready_since(pod).is_some());
        available += usize::from(pods::available(pod, min_ready, facts.now));
        updated += usize::from(pod.labels().get(POD_LABEL).map(String::as_str) == Some(facts.hash));
    }
    let some = |number: usize| (number != 0).then(|| count(number));
    DaemonSetStatus {
        desired_number_scheduled: count(desired),
        current_number_scheduled: count(current),
        number_misscheduled: count(misplaced),
        number_ready: count(ready),
        number_available: some(available),
        number_unavailable: some(desired - available),
        updated_number_scheduled: some(updated),
        observed_generation: facts.set.metadata.generation,
        collision_count: collisions.filter(|count| *count != 0),
        conditions: facts.set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}

#[cfg(test)]
mod tests;
