//! What the definitions of a cluster come to: the kinds that are served, and what each definition's status says.
//!
//! Source: apiextensions-apiserver `pkg/controller/status/naming_controller.go` (names), `pkg/apiserver` (serving).

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Custom, ScalePaths, columns::Column, schema::Schema};
use crate::control_plane::api::{Registry, Resource, Subresource, view::Object};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// What definitions come to.
#[derive(Debug)]
pub struct Outcome {
    /// The kinds, in discovery's order.
    pub resources: Vec<Resource>,
    /// The status of each definition, in the order they were given.
    pub statuses: Vec<Value>,
}

/// Names that are taken in one group.
#[derive(Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn add(&mut self, names: Object<'_>) {
        self.resources
            .extend(resource_names(names).map(|(_, name)| name.to_owned()));
        self.kinds
            .extend([names.str("kind"), names.str("listKind")].map(str::to_owned));
    }

    /// The condition's reason and message for the first name that is taken.
    fn conflict(&self, names: Object<'_>) -> Option<(String, String)> {
        let kinds = [("Kind", names.str("kind")), ("ListKind", names.str("listKind"))];
        let all = resource_names(names)
            .filter(|(_, name)| self.resources.contains(*name))
            .chain(kinds.into_iter().filter(|(_, name)| self.kinds.contains(*name)));
        let (what, name) = all.last()?;
        Some((format!("{what}Conflict"), format!("{name:?} is already in use")))
    }
}

fn resource_names<'a>(names: Object<'a>) -> impl Iterator<Item = (&'static str, &'a str)> {
    let singular = Some(("Singular", names.str("singular"))).filter(|(_, name)| !name.is_empty());
    let short = names.items("shortNames");
    [("Plural", names.str("plural"))]
        .into_iter()
        .chain(singular)
        .chain(short.map(|name| ("ShortNames", name.0.as_str().unwrap_or_default())))
}

fn is_established(definition: Object<'_>) -> bool {
    definition
        .items("status.conditions")
        .any(|condition| condition.str("type") == "Established" && condition.str("status") == "True")
}

/// Decides which names are accepted, and so which kinds are served. Names belong to who had them first.
pub fn serve(builtin: &Registry, definitions: &[Arc<Value>], now: &str) -> Outcome {
    let mut taken: BTreeMap<String, Taken> = BTreeMap::new();
    for resource in builtin.iter() {
        let names = json!({"plural": resource.plural, "singular": resource.singular, "shortNames": resource.short_names,
            "kind": resource.kind, "listKind": resource.list_kind});
        taken.entry(resource.group.clone()).or_default().add(Object(&names));
    }
    // Names that are in use are taken before any that are only asked for.
    for definition in definitions
        .iter()
        .map(|one| Object(one))
        .filter(|one| is_established(*one))
    {
        let group = definition.str("spec.group").to_owned();
        taken
            .entry(group)
            .or_default()
            .add(definition.at("status.acceptedNames"));
    }
    let mut order: Vec<usize> = (0..definitions.len()).collect();
    order.sort_by_key(|index| {
        let definition = Object(&definitions[*index]);
        let created = definition.str("metadata.creationTimestamp").to_owned();
        (created, definition.str("metadata.name").to_owned())
    });
    let mut statuses = vec![Value::Null; definitions.len()];
    let mut resources = Vec::new();
    for index in order {
        let definition = Object(&definitions[index]);
        let taken = taken.entry(definition.str("spec.group").to_owned()).or_default();
        let status = status(definition, taken, now);
        let with_status = Object(&status);
        if with_status
            .items("conditions")
            .any(|one| one.str("type") == "Established" && one.str("status") == "True")
        {
            taken.add(with_status.at("acceptedNames"));
            resources.extend(kinds(definition, with_status.at("acceptedNames")));
        }
        statuses[index] = status;
    }
    resources.sort_by(|a, b| {
        let versions = || by_priority(&a.version, &b.version);
        a.group
            .cmp(&b.group)
            .then_with(versions)
            .then_with(|| a.plural.cmp(&b.plural))
    });
    Outcome { resources, statuses }
}

fn status(definition: Object<'_>, taken: &Taken, now: &str) -> Value {
    let wanted = definition.at("spec.names");
    let established = is_established(definition);
    let had = definition.at("status.acceptedNames");
    // What it has itself is not taken by another.
    let mut others = Taken {
        resources: taken.resources.clone(),
        kinds: taken.kinds.clone(),
    };
    if established {
        for (_, name) in resource_names(had) {
            others.resources.remove(name);
        }
        others.kinds.remove(had.str("kind"));
        others.kinds.remove(had.str("listKind"));
    }
    let conflict = others.conflict(wanted);
    let accepted = if conflict.is_none() {
        wanted.0.clone()
    } else {
        had.0.clone()
    };
    let mut conditions = Conditions {
        before: definition,
        now,
        all: Vec::new(),
    };
    match conflict {
        None => conditions.add("NamesAccepted", true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => conditions.add("NamesAccepted", false, &reason, &message),
    }
    if established || conditions.all[0]["status"] == "True" {
        let text = "the initial names have been accepted";
        conditions.add("Established", true, "InitialNamesAccepted", text);
    } else {
        conditions.add("Established", false, "NotAccepted", "not all names are accepted");
    }
    if definition.at("metadata.deletionTimestamp").is_set() {
        let text = "CustomResource deletion is in progress";
        conditions.add("Terminating", true, "InstanceDeletionInProgress", text);
    }
    let mut stored: Vec<&str> = definition
        .items("status.storedVersions")
        .filter_map(|version| version.0.as_str())
        .collect();
    let storage = storage_version(definition);
    if !stored.contains(&storage) {
        stored.push(storage);
    }
    json!({
        "acceptedNames": if accepted.is_object() { accepted } else { json!({"plural": "", "kind": ""}) },
        "conditions": conditions.all,
        "storedVersions": stored,
    })
}

struct Conditions<'a> {
    before: Object<'a>,
    now: &'a str,
    all: Vec<Value>,
}

impl Conditions<'_> {
    fn add(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let since = self
            .before
            .items("status.conditions")
            .find(|old| old.str("type") == kind && old.str("status") == status)
            .map(|old| old.str("lastTransitionTime"))
            .filter(|time| !time.is_empty());
        self.all.push(
            json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or(self.now)}),
        );
    }
}

fn storage_version<'a>(definition: Object<'a>) -> &'a str {
    let mut versions = definition.items("spec.versions");
    versions
        .find(|version| version.bool("storage"))
        .map(|version| version.str("name"))
        .unwrap_or_default()
}

/// The kinds of one definition: one for each version that is served.
fn kinds(definition: Object<'_>, names: Object<'_>) -> Vec<Resource> {
    let served = definition
        .items("spec.versions")
        .filter(|version| version.bool("served"));
    served.map(|version| kind(definition, names, version)).collect()
}

fn kind(definition: Object<'_>, names: Object<'_>, version: Object<'_>) -> Resource {
    let (group, name) = (definition.str("spec.group"), version.str("name"));
    let list = |field: &str| -> Vec<String> {
        names
            .items(field)
            .filter_map(|name| name.0.as_str())
            .map(str::to_owned)
            .collect()
    };
    let of = |name: &str, group: &str, version: &str, kind: &str| Subresource {
        name: name.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        verbs: ["get", "patch", "update"].map(str::to_owned).into(),
    };
    let mut subresources = Vec::new();
    if version.at("subresources.scale").is_set() {
        subresources.push(of("scale", "autoscaling", "v1", "Scale"));
    }
    if version.at("subresources.status").is_set() {
        subresources.push(of("status", group, name, names.str("kind")));
    }
    let reversed: Vec<&str> = group.rsplit('.').collect();
    Resource {
        group: group.to_owned(),
        version: name.to_owned(),
        kind: names.str("kind").to_owned(),
        list_kind: names.str("listKind").to_owned(),
        plural: names.str("plural").to_owned(),
        singular: names.str("singular").to_owned(),
        short_names: list("shortNames"),
        categories: list("categories"),
        namespaced: definition.str("spec.scope") == "Namespaced",
        verbs: VERBS.map(str::to_owned).into(),
        subresources,
        schema: format!("{}.{name}.{}", reversed.join("."), names.str("kind")),
        storage: (group.to_owned(), names.str("plural").to_owned()),
        builtin: false,
        custom: Some(Arc::new(custom(definition, version))),
    }
}

fn custom(definition: Object<'_>, version: Object<'_>) -> Custom {
    let schema = version.at("schema.openAPIV3Schema").0;
    let path = |field: &str| version.str(&format!("subresources.scale.{field}")).to_owned();
    let selectable = version.items("selectableFields");
    let warning = version
        .bool("deprecated")
        .then(|| match version.str("deprecationWarning") {
            "" => format!(
                "{}/{} {} is deprecated",
                definition.str("spec.group"),
                version.str("name"),
                definition.str("spec.names.kind")
            ),
            text => text.to_owned(),
        });
    let terminating = definition.at("metadata.deletionTimestamp").is_set();
    let mut hasher = Sha256::new();
    hasher.update(definition.str("metadata.uid"));
    hasher.update(version.0.to_string());
    hasher.update(storage_version(definition));
    let digest = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Custom {
        schema: Schema::read(schema),
        document: schema.clone(),
        columns: Column::read(version.0),
        selectable: selectable
            .map(|field| field.str("jsonPath").trim_start_matches('.').to_owned())
            .collect(),
        scale: version.at("subresources.scale").is_set().then(|| ScalePaths {
            spec: pointer(&path("specReplicasPath")),
            status: pointer(&path("statusReplicasPath")),
            selector: Some(path("labelSelectorPath"))
                .filter(|path| !path.is_empty())
                .map(|path| pointer(&path)),
        }),
        storage_version: storage_version(definition).to_owned(),
        warning,
        terminating,
        digest,
    }
}

/// `/spec/replicas` of `.spec.replicas`.
fn pointer(path: &str) -> String {
    let parsed = super::json_path::JsonPath::parse(path);
    let fields = parsed.as_ref().ok().and_then(|path| path.fields()).unwrap_or_default();
    fields
        .iter()
        .map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")))
        .collect()
}

/// Kubernetes' order of versions: `v10`, `v2`, `v1`, `v11beta2`, `v1beta1`, `v1alpha1`, then others by name.
pub fn by_priority(a: &str, b: &str) -> Ordering {
    match (parsed(a), parsed(b)) {
        (Some(a), Some(b)) => Reverse(a).cmp(&Reverse(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// (stability, major, minor) of `v1beta2`.
fn parsed(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let major = major.parse().ok()?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    for (word, stability) in [("beta", 1), ("alpha", 0)] {
        if let Some(minor) = rest.strip_prefix(word) {
            return Some((stability, major, minor.parse().ok()?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, created: &str, change: impl FnOnce(&mut Value)) -> Arc<Value> {
        let mut value = json!({
            "metadata": {"name": format!("{name}s.example.com"), "creationTimestamp": created, "uid": name},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": format!("{name}s"), "singular": name,
                "kind": name.to_uppercase(), "listKind": format!("{name}List"), "shortNames": [&name[..1]], "categories": ["all"]},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
        });
        change(&mut value);
        Arc::new(value)
    }

    fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
        let all = status["conditions"].as_array().expect("conditions");
        all.iter().find(|one| one["type"] == kind).expect(kind)
    }

    #[test]
    fn names_belong_to_who_had_them_first() {
        let first = definition("widget", "2026-01-01T00:00:00Z", |_| {});
        let second = definition("wheel", "2026-01-02T00:00:00Z", |_| {});
        let outcome = serve(&Registry::builtin(), &[second.clone(), first.clone()], "now");
        assert_eq!(condition(&outcome.statuses[1], "Established")["status"], "True");
        let refused = condition(&outcome.statuses[0], "NamesAccepted");
        assert_eq!(
            (refused["reason"].as_str(), refused["message"].as_str()),
            (Some("ShortNamesConflict"), Some("\"w\" is already in use"))
        );
        assert_eq!(condition(&outcome.statuses[0], "Established")["reason"], "NotAccepted");
        let plurals: Vec<&str> = outcome.resources.iter().map(|r| r.plural.as_str()).collect();
        assert_eq!(plurals, ["widgets"]);
        // Once established, the younger keeps its names against an older one.
        let status = serve(&Registry::builtin(), std::slice::from_ref(&second), "now")
            .statuses
            .remove(0);
        let mut established = (*second).clone();
        established["status"] = status.clone();
        let outcome = serve(&Registry::builtin(), &[Arc::new(established), first], "later");
        assert_eq!(outcome.statuses[0], status, "nothing changes, times included");
        assert_eq!(condition(&outcome.statuses[1], "Established")["status"], "False");
    }

    #[test]
    fn built_in_names_are_taken() {
        let policy = definition("x", "2026-01-01T00:00:00Z", |d| {
            d["spec"]["group"] = json!("networking.k8s.io");
            d["spec"]["names"]["kind"] = json!("NetworkPolicy");
        });
        let outcome = serve(&Registry::builtin(), &[policy], "now");
        assert_eq!(
            condition(&outcome.statuses[0], "NamesAccepted")["reason"],
            "KindConflict"
        );
    }

    #[test]
    fn every_served_version_is_a_kind_and_the_stored_ones_are_noted() {
        let many = definition("widget", "2026-01-01T00:00:00Z", |d| {
            let version = |name: &str, served: bool, storage: bool| {
                json!({"name": name, "served": served, "storage": storage, "deprecated": name == "v1beta1",
                "schema": {"openAPIV3Schema": {"type": "object"}}, "subresources": {"status": {}, "scale":
                {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}}})
            };
            d["spec"]["versions"] = json!([
                version("v1beta1", true, false),
                version("v1", false, false),
                version("v2", true, true)
            ]);
            d["status"] = json!({"storedVersions": ["v1beta1"]});
        });
        let outcome = serve(&Registry::builtin(), &[many], "now");
        assert_eq!(outcome.statuses[0]["storedVersions"], json!(["v1beta1", "v2"]));
        let versions: Vec<&str> = outcome.resources.iter().map(|r| r.version.as_str()).collect();
        assert_eq!(versions, ["v2", "v1beta1"]);
        let old = &outcome.resources[1];
        let custom = old.custom.as_ref().expect("custom");
        assert_eq!(
            custom.warning.as_deref(),
            Some("example.com/v1beta1 WIDGET is deprecated")
        );
        assert_eq!(custom.storage_version, "v2");
        assert_eq!(
            custom.scale.as_ref().expect("scale").selector.as_deref(),
            Some("/status/selector")
        );
        assert!(old.subresource("status").is_some() && old.subresource("scale").is_some());
        assert_eq!(old.schema, "com.example.v1beta1.WIDGET");
    }

    #[test]
    fn versions_are_ordered_as_kubernetes_orders_them() {
        let mut versions = [
            "foo1",
            "v1alpha1",
            "v10beta3",
            "v1",
            "v3beta1",
            "v12alpha1",
            "v10",
            "v11beta2",
            "v2",
            "foo10",
        ];
        versions.sort_by(|a, b| by_priority(a, b));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v1alpha1",
                "foo1",
                "foo10"
            ]
        );
    }
}
