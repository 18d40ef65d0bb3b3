//! Defaults of a schema, and nulls that mean "absent".
//!
//! Source: Kubernetes' "Defaulting" and "Defaulting and Nullable"; apiextensions-apiserver
//! `pkg/apiserver/schema/defaulting`.

use serde_json::Value;

use super::schema::{Default, Schema};

/// Most bytes that defaults may add to one object; a list of many empty items can ask for far more than the request
/// that brought it.
const MAX_ADDED: usize = 4 * 1024 * 1024;

/// Fills absent fields and drops nulls that the schema does not allow. `false` when the defaults are too large.
pub fn apply(schema: &Schema, object: &mut Value) -> bool {
    let mut left = MAX_ADDED;
    let complete = fill(schema, object, &mut left);
    drop_nulls(schema, object);
    complete
}

fn stands_for_absent(value: &Value, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable
}

fn take(default: &Default, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(default.weight)?;
    Some(default.value.clone())
}

fn fill(schema: &Schema, value: &mut Value, left: &mut usize) -> bool {
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                if fields.get(name).is_none_or(|value| stands_for_absent(value, property)) {
                    let Some(default) = take(default, left) else {
                        return false;
                    };
                    fields.insert(name.clone(), default);
                }
            }
            fields.iter_mut().all(|(name, value)| match schema.field(name) {
                Some(schema) => fill_value(schema, value, left),
                None => true,
            })
        }
        Value::Array(items) => match &schema.items {
            Some(schema) => items.iter_mut().all(|item| fill_value(schema, item, left)),
            None => true,
        },
        _ => true,
    }
}

fn fill_value(schema: &Schema, value: &mut Value, left: &mut usize) -> bool {
    if let Some(default) = schema.default.as_ref().filter(|_| stands_for_absent(value, schema)) {
        let Some(default) = take(default, left) else {
            return false;
        };
        *value = default;
    }
    fill(schema, value, left)
}

fn drop_nulls(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => fields.retain(|name, value| match schema.field(name) {
            Some(schema) if stands_for_absent(value, schema) => false,
            Some(schema) => {
                drop_nulls(schema, value);
                true
            }
            None => true,
        }),
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|item| drop_nulls(schema, item));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_fields_are_filled_and_nulls_mean_absent() {
        let schema = Schema::read(&json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"},
            "n": {"type": "string", "nullable": true, "default": "y"},
            "p": {"type": "string"},
            "o": {"type": "object", "properties": {"b": {"type": "integer", "default": 1}}},
            "l": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "boolean", "default": true}}}},
            "m": {"type": "object", "additionalProperties": {"type": "string", "default": "z"}},
            "d": {"type": "object", "default": {}, "properties": {"e": {"type": "string", "default": "f"}}},
        }}));
        for (before, after) in [
            (json!({}), json!({"a": "x", "n": "y", "d": {"e": "f"}})),
            (
                json!({"a": null, "n": null, "p": null, "o": {}, "l": [{}, {"c": false}], "m": {"k": null, "j": "i"}, "d": {"e": "g"}}),
                json!({"a": "x", "n": null, "o": {"b": 1}, "l": [{"c": true}, {"c": false}], "m": {"k": "z", "j": "i"}, "d": {"e": "g"}}),
            ),
            (
                json!({"a": 1, "o": 2, "l": 3}),
                json!({"a": 1, "n": "y", "o": 2, "l": 3, "d": {"e": "f"}}),
            ),
        ] {
            let mut object = before.clone();
            assert!(apply(&schema, &mut object));
            assert_eq!(object, after, "{before}");
            assert!(apply(&schema, &mut object));
            assert_eq!(object, after, "again");
        }
    }

    #[test]
    fn what_defaults_add_is_bounded() {
        let large = "x".repeat(100_000);
        let schema = Schema::read(&json!({"type": "array", "items":
            {"type": "object", "properties": {"a": {"type": "string", "default": large}}}}));
        let mut object = json!(vec![json!({}); 1000]);
        assert!(!apply(&schema, &mut object));
        let mut few = json!(vec![json!({}); 10]);
        assert!(apply(&schema, &mut few));
    }
}
