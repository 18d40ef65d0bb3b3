//! Which pods a pod wants near, far, and how evenly it is to be spread: pure.
//!
//! Source: Kubernetes' "Assigning Pods to Nodes" and "Pod Topology Spread Constraints", the plugins `InterPodAffinity` and
//! `PodTopologySpread`.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Namespace, Node, Pod, PodAffinityTerm, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};

use super::decide::{self, Obstacle};

/// Where pods are: each with its node.
pub struct Placed<'a> {
    /// The pods that are on a node and have not ended.
    pub pods: Vec<(&'a Arc<Pod>, &'a Arc<Node>)>,
    /// The namespaces.
    pub namespaces: &'a [Arc<Namespace>],
}

fn matches(selector: &LabelSelector, pod: &Pod) -> bool {
    // One that cannot be read takes nothing.
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(pod.labels()))
}

/// A selector with the values that `owner` has of some labels.
fn with_keys(selector: &LabelSelector, keys: Option<&Vec<String>>, operator: &str, owner: &Pod) -> LabelSelector {
    let mut all = selector.clone();
    for key in keys.into_iter().flatten() {
        if let Some(value) = owner.labels().get(key) {
            all.match_expressions
                .get_or_insert_default()
                .push(LabelSelectorRequirement {
                    key: key.clone(),
                    operator: operator.to_owned(),
                    values: Some(vec![value.clone()]),
                });
        }
    }
    all
}

/// Whether a term of `owner` is about `other`.
fn is_about(term: &PodAffinityTerm, owner: &Pod, other: &Pod, namespaces: &[Arc<Namespace>]) -> bool {
    let Some(selector) = &term.label_selector else {
        return false;
    };
    let home = other.metadata.namespace.as_deref().unwrap_or_default();
    let named = term.namespaces.as_deref().unwrap_or_default();
    let chosen = |selector: &LabelSelector| {
        let found = namespaces
            .iter()
            .find(|namespace| namespace.metadata.name.as_deref() == Some(home));
        let selector = Selector::try_from(selector.clone());
        found.is_some_and(|namespace| selector.is_ok_and(|selector| selector.matches(namespace.labels())))
    };
    let there = if named.is_empty() && term.namespace_selector.is_none() {
        owner.metadata.namespace.as_deref() == Some(home)
    } else {
        named.iter().any(|name| name == home) || term.namespace_selector.as_ref().is_some_and(chosen)
    };
    let selector = with_keys(selector, term.match_label_keys.as_ref(), "In", owner);
    let selector = with_keys(&selector, term.mismatch_label_keys.as_ref(), "NotIn", owner);
    there && matches(&selector, other)
}

fn near(pod: &Pod) -> &[PodAffinityTerm] {
    let affinity = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.pod_affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

fn far(pod: &Pod) -> &[PodAffinityTerm] {
    let affinity = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.pod_anti_affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

/// Whether two nodes are in one domain.
fn same_domain(key: &str, a: &Node, b: &Node) -> bool {
    let value = a.labels().get(key);
    value.is_some() && value == b.labels().get(key)
}

/// Why the pods that are there keep a pod from a node, or their absence does.
pub fn affinity(pod: &Pod, node: &Node, placed: &Placed<'_>) -> Option<Obstacle> {
    let hostile = placed.pods.iter().any(|(other, there)| {
        let terms = far(other).iter();
        let mut against = terms.filter(|term| is_about(term, other, pod, placed.namespaces));
        against.any(|term| same_domain(&term.topology_key, node, there))
    });
    let wants = near(pod);
    let is_there = |term: &PodAffinityTerm| {
        let mut pods = placed.pods.iter();
        pods.any(|(other, there)| {
            same_domain(&term.topology_key, node, there) && is_about(term, pod, other, placed.namespaces)
        })
    };
    if !wants.iter().all(is_there) && !is_first(pod, node, wants, placed) {
        return Some(Obstacle::lasting("node(s) didn't match pod affinity rules"));
    }
    let shuns = far(pod).iter().any(is_there);
    if shuns {
        Some(Obstacle::passing("node(s) didn't match pod anti-affinity rules"))
    } else if hostile {
        Some(Obstacle::passing(
            "node(s) didn't satisfy existing pods anti-affinity rules",
        ))
    } else {
        None
    }
}

/// Whether a pod is the first of those that want to be near each other: it need not wait for itself.
fn is_first(pod: &Pod, node: &Node, wants: &[PodAffinityTerm], placed: &Placed<'_>) -> bool {
    let about = |term: &PodAffinityTerm, other: &Pod| is_about(term, pod, other, placed.namespaces);
    wants
        .iter()
        .all(|term| about(term, pod) && node.labels().contains_key(&term.topology_key))
        && !placed
            .pods
            .iter()
            .any(|(other, _)| wants.iter().all(|term| about(term, other)))
}

/// Why a node would have too many pods of one kind.
pub fn spread(pod: &Pod, node: &Node, nodes: &[Arc<Node>], placed: &Placed<'_>) -> Option<Obstacle> {
    let constraints = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.topology_spread_constraints.as_ref());
    let hard = |one: &&TopologySpreadConstraint| one.when_unsatisfiable == "DoNotSchedule";
    for constraint in constraints.into_iter().flatten().filter(hard) {
        let key = &constraint.topology_key;
        let Some(own) = node.labels().get(key) else {
            let text = "node(s) didn't match pod topology spread constraints (missing required label)";
            return Some(Obstacle::lasting(text));
        };
        let selector = constraint.label_selector.clone().unwrap_or_default();
        let selector = with_keys(&selector, constraint.match_label_keys.as_ref(), "In", pod);
        let counts = |other: &Pod| {
            constraint.label_selector.is_some()
                && other.metadata.namespace == pod.metadata.namespace
                && other.metadata.deletion_timestamp.is_none()
                && matches(&selector, other)
        };
        let mut domains: BTreeMap<&String, i64> = BTreeMap::new();
        for candidate in nodes.iter().filter(|node| is_eligible(pod, node, constraint)) {
            if let Some(domain) = candidate.labels().get(key) {
                domains.entry(domain).or_default();
            }
        }
        for (other, there) in &placed.pods {
            if let Some(count) = there.labels().get(key).and_then(|domain| domains.get_mut(domain))
                && counts(other)
            {
                *count += 1;
            }
        }
        let few = constraint
            .min_domains
            .is_some_and(|least| i64::from(least) > i64::try_from(domains.len()).unwrap_or(i64::MAX));
        let least = if few {
            0
        } else {
            domains.values().min().copied().unwrap_or(0)
        };
        let held = domains.get(own).copied().unwrap_or(0) + i64::from(counts(pod));
        if held - least > i64::from(constraint.max_skew) {
            return Some(Obstacle::passing(
                "node(s) didn't match pod topology spread constraints",
            ));
        }
    }
    None
}

/// Whether a node counts for a constraint.
fn is_eligible(pod: &Pod, node: &Node, constraint: &TopologySpreadConstraint) -> bool {
    let affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    (!affinity || decide::is_wanted(pod, node)) && (!taints || decide::untolerated(pod, node).is_none())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, zone: &str) -> Arc<Node> {
        let labels = json!({"kubernetes.io/hostname": name, "zone": zone});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap())
    }

    fn pod(namespace: &str, app: &str, spec: Value) -> Arc<Pod> {
        let mut all = json!({"metadata": {"namespace": namespace, "name": app, "labels": {"app": app, "hash": "1"}},
            "spec": {"containers": []}});
        json_patch::merge(&mut all, &json!({"spec": spec}));
        Arc::new(serde_json::from_value(all).unwrap())
    }

    fn term(app: &str, key: &str, more: Value) -> Value {
        let mut all = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key});
        json_patch::merge(&mut all, &more);
        all
    }

    fn near(term: Value) -> Value {
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    }

    fn far(term: Value) -> Value {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    }

    fn namespaces() -> Vec<Arc<Namespace>> {
        let make = |name: &str| {
            let namespace = json!({"metadata": {"name": name, "labels": {"team": name}}});
            Arc::new(serde_json::from_value(namespace).unwrap())
        };
        ["a", "b"].map(make).into()
    }

    const NEAR: &str = "node(s) didn't match pod affinity rules";
    const FAR: &str = "node(s) didn't match pod anti-affinity rules";
    const THEIRS: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

    #[test]
    fn pods_near_and_far() {
        let (one, two) = (node("one", "z"), node("two", "z"));
        let none = json!({});
        let host = "kubernetes.io/hostname";
        let namespaces = namespaces();
        // a `web` in namespace `a` on node `one`; where may the pod go?
        for (there, wants, on, expected) in [
            (none.clone(), near(term("web", host, none.clone())), &one, None),
            (none.clone(), near(term("web", host, none.clone())), &two, Some(NEAR)),
            (none.clone(), near(term("web", "zone", none.clone())), &two, None),
            (none.clone(), near(term("web", "rack", none.clone())), &one, Some(NEAR)),
            (none.clone(), near(term("db", "zone", none.clone())), &one, Some(NEAR)),
            // the first of its kind does not wait for itself
            (none.clone(), near(term("new", "zone", none.clone())), &one, None),
            (none.clone(), near(term("new", "rack", none.clone())), &one, Some(NEAR)),
            (
                none.clone(),
                near(term("web", host, json!({"namespaces": ["b"]}))),
                &one,
                Some(NEAR),
            ),
            (
                none.clone(),
                near(term("web", host, json!({"namespaces": ["a", "b"]}))),
                &one,
                None,
            ),
            (
                none.clone(),
                near(term(
                    "web",
                    host,
                    json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}),
                )),
                &one,
                None,
            ),
            (
                none.clone(),
                near(term(
                    "web",
                    host,
                    json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}),
                )),
                &one,
                Some(NEAR),
            ),
            (
                none.clone(),
                near(term("web", host, json!({"namespaceSelector": {}}))),
                &one,
                None,
            ),
            (
                none.clone(),
                near(term("web", host, json!({"labelSelector": null}))),
                &one,
                Some(NEAR),
            ),
            (none.clone(), far(term("web", host, none.clone())), &one, Some(FAR)),
            (none.clone(), far(term("web", host, none.clone())), &two, None),
            (none.clone(), far(term("web", "zone", none.clone())), &two, Some(FAR)),
            (
                none.clone(),
                far(term("web", host, json!({"mismatchLabelKeys": ["hash"]}))),
                &one,
                None,
            ),
            (
                none.clone(),
                far(term("web", host, json!({"matchLabelKeys": ["hash"]}))),
                &one,
                Some(FAR),
            ),
            (far(term("new", "zone", none.clone())), none.clone(), &two, Some(THEIRS)),
            (far(term("new", host, none.clone())), none.clone(), &two, None),
            (far(term("other", "zone", none.clone())), none.clone(), &two, None),
        ] {
            let held = pod("a", "web", there.clone());
            let placed = Placed {
                pods: vec![(&held, &one)],
                namespaces: &namespaces,
            };
            let said = affinity(&pod("a", "new", wants.clone()), on, &placed);
            assert_eq!(
                said.map(|one| one.reason),
                expected.map(str::to_owned),
                "{there} {wants}"
            );
        }
    }

    #[test]
    fn pods_are_spread() {
        let nodes = [node("one", "z"), node("two", "y")];
        let held = pod("a", "web", json!({}));
        let elsewhere = pod("b", "web", json!({}));
        let namespaces = namespaces();
        let with = |more: Value| {
            let mut all = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}}});
            json_patch::merge(&mut all, &more);
            pod("a", "web", json!({"topologySpreadConstraints": [all]}))
        };
        let skewed = Some("node(s) didn't match pod topology spread constraints");
        let unlabelled = Some("node(s) didn't match pod topology spread constraints (missing required label)");
        let check = |pod: &Pod, on: usize, count: usize, expected: Option<&str>| {
            let mut pods = vec![(&held, &nodes[0]); count];
            pods.push((&elsewhere, &nodes[0]));
            let placed = Placed {
                pods,
                namespaces: &namespaces,
            };
            let said = spread(pod, &nodes[on], &nodes, &placed);
            assert_eq!(
                said.map(|one| one.reason),
                expected.map(str::to_owned),
                "{count} on one, {on}"
            );
        };
        check(&with(json!({})), 0, 0, None);
        check(&with(json!({})), 0, 1, skewed);
        check(&with(json!({})), 1, 1, None);
        check(&with(json!({"maxSkew": 2})), 0, 1, None);
        check(&with(json!({"whenUnsatisfiable": "ScheduleAnyway"})), 0, 5, None);
        check(&with(json!({"topologyKey": "rack"})), 0, 0, unlabelled);
        check(&with(json!({"minDomains": 3})), 1, 1, None);
        check(&with(json!({"minDomains": 3})), 0, 1, skewed);
        // a node that the pod may not be on does not count
        let mut only = with(json!({})).as_ref().clone();
        only.spec.as_mut().unwrap().node_selector = Some([("zone".to_owned(), "z".to_owned())].into());
        check(&only, 0, 5, None);
    }
}
