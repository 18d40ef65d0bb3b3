//! The roles and bindings that every cluster has from the start, and keeps when its node starts again.
//!
//! Source: Kubernetes' `plugin/pkg/auth/authorizer/rbac/bootstrappolicy` and "Default roles and role bindings".

use k8s_openapi::{
    api::rbac::v1::{
        AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{GROUP, aggregate, escalation};
use crate::control_plane::{
    snapshot,
    storage::{CollectionKey, Key},
};

pub mod controllers;
mod table;

use controllers::{CONTROLLERS, NAMESPACE, PREFIX};
use table::{BINDINGS, CLUSTER_ROLES, LOCAL_BINDINGS, LOCAL_ROLES, RoleRow};

/// Says that a role or binding is one of these.
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";
/// An object with this annotation at `false` is left as its owner made it.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// An object of the policy.
pub struct Wanted {
    /// Plural name of its resource.
    pub plural: &'static str,
    /// Its namespace, or empty.
    pub namespace: &'static str,
    /// The object, without what a server sets.
    pub object: Value,
}

/// All of them. Aggregated roles have their rules.
pub fn objects() -> Vec<Wanted> {
    let mut roles: Vec<ClusterRole> = CLUSTER_ROLES.iter().map(cluster_role).collect();
    roles.extend(CONTROLLERS.iter().map(|(name, rules)| ClusterRole {
        metadata: metadata(&format!("{PREFIX}{name}"), ""),
        aggregation_rule: None,
        rules: Some(rules.iter().map(|row| rule(row)).collect()),
    }));
    // `edit` gathers `view`, and `admin` gathers `edit`: one round for each step.
    for name in ["view", "edit", "admin"] {
        let rules = aggregated(name, &roles);
        if let Some(role) = roles
            .iter_mut()
            .find(|role| role.metadata.name.as_deref() == Some(name))
        {
            role.rules = Some(rules);
        }
    }
    let wanted = |plural, namespace, object: serde_json::Result<Value>| Wanted {
        plural,
        namespace,
        // These are structures of strings; a value always comes of them.
        object: object.unwrap_or_default(),
    };
    let mut all: Vec<Wanted> = roles
        .iter()
        .map(|role| wanted("clusterroles", "", serde_json::to_value(role)))
        .collect();
    let controllers = CONTROLLERS.iter().map(|(name, _)| {
        let subject = format!("ServiceAccount:{NAMESPACE}/{name}");
        (format!("{PREFIX}{name}"), subject)
    });
    let bindings = BINDINGS
        .iter()
        .map(|(role, subjects)| ((*role).to_owned(), (*subjects).to_owned()));
    all.extend(bindings.chain(controllers).map(|(role, subjects)| {
        let binding = ClusterRoleBinding {
            metadata: metadata(&role, ""),
            role_ref: role_ref("ClusterRole", &role),
            subjects: self::subjects(&subjects),
        };
        wanted("clusterrolebindings", "", serde_json::to_value(binding))
    }));
    all.extend(LOCAL_ROLES.iter().map(|(namespace, name, rules)| {
        let role = Role {
            metadata: metadata(name, namespace),
            rules: Some(rules.iter().map(|row| rule(row)).collect()),
        };
        wanted("roles", namespace, serde_json::to_value(role))
    }));
    all.extend(LOCAL_BINDINGS.iter().map(|(namespace, name, role, subjects)| {
        let binding = RoleBinding {
            metadata: metadata(name, namespace),
            role_ref: role_ref("Role", role),
            subjects: self::subjects(subjects),
        };
        wanted("rolebindings", namespace, serde_json::to_value(binding))
    }));
    all
}

/// What the role `system:node` allows: kubelets have it by their authoriser, and not by a binding.
pub fn node_rules() -> Vec<PolicyRule> {
    let node = CLUSTER_ROLES.iter().filter(|role| role.name == "system:node");
    node.flat_map(|role| role.rules.iter().map(|row| rule(row))).collect()
}

impl Wanted {
    /// The key it is stored under.
    pub fn key(&self) -> Key {
        let name = self.object.pointer("/metadata/name").and_then(Value::as_str);
        CollectionKey::new(GROUP, self.plural).object(self.namespace, name.unwrap_or_default())
    }

    /// What is to be stored in place of `held`, the object of its name; `None` where `held` lacks nothing. A new object gets
    /// `uid` and was made at `now` (RFC 3339).
    pub fn reconciled(&self, held: Option<&Value>, now: &str, uid: impl FnOnce() -> String) -> Option<Value> {
        if let Some(held) = held {
            return mended(held, &self.object);
        }
        let mut object = self.object.clone();
        object["metadata"]["uid"] = json!(uid());
        object["metadata"]["creationTimestamp"] = json!(now);
        Some(object)
    }
}

/// Adds to what a snapshot wants what it lacks of the policy: it may be of a time when there was none, or somebody had removed
/// it. Where the cluster has the object (`live`), it stays as it is.
pub fn complete(
    wanted: &mut Vec<(Key, Value)>,
    live: &[(Key, Arc<Value>)],
    now: &str,
    mut new_uid: impl FnMut() -> String,
) {
    let namespaces = CollectionKey::new("", "namespaces");
    let places: HashMap<Key, usize> = wanted.iter().map(|(key, _)| key.clone()).zip(0..).collect();
    for policy in objects() {
        let key = policy.key();
        let home = namespaces.object("", policy.namespace);
        let has_home = policy.namespace.is_empty() || places.contains_key(&home);
        if let Some((_, held)) = places.get(&key).and_then(|place| wanted.get_mut(*place)) {
            if let Some(next) = policy.reconciled(Some(held), now, &mut new_uid) {
                *held = next;
            }
        } else if has_home {
            let held = live.iter().find(|(held, _)| *held == key);
            let held = held.and_then(|(key, object)| snapshot::desired(key, object));
            let next = policy.reconciled(held.as_ref(), now, &mut new_uid);
            wanted.extend(next.or(held).map(|object| (key, object)));
        }
    }
}

/// What becomes of an object that an earlier life of the cluster left: what it lacks of the policy is added, as Kubernetes does
/// at each start. `None` where there is nothing to add.
fn mended(held: &Value, wanted: &Value) -> Option<Value> {
    let annotation = held
        .pointer("/metadata/annotations")
        .and_then(|all| all.get(AUTOUPDATE));
    if annotation.and_then(Value::as_str) == Some("false") {
        return None;
    }
    let mut next = held.clone();
    let aggregated = wanted.get("aggregationRule").is_some();
    // Mostly all of it is there as it is written.
    let all_there = || {
        let rules = |of: &Value| of.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
        let held = rules(held);
        rules(wanted).iter().all(|rule| held.contains(rule))
    };
    if !aggregated
        && let Some(rules) = wanted.get("rules")
        && !all_there()
    {
        let rules: Vec<PolicyRule> = serde_json::from_value(rules.clone()).ok()?;
        let held: Vec<PolicyRule> = held
            .get("rules")
            .and_then(|rules| serde_json::from_value(rules.clone()).ok())
            .unwrap_or_default();
        let missing: Vec<PolicyRule> = rules
            .into_iter()
            .filter(|rule| {
                let single = escalation::take_apart(rule);
                !single
                    .iter()
                    .all(|one| held.iter().any(|have| escalation::covers(have, one)))
            })
            .collect();
        add(&mut next, "rules", serde_json::to_value(missing).ok()?);
    }
    if let Some(subjects) = wanted.get("subjects").and_then(Value::as_array) {
        let held = held
            .get("subjects")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let missing: Vec<Value> = subjects
            .iter()
            .filter(|subject| !held.contains(subject))
            .cloned()
            .collect();
        add(&mut next, "subjects", Value::Array(missing));
    }
    (next != *held).then_some(next)
}

fn add(object: &mut Value, field: &str, more: Value) {
    let Value::Array(more) = more else { return };
    if more.is_empty() {
        return;
    }
    match object.get_mut(field) {
        Some(Value::Array(list)) => list.extend(more),
        _ => object[field] = json!(more),
    }
}

fn aggregated(name: &str, roles: &[ClusterRole]) -> Vec<PolicyRule> {
    let sources: Vec<aggregate::Source<'_>> = roles
        .iter()
        .map(|role| aggregate::Source {
            name: role.metadata.name.as_deref().unwrap_or_default(),
            labels: role.metadata.labels.as_ref(),
            rules: role.rules.as_deref().unwrap_or_default(),
        })
        .collect();
    aggregate::rules(name, &[selector(name)], &sources)
}

fn selector(name: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(aggregate_to(name), "true".to_owned())])),
        ..LabelSelector::default()
    }
}

fn aggregate_to(name: &str) -> String {
    format!("{GROUP}/aggregate-to-{name}")
}

fn metadata(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
        labels: Some(BTreeMap::from([(BOOTSTRAPPING.to_owned(), "rbac-defaults".to_owned())])),
        annotations: Some(BTreeMap::from([(AUTOUPDATE.to_owned(), "true".to_owned())])),
        ..ObjectMeta::default()
    }
}

fn cluster_role(row: &RoleRow) -> ClusterRole {
    let mut metadata = metadata(row.name, "");
    if let (Some(to), Some(labels)) = (row.given_to, &mut metadata.labels) {
        labels.insert(aggregate_to(to), "true".to_owned());
    }
    let gathers = row.gathers.then(|| AggregationRule {
        cluster_role_selectors: Some(vec![selector(row.name)]),
    });
    ClusterRole {
        metadata,
        aggregation_rule: gathers,
        rules: Some(row.rules.iter().map(|row| rule(row)).collect()),
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: GROUP.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

/// `Group:system:masters User:x ServiceAccount:namespace/name`.
fn subjects(text: &str) -> Option<Vec<Subject>> {
    let subject = |word: &str| {
        let (kind, name) = word.split_once(':')?;
        Some(match name.split_once('/').filter(|_| kind == "ServiceAccount") {
            Some((namespace, name)) => Subject {
                kind: kind.to_owned(),
                name: name.to_owned(),
                namespace: Some(namespace.to_owned()),
                api_group: None,
            },
            None => Subject {
                kind: kind.to_owned(),
                name: name.to_owned(),
                namespace: None,
                api_group: Some(GROUP.to_owned()),
            },
        })
    };
    let subjects: Vec<Subject> = text.split_whitespace().filter_map(subject).collect();
    (!subjects.is_empty()).then_some(subjects)
}

/// A row of the table: `verbs | groups | resources | names`, or `verbs | paths`. `core` is the group without a name; `read`,
/// `write` and `change` stand for their verbs.
fn rule(row: &str) -> PolicyRule {
    let mut columns = row
        .split('|')
        .map(|column| column.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let verbs = columns.next().unwrap_or_default();
    let verbs = verbs.iter().flat_map(|verb| match verb.as_str() {
        "read" => vec!["get", "list", "watch"],
        "write" => vec!["create", "delete", "deletecollection", "patch", "update"],
        "change" => vec!["patch", "update"],
        other => vec![other],
    });
    let verbs = verbs.map(str::to_owned).collect();
    let second = columns.next().unwrap_or_default();
    let core = |group: String| if group == "core" { String::new() } else { group };
    match columns.next() {
        None => PolicyRule {
            verbs,
            non_resource_urls: Some(second),
            ..PolicyRule::default()
        },
        Some(resources) => PolicyRule {
            verbs,
            api_groups: Some(second.into_iter().map(core).collect()),
            resources: Some(resources),
            resource_names: columns.next(),
            non_resource_urls: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBS: &[&str] = &[
        "*",
        "approve",
        "create",
        "delete",
        "deletecollection",
        "escalate",
        "get",
        "impersonate",
        "list",
        "patch",
        "sign",
        "update",
        "watch",
    ];

    fn find<'a>(all: &'a [Wanted], plural: &str, name: &str) -> &'a Value {
        let found = all
            .iter()
            .find(|wanted| wanted.plural == plural && wanted.object["metadata"]["name"] == name);
        &found.unwrap_or_else(|| panic!("no {plural} {name}")).object
    }

    #[test]
    fn every_row_is_whole_and_every_binding_has_its_role() {
        let all = objects();
        for wanted in &all {
            let object = &wanted.object;
            assert_eq!(object["metadata"]["labels"][BOOTSTRAPPING], "rbac-defaults", "{object}");
            for rule in object["rules"].as_array().into_iter().flatten() {
                let verbs = rule["verbs"].as_array().unwrap();
                assert!(
                    !verbs.is_empty() && verbs.iter().all(|verb| VERBS.contains(&verb.as_str().unwrap())),
                    "{object}"
                );
                assert!(
                    rule["resources"] != json!([]) && rule["nonResourceURLs"] != json!([]),
                    "{object}"
                );
            }
            if let Some(role) = object.pointer("/roleRef/name").and_then(Value::as_str) {
                let plural = if wanted.plural == "rolebindings" {
                    "roles"
                } else {
                    "clusterroles"
                };
                find(&all, plural, role);
            }
        }
    }

    #[test]
    fn admin_gathers_edit_and_edit_gathers_view() {
        let all = objects();
        let rules = |name: &str| find(&all, "clusterroles", name)["rules"].as_array().unwrap().clone();
        let (view, edit, admin) = (rules("view"), rules("edit"), rules("admin"));
        assert!(!view.is_empty());
        assert!(view.iter().all(|rule| edit.contains(rule)));
        assert!(edit.iter().all(|rule| admin.contains(rule)));
        let reads_secrets = |rules: &[Value]| {
            rules.iter().any(|rule| {
                rule["resources"]
                    .as_array()
                    .is_some_and(|list| list.contains(&json!("secrets")))
            })
        };
        assert!(!reads_secrets(&view), "`view` must not read Secrets");
        assert!(reads_secrets(&edit));
    }

    #[test]
    fn a_snapshot_of_before_gets_what_it_lacks_and_keeps_what_it_has() {
        let role = |name: &str, uid: &str| {
            let object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": name, "uid": uid}, "rules": []});
            (CollectionKey::new(GROUP, "clusterroles").object("", name), object)
        };
        let namespace = CollectionKey::new("", "namespaces").object("", "kube-system");
        let mut wanted = vec![
            (namespace, json!({"metadata": {"name": "kube-system", "uid": "n"}})),
            role("mine", "m"),
            role("system:discovery", "d"),
        ];
        let live: Vec<(Key, Arc<Value>)> = [role("system:basic-user", "b"), role("other", "o")]
            .into_iter()
            .map(|(key, object)| (key, Arc::new(object)))
            .collect();
        let mut count = 0;
        complete(&mut wanted, &live, "2026-01-02T03:04:05Z", || {
            count += 1;
            format!("new-{count}")
        });
        let found = |name: &str| {
            let found: Vec<&Value> = wanted
                .iter()
                .filter(|(key, _)| key.name == name && key.collection.resource == "clusterroles")
                .map(|(_, object)| object)
                .collect();
            assert!(found.len() < 2, "{name} twice");
            found.first().copied()
        };
        assert_eq!(found("mine").unwrap()["rules"], json!([]));
        assert_eq!(found("other"), None, "what the snapshot does not hold goes");
        // Both lacked their rules and keep their identity.
        for (name, uid) in [("system:discovery", "d"), ("system:basic-user", "b")] {
            let role = found(name).unwrap();
            assert_eq!(role["metadata"]["uid"], uid);
            assert_ne!(role["rules"], json!([]));
        }
        let view = found("view").unwrap();
        assert_eq!(view["kind"], "ClusterRole");
        assert_eq!(view["metadata"]["creationTimestamp"], "2026-01-02T03:04:05Z");
        let homes: Vec<&str> = wanted.iter().map(|(key, _)| &*key.namespace).collect();
        assert!(homes.contains(&"kube-system") && !homes.contains(&"kube-public"));
        let mut uids: Vec<&Value> = wanted.iter().map(|(_, object)| &object["metadata"]["uid"]).collect();
        uids.sort_by_key(|uid| uid.to_string());
        uids.dedup();
        assert_eq!(uids.len(), wanted.len());
        // Nothing is left to be done.
        let again = wanted.clone();
        complete(&mut wanted, &[], "", || unreachable!());
        assert_eq!(wanted, again);
    }

    #[test]
    fn what_an_owner_took_away_comes_back_unless_they_said_otherwise() {
        let all = objects();
        let wanted = find(&all, "clusterroles", "system:discovery");
        assert_eq!(mended(wanted, wanted), None);
        let mut held = wanted.clone();
        held["rules"] = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]);
        let next = mended(&held, wanted).unwrap();
        assert_eq!(next["rules"].as_array().unwrap().len(), 2);
        held["metadata"]["annotations"][AUTOUPDATE] = json!("false");
        assert_eq!(mended(&held, wanted), None);
        let wanted = find(&all, "clusterrolebindings", "cluster-admin");
        let mut held = wanted.clone();
        held["subjects"] = json!([]);
        assert_eq!(mended(&held, wanted).unwrap()["subjects"], wanted["subjects"]);
    }
}
