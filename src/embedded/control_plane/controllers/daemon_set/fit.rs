//! Which nodes a DaemonSet's pods belong on. Pure.
//!
//! Source: Kubernetes' DaemonSet concept ("How Daemon Pods are scheduled", "Taints and tolerations").

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};
use kube::ResourceExt;

/// Whether a node is for the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It should have one.
    Runs,
    /// It gets none, and keeps the one that it has: a taint that only keeps new ones off.
    Keeps,
    /// It has none.
    Not,
}

/// What a daemon pod tolerates beside what its template says.
pub fn tolerations(host_network: bool) -> Vec<Toleration> {
    let tolerate = |key: &str, effect: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    let mut all = vec![
        tolerate("not-ready", "NoExecute"),
        tolerate("unreachable", "NoExecute"),
        tolerate("disk-pressure", "NoSchedule"),
        tolerate("memory-pressure", "NoSchedule"),
        tolerate("pid-pressure", "NoSchedule"),
        tolerate("unschedulable", "NoSchedule"),
    ];
    if host_network {
        all.push(tolerate("network-unavailable", "NoSchedule"));
    }
    all
}

/// Whether the pods of a template belong on a node.
pub fn fit(spec: &PodSpec, node: &Node) -> Fit {
    let name = node.name_any();
    let named = spec.node_name.as_deref().filter(|wanted| !wanted.is_empty());
    let labels = node.labels();
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let wanted = required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| takes(term, node)));
    if named.is_some_and(|wanted| wanted != name) || !selected || !wanted {
        return Fit::Not;
    }
    let more = tolerations(spec.host_network == Some(true));
    let tolerated = |taint: &Taint| {
        let all = spec.tolerations.iter().flatten().chain(&more);
        all.into_iter().any(|toleration| tolerates(toleration, taint))
    };
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let untolerated = |effect: &str| taints.iter().any(|taint| taint.effect == effect && !tolerated(taint));
    match (untolerated("NoExecute"), untolerated("NoSchedule")) {
        (true, _) => Fit::Not,
        (false, true) => Fit::Keeps,
        (false, false) => Fit::Runs,
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => key.is_empty() || key == taint.key,
        _ => key == taint.key && text(&toleration.value) == text(&taint.value),
    }
}

/// Whether a term of a node selector takes a node; one that asks for nothing takes none.
fn takes(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = node.name_any();
    let by_label = |one: &NodeSelectorRequirement| holds(one, node.labels().get(&one.key).map(String::as_str));
    // The only field that can be asked for.
    let by_field = |one: &NodeSelectorRequirement| one.key == "metadata.name" && holds(one, Some(&name));
    !(labels.is_empty() && fields.is_empty()) && labels.iter().all(by_label) && fields.iter().all(by_field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let compared = || {
        let wanted: i64 = values.first()?.parse().ok()?;
        Some(value?.parse::<i64>().ok()?.cmp(&wanted))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compared().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn labels_names_and_taints_say_where() {
        let node = |taints: Value| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"zone": "a", "cores": "8"}},
                "spec": {"taints": taints}}))
            .unwrap()
        };
        let clean = node(json!([]));
        let term = |term: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [term]}}}})
        };
        let label = |key: &str, operator: &str, values: &[&str]| {
            term(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        let of = |mut spec: Value, node: &Node| {
            spec["containers"] = json!([]);
            fit(&serde_json::from_value(spec).unwrap(), node)
        };
        for (spec, expected) in [
            (json!({}), Fit::Runs),
            (json!({"nodeName": "n"}), Fit::Runs),
            (json!({"nodeName": "m"}), Fit::Not),
            (json!({"nodeSelector": {"zone": "a"}}), Fit::Runs),
            (json!({"nodeSelector": {"zone": "b"}}), Fit::Not),
            (label("zone", "In", &["a", "b"]), Fit::Runs),
            (label("zone", "NotIn", &["a"]), Fit::Not),
            (label("disk", "Exists", &[]), Fit::Not),
            (label("disk", "DoesNotExist", &[]), Fit::Runs),
            (label("cores", "Gt", &["7"]), Fit::Runs),
            (label("cores", "Lt", &["8"]), Fit::Not),
            (label("zone", "Likes", &["a"]), Fit::Not),
            (term(json!({})), Fit::Not),
            (
                term(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]})),
                Fit::Runs,
            ),
        ] {
            assert_eq!(of(spec.clone(), &clean), expected, "{spec}");
        }
        let taint = |key: &str, effect: &str| node(json!([{"key": key, "value": "v", "effect": effect}]));
        let tolerating = json!({"tolerations": [{"key": "x", "operator": "Equal", "value": "v"}]});
        for (node, spec, expected) in [
            (taint("x", "NoSchedule"), json!({}), Fit::Keeps),
            (taint("x", "PreferNoSchedule"), json!({}), Fit::Runs),
            (taint("x", "NoExecute"), json!({}), Fit::Not),
            (taint("x", "NoExecute"), tolerating, Fit::Runs),
            (
                taint("node.kubernetes.io/unschedulable", "NoSchedule"),
                json!({}),
                Fit::Runs,
            ),
            (taint("node.kubernetes.io/not-ready", "NoExecute"), json!({}), Fit::Runs),
            (
                taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
                json!({}),
                Fit::Keeps,
            ),
            (
                taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
                json!({"hostNetwork": true}),
                Fit::Runs,
            ),
        ] {
            assert_eq!(of(spec.clone(), &node), expected, "{spec}");
        }
    }
}
