//! Messages as JSON, by protobuf's own mapping: what `-output json` prints.
//!
//! Which messages, and with which of these functions, `build.rs` says. SPIRE prints the names of the fields as the `.proto`
//! files have them, and those that are not set too (`UseProtoNames`, `EmitUnpopulated`).
//!
//! Source: <https://protobuf.dev/programming-guides/json/>

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// Numbers of 64 bits are text: not every reader of JSON has so many digits.
pub fn int64<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// As [`int64`].
pub fn uint64<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Bytes are base64 with padding.
pub fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

/// A list of [`bytes`].
pub fn many_bytes<S: Serializer>(many: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(many.iter().map(|bytes| BASE64_STANDARD.encode(bytes)))
}

/// A map of names to [`bytes`], in the order of the names.
pub fn named_bytes<S: Serializer>(named: &HashMap<String, Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    let sorted: BTreeMap<_, _> = named.iter().collect();
    serializer.collect_map(
        sorted
            .into_iter()
            .map(|(name, bytes)| (name, BASE64_STANDARD.encode(bytes))),
    )
}

/// `google.protobuf.Struct` is an object.
pub fn structure<S: Serializer>(fields: &Option<prost_types::Struct>, serializer: S) -> Result<S::Ok, S::Error> {
    fields.as_ref().map(object).serialize(serializer)
}

/// The fields of a struct.
pub fn object(fields: &prost_types::Struct) -> serde_json::Map<String, Value> {
    let fields = fields.fields.iter();
    fields.map(|(name, field)| (name.clone(), value(field))).collect()
}

/// `google.protobuf.Value`; whole numbers without a fraction.
fn value(value: &prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() < 9e15 => (*value as i64).into(),
        Some(Kind::NumberValue(value)) => (*value).into(),
        Some(Kind::StringValue(value)) => value.clone().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(self::value).collect(),
        Some(Kind::StructValue(fields)) => object(fields).into(),
    }
}

/// A message, or several as a list, on one line. SPIRE leaves out what is null, wherever it is.
///
/// # Errors
/// Memory for the text could not be had.
pub fn line(message: &impl Serialize) -> serde_json::Result<String> {
    let mut message = serde_json::to_value(message)?;
    without_null(&mut message);
    Ok(format!("{message}\n"))
}

fn without_null(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_null);
        }
        Value::Array(values) => {
            values.retain(|value| !value.is_null());
            values.iter_mut().for_each(without_null);
        }
        _ => {}
    }
}
