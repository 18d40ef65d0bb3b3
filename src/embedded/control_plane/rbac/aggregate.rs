//! ClusterRoles whose rules are those of others.
//!
//! Source: Kubernetes' clusterroleaggregation controller.

use std::collections::BTreeMap;

use k8s_openapi::{api::rbac::v1::PolicyRule, apimachinery::pkg::apis::meta::v1::LabelSelector};

use crate::control_plane::api::selector::LabelSelector as Selector;

/// A ClusterRole that others may take rules from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// Its rules.
    pub rules: &'a [PolicyRule],
}

/// The rules of the ClusterRole `own` with these selectors: those of every role that one of them selects, each rule once, in
/// the order of the roles' names.
pub fn rules(own: &str, selectors: &[LabelSelector], roles: &[Source<'_>]) -> Vec<PolicyRule> {
    let selectors: Vec<Selector> = selectors.iter().filter_map(parse).collect();
    let mut sources: Vec<&Source<'_>> = roles
        .iter()
        .filter(|source| source.name != own && selectors.iter().any(|selector| selects(selector, source)))
        .collect();
    sources.sort_by_key(|source| source.name);
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in sources.iter().flat_map(|source| source.rules) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

fn parse(selector: &LabelSelector) -> Option<Selector> {
    let object = serde_json::to_value(selector).ok()?;
    // One that cannot be read selects nothing.
    Selector::from_object(&object).ok()
}

fn selects(selector: &Selector, source: &Source<'_>) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches_map(source.labels.unwrap_or(&NONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verb: &str) -> PolicyRule {
        PolicyRule {
            verbs: vec![verb.to_owned()],
            ..PolicyRule::default()
        }
    }

    #[test]
    fn selected_roles_give_their_rules_once_and_in_order() {
        let label = |name: &str| BTreeMap::from([(name.to_owned(), "true".to_owned())]);
        let (to_view, to_edit) = (label("to-view"), label("to-edit"));
        let (one, two, three) = (
            [rule("get"), rule("list")],
            [rule("list"), rule("watch")],
            [rule("create")],
        );
        let source = |name, labels, rules| Source { name, labels, rules };
        let roles = [
            source("z", Some(&to_view), &one[..]),
            source("a", Some(&to_view), &two[..]),
            source("view", Some(&to_view), &three[..]),
            source("e", Some(&to_edit), &three[..]),
            source("n", None, &three[..]),
        ];
        let selector = |labels: &BTreeMap<String, String>| LabelSelector {
            match_labels: Some(labels.clone()),
            ..LabelSelector::default()
        };
        assert_eq!(
            rules("view", &[selector(&to_view)], &roles),
            [rule("list"), rule("watch"), rule("get")]
        );
        assert_eq!(
            rules("edit", &[selector(&to_view), selector(&to_edit)], &roles).len(),
            4
        );
        assert!(rules("x", &[], &roles).is_empty());
    }
}
