//! One group-version's OpenAPI v3 document.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    super::{
        Resource, custom, discovery,
        schema::{self, Ownership},
    },
    source,
};

pub const REFERENCE: &str = "#/components/schemas/";

/// The document of these kinds, which are all of one group-version with this path prefix.
pub fn build(members: &[&Resource], prefix: &str) -> Value {
    let mut paths = Map::new();
    for resource in members {
        add_paths(&mut paths, resource, prefix);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": discovery::git_version()},
        "paths": paths,
        "components": {"schemas": schemas(members)},
    })
}

/// Adds the paths of a kind, which begin with `prefix`.
pub fn add_paths(paths: &mut Map<String, Value>, resource: &Resource, prefix: &str) {
    let scope = if resource.namespaced {
        "namespaces/{namespace}/"
    } else {
        ""
    };
    let collection = format!("/{prefix}/{scope}{}", resource.plural);
    let of = |verbs: &[(&str, &str)]| {
        let served = verbs.iter().filter(|(_, verb)| resource.serves(verb));
        served
            .map(|(method, verb)| ((*method).to_owned(), operation(resource, verb)))
            .collect::<Map<_, _>>()
    };
    let whole = of(&[("get", "list"), ("post", "create"), ("delete", "deletecollection")]);
    let one = of(&[
        ("get", "get"),
        ("put", "update"),
        ("patch", "patch"),
        ("delete", "delete"),
    ]);
    if resource.namespaced && resource.serves("list") {
        let everywhere = json!({"get": operation(resource, "list")});
        paths.insert(format!("/{prefix}/{}", resource.plural), everywhere);
    }
    for (path, operations) in [(collection.clone(), whole), (format!("{collection}/{{name}}"), one)] {
        if !operations.is_empty() {
            paths.insert(path, Value::Object(operations));
        }
    }
}

fn operation(resource: &Resource, verb: &str) -> Value {
    let query = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let parameters: Vec<Value> = match verb {
        "create" | "update" => ["dryRun", "fieldManager", "fieldValidation"].map(query).into(),
        // the body's media types are left out: with strategic merge among them kubectl would compute patches from
        // this schema instead of its own types
        "patch" => ["dryRun", "fieldManager", "fieldValidation", "force"].map(query).into(),
        "delete" => ["dryRun", "gracePeriodSeconds", "propagationPolicy"].map(query).into(),
        "list" | "deletecollection" => ["continue", "fieldSelector", "labelSelector", "limit"]
            .map(query)
            .into(),
        _ => Vec::new(),
    };
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let mut content = json!({"description": "OK"});
    if !resource.schema.is_empty() && matches!(verb, "get" | "create" | "update" | "patch") {
        let schema = json!({"$ref": format!("{REFERENCE}{}", resource.schema)});
        content["content"] = json!({"application/json": {"schema": schema}});
    }
    json!({
        "operationId": format!("{verb}{}", resource.kind),
        "parameters": parameters,
        "responses": {"200": content},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind":
            {"group": resource.group, "version": resource.version, "kind": resource.kind},
    })
}

/// The schemas of these kinds and all that they refer to.
pub fn schemas(members: &[&Resource]) -> Map<String, Value> {
    let mut all = source::definitions();
    let mut wanted: Vec<String> = members.iter().map(|r| r.schema.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut chosen = Map::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let custom = members
            .iter()
            .find(|r| r.schema == name)
            .and_then(|r| r.custom.as_ref());
        let mut definition = match custom {
            // As it is written: it needs no mending, and refers to metadata alone.
            Some(custom) => {
                wanted.push("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta".to_owned());
                custom::document(&custom.document)
            }
            None => {
                let Some(mut definition) = all.remove(&name) else {
                    continue;
                };
                mend(&name, &mut definition, &mut wanted);
                definition
            }
        };
        if let Some(resource) = members.iter().find(|r| r.schema == name) {
            definition["x-kubernetes-group-version-kind"] =
                json!([{"group": resource.group, "kind": resource.kind, "version": resource.version}]);
        }
        chosen.insert(name, definition);
    }
    chosen
}

/// Turns a definition as schemars writes it into one as Kubernetes publishes it, and notes what it refers to.
fn mend(name: &str, definition: &mut Value, wanted: &mut Vec<String>) {
    if let Some(required) = definition.get_mut("required").and_then(Value::as_array_mut) {
        // k8s-openapi requires it of every top-level object; Kubernetes of none
        required.retain(|field| field != "metadata");
        if required.is_empty()
            && let Some(definition) = definition.as_object_mut()
        {
            definition.remove("required");
        }
    }
    if definition.get("x-kubernetes-int-or-string").is_some() {
        definition["format"] = json!("int-or-string");
        definition["oneOf"] = json!([{"type": "integer"}, {"type": "string"}]);
    }
    if name.ends_with("apiextensions.v1.JSON") || name.contains("apiextensions.v1.JSONSchemaPropsOr") {
        // Any JSON, as Kubernetes publishes it: a schema that refers to itself would send `explain --recursive` round.
        if let Some(definition) = definition.as_object_mut() {
            definition.retain(|key, _| key == "description");
        }
        return;
    }
    let known = schema::find(name);
    if known.is_some_and(|known| known.atomic) {
        definition["x-kubernetes-map-type"] = json!("atomic");
    }
    let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (field, property) in properties {
        mend_position(property, wanted);
        if let Some(field) = known.and_then(|known| known.field(field)) {
            add_extensions(field, property);
        }
    }
}

/// Mends a schema where one stands: below it only items and values of maps are schemas too, not every key.
fn mend_position(position: &mut Value, wanted: &mut Vec<String>) {
    if *position == Value::Bool(true) {
        *position = json!({});
    }
    let Some(object) = position.as_object_mut() else { return };
    if let Some(reference) = object.remove("$ref") {
        object.insert("allOf".into(), json!([{"$ref": reference}]));
    }
    let reference = object
        .get("allOf")
        .and_then(|all| all.pointer("/0/$ref"))
        .and_then(Value::as_str);
    wanted.extend(reference.and_then(|r| r.strip_prefix(REFERENCE)).map(str::to_owned));
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            mend_position(inner, wanted);
        }
    }
}

fn add_extensions(field: &schema::Field, property: &mut Value) {
    match &field.ownership {
        Ownership::Granular => {}
        Ownership::Atomic if field.shape == schema::Shape::List => property["x-kubernetes-list-type"] = json!("atomic"),
        Ownership::Atomic => property["x-kubernetes-map-type"] = json!("atomic"),
        Ownership::Set => property["x-kubernetes-list-type"] = json!("set"),
        Ownership::ByKeys(keys) => {
            property["x-kubernetes-list-type"] = json!("map");
            property["x-kubernetes-list-map-keys"] = json!(keys);
        }
    }
    if let Some(key) = field.merge.filter(|key| !key.is_empty()) {
        property["x-kubernetes-patch-merge-key"] = json!(key);
    }
    let strategy = match (field.merge.is_some(), field.retain_keys) {
        (true, true) => "merge,retainKeys",
        (true, false) => "merge",
        (false, true) => "retainKeys",
        (false, false) => return,
    };
    property["x-kubernetes-patch-strategy"] = json!(strategy);
}
