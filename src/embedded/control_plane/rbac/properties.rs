//! The evaluator against a second one that is as plain as the documents' words.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use proptest::prelude::*;

use super::{Attributes, Binding, GROUP, Index, Who, allows, escalation};

fn some_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop::sample::select(words).prop_map(str::to_owned), 0..3)
}

const VERBS: &[&str] = &["get", "list", "create", "*"];
const GROUPS: &[&str] = &["", "apps", "*"];
const RESOURCES: &[&str] = &["pods", "pods/log", "deployments", "deployments/scale", "*/scale", "*"];
const NAMES: &[&str] = &["a", "b"];
const URLS: &[&str] = &["/healthz", "/apis/*", "/api*", "*"];
const USERS: &[&str] = &[
    "jane",
    "joe",
    "system:serviceaccount:x:robot",
    "system:serviceaccount:y:robot",
];
const NAMESPACES: &[&str] = &["x", "y"];

fn rules() -> impl Strategy<Value = PolicyRule> {
    (
        some_of(VERBS),
        some_of(GROUPS),
        some_of(RESOURCES),
        some_of(NAMES),
        some_of(URLS),
    )
        .prop_map(|(verbs, groups, resources, names, urls)| PolicyRule {
            verbs,
            api_groups: Some(groups),
            resources: Some(resources),
            resource_names: Some(names),
            non_resource_urls: Some(urls),
        })
}

fn questions() -> impl Strategy<Value = Attributes> {
    let resource = (
        prop::sample::select(&VERBS[..3]),
        prop::sample::select(&["", "apps", "batch"][..]),
        prop::sample::select(&["pods", "pods/log", "deployments", "deployments/scale", "jobs"][..]),
        prop::sample::select(&["", "a", "b", "c"][..]),
        prop::sample::select(&["", "x", "y"][..]),
    )
        .prop_map(|(verb, group, resource, name, namespace)| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            Attributes {
                verb: verb.into(),
                group: group.into(),
                resource: resource.into(),
                subresource: subresource.into(),
                namespace: namespace.into(),
                name: name.into(),
                path: None,
            }
        });
    let path = (
        prop::sample::select(&VERBS[..3]),
        prop::sample::select(&["/healthz", "/apis/apps", "/api", "/metrics"][..]),
    )
        .prop_map(|(verb, path)| Attributes {
            verb: verb.into(),
            path: Some(path.into()),
            ..Attributes::default()
        });
    prop_oneof![3 => resource, 1 => path]
}

fn subjects() -> impl Strategy<Value = Subject> {
    let of_kind = |kind: &'static str, names: &'static [&'static str]| {
        (
            prop::sample::select(names),
            prop::option::of(prop::sample::select(NAMESPACES)),
        )
            .prop_map(move |(name, namespace)| Subject {
                kind: kind.into(),
                name: name.into(),
                namespace: namespace.map(str::to_owned),
                ..Subject::default()
            })
    };
    prop_oneof![
        of_kind("User", USERS),
        of_kind("Group", &["ops", "jane"]),
        of_kind("ServiceAccount", &["robot"])
    ]
}

/// A role's kind, namespace and rules; who is bound; where the binding is.
type Grant = (bool, &'static str, Vec<PolicyRule>, Vec<Subject>, Option<&'static str>);

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let grant = (
        any::<bool>(),
        prop::sample::select(NAMESPACES),
        prop::collection::vec(rules(), 0..3),
        prop::collection::vec(subjects(), 0..3),
        prop::option::of(prop::sample::select(NAMESPACES)),
    );
    prop::collection::vec(grant, 0..5)
}

fn index(grants: &[Grant]) -> Index {
    let mut index = (
        HashMap::new(),
        HashMap::new(),
        HashMap::<String, Vec<Binding>>::new(),
        Vec::new(),
    );
    for (number, (is_role, role_namespace, rules, subjects, namespace)) in grants.iter().enumerate() {
        let name = format!("n{number}");
        let kind = if *is_role { "Role" } else { "ClusterRole" };
        let roles = if *is_role { &mut index.0 } else { &mut index.1 };
        let of = if *is_role { *role_namespace } else { "" };
        roles.insert((of.to_owned(), name.clone()), rules.clone().into());
        let binding = Binding {
            name: name.clone(),
            namespace: namespace.unwrap_or_default().to_owned(),
            role: RoleRef {
                api_group: GROUP.into(),
                kind: kind.into(),
                name,
            },
            subjects: subjects.clone(),
        };
        match namespace {
            Some(namespace) => index.2.entry((*namespace).to_owned()).or_default().push(binding),
            None => index.3.push(binding),
        }
    }
    Index {
        roles: Arc::new(index.0),
        cluster_roles: Arc::new(index.1),
        bindings: Arc::new(index.2),
        cluster_bindings: Arc::new(index.3),
    }
}

/// The documents' words, with regular loops and no shortcuts.
fn plainly(grants: &[Grant], user: &str, groups: &[String], asked: &Attributes) -> bool {
    let in_list = |list: &Option<Vec<String>>, wanted: &str| {
        list.clone()
            .unwrap_or_default()
            .iter()
            .any(|one| one == "*" || one == wanted)
    };
    grants
        .iter()
        .any(|(is_role, role_namespace, rules, subjects, namespace)| {
            // A Role is only found by a binding in its own namespace; a binding in a namespace gives nothing elsewhere.
            let found = !is_role || *namespace == Some(*role_namespace);
            let reaches = match namespace {
                None => true,
                Some(namespace) => asked.path.is_none() && asked.namespace == *namespace,
            };
            let bound = subjects.iter().any(|subject| match subject.kind.as_str() {
                "User" => subject.name == user,
                "Group" => groups.contains(&subject.name),
                _ => {
                    let of = subject.namespace.clone().or(namespace.map(str::to_owned));
                    of.is_some_and(|of| user == format!("system:serviceaccount:{of}:{}", subject.name))
                }
            });
            let allowed = rules.iter().any(|rule| {
                let verb = in_list(&Some(rule.verbs.clone()), &asked.verb);
                let target = match &asked.path {
                    Some(path) => {
                        rule.non_resource_urls
                            .clone()
                            .unwrap_or_default()
                            .iter()
                            .any(|url| match url.find('*') {
                                Some(star) => path.get(..star) == Some(&url[..star]),
                                None => path == url,
                            })
                    }
                    None => {
                        let full = asked.combined_resource();
                        let any = format!("*/{}", asked.subresource);
                        let names = rule.resource_names.clone().unwrap_or_default();
                        in_list(&rule.api_groups, &asked.group)
                            && (in_list(&rule.resources, &full)
                                || !asked.subresource.is_empty()
                                    && rule.resources.clone().unwrap_or_default().contains(&any))
                            && (names.is_empty() || names.contains(&asked.name))
                    }
                };
                verb && target
            });
            found && reaches && bound && allowed
        })
}

proptest! {
    #[test]
    fn the_evaluator_says_what_the_plain_one_says(
        grants in grants(),
        user in prop::sample::select(USERS),
        groups in some_of(&["ops", "jane", "others"]),
        asked in questions(),
    ) {
        let decided = index(&grants).decide(Who { name: user, groups: &groups }, &asked);
        prop_assert_eq!(decided.allowed, plainly(&grants, user, &groups, &asked));
    }

    /// Whoever may grant a rule may do all that the rule allows.
    #[test]
    fn nobody_grants_more_than_they_have(
        owned in prop::collection::vec(rules(), 0..4),
        wanted in prop::collection::vec(rules(), 0..3),
        asked in questions(),
    ) {
        let have: Vec<&PolicyRule> = owned.iter().collect();
        let may = escalation::check(Who { name: "x", groups: &[] }, &have, &wanted).is_ok();
        if may && wanted.iter().any(|rule| allows(rule, &asked)) {
            prop_assert!(owned.iter().any(|rule| allows(rule, &asked)), "{:?} grants {:?}", owned, wanted);
        }
    }
}
