//! How much memory an object takes, near enough to bound it by.

use serde_json::Value;

/// What a node of a tree takes beside its text, in bytes.
const NODE: usize = 32;

/// Bytes of memory that a value takes, roughly. Cheap beside a copy of it, and the same whenever it is asked of the same value.
pub fn weight(value: &Value) -> usize {
    NODE + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| NODE + name.len() + weight(value))
            .sum(),
    }
}
