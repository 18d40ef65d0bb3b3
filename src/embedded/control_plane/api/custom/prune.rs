//! Pruning: what the schema does not name is dropped.
//!
//! Source: Kubernetes' "Field pruning"; apiextensions-apiserver `pkg/apiserver/schema/pruning`.

use serde_json::Value;

use super::schema::{Additional, Schema};
use crate::control_plane::api::validate;

/// Paths of dropped fields that are remembered; more are dropped silently.
const MAX_UNKNOWN: usize = 100;

/// Drops the fields of a custom object that its schema does not name, and tells their paths.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut walk = Walk {
        path: String::new(),
        unknown: Vec::new(),
    };
    walk.resource(schema, object, true);
    walk.unknown
}

struct Walk {
    path: String,
    unknown: Vec<String>,
}

impl Walk {
    fn within(&mut self, name: &str, walk: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if !self.path.is_empty() && !name.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(name);
        walk(self);
        self.path.truncate(length);
    }

    /// An object with `apiVersion`, `kind` and `metadata` of its own.
    fn resource(&mut self, schema: &Schema, value: &mut Value, root: bool) {
        let Some(fields) = value.as_object_mut() else { return };
        if !root && let Some(metadata) = fields.get_mut("metadata") {
            // The root's is checked with its types, by the built-in table.
            self.within("metadata", |walk| walk.metadata(metadata));
        }
        let keeps = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata");
        self.fields(schema, value, &keeps);
    }

    fn metadata(&mut self, metadata: &mut Value) {
        for problem in validate::of_type("meta.v1.ObjectMeta", metadata) {
            if let validate::Problem::Unknown(field) = problem {
                self.within(&field, Self::note);
            }
        }
        validate::normalize_type("meta.v1.ObjectMeta", metadata);
    }

    fn note(&mut self) {
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.push(self.path.clone());
        }
    }

    fn value(&mut self, schema: &Schema, value: &mut Value) {
        match value {
            Value::Object(_) if schema.embedded => self.resource(schema, value, false),
            Value::Object(_) => self.fields(schema, value, &|_| false),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.within(&format!("[{index}]"), |walk| match &schema.items {
                        Some(schema) => walk.value(schema, item),
                        None if schema.preserve => {}
                        None => walk.value(&Schema::default(), item),
                    });
                }
            }
            _ => {}
        }
    }

    fn fields(&mut self, schema: &Schema, value: &mut Value, keeps: &dyn Fn(&str) -> bool) {
        let Some(fields) = value.as_object_mut() else { return };
        fields.retain(|name, value| {
            if keeps(name) {
                return true;
            }
            let known = schema.field(name);
            let kept = known.is_some() || schema.preserve || matches!(schema.additional, Some(Additional::Any));
            self.within(name, |walk| match known {
                Some(known) => walk.value(known, value),
                None if kept => {}
                None => walk.note(),
            });
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_schema_names_stays() {
        let name = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        // schema of spec, spec, what stays, what is said
        for (schema, before, after, unknown) in [
            (
                name.clone(),
                json!({"a": "x", "b": 1}),
                json!({"a": "x"}),
                vec!["spec.b"],
            ),
            (
                json!({"type": "array", "items": name}),
                json!([{"b": 1}, {"a": "y"}]),
                json!([{}, {"a": "y"}]),
                vec!["spec[0].b"],
            ),
            (
                json!({"type": "object", "additionalProperties": name}),
                json!({"k": {"a": "x", "c": {}}}),
                json!({"k": {"a": "x"}}),
                vec!["spec.k.c"],
            ),
            (
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"n": name}}),
                json!({"n": {"z": 1}, "free": {"x": [{"y": 1}]}}),
                json!({"n": {}, "free": {"x": [{"y": 1}]}}),
                vec!["spec.n.z"],
            ),
            (
                json!({"type": "object"}),
                json!({"a": {"b": 1}}),
                json!({}),
                vec!["spec.a"],
            ),
            (
                json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}),
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "nope": 1}, "spec": {"a": 1}, "b": 2}),
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}}),
                vec!["spec.metadata.nope", "spec.b", "spec.spec.a"],
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!("80"),
                json!("80"),
                vec![],
            ),
        ] {
            let schema = Schema::read(&json!({"type": "object", "properties": {"spec": schema}}));
            let mut object = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": before});
            assert_eq!(prune(&schema, &mut object), unknown);
            assert_eq!(object["spec"], after);
            assert_eq!(object["metadata"]["name"], "x");
        }
    }
}
