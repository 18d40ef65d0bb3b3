//! Errors about a field's value, as `422 Invalid` carries them.
//!
//! Source: apimachinery `pkg/util/validation/field/errors.go` and `NewInvalid` of `pkg/api/errors`.

use std::fmt;

use serde_json::{Value, json};

use super::super::Resource;

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// Absent where needed; with a detail or an empty text.
    Required(String),
    /// Not acceptable.
    Invalid(Value, String),
    /// Of another type than wanted.
    TypeInvalid(Value, String),
    /// Already there.
    Duplicate(Value),
    /// Not one of the supported values.
    NotSupported(Value, Vec<String>),
    /// Not allowed here.
    Forbidden(String),
    /// Longer than this many bytes.
    TooLong(usize),
    /// More entries than this.
    TooMany(usize, usize),
    /// Refers to something that is not there.
    NotFound(Value),
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// Path such as `spec.ports[0].port`.
    pub field: String,
    /// What is wrong.
    pub cause: Cause,
}

impl FieldError {
    /// A missing value.
    pub fn required(field: impl Into<String>, detail: &str) -> FieldError {
        FieldError {
            field: field.into(),
            cause: Cause::Required(detail.into()),
        }
    }

    /// An unacceptable value.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: impl Into<String>) -> FieldError {
        FieldError {
            field: field.into(),
            cause: Cause::Invalid(value.clone(), detail.into()),
        }
    }

    /// A repeated value.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> FieldError {
        FieldError {
            field: field.into(),
            cause: Cause::Duplicate(value.clone()),
        }
    }

    /// A value outside an enumeration.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> FieldError {
        let mut supported: Vec<String> = supported.iter().map(|s| (*s).to_owned()).collect();
        supported.sort();
        FieldError {
            field: field.into(),
            cause: Cause::NotSupported(value.clone(), supported),
        }
    }

    /// Something not allowed.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError {
            field: field.into(),
            cause: Cause::Forbidden(detail.into()),
        }
    }

    /// The machine-readable reason, such as `FieldValueInvalid`.
    pub fn reason(&self) -> &'static str {
        match self.cause {
            Cause::Required(_) => "FieldValueRequired",
            Cause::Invalid(..) => "FieldValueInvalid",
            Cause::TypeInvalid(..) => "FieldValueTypeInvalid",
            Cause::Duplicate(_) => "FieldValueDuplicate",
            Cause::NotSupported(..) => "FieldValueNotSupported",
            Cause::Forbidden(_) => "FieldValueForbidden",
            Cause::TooLong(_) => "FieldValueTooLong",
            Cause::TooMany(..) => "FieldValueTooMany",
            Cause::NotFound(_) => "FieldValueNotFound",
        }
    }

    /// The message without the field.
    pub fn message(&self) -> String {
        let with = |head: String, detail: &str| {
            if detail.is_empty() {
                head
            } else {
                format!("{head}: {detail}")
            }
        };
        match &self.cause {
            Cause::Required(detail) => with("Required value".into(), detail),
            Cause::Invalid(value, detail) | Cause::TypeInvalid(value, detail) => {
                with(format!("Invalid value: {value}"), detail)
            }
            Cause::Duplicate(value) => format!("Duplicate value: {value}"),
            Cause::NotSupported(value, supported) => {
                let quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
                format!("Unsupported value: {value}: supported values: {}", quoted.join(", "))
            }
            Cause::Forbidden(detail) => with("Forbidden".into(), detail),
            Cause::TooLong(max) => format!("Too long: may not be more than {max} bytes"),
            Cause::TooMany(actual, max) => format!("Too many: {actual}: must have at most {max} items"),
            Cause::NotFound(value) => format!("Not found: {value}"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}

/// The `Status` of a 422 for these errors.
pub fn invalid_status(resource: &Resource, name: &str, errors: &[FieldError]) -> Value {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let all = match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let causes: Vec<Value> = errors
        .iter()
        .map(|e| json!({"reason": e.reason(), "message": e.message(), "field": e.field}))
        .collect();
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!("{} {name:?} is invalid: {all}", resource.qualified_kind()),
        "reason": "Invalid",
        "details": {"name": name, "group": resource.group, "kind": resource.kind, "causes": causes},
        "code": 422,
    })
}
