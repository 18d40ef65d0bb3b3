//! `application/vnd.kubernetes.protobuf` bodies into JSON, by the table of [`super::schema`].
//!
//! Source: apimachinery's protobuf serializer (envelope) and the `generated.proto` files (numbers).

pub mod wire;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use self::wire::Wire;
use super::schema::{self, Field, Leaf, Shape, Type};

/// A protobuf body that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The four bytes `k8s\0` are missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// A kind that the table does not have.
    #[error("no protobuf description of {0}; send JSON")]
    UnknownKind(String),
    /// A field ends after the body does.
    #[error("proto: unexpected EOF")]
    Truncated,
    /// A wire type that Kubernetes does not use.
    #[error("proto: illegal wireType {0}")]
    WireType(u64),
    /// A field has another wire type than its message says.
    #[error("proto: wrong wireType for field {0}")]
    WrongType(&'static str),
    /// A string that is not UTF-8, JSON that is not JSON, a time out of range.
    #[error("proto: invalid value of field {0}")]
    Invalid(&'static str),
    /// More values than any real object has.
    #[error("proto: more than {MAX_VALUES} values")]
    TooMany,
}

/// Values decoded at most; two bytes on the wire can become a hundred in memory.
const MAX_VALUES: usize = 200_000;

const MAGIC: &[u8] = b"k8s\0";

type Object = Map<String, Value>;

/// Decodes a body with its `runtime.Unknown` envelope; `apiVersion` and `kind` are set from it.
///
/// # Errors
/// Bytes that are not such a body, or a kind without a description.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = Envelope::read(body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?)?;
    let unknown = || ProtobufError::UnknownKind(format!("{}, Kind={}", envelope.api_version, envelope.kind));
    let known = type_of(&envelope.api_version, &envelope.kind).ok_or_else(unknown)?;
    let mut object = Object::new();
    Decoder { values: 0 }.message(known, &[], envelope.raw, &mut object)?;
    object.insert("apiVersion".into(), json!(envelope.api_version));
    object.insert("kind".into(), json!(envelope.kind));
    Ok(Value::Object(object))
}

struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(mut rest: &'a [u8]) -> Result<Envelope<'a>, ProtobufError> {
        let mut envelope = Envelope {
            api_version: String::new(),
            kind: String::new(),
            raw: &[],
        };
        while let Some((number, value)) = wire::next(&mut rest)? {
            match (number, value) {
                (1, Wire::Bytes(mut meta)) => {
                    while let Some((number, value)) = wire::next(&mut meta)? {
                        match (number, value) {
                            (1, Wire::Bytes(bytes)) => envelope.api_version = utf8(bytes, "apiVersion")?,
                            (2, Wire::Bytes(bytes)) => envelope.kind = utf8(bytes, "kind")?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// The type behind `apiVersion` and `kind`, where its protobuf numbers are known.
fn type_of(api_version: &str, kind: &str) -> Option<&'static Type> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = group.split('.').next().unwrap_or(group);
    let meta = matches!(kind, "DeleteOptions" | "Status");
    let name = if meta {
        format!("meta.v1.{kind}")
    } else {
        format!("{package}.{version}.{kind}")
    };
    schema::find(&name).filter(|known| known.fields.iter().any(|f| !f.tag.is_empty()))
}

struct Decoder {
    values: usize,
}

impl Decoder {
    /// Reads a message into `object`. `prefix` is where in an embedding type we are (`ProbeHandler` in `Probe`).
    ///
    /// The recursion follows the types, which are finite and not recursive, not the bytes.
    fn message(
        &mut self,
        known: &'static Type,
        prefix: &[u32],
        mut rest: &[u8],
        object: &mut Object,
    ) -> Result<(), ProtobufError> {
        while let Some((number, value)) = wire::next(&mut rest)? {
            let path: Vec<u32> = prefix.iter().copied().chain([number]).collect();
            if let Some(field) = known.fields.iter().find(|f| f.tag == path) {
                self.field(field, value, object)?;
            } else if known.fields.iter().any(|f| f.tag.starts_with(&path))
                && let Wire::Bytes(inner) = value
            {
                self.message(known, &path, inner, object)?;
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &'static Field, value: Wire<'_>, object: &mut Object) -> Result<(), ProtobufError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(ProtobufError::TooMany);
        }
        match field.shape {
            Shape::One => {
                // an embedded message given twice is one message in two parts
                let before = object.remove(field.name);
                if let Some(value) = self.value(field, value, before)?.filter(|v| says_something(field, v)) {
                    object.insert(field.name.to_owned(), value);
                }
            }
            Shape::List => {
                let mut items = self.list(field, value)?;
                let list = object.entry(field.name).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.append(&mut items);
                }
            }
            Shape::Map | Shape::MapOfLists => {
                let (key, value) = self.entry(field, value)?;
                let map = object.entry(field.name).or_insert_with(|| json!({}));
                if let Value::Object(map) = map {
                    map.insert(key, value);
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, field: &'static Field, value: Wire<'_>) -> Result<Vec<Value>, ProtobufError> {
        let numeric = matches!(field.leaf, Leaf::Int32 | Leaf::Int64 | Leaf::Bool);
        if let (true, Wire::Bytes(mut packed)) = (numeric, value) {
            let mut items = Vec::new();
            while !packed.is_empty() && self.values <= MAX_VALUES {
                self.values += 1;
                let number = Wire::Varint(wire::varint(&mut packed)?);
                items.extend(self.value(field, number, None)?);
            }
            return Ok(items);
        }
        Ok(self.value(field, value, None)?.into_iter().collect())
    }

    fn entry(&mut self, field: &'static Field, value: Wire<'_>) -> Result<(String, Value), ProtobufError> {
        let Wire::Bytes(mut rest) = value else {
            return Err(ProtobufError::WrongType(field.name));
        };
        let (mut key, mut found) = (String::new(), None);
        while let Some((number, value)) = wire::next(&mut rest)? {
            match (number, value) {
                (1, Wire::Bytes(bytes)) => key = utf8(bytes, field.name)?,
                (2, Wire::Bytes(mut list)) if field.shape == Shape::MapOfLists => {
                    let mut items = Vec::new();
                    while let Some((_, item)) = wire::next(&mut list)? {
                        self.values += 1;
                        if self.values > MAX_VALUES {
                            return Err(ProtobufError::TooMany);
                        }
                        items.extend(self.value(field, item, None)?);
                    }
                    found = Some(Value::Array(items));
                }
                (2, value) => found = self.value(field, value, None)?,
                _ => {}
            }
        }
        let empty = || match (field.shape, field.leaf) {
            (Shape::MapOfLists, _) => json!([]),
            (_, Leaf::Object(_)) => json!({}),
            (_, Leaf::Quantity) => json!("0"),
            _ => json!(""),
        };
        Ok((key, found.unwrap_or_else(empty)))
    }

    /// One value; `None` for a time that is none.
    fn value(
        &mut self,
        field: &'static Field,
        value: Wire<'_>,
        before: Option<Value>,
    ) -> Result<Option<Value>, ProtobufError> {
        let wrong = ProtobufError::WrongType(field.name);
        Ok(Some(match (field.leaf, value) {
            // negative 32-bit numbers travel as 64 bits, so cutting off is right
            (Leaf::Int32, Wire::Varint(v)) => json!(v as i32),
            (Leaf::Int64, Wire::Varint(v)) => json!(v as i64),
            (Leaf::Bool, Wire::Varint(v)) => json!(v != 0),
            (Leaf::Number, Wire::Fixed64(v)) => json!(f64::from_bits(v)),
            (Leaf::String, Wire::Bytes(bytes)) => json!(utf8(bytes, field.name)?),
            (Leaf::Bytes, Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
            (Leaf::Object(_), Wire::Bytes(bytes)) => {
                let mut object = match before {
                    Some(Value::Object(object)) => object,
                    _ => Object::new(),
                };
                let known = field.object().ok_or(wrong)?;
                self.message(known, &[], bytes, &mut object)?;
                Value::Object(object)
            }
            (Leaf::Time | Leaf::MicroTime, Wire::Bytes(bytes)) => return time(field, bytes),
            (Leaf::Quantity, Wire::Bytes(bytes)) => match parts(bytes)?.text.as_deref() {
                None | Some("") => json!("0"),
                Some(text) => json!(text),
            },
            (Leaf::IntOrString, Wire::Bytes(bytes)) => {
                let parts = parts(bytes)?;
                if parts.first == 1 {
                    json!(parts.text.unwrap_or_default())
                } else {
                    json!(parts.second as i32)
                }
            }
            (Leaf::Any, Wire::Bytes(bytes)) => match parts(bytes)?.raw {
                Some(raw) => serde_json::from_slice(raw).map_err(|_| ProtobufError::Invalid(field.name))?,
                None => return Ok(None),
            },
            _ => return Err(wrong),
        }))
    }
}

/// Whether a value differs from an absent one: in Go, non-pointer fields are always written, zero or not.
fn says_something(field: &Field, value: &Value) -> bool {
    let zero = match value {
        Value::Bool(v) => !v,
        Value::Number(v) => v.as_i64() == Some(0),
        Value::String(v) => v.is_empty(),
        _ => false,
    };
    !zero || field.pointer || field.required
}

/// The fields of the small messages with a JSON form of their own: Time (1, 2), IntOrString (1, 2, 3), Quantity (1),
/// RawExtension and FieldsV1 (1).
#[derive(Default)]
struct Parts<'a> {
    first: u64,
    second: u64,
    raw: Option<&'a [u8]>,
    text: Option<String>,
}

fn parts(mut rest: &[u8]) -> Result<Parts<'_>, ProtobufError> {
    let mut parts = Parts::default();
    while let Some((number, value)) = wire::next(&mut rest)? {
        match (number, value) {
            (1, Wire::Varint(v)) => parts.first = v,
            (2, Wire::Varint(v)) => parts.second = v,
            (1 | 3, Wire::Bytes(bytes)) => {
                parts.raw = Some(bytes);
                parts.text = std::str::from_utf8(bytes).ok().map(str::to_owned);
            }
            _ => {}
        }
    }
    Ok(parts)
}

fn time(field: &Field, bytes: &[u8]) -> Result<Option<Value>, ProtobufError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let parts = parts(bytes)?;
    let nanos = if field.leaf == Leaf::Time {
        0
    } else {
        parts.second as i32 / 1000 * 1000
    };
    let time = jiff::Timestamp::new(parts.first as i64, nanos).map_err(|_| ProtobufError::Invalid(field.name))?;
    let format = if field.leaf == Leaf::Time {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    };
    Ok(Some(json!(time.strftime(format).to_string())))
}

fn utf8(bytes: &[u8], field: &'static str) -> Result<String, ProtobufError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| ProtobufError::Invalid(field))
}

#[cfg(test)]
mod tests;
