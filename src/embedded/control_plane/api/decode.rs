//! Request bodies: JSON, YAML and protobuf into one JSON value.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::{protobuf, validate::Problem};

/// A decoded body.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object; of duplicate fields the last.
    pub value: Value,
    /// Duplicate fields.
    pub duplicates: Vec<Problem>,
}

/// A body that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// 415: the media type is not one of JSON, YAML, protobuf.
    #[error(
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )]
    UnsupportedMediaType,
    /// 400: the body is broken.
    #[error("{0}")]
    Malformed(String),
}

/// Decodes a body by its `Content-Type` (empty means JSON).
///
/// # Errors
/// An unknown media type, or a body that does not parse.
pub fn body(content_type: &str, body: &[u8]) -> Result<Decoded, DecodeError> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => json(body),
        "application/yaml" | "application/apply-patch+yaml" => yaml(body),
        "application/vnd.kubernetes.protobuf" => {
            let value = protobuf::decode(body).map_err(|e| DecodeError::Malformed(e.to_string()))?;
            Ok(Decoded {
                value,
                duplicates: Vec::new(),
            })
        }
        _ => Err(DecodeError::UnsupportedMediaType),
    }
}

/// Decodes JSON, noting duplicate fields.
///
/// # Errors
/// Anything that is not one JSON value, or nested deeper than [`super::MAX_DEPTH`].
pub fn json(body: &[u8]) -> Result<Decoded, DecodeError> {
    let mut duplicates = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let seed = Seed {
        path: String::new(),
        duplicates: &mut duplicates,
    };
    let value = seed
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|e| DecodeError::Malformed(format!("couldn't get version/kind; json parse error: {e}")))?;
    Ok(Decoded { value, duplicates })
}

fn yaml(body: &[u8]) -> Result<Decoded, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|e| DecodeError::Malformed(format!("yaml: {e}")))?;
    if text.trim_start().starts_with('{') {
        return json(body);
    }
    let value: Value = serde_yaml::from_str(text)
        .map_err(|e| DecodeError::Malformed(format!("error converting YAML to JSON: yaml: {e}")))?;
    Ok(Decoded {
        value,
        duplicates: Vec::new(),
    })
}

struct Seed<'a> {
    path: String,
    duplicates: &'a mut Vec<Problem>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Seed {
            path: format!("{}[{}]", self.path, items.len()),
            duplicates: self.duplicates,
        })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() {
                key.clone()
            } else {
                format!("{}.{key}", self.path)
            };
            if path.len() > 16 * 1024 {
                return Err(A::Error::custom("path too long"));
            }
            if fields.contains_key(&key) {
                self.duplicates.push(Problem::Duplicate(path.clone()));
            }
            let value = map.next_value_seed(Seed {
                path,
                duplicates: self.duplicates,
            })?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicates_are_found_by_path_and_the_last_counts() {
        let decoded = json(br#"{"a": {"b": 1, "b": 2}, "c": [{"d": 1}, {"d": 1, "d": 3}]}"#).expect("parses");
        assert_eq!(decoded.value, json!({"a": {"b": 2}, "c": [{"d": 1}, {"d": 3}]}));
        let texts: Vec<String> = decoded.duplicates.iter().map(Problem::to_string).collect();
        assert_eq!(texts, ["duplicate field \"a.b\"", "duplicate field \"c[1].d\""]);
    }

    #[test]
    fn depth_is_bounded_in_every_format() {
        let deep = "[".repeat(100_000);
        assert!(json(deep.as_bytes()).is_err());
        assert!(body("application/yaml", format!("a: {deep}").as_bytes()).is_err());
    }

    #[test]
    fn media_types() {
        assert_eq!(
            body("application/json; charset=utf-8", b"{}").expect("json").value,
            json!({})
        );
        assert_eq!(body("application/yaml", b"a: 1").expect("yaml").value, json!({"a": 1}));
        assert_eq!(body("text/plain", b"{}"), Err(DecodeError::UnsupportedMediaType));
        assert!(body("application/json", b"{} {}").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for media in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"] {
                let _ = body(media, &bytes);
            }
        }

        #[test]
        fn reads_what_serde_json_reads(text in "[\\[\\]{}:,\"a1 ]{0,20}") {
            let ours = json(text.as_bytes()).ok().map(|d| d.value);
            prop_assert_eq!(ours, serde_json::from_str::<Value>(&text).ok());
        }
    }
}
