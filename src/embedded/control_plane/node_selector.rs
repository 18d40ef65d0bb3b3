//! Node selectors and tolerations: which nodes a pod's affinity or a volume's takes, and which taints a pod bears. Pure.
//!
//! Source: Kubernetes' `NodeSelector` (core/v1), "Assigning Pods to Nodes", "Taints and Tolerations".

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};
use kube::ResourceExt;

/// Whether one of the terms takes the node.
pub fn matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| takes(term, node))
}

/// Whether a term takes the node: all that it asks for holds. A term that asks for nothing takes none.
pub fn takes(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = node.name_any();
    !(labels.is_empty() && fields.is_empty())
        && labels
            .iter()
            .all(|one| holds(one, node.labels().get(&one.key).map(String::as_str)))
        // The only field that can be asked for.
        && fields
            .iter()
            .all(|one| one.key == "metadata.name" && holds(one, Some(&name)))
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

/// Whether a toleration answers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or("");
    match toleration.operator.as_deref() {
        Some("Exists") => key.is_empty() || key == taint.key,
        _ => key == taint.key && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn terms_take_nodes_by_labels_and_name() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"zone": "a", "cores": "8"}}})).unwrap();
        let label =
            |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        for (terms, expected) in [
            (json!([]), false),
            (json!([{}]), false),
            (json!([{"matchExpressions": [label("zone", "In", &["a", "b"])]}]), true),
            (json!([{"matchExpressions": [label("zone", "In", &["b"])]}]), false),
            (json!([{"matchExpressions": [label("zone", "NotIn", &["b"])]}]), true),
            (json!([{"matchExpressions": [label("disk", "NotIn", &["b"])]}]), true),
            (json!([{"matchExpressions": [label("disk", "Exists", &[])]}]), false),
            (
                json!([{"matchExpressions": [label("disk", "DoesNotExist", &[])]}]),
                true,
            ),
            (json!([{"matchExpressions": [label("cores", "Gt", &["4"])]}]), true),
            (json!([{"matchExpressions": [label("cores", "Gt", &["8"])]}]), false),
            (json!([{"matchExpressions": [label("cores", "Lt", &["9"])]}]), true),
            (json!([{"matchExpressions": [label("zone", "Lt", &["9"])]}]), false),
            (json!([{"matchExpressions": [label("zone", "Likes", &["a"])]}]), false),
            (
                json!([{"matchExpressions": [label("zone", "In", &["a"]), label("disk", "Exists", &[])]}]),
                false,
            ),
            (
                json!([{"matchExpressions": [label("disk", "Exists", &[])]}, {"matchFields": [label("metadata.name", "In", &["n"])]}]),
                true,
            ),
            (
                json!([{"matchFields": [label("metadata.uid", "NotIn", &["n"])]}]),
                false,
            ),
        ] {
            let selector: NodeSelector = serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap();
            assert_eq!(matches(&selector, &node), expected, "{terms}");
        }
    }
}
