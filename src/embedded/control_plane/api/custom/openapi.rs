//! The OpenAPI schema of a custom kind.
//!
//! Source: apiextensions-apiserver `pkg/controller/openapi/builder`.

use serde_json::{Map, Value, json};

const META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The schema of a kind as it is published: as it is written, with what every object has.
pub fn document(schema: &Value) -> Value {
    let mut published = schema.clone();
    let Some(fields) = published.as_object_mut() else {
        return json!({"type": "object"});
    };
    embed(fields);
    for name in ["apiVersion", "kind", "metadata"] {
        let text = match name {
            "apiVersion" => {
                "APIVersion defines the versioned schema of this representation of an object. Servers should convert \
                 recognized schemas to the latest internal value, and may reject unrecognized values. More info: \
                 https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
            }
            "kind" => {
                "Kind is a string value representing the REST resource this object represents. Servers may infer this \
                 from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
                 https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
            }
            _ => {
                "Standard object's metadata. More info: \
                 https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
            }
        };
        let property = match name {
            "metadata" => json!({"description": text, "allOf": [{"$ref": META}]}),
            _ => json!({"description": text, "type": "string"}),
        };
        properties(fields).insert(name.to_owned(), property);
    }
    published
}

fn properties(fields: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let value = fields.entry("properties").or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(properties) => properties,
        _ => unreachable!("made an object above"),
    }
}

/// Embedded resources have `apiVersion`, `kind` and `metadata` too; int-or-string is a format of its own.
fn embed(fields: &mut Map<String, Value>) {
    if fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) && !fields.contains_key("anyOf") {
        fields.insert("anyOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
    }
    if let Some(Value::Object(all)) = fields.get_mut("properties") {
        all.values_mut().filter_map(Value::as_object_mut).for_each(embed);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = fields.get_mut(name) {
            embed(inner);
        }
    }
    if fields.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        let all = properties(fields);
        for name in ["apiVersion", "kind"] {
            all.entry(name).or_insert_with(|| json!({"type": "string"}));
        }
        all.insert("metadata".to_owned(), json!({"allOf": [{"$ref": META}]}));
    }
}
