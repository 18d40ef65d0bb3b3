//! ClusterSPIFFEIDs held against a pod: which select it, which almost do, and which label is missing. Pure.
//!
//! Source: SPIRE's controller manager, `docs/clusterspiffeid-crd.md`; label selectors as Kubernetes has them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::manager::Manager;

/// A ClusterSPIFFEID, as much of it as decides about pods.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Its name.
    pub metadata: ObjectMeta,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "spiffeIDTemplate")]
    template: String,
    namespace_selector: Option<LabelSelector>,
    pod_selector: Option<LabelSelector>,
    class_name: String,
    fallback: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    stats: Option<Stats>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stats {
    pod_entry_render_failures: u32,
    entry_failures: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    status: String,
    message: String,
}

/// A requirement of a label selector that a set of labels does not meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmet {
    /// Which selector: `podSelector` or `namespaceSelector`.
    pub of: &'static str,
    /// What is wrong, in words.
    pub says: String,
    /// The label that would meet it, where there is one: `app=orders-api`.
    pub label: Option<String>,
}

/// A ClusterSPIFFEID held against a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// What it makes a SPIFFE ID with.
    pub template: String,
    /// Whether it selects the pod, and counts.
    pub selects: bool,
    /// Whether one requirement only keeps it from that.
    pub almost: bool,
    /// What keeps it from that, where it does not.
    pub because: Vec<String>,
    /// Labels that are missing.
    pub unmet: Vec<Unmet>,
    /// What its status says went wrong.
    pub trouble: Option<String>,
    /// Whether it counts only for pods that no other one selects.
    pub fallback: bool,
}

impl Rule {
    /// Holds it against a pod of a namespace with these labels.
    pub fn judge(&self, pod: &Pod, namespace: &BTreeMap<String, String>, manager: Option<&Manager>) -> Verdict {
        let none = BTreeMap::new();
        let mut because = Vec::new();
        let mut unmet = Vec::new();
        for (of, selector, labels) in [
            ("namespaceSelector", &self.spec.namespace_selector, namespace),
            (
                "podSelector",
                &self.spec.pod_selector,
                pod.metadata.labels.as_ref().unwrap_or(&none),
            ),
        ] {
            match selector.as_ref().map_or(Ok(Vec::new()), |one| lacks(of, one, labels)) {
                Ok(found) => unmet.extend(found),
                Err(why) => because.push(format!("its {of} cannot be read: {why}")),
            }
        }
        because.extend(unmet.iter().map(|one: &Unmet| one.says.clone()));
        let almost = because.len() == 1 && unmet.len() == 1;
        let place = pod.namespace().unwrap_or_default();
        if let Some(manager) = manager {
            if let Some(text) = manager.ignores(&place) {
                because.push(format!(
                    "the controller manager leaves the namespace {place} out: `{text}` of ignoreNamespaces matches it"
                ));
            }
            if !manager.acts() {
                because.push("the controller manager's `reconcile` leaves ClusterSPIFFEIDs out".to_owned());
            }
            if !manager.acts_on(&self.spec.class_name) {
                let (class, ours) = (&self.spec.class_name, &manager.class_name);
                because.push(format!(
                    "its class is `{class}`, and the controller manager acts on `{ours}`"
                ));
            }
        }
        Verdict {
            name: self.metadata.name.clone().unwrap_or_default(),
            template: self.spec.template.clone(),
            selects: because.is_empty(),
            almost,
            because,
            unmet,
            trouble: self.trouble(),
            fallback: self.spec.fallback,
        }
    }

    /// What its status says went wrong. The conditions are the stand-in's; SPIRE's own controller manager has counts only.
    fn trouble(&self) -> Option<String> {
        let bad = self.status.conditions.iter().find(|one| one.status == "False");
        if let Some(message) = bad.map(|one| one.message.clone()).filter(|text| !text.is_empty()) {
            return Some(message);
        }
        let stats = self.status.stats.clone().unwrap_or_default();
        let counts = [
            (
                stats.pod_entry_render_failures,
                "pods for which no entry could be made of its templates",
            ),
            (stats.entry_failures, "entries that the server refused"),
        ];
        let told: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("its status counts {count} {what}"))
            .collect();
        (!told.is_empty()).then(|| told.join(", and "))
    }
}

/// The requirements of a selector that labels do not meet.
fn lacks(of: &'static str, selector: &LabelSelector, labels: &BTreeMap<String, String>) -> Result<Vec<Unmet>, String> {
    let whose = if of == "podSelector" { "pod" } else { "namespace" };
    let mut found = Vec::new();
    let mut add = |says: String, label: Option<String>| {
        found.push(Unmet {
            of,
            says: format!("{of}: {says}"),
            label,
        });
    };
    let has = |key: &str| match labels.get(key) {
        Some(value) => format!("the {whose}'s label `{key}` is `{value}`"),
        None => format!("the {whose} has no label `{key}`"),
    };
    for (key, value) in selector.match_labels.iter().flatten() {
        if labels.get(key) != Some(value) {
            add(format!("{}, not `{value}`", has(key)), Some(format!("{key}={value}")));
        }
    }
    for one in selector.match_expressions.iter().flatten() {
        let key = &one.key;
        let values = one.values.clone().unwrap_or_default();
        let list = values.join(", ");
        let value = labels.get(key);
        match one.operator.as_str() {
            "In" if values.is_empty() => return Err(format!("`In` without values for `{key}`")),
            "In" if value.is_none_or(|value| !values.contains(value)) => {
                let label = (values.len() == 1).then(|| format!("{key}={list}"));
                add(format!("{}, and one of {list} is asked for", has(key)), label);
            }
            "NotIn" if value.is_some_and(|value| values.contains(value)) => {
                add(format!("{}, and none of {list} may be", has(key)), None);
            }
            "Exists" if value.is_none() => add(has(key), Some(format!("{key}="))),
            "DoesNotExist" if value.is_some() => add(format!("{}, and there may be none", has(key)), None),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => return Err(format!("`{other}` is no operator")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spire::testing::{pod_json, read};

    fn judged(spec: Value, status: Value, manager: Option<&Manager>) -> Verdict {
        let rule: Rule = read(json!({"metadata": {"name": "shop"}, "spec": spec, "status": status}));
        let namespace = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), "shop".to_owned())]);
        rule.judge(&read(pod_json("orders-1", "orders")), &namespace, manager)
    }

    #[test]
    fn what_keeps_a_rule_from_selecting_a_pod_is_named() {
        let label = |key: &str, value: &str| json!({"matchLabels": {key: value}});
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (spec, says, almost) in [
            (json!({}), "", false),
            (json!({"podSelector": {}, "namespaceSelector": {}}), "", false),
            (json!({"podSelector": label("app", "orders")}), "", false),
            (
                json!({"podSelector": label("app", "ledger")}),
                "podSelector: the pod's label `app` is `orders`, not `ledger`",
                true,
            ),
            (
                json!({"podSelector": label("tier", "gold")}),
                "podSelector: the pod has no label `tier`, not `gold`",
                true,
            ),
            (
                json!({"podSelector": expression("app", "In", &["ledger", "frontend"])}),
                "podSelector: the pod's label `app` is `orders`, and one of ledger, frontend is asked for",
                true,
            ),
            (json!({"podSelector": expression("app", "In", &["orders"])}), "", false),
            (
                json!({"podSelector": expression("app", "NotIn", &["orders"])}),
                "podSelector: the pod's label `app` is `orders`, and none of orders may be",
                true,
            ),
            (
                json!({"podSelector": expression("tier", "NotIn", &["gold"])}),
                "",
                false,
            ),
            (
                json!({"podSelector": expression("tier", "Exists", &[])}),
                "podSelector: the pod has no label `tier`",
                true,
            ),
            (
                json!({"podSelector": expression("app", "DoesNotExist", &[])}),
                "podSelector: the pod's label `app` is `orders`, and there may be none",
                true,
            ),
            (
                json!({"namespaceSelector": label("kubernetes.io/metadata.name", "bank")}),
                "namespaceSelector: the namespace's label `kubernetes.io/metadata.name` is `shop`, not `bank`",
                true,
            ),
            (
                json!({"namespaceSelector": label("team", "a"), "podSelector": label("app", "ledger")}),
                "namespaceSelector: the namespace has no label `team`, not `a`; \
                 podSelector: the pod's label `app` is `orders`, not `ledger`",
                false,
            ),
            (
                json!({"podSelector": expression("app", "Like", &["orders"])}),
                "its podSelector cannot be read: `Like` is no operator",
                false,
            ),
        ] {
            let verdict = judged(spec.clone(), json!({}), None);
            assert_eq!(verdict.because.join("; "), says, "{spec}");
            assert_eq!((verdict.selects, verdict.almost), (says.is_empty(), almost), "{spec}");
        }
    }

    #[test]
    fn what_the_controller_manager_leaves_out_and_what_went_wrong_is_told() {
        let manager = Manager {
            ignore_namespaces: vec!["^shop$".into()],
            class_name: "ours".into(),
            ..Manager::default()
        };
        let verdict = judged(json!({"className": "theirs"}), json!({}), Some(&manager));
        assert!(!verdict.selects && !verdict.almost);
        assert!(
            verdict.because[0].contains("`^shop$` of ignoreNamespaces"),
            "{verdict:?}"
        );
        assert!(verdict.because[1].contains("its class is `theirs`"), "{verdict:?}");
        let counted = judged(
            json!({}),
            json!({"stats": {"podEntryRenderFailures": 2, "entryFailures": 1}}),
            None,
        );
        let trouble = counted.trouble.unwrap();
        assert!(
            trouble.contains("counts 2 pods") && trouble.contains("1 entries"),
            "{trouble}"
        );
        let told = judged(
            json!({}),
            json!({"conditions": [{"status": "False", "message": "pod shop/x: no"}]}),
            None,
        );
        assert_eq!(told.trouble.as_deref(), Some("pod shop/x: no"));
        assert_eq!(judged(json!({}), json!({"stats": {}}), None).trouble, None);
    }
}
