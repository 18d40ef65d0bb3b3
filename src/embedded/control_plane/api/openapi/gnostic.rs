//! A Swagger 2.0 document as Protocol Buffers: the form in which kubectl asks for `/openapi/v2`.
//!
//! Tables of field numbers instead of generated code: of the messages, only what Kubernetes' documents use.
//!
//! Source: gnostic's `openapiv2/OpenAPIv2.proto`.

use serde_json::Value;

/// How a JSON value is written.
enum Form {
    Text,
    Flag,
    Whole,
    Number,
    /// Whatever it is: as YAML, which JSON is.
    Any,
    /// Each value of a list; a value that is no list is a list of itself.
    Each(&'static Form),
    /// Each entry of a map, as a message of name and value.
    Named(&'static Form),
    /// A message of this one field.
    Within(u64, &'static Form),
    /// A message of these fields, and of extensions (`x-…`) under this number.
    Message(&'static [(&'static str, u64, Form)], u64),
    /// It depends on the value.
    Which(fn(&Value) -> &'static Form),
}

use Form::{Any, Each, Flag, Message, Named, Number, Text, Whole, Within};

static DOCUMENT: Form = Message(
    &[
        ("swagger", 1, Text),
        ("info", 2, Message(&[("title", 1, Text), ("version", 2, Text)], 7)),
        ("paths", 8, Within(2, &Named(&PATH))),
        ("definitions", 9, Within(1, &Named(&SCHEMA))),
    ],
    16,
);

static PATH: Form = Message(
    &[
        ("get", 2, Form::Which(|_| &OPERATION)),
        ("put", 3, Form::Which(|_| &OPERATION)),
        ("post", 4, Form::Which(|_| &OPERATION)),
        ("delete", 5, Form::Which(|_| &OPERATION)),
        ("patch", 8, Form::Which(|_| &OPERATION)),
        ("parameters", 9, Each(&PARAMETER)),
    ],
    10,
);

static OPERATION: Form = Message(
    &[
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Each(&Text)),
        ("consumes", 7, Each(&Text)),
        ("parameters", 8, Each(&PARAMETER)),
        ("responses", 9, Within(1, &Named(&Within(1, &RESPONSE)))),
    ],
    13,
);

static RESPONSE: Form = Message(&[("description", 1, Text), ("schema", 2, Within(1, &SCHEMA))], 5);

/// `ParametersItem`: below it, which message it is says where the parameter stands.
static PARAMETER: Form = Form::Which(|parameter| match parameter["in"].as_str() {
    Some("body") => &BODY,
    Some("path") => &IN_PATH,
    _ => &QUERY,
});

static BODY: Form = Within(
    1,
    &Within(
        1,
        &Message(
            &[
                ("name", 2, Text),
                ("in", 3, Text),
                ("required", 4, Flag),
                ("schema", 5, Form::Which(|_| &SCHEMA)),
            ],
            6,
        ),
    ),
);

static QUERY: Form = Within(
    1,
    &Within(
        2,
        &Within(
            3,
            &Message(
                &[
                    ("in", 2, Text),
                    ("name", 4, Text),
                    ("type", 6, Text),
                    ("uniqueItems", 20, Flag),
                ],
                23,
            ),
        ),
    ),
);

static IN_PATH: Form = Within(
    1,
    &Within(
        2,
        &Within(
            4,
            &Message(
                &[
                    ("required", 1, Flag),
                    ("in", 2, Text),
                    ("name", 4, Text),
                    ("type", 5, Text),
                    ("uniqueItems", 19, Flag),
                ],
                22,
            ),
        ),
    ),
);

static SCHEMA: Form = Message(
    &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Whole),
        ("minLength", 12, Whole),
        ("pattern", 13, Text),
        ("maxItems", 14, Whole),
        ("minItems", 15, Whole),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Whole),
        ("minProperties", 18, Whole),
        ("required", 19, Each(&Text)),
        ("enum", 20, Each(&Any)),
        (
            "additionalProperties",
            21,
            Form::Which(|value| match value {
                Value::Bool(_) => &ANY_PROPERTY,
                _ => &ONE_SCHEMA,
            }),
        ),
        ("type", 22, Within(1, &Each(&Text))),
        ("items", 23, Within(1, &SCHEMA)),
        ("allOf", 24, Each(&SCHEMA)),
        ("properties", 25, Within(1, &Named(&SCHEMA))),
    ],
    31,
);

static ONE_SCHEMA: Form = Within(1, &SCHEMA);
static ANY_PROPERTY: Form = Within(2, &Flag);

/// Writes a document of Swagger 2.0, given as JSON.
pub fn encode(document: &Value) -> Vec<u8> {
    DOCUMENT.body(document)
}

impl Form {
    /// The fields of a message, without what stands before them in another.
    fn body(&self, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Form::Message(fields, extensions) => {
                for (name, number, form) in *fields {
                    if let Some(value) = value.get(name) {
                        form.field(*number, value, &mut out);
                    }
                }
                let all = value.as_object().into_iter().flatten();
                for (name, value) in all.filter(|(name, _)| name.starts_with("x-")) {
                    named(*extensions, name, Any.field_of(2, value), &mut out);
                }
            }
            Form::Within(number, form) => form.field(*number, value, &mut out),
            Form::Which(which) => return which(value).body(value),
            Form::Any => text(2, &value.to_string(), &mut out),
            // Not messages.
            Form::Text | Form::Flag | Form::Whole | Form::Number | Form::Each(_) | Form::Named(_) => {}
        }
        out
    }

    fn field_of(&self, number: u64, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        self.field(number, value, &mut out);
        out
    }

    /// A field with its number. What is not of the form is left out.
    fn field(&self, number: u64, value: &Value, out: &mut Vec<u8>) {
        match self {
            Form::Text => text(number, value.as_str().unwrap_or_default(), out),
            Form::Flag if value == true => {
                varint(number << 3, out);
                varint(1, out);
            }
            Form::Flag => {}
            Form::Whole => {
                if let Some(value) = value.as_u64() {
                    varint(number << 3, out);
                    varint(value, out);
                }
            }
            Form::Number => {
                if let Some(value) = value.as_f64() {
                    varint(number << 3 | 1, out);
                    out.extend(value.to_le_bytes());
                }
            }
            Form::Each(form) => match value {
                Value::Array(all) => all.iter().for_each(|value| form.field(number, value, out)),
                one => form.field(number, one, out),
            },
            Form::Named(form) => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    named(number, name, form.field_of(2, value), out);
                }
            }
            Form::Which(which) => which(value).field(number, value, out),
            Form::Any | Form::Message(..) | Form::Within(..) => bytes(number, &self.body(value), out),
        }
    }
}

/// An entry of a map: a message of a name (1) and a value (2).
fn named(number: u64, name: &str, value: Vec<u8>, out: &mut Vec<u8>) {
    let mut entry = Vec::with_capacity(name.len() + value.len() + 4);
    text(1, name, &mut entry);
    entry.extend(value);
    bytes(number, &entry, out);
}

fn text(number: u64, text: &str, out: &mut Vec<u8>) {
    bytes(number, text.as_bytes(), out);
}

fn bytes(number: u64, value: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend(value);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control_plane::api::protobuf::wire::{Wire, next};

    /// The values of a field on a way of numbers.
    fn at<'a>(message: &'a [u8], way: &[u32]) -> Vec<Wire<'a>> {
        let (first, rest) = way.split_first().unwrap();
        let (mut left, mut found) = (message, Vec::new());
        while let Some((number, value)) = next(&mut left).unwrap() {
            match value {
                value if number == *first && rest.is_empty() => found.push(value),
                Wire::Bytes(inner) if number == *first => found.extend(at(inner, rest)),
                _ => {}
            }
        }
        found
    }

    fn texts(message: &[u8], way: &[u32]) -> Vec<String> {
        let text = |value| match value {
            Wire::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        at(message, way).into_iter().map(text).collect()
    }

    #[test]
    fn bytes_are_as_the_format_has_them() {
        let document = json!({"swagger": "2.0", "info": {"title": "K", "version": "v1"}});
        assert_eq!(encode(&document), b"\x0a\x032.0\x12\x07\x0a\x01K\x12\x02v1");
        let long = "x".repeat(300);
        let encoded = encode(&json!({"swagger": long}));
        assert_eq!(&encoded[..3], b"\x0a\xac\x02");
        assert_eq!(encoded.len(), 303);
    }

    #[test]
    fn paths_and_definitions_stand_where_readers_look() {
        let document = json!({
            "paths": {"/p/{name}": {
                "parameters": [{"in": "path", "name": "name", "required": true, "type": "string"}],
                "patch": {
                    "operationId": "patchPod",
                    "parameters": [
                        {"in": "body", "name": "body", "schema": {"$ref": "#/definitions/A"}},
                        {"in": "query", "name": "dryRun", "type": "string"},
                    ],
                    "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/A"}}},
                    "x-kubernetes-group-version-kind": {"group": "", "kind": "A", "version": "v1"},
                },
            }},
            "definitions": {"A": {
                "type": "object",
                "required": ["b"],
                "properties": {
                    "b": {"type": "array", "items": {"type": "integer", "minimum": 0.5, "maxLength": 200}},
                    "c": {"additionalProperties": {"type": "string"}},
                    "d": {"additionalProperties": true, "default": {"e": 1}},
                },
                "x-kubernetes-group-version-kind": [{"group": "", "kind": "A", "version": "v1"}],
            }},
        });
        let encoded = encode(&document);
        const PATCH: [u32; 4] = [8, 2, 2, 8];
        let patch = |rest: &[u32]| [&PATCH, rest].concat();
        assert_eq!(texts(&encoded, &[8, 2, 1]), ["/p/{name}"]);
        assert_eq!(texts(&encoded, &[8, 2, 2, 9, 1, 2, 4, 4]), ["name"]);
        assert_eq!(texts(&encoded, &patch(&[8, 1, 2, 3, 4])), ["dryRun"]);
        assert_eq!(texts(&encoded, &patch(&[8, 1, 1, 2])), ["body"]);
        assert_eq!(texts(&encoded, &patch(&[8, 1, 1, 5, 1])), ["#/definitions/A"]);
        assert_eq!(texts(&encoded, &patch(&[9, 1, 2, 1, 2, 1, 1])), ["#/definitions/A"]);
        assert_eq!(texts(&encoded, &patch(&[13, 1])), ["x-kubernetes-group-version-kind"]);
        assert_eq!(
            texts(&encoded, &patch(&[13, 2, 2])),
            [r#"{"group":"","kind":"A","version":"v1"}"#]
        );
        const A: [u32; 3] = [9, 1, 2];
        let a = |rest: &[u32]| [&A, rest].concat();
        assert_eq!(texts(&encoded, &[9, 1, 1]), ["A"]);
        assert_eq!(texts(&encoded, &a(&[22, 1])), ["object"]);
        assert_eq!(texts(&encoded, &a(&[19])), ["b"]);
        assert_eq!(texts(&encoded, &a(&[25, 1, 1])), ["b", "c", "d"]);
        assert_eq!(texts(&encoded, &a(&[25, 1, 2, 23, 1, 22, 1])), ["integer"]);
        assert_eq!(
            at(&encoded, &a(&[25, 1, 2, 23, 1, 9])),
            [Wire::Fixed64(0.5_f64.to_bits())]
        );
        assert_eq!(at(&encoded, &a(&[25, 1, 2, 23, 1, 11])), [Wire::Varint(200)]);
        assert_eq!(texts(&encoded, &a(&[25, 1, 2, 21, 1, 22, 1])), ["string"]);
        assert_eq!(at(&encoded, &a(&[25, 1, 2, 21, 2])), [Wire::Varint(1)]);
        assert_eq!(texts(&encoded, &a(&[25, 1, 2, 5, 2])), [r#"{"e":1}"#]);
        assert_eq!(texts(&encoded, &a(&[31, 1])), ["x-kubernetes-group-version-kind"]);
    }
}
