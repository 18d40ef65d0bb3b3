//! Which registration entries are a pod's, which almost are, and what is missing or different. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use serde::Serialize;

use super::{
    model::{Agent, Entry, Selector},
    selectors::selectors,
};
use crate::identity::SpiffeId;

/// Entries that almost match which are worth showing.
const NEAR: usize = 3;
/// Letters that two values may differ in to be taken for a slip of the pen.
const SLIP: usize = 2;

/// Why a selector of an entry is not shown by the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// The pod shows the same with another value.
    Differs,
    /// The pod shows nothing of this name.
    Absent,
    /// It is the name or UID of another pod.
    AnotherPod,
    /// Whether it is shown cannot be known from the Kubernetes API.
    Unknown,
}

/// A selector that an entry asks for and the pod does not show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The selector.
    pub selector: Selector,
    /// Why.
    pub lack: Lack,
    /// The same in words.
    pub says: String,
    /// Whether what the pod shows differs in a letter or two only.
    pub slip: bool,
}

/// Whether the agent of the pod's node may issue an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parent {
    /// Whether it may.
    pub fits: bool,
    /// Why.
    pub because: String,
}

/// An entry held against a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The entry.
    pub entry: Entry,
    /// The container that it was held against: that which shows most of it.
    pub container: String,
    /// How many of its selectors are shown.
    pub shown: usize,
    /// What is not.
    pub missing: Vec<Missing>,
    /// Whether it could be issued on the pod's node.
    pub parent: Parent,
    /// Whether its time is over.
    pub expired: bool,
}

impl Compared {
    /// Whether the pod gets this entry's identity, as far as the entry is concerned.
    pub fn matches(&self) -> bool {
        self.missing.is_empty() && self.parent.fits && !self.expired
    }

    /// Whether nothing but what cannot be known from here speaks against it.
    pub fn may_match(&self) -> bool {
        !self.missing.is_empty()
            && self.missing.iter().all(|one| one.lack == Lack::Unknown)
            && self.parent.fits
            && !self.expired
    }

    /// Whether it is worth telling as one that almost matches.
    fn near(&self) -> bool {
        if self.missing.is_empty() {
            return !self.matches();
        }
        let anothers = self.missing.iter().any(|one| one.lack == Lack::AnotherPod);
        let slips = self.slips();
        // Half of it at least: what has the namespace alone in common is another workload's.
        !anothers && self.shown + slips >= self.missing.len() - slips
    }

    /// How many of the missing are a slip of the pen.
    fn slips(&self) -> usize {
        self.missing.iter().filter(|one| one.slip).count()
    }
}

/// Holds every entry against a pod; gives those that match, then those that almost do, the nearest first.
pub fn compare(
    entries: &[Entry],
    pod: &Pod,
    pods: &[Pod],
    reach: &Reach<'_>,
    now_s: i64,
) -> (Vec<Compared>, Vec<Compared>) {
    let shown = shown_by(pod);
    let others: BTreeMap<String, String> = pods
        .iter()
        .filter(|other| other.uid() != pod.uid())
        .filter_map(|other| Some((other.uid()?, format!("{}/{}", other.namespace()?, other.name_any()))))
        .collect();
    let all = entries.iter().map(|entry| held(entry, &shown, &others, reach, now_s));
    let (matching, rest): (Vec<_>, Vec<_>) = all.partition(Compared::matches);
    // Where one matches, another workload's in the same namespace is nothing to wonder about.
    let telling = |one: &Compared| matching.is_empty() || one.missing.is_empty() || one.slips() > 0;
    let mut near: Vec<Compared> = rest.into_iter().filter(Compared::near).filter(telling).collect();
    near.sort_by_key(|one| {
        let slips = one.slips();
        (
            one.missing.len() - slips,
            one.missing.len(),
            usize::MAX - one.shown,
            one.entry.id.clone(),
        )
    });
    near.truncate(NEAR);
    (matching, near)
}

/// What each container of a pod shows, by its name; a pod without containers shows its own.
fn shown_by(pod: &Pod) -> Vec<(String, BTreeSet<Selector>)> {
    let spec = pod.spec.as_ref();
    let mut names: Vec<String> = spec
        .into_iter()
        .flat_map(|spec| &spec.containers)
        .map(|container| container.name.clone())
        .collect();
    if names.is_empty() {
        names.push(String::new());
    }
    names
        .into_iter()
        .map(|name| {
            let shown = selectors(pod, &name);
            (name, shown)
        })
        .collect()
}

fn held(
    entry: &Entry,
    shown: &[(String, BTreeSet<Selector>)],
    others: &BTreeMap<String, String>,
    reach: &Reach<'_>,
    now_s: i64,
) -> Compared {
    let lacks = |shown: &BTreeSet<Selector>| entry.selectors.difference(shown).count();
    // A pod has one container at least, or is taken as one.
    let (container, by) = shown
        .iter()
        .min_by_key(|(_, shown)| lacks(shown))
        .map(|(name, shown)| (name.clone(), shown.clone()))
        .unwrap_or_default();
    let missing: Vec<Missing> = entry
        .selectors
        .difference(&by)
        .map(|selector| missing(selector, &by, others))
        .collect();
    Compared {
        container,
        shown: entry.selectors.len() - missing.len(),
        missing,
        parent: reach.parent(entry, now_s),
        expired: entry.expires_at != 0 && entry.expires_at <= now_s,
        entry: entry.clone(),
    }
}

/// Splits `pod-label:app:orders` into what is named and its value: `pod-label:app` and `orders`.
fn named(value: &str) -> (&str, &str) {
    let (key, rest) = value.split_once(':').unwrap_or((value, ""));
    match key {
        // Of these the first part of the value is a name itself.
        "pod-label" | "pod-owner" | "pod-owner-uid" => match rest.split_once(':') {
            Some((name, rest)) => (&value[..key.len() + 1 + name.len()], rest),
            None => (value, ""),
        },
        _ => (key, rest),
    }
}

fn missing(selector: &Selector, shown: &BTreeSet<Selector>, others: &BTreeMap<String, String>) -> Missing {
    let found = |lack: Lack, says: String, slip: bool| Missing {
        selector: selector.clone(),
        lack,
        says,
        slip,
    };
    if selector.kind != "k8s" || selector.value.starts_with("image-signature") {
        let says = format!("whether it shows {selector} is not to be known from the Kubernetes API");
        return found(Lack::Unknown, says, false);
    }
    let (name, value) = named(&selector.value);
    if name == "pod-uid" {
        let whose = others.get(value);
        let says = whose.map_or_else(
            || "it is the UID of a pod that is no more".to_owned(),
            |other| format!("it is the UID of the pod {other}"),
        );
        return found(Lack::AnotherPod, says, false);
    }
    let has: Vec<&str> = shown
        .iter()
        .map(|one| named(&one.value))
        .filter(|(other, _)| *other == name)
        .map(|(_, value)| value)
        .collect();
    let slip = has.iter().any(|has| is_slip(has, value));
    let what = words(name);
    if has.is_empty() {
        let near = shown
            .iter()
            .map(|one| named(&one.value).0)
            .find(|other| *other != name && is_slip(other, name));
        let says = match near {
            Some(other) => format!("it has no {what}, but it has {}", words(other)),
            None => format!("it has no {what}"),
        };
        return found(Lack::Absent, says, near.is_some());
    }
    let has: Vec<String> = has.iter().map(|has| format!("`{has}`")).collect();
    let says = format!("its {what} is {}, not `{value}`", has.join(" and "));
    let lack = if name == "pod-name" {
        Lack::AnotherPod
    } else {
        Lack::Differs
    };
    found(lack, says, slip)
}

/// A selector's name as Kubernetes names the thing.
fn words(name: &str) -> String {
    match name.split_once(':') {
        Some(("pod-label", key)) => format!("label `{key}`"),
        Some(("pod-owner", kind)) => format!("owner of the kind {kind}"),
        Some(("pod-owner-uid", kind)) => format!("UID of an owner of the kind {kind}"),
        _ => match name {
            "ns" => "namespace".to_owned(),
            "sa" => "service account".to_owned(),
            "node-name" => "node".to_owned(),
            "pod-name" => "name".to_owned(),
            "container-name" => "container's name".to_owned(),
            "container-image" => "container's image".to_owned(),
            "pod-image" => "images".to_owned(),
            other => other.to_owned(),
        },
    }
}

/// Whether two values differ in a letter or two, or in their case only: Levenshtein's distance, for short texts.
fn is_slip(one: &str, other: &str) -> bool {
    if one == other {
        return false;
    }
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    // Of short texts two letters are most of it.
    if one.len().min(other.len()) < 2 * SLIP || one.len().abs_diff(other.len()) > SLIP || one.len() > 256 {
        return false;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut left = i + 1;
        let mut diagonal = row[0];
        row[0] = left;
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            left = change.min(left + 1).min(diagonal + 1);
            row[j + 1] = left;
        }
    }
    row[other.len()] <= SLIP
}

/// What the agent of a pod's node may issue, by SPIRE's rule: entries whose parent is the agent, a group of nodes that the agent
/// belongs to by its selectors, or an entry of those in turn.
pub struct Reach<'a> {
    /// The agent of the pod's node, as the server knows it.
    agent: Option<&'a Agent>,
    parents: BTreeSet<&'a SpiffeId>,
    agents: &'a [Agent],
    nodes: &'a [Node],
    entries: &'a [Entry],
}

/// Whether an agent is that of a node: its `k8s_psat` identity ends with the node's UID, or its selectors say so.
pub(super) fn is_of(agent: &Agent, node: &Node) -> bool {
    let uid = node.metadata.uid.as_deref().unwrap_or_default();
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if uid.is_empty() {
        return false;
    }
    let by_id = agent.attestation_type == "k8s_psat" && agent.id.path().segments().last() == Some(uid);
    by_id
        || agent
            .selectors
            .contains(&Selector::new("k8s_psat", format!("agent_node_uid:{uid}")))
        || agent
            .selectors
            .contains(&Selector::new("k8s_psat", format!("agent_node_name:{name}")))
}

/// Whether this is the parent of groups of nodes.
fn is_server(id: &SpiffeId) -> bool {
    id.path().as_str() == "/spire/server"
}

impl<'a> Reach<'a> {
    /// What the agent of the node `node` may issue.
    pub fn of(node: Option<&str>, nodes: &'a [Node], agents: &'a [Agent], entries: &'a [Entry], now_s: i64) -> Self {
        let node = nodes.iter().find(|one| one.metadata.name.as_deref() == node);
        // A node whose agent attested anew in another way has several; one that still lives counts.
        let agent = node.and_then(|node| {
            let of_it = agents.iter().filter(|agent| is_of(agent, node) && !agent.banned);
            of_it.max_by_key(|agent| agent.expires_at)
        });
        let alive = |entry: &&Entry| entry.expires_at == 0 || entry.expires_at > now_s;
        let mut todo: Vec<&SpiffeId> = Vec::new();
        if let Some(agent) = agent {
            todo.push(&agent.id);
            let groups = entries.iter().filter(alive).filter(|entry| is_server(&entry.parent_id));
            todo.extend(
                groups
                    .filter(|entry| entry.selectors.is_subset(&agent.selectors))
                    .map(|entry| &entry.spiffe_id),
            );
        }
        let mut parents: BTreeSet<&SpiffeId> = todo.iter().copied().collect();
        while let Some(parent) = todo.pop() {
            for entry in entries.iter().filter(alive).filter(|entry| entry.parent_id == *parent) {
                if parents.insert(&entry.spiffe_id) {
                    todo.push(&entry.spiffe_id);
                }
            }
        }
        Self {
            agent,
            parents,
            agents,
            nodes,
            entries,
        }
    }

    /// The agent of the pod's node, as the server knows it.
    pub fn agent(&self) -> Option<&'a Agent> {
        self.agent
    }

    fn parent(&self, entry: &Entry, now_s: i64) -> Parent {
        let parent = &entry.parent_id;
        let Some(agent) = self.agent else {
            return Parent {
                fits: false,
                because: format!("its parent is {parent}, and the server knows no agent of the pod's node"),
            };
        };
        if self.parents.contains(parent) {
            let because = if *parent == agent.id {
                "its parent is the agent of the pod's node".to_owned()
            } else {
                format!("its parent {parent} is a group that the agent of the pod's node belongs to")
            };
            return Parent { fits: true, because };
        }
        Parent {
            fits: false,
            because: format!("its parent is {parent}: {}", self.stranger(parent, agent, now_s)),
        }
    }

    /// Who a parent is that the pod's agent is not.
    fn stranger(&self, parent: &SpiffeId, agent: &Agent, now_s: i64) -> String {
        if is_server(parent) {
            return "it is an entry for nodes, not for workloads".to_owned();
        }
        if parent.trust_domain() != agent.id.trust_domain() {
            return format!("another trust domain than {}", agent.id.trust_domain());
        }
        if let Some(other) = self.agents.iter().find(|other| other.id == *parent) {
            let node = self.nodes.iter().find(|node| is_of(other, node));
            return match node.and_then(|node| node.metadata.name.as_deref()) {
                Some(node) => format!("the agent of another node, {node}"),
                None => "an agent of a node that is no more".to_owned(),
            };
        }
        let group = self
            .entries
            .iter()
            .find(|entry| entry.spiffe_id == *parent && is_server(&entry.parent_id));
        match group {
            Some(group) if group.expires_at != 0 && group.expires_at <= now_s => {
                "a group of nodes whose entry has ended".to_owned()
            }
            Some(group) => {
                let lacks: Vec<String> = group
                    .selectors
                    .difference(&agent.selectors)
                    .map(ToString::to_string)
                    .collect();
                format!(
                    "a group of nodes that the pod's node is not in; its agent does not show {}",
                    lacks.join(", ")
                )
            }
            None => format!(
                "no agent has this id, nor any group; the agent of the pod's node is {}",
                agent.id
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spire::testing::{AGENT, NOW, entry, id, pod_json, read, world};

    fn against(entries: &[Entry], pod: &Pod) -> (Vec<Compared>, Vec<Compared>) {
        let world = world();
        let agents = world.answers.agents.unwrap();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let reach = Reach::of(node, &world.nodes, &agents, entries, NOW);
        let mut pods = world.pods;
        pods.push(read(pod_json("ledger-1", "ledger")));
        compare(entries, pod, &pods, &reach, NOW)
    }

    fn orders() -> Pod {
        read(pod_json("orders-1", "orders"))
    }

    #[test]
    fn an_entry_matches_when_all_that_it_asks_for_is_shown_below_the_nodes_agent() {
        let entries = [
            entry("by-uid", &["k8s:pod-uid:orders-1-uid"]),
            entry("by-account", &["k8s:ns:shop", "k8s:sa:orders"]),
            entry("by-container", &["k8s:container-name:main", "k8s:pod-label:app:orders"]),
            entry("not", &["k8s:ns:shop", "k8s:sa:ledger"]),
        ];
        let (matching, near) = against(&entries, &orders());
        let ids: Vec<&str> = matching.iter().map(|one| one.entry.id.as_str()).collect();
        assert_eq!(ids, ["by-uid", "by-account", "by-container"]);
        assert!(
            near.is_empty(),
            "where one matches, another workload's is not near: {near:?}"
        );
        assert_eq!(against(&entries[3..], &orders()).1.len(), 1);
    }

    #[test]
    fn what_is_missing_or_different_is_named_exactly() {
        for (selectors, lack, says) in [
            (
                &["k8s:ns:shop", "k8s:sa:ledger"][..],
                Lack::Differs,
                "its service account is `orders`, not `ledger`",
            ),
            (
                &["k8s:ns:shops", "k8s:sa:orders"],
                Lack::Differs,
                "its namespace is `shop`, not `shops`",
            ),
            (
                &["k8s:ns:shop", "k8s:pod-label:tier:gold"],
                Lack::Absent,
                "it has no label `tier`",
            ),
            (
                &["k8s:ns:shop", "k8s:pod-label:app:order"],
                Lack::Differs,
                "its label `app` is `orders`, not `order`",
            ),
            (
                &["k8s:sa:orders", "unix:uid:1000"],
                Lack::Unknown,
                "whether it shows unix:uid:1000 is not to be known from the Kubernetes API",
            ),
            (
                &["k8s:sa:orders", "k8s:pod-owner:ReplicaSet:orders-7"],
                Lack::Absent,
                "it has no owner of the kind ReplicaSet",
            ),
        ] {
            let (matching, near) = against(&[entry("e", selectors)], &orders());
            assert!(matching.is_empty(), "{selectors:?}");
            let missing = &near[0].missing;
            assert_eq!(missing.len(), 1, "{missing:?}");
            assert_eq!((&missing[0].lack, missing[0].says.as_str()), (&lack, says));
        }
    }

    #[test]
    fn entries_of_other_pods_and_of_other_workloads_are_not_near() {
        let entries = [
            entry("ledger", &["k8s:pod-uid:ledger-1-uid"]),
            entry("gone", &["k8s:pod-uid:no-such-uid"]),
            entry("other", &["k8s:sa:ledger"]),
            entry("named", &["k8s:ns:shop", "k8s:pod-name:ledger-1"]),
        ];
        let (matching, near) = against(&entries, &orders());
        assert!(matching.is_empty() && near.is_empty(), "{near:?}");
        // A slip of the pen is near, even alone; two letters of two are not.
        let (_, near) = against(
            &[entry("slip", &["k8s:sa:order"]), entry("far", &["k8s:sa:db"])],
            &orders(),
        );
        assert_eq!(near.len(), 1);
        assert!(near[0].missing[0].slip);
    }

    #[test]
    fn the_nearest_come_first_and_few_are_shown() {
        let entries = [
            entry("two", &["k8s:ns:shop", "k8s:sa:ledger", "k8s:pod-label:a:b"]),
            entry("one", &["k8s:ns:shop", "k8s:sa:ledger"]),
            entry("slip", &["k8s:ns:shop", "k8s:sa:orderz"]),
            entry("three", &["k8s:ns:shop", "k8s:sa:ledger", "k8s:pod-label:app:orders"]),
            entry(
                "last",
                &[
                    "k8s:ns:shop",
                    "k8s:sa:x",
                    "k8s:pod-label:app:orders",
                    "k8s:pod-label:a:b",
                ],
            ),
        ];
        let (_, near) = against(&entries, &orders());
        let ids: Vec<&str> = near.iter().map(|one| one.entry.id.as_str()).collect();
        assert_eq!(ids, ["slip", "three", "one"]);
    }

    #[test]
    fn whether_the_parent_fits_is_told_with_who_it_is() {
        let selectors = &["k8s:ns:shop"][..];
        let below = |parent: &str| Entry {
            parent_id: id(parent),
            ..entry("e", selectors)
        };
        let group = |name: &str, selector: &str| Entry {
            parent_id: id("/spire/server"),
            ..entry(name, &[selector])
        };
        let groups = [
            group("demo", "k8s_psat:cluster:demo"),
            group("gold", "k8s_psat:agent_node_label:tier:gold"),
        ];
        for (parent, fits, because) in [
            (AGENT, true, "the agent of the pod's node"),
            ("/demo", true, "a group that the agent"),
            ("/gold", false, "does not show k8s_psat:agent_node_label:tier:gold"),
            ("/spire/server", false, "an entry for nodes"),
            ("/spire/agent/k8s_psat/demo/earlier-uid", false, "no agent has this id"),
        ] {
            let mut entries = groups.to_vec();
            entries.push(below(parent));
            let (matching, near) = against(&entries, &orders());
            let one = matching.iter().chain(&near).find(|one| one.entry.id == "e").unwrap();
            assert_eq!(one.parent.fits, fits, "{:?}", one.parent);
            assert!(one.parent.because.contains(because), "{:?}", one.parent);
            assert_eq!(one.matches(), fits);
        }
        // A pod of a node whose agent the server does not know.
        let mut elsewhere = pod_json("orders-1", "orders");
        elsewhere["spec"]["nodeName"] = json!("node-2");
        let (matching, near) = against(&[below(AGENT)], &read(elsewhere));
        assert!(matching.is_empty() && near[0].parent.because.contains("no agent of the pod's node"));
    }

    #[test]
    fn an_entry_whose_time_is_over_does_not_match() {
        let over = Entry {
            expires_at: NOW,
            ..entry("over", &["k8s:ns:shop"])
        };
        let (matching, near) = against(std::slice::from_ref(&over), &orders());
        assert!(matching.is_empty() && near[0].expired);
        let yet = Entry {
            expires_at: NOW + 1,
            ..over
        };
        assert_eq!(against(&[yet], &orders()).0.len(), 1);
    }

    #[test]
    fn slips_are_short_distances() {
        for (one, other, slip) in [
            ("orders", "order", true),
            ("orders", "Orders", true),
            ("orders-api", "order-api", true),
            ("orders", "orders", false),
            ("orders", "ledger", false),
            ("a", "b", false),
            ("payments", "payment-s2", true),
            ("", "x", false),
        ] {
            assert_eq!(is_slip(one, other), slip, "{one} {other}");
        }
    }
}
