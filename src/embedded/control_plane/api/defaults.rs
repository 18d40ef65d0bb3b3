//! Defaults of absent fields.

use serde_json::Value;

use super::Resource;

/// Fills absent fields as kube-apiserver does.
pub fn apply(resource: &Resource, object: &mut Value) {
    let _ = (resource, object);
}
