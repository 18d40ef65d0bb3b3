//! Filling one field, with Go's idea of what is absent.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::Fields;

/// Sets a pointer field where it is absent; an explicit zero stays.
pub fn pointer(fields: &mut Fields, key: &str, value: Value) {
    if fields.get(key).is_none_or(Value::is_null) {
        fields.insert(key.to_owned(), value);
    }
}

/// Sets a string where it is absent or empty.
pub fn text(fields: &mut Fields, key: &str, value: &str) {
    if fields.get(key).is_none_or(|old| old.is_null() || old == "") {
        fields.insert(key.to_owned(), json!(value));
    }
}

/// Sets an integer where it is absent or 0.
pub fn number(fields: &mut Fields, key: &str, value: i64) {
    if fields.get(key).is_none_or(|old| old.is_null() || *old == json!(0)) {
        fields.insert(key.to_owned(), json!(value));
    }
}

/// The object under a key, made where it is absent; `None` where something else is there.
pub fn child<'a>(fields: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    pointer(fields, key, Value::Object(Map::new()));
    fields.get_mut(key).and_then(Value::as_object_mut)
}

/// The objects of a list.
pub fn items<'a>(fields: &'a mut Fields, key: &str) -> impl Iterator<Item = &'a mut Fields> + use<'a> {
    let list = fields
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .map(Vec::as_mut_slice)
        .unwrap_or_default();
    list.iter_mut().filter_map(Value::as_object_mut)
}

/// A string field, or empty.
pub fn str<'a>(fields: &'a Fields, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Base64 as in a Secret's `data`.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
