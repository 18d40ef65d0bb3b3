//! Validation of values.

use serde_json::Value;

use super::{super::Resource, FieldError};

/// What is wrong with an object after defaulting; with `old`, also with the change.
pub fn object(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let _ = (resource, object, old);
    Vec::new()
}
