//! The document of all kinds in Swagger 2.0, which kubectl before 1.27 validates and explains by.
//!
//! Made from the parts of the version 3 documents; what Swagger 2.0 cannot say is left open, as Kubernetes does.
//!
//! Source: kube-openapi's `openapiconv`, apiextensions-apiserver's `ToStructuralOpenAPIV2`.

use serde_json::{Map, Value, json};

use super::{
    super::{Registry, Resource, discovery},
    document, prefix,
};

const REFERENCE: &str = "#/definitions/";

/// The document of everything that is served.
pub fn build(registry: &Registry) -> Value {
    let members: Vec<&Resource> = registry.iter().map(AsRef::as_ref).collect();
    let mut paths = Map::new();
    for resource in &members {
        document::add_paths(&mut paths, resource, &prefix(&resource.group, &resource.version));
    }
    for (path, item) in &mut paths {
        convert_path(path, item);
    }
    let mut definitions = document::schemas(&members);
    definitions.values_mut().for_each(convert_schema);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": discovery::git_version()},
        "paths": paths,
        "definitions": definitions,
    })
}

fn convert_path(path: &str, item: &mut Value) {
    let Some(operations) = item.as_object_mut() else {
        return;
    };
    operations.values_mut().for_each(convert_operation);
    let names = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = names
        .map(|name| json!({"in": "path", "name": name, "required": true, "type": "string", "uniqueItems": true}))
        .collect();
    if !parameters.is_empty() {
        operations.insert("parameters".to_owned(), Value::Array(parameters));
    }
}

/// A parameter says its type itself, a body is a parameter, and a response has one schema.
fn convert_operation(operation: &mut Value) {
    let mut schema = operation
        .pointer_mut("/responses/200/content/application~1json/schema")
        .map(Value::take);
    if let Some(schema) = &mut schema {
        convert_schema(schema);
    }
    if let Some(response) = operation.pointer_mut("/responses/200").and_then(Value::as_object_mut) {
        response.remove("content");
        response.extend(schema.clone().map(|schema| ("schema".to_owned(), schema)));
    }
    let action = operation["x-kubernetes-action"].as_str().unwrap_or_default();
    let body = match (action, schema) {
        ("post" | "put", Some(schema)) => {
            Some(json!({"in": "body", "name": "body", "required": true, "schema": schema}))
        }
        // A patch may be in any of its forms.
        ("patch", _) => Some(json!({"in": "body", "name": "body", "required": true, "schema": {"type": "object"}})),
        _ => None,
    };
    let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) else {
        return;
    };
    for parameter in parameters.iter_mut().filter_map(Value::as_object_mut) {
        if let Some(Value::Object(schema)) = parameter.remove("schema") {
            parameter.extend(schema);
        }
    }
    parameters.extend(body);
}

/// Turns a schema of version 3 into one of Swagger 2.0, where it stands.
pub fn convert_schema(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let is = |fields: &Map<String, Value>, name: &str| fields.get(name) == Some(&Value::Bool(true));
    let reference = fields
        .get("allOf")
        .and_then(|all| all.pointer("/0/$ref"))
        .or_else(|| fields.get("$ref"))
        .and_then(Value::as_str)
        .and_then(|text| text.strip_prefix(document::REFERENCE))
        .map(|name| format!("{REFERENCE}{name}"));
    // The built-in type that is one of two is a string to Swagger 2.0, and its format says the rest.
    let of_two = fields.get("format").and_then(Value::as_str) == Some("int-or-string");
    if of_two {
        fields.insert("type".to_owned(), json!("string"));
    }
    let anything = is(fields, "nullable")
        || is(fields, "x-kubernetes-preserve-unknown-fields")
        || is(fields, "x-kubernetes-int-or-string") && !of_two;
    let unsaid = ["oneOf", "anyOf", "not", "nullable", "allOf"];
    let open = [
        "type",
        "format",
        "items",
        "properties",
        "additionalProperties",
        "required",
    ];
    for name in unsaid.iter().chain(open.iter().filter(|_| anything)) {
        fields.remove(*name);
    }
    if let Some(reference) = reference {
        fields.insert("$ref".to_owned(), Value::String(reference));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(convert_schema);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            convert_schema(inner);
        }
    }
}
