//! Reading and writing `metadata`.

use rand::Rng;
use serde_json::{Map, Value, json};

/// A text field of `metadata`; empty when absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata` to write to; made where it is missing or is no object.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(fields(object), "metadata")
}

/// The object's own fields; anything that is no object becomes one.
pub fn fields(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    match object {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object above"),
    }
}

/// A field that is an object, made where it is missing.
pub fn child<'a>(fields: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = fields.entry(name.to_owned()).or_insert_with(|| json!({}));
    self::fields(value)
}

/// Sets or removes a field.
pub fn set(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    match value {
        Some(value) if !value.is_null() => {
            fields.insert(name.to_owned(), value);
        }
        _ => {
            fields.remove(name);
        }
    }
}

/// Takes out collections of `metadata` that are empty, as Go leaves them out when it writes them.
pub fn drop_empty(object: &mut Value) {
    let metadata = metadata(object);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = match metadata.get(field) {
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(members)) => members.is_empty(),
            Some(value) => value.is_null(),
            None => false,
        };
        if empty {
            metadata.remove(field);
        }
    }
}

/// Whether `metadata.deletionTimestamp` is set.
pub fn is_terminating(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<String> {
    object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default()
}

/// A time as Kubernetes writes it: RFC 3339, UTC, whole seconds.
pub fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Now, as Kubernetes writes it.
pub fn now() -> String {
    time(jiff::Timestamp::now())
}

/// Now, in milliseconds: for what is ordered by when it was made.
pub fn now_to_the_millisecond() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A random UUID (RFC 9562 version 4).
pub fn uid() -> String {
    let bits = rand::rng().random::<u128>();
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Characters of generated names: no vowels and no look-alikes, as Kubernetes has them.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const MAX_BASE: usize = 63 - SUFFIX_LENGTH;

/// A name of `base` and five random characters.
pub fn generate_name(base: &str) -> String {
    let mut end = base.len().min(MAX_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut rng = rand::rng();
    let suffix = (0..SUFFIX_LENGTH).map(|_| char::from(SUFFIX[rng.random_range(0..SUFFIX.len())]));
    base[..end].chars().chain(suffix).collect()
}

/// `kind`, `apiVersion` and `metadata` only.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_version_4() {
        for _ in 0..100 {
            let uid = uid();
            assert_eq!(uid.len(), 36);
            assert_eq!(uid.as_bytes()[14], b'4');
            assert!(b"89ab".contains(&uid.as_bytes()[19]), "{uid}");
        }
    }

    #[test]
    fn generated_names_fit() {
        assert_eq!(generate_name("web-").len(), 9);
        assert_eq!(generate_name(&"x".repeat(300)).len(), 63);
        generate_name(&"é".repeat(300));
    }

    #[test]
    fn nothing_panics_on_odd_shapes() {
        for mut odd in [
            json!(null),
            json!([1]),
            json!({"metadata": 3}),
            json!({"metadata": {"name": {}}}),
        ] {
            assert_eq!(name(&odd), "");
            assert!(finalizers(&odd).is_empty());
            metadata(&mut odd).insert("name".to_owned(), json!("x"));
            assert_eq!(name(&odd), "x");
        }
    }
}
