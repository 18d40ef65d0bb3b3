//! What one rule allows.
//!
//! Source: Kubernetes' `pkg/apis/rbac/v1/evaluation_helpers.go`.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::Attributes;

/// The entries of an optional list.
pub(super) fn entries(list: &Option<Vec<String>>) -> &[String] {
    list.as_deref().unwrap_or_default()
}

/// Whether a list has `*` or `wanted`.
fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

/// Whether a rule allows what is asked for.
pub fn allows(rule: &PolicyRule, asked: &Attributes) -> bool {
    if !has(&rule.verbs, &asked.verb) {
        return false;
    }
    match &asked.path {
        Some(path) => entries(&rule.non_resource_urls)
            .iter()
            .any(|url| nonresource_matches(url, path)),
        None => {
            let names = entries(&rule.resource_names);
            has(entries(&rule.api_groups), &asked.group)
                && entries(&rule.resources)
                    .iter()
                    .any(|resource| resource_matches(resource, asked))
                && (names.is_empty() || names.contains(&asked.name))
        }
    }
}

/// `pods`, `pods/log`, `*/scale` or `*`.
fn resource_matches(entry: &str, asked: &Attributes) -> bool {
    if entry == "*" {
        return true;
    }
    match entry.split_once('/') {
        None => asked.subresource.is_empty() && entry == asked.resource,
        Some((resource, subresource)) => {
            !asked.subresource.is_empty()
                && subresource == asked.subresource
                && (resource == "*" || resource == asked.resource)
        }
    }
}

/// Whether a rule's URL (`/healthz`, `/apis/*`, `*`) stands for a path.
pub fn nonresource_matches(url: &str, path: &str) -> bool {
    url == path
        || url
            .strip_suffix('*')
            .is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Option<Vec<String>> {
        Some(text.split(' ').map(str::to_owned).collect())
    }

    fn asked(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn resource_rules() {
        // verbs, groups, resources, names → verb, group, resource, name: allowed
        for (verbs, groups, resources, names, asks, expected) in [
            ("get list", "", "pods", "", ("get", "", "pods", ""), true),
            ("get list", "", "pods", "", ("watch", "", "pods", ""), false),
            ("get", "", "pods", "", ("get", "apps", "pods", ""), false),
            ("get", "*", "pods", "", ("get", "apps", "pods", ""), true),
            ("*", "", "pods", "", ("escalate", "", "pods", ""), true),
            ("get", "", "pods", "", ("get", "", "pods/log", "x"), false),
            ("get", "", "pods/log", "", ("get", "", "pods/log", "x"), true),
            ("get", "", "pods/log", "", ("get", "", "pods", "x"), false),
            ("get", "", "pods/*", "", ("get", "", "pods/log", "x"), false),
            ("get", "", "*", "", ("get", "", "pods/log", "x"), true),
            (
                "update",
                "apps",
                "*/scale",
                "",
                ("update", "apps", "deployments/scale", "x"),
                true,
            ),
            (
                "update",
                "apps",
                "*/scale",
                "",
                ("update", "apps", "deployments", "x"),
                false,
            ),
            (
                "update",
                "apps",
                "*/scale",
                "",
                ("update", "apps", "deployments/status", "x"),
                false,
            ),
            ("get", "", "pods", "x y", ("get", "", "pods", "x"), true),
            ("get", "", "pods", "x y", ("get", "", "pods", "z"), false),
            ("list", "", "pods", "x", ("list", "", "pods", ""), false),
            ("get", "", "pods", "*", ("get", "", "pods", "x"), false),
        ] {
            let rule = PolicyRule {
                verbs: list(verbs).unwrap(),
                api_groups: list(groups),
                resources: list(resources),
                resource_names: (!names.is_empty()).then(|| list(names)).flatten(),
                non_resource_urls: None,
            };
            let (verb, group, resource, name) = asks;
            let asks = asked(verb, group, resource, name);
            assert_eq!(allows(&rule, &asks), expected, "{rule:?} {asks:?}");
        }
    }

    #[test]
    fn paths() {
        for (url, path, expected) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/etcd", false),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("/apis*", "/apis/apps", true),
            ("*", "/anything", true),
            ("/a*b", "/axb", false),
        ] {
            assert_eq!(nonresource_matches(url, path), expected, "{url} {path}");
        }
        let rule = PolicyRule {
            verbs: list("get").unwrap(),
            non_resource_urls: list("/version"),
            ..PolicyRule::default()
        };
        let asks = |path: Option<&str>| Attributes {
            verb: "get".into(),
            path: path.map(str::to_owned),
            ..Attributes::default()
        };
        assert!(allows(&rule, &asks(Some("/version"))));
        assert!(!allows(&rule, &asks(Some("/metrics"))));
        assert!(!allows(&rule, &asks(None)), "a rule for paths allows no resource");
    }
}
