//! Strategic merge patch.

use serde_json::Value;

use super::{super::Resource, PatchError, merge};

/// Applies a strategic merge patch.
///
/// # Errors
/// A patch with directives that make no sense, or a kind without a schema.
pub fn strategic(resource: &Resource, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !resource.builtin {
        return Err(PatchError::UnsupportedMediaType);
    }
    Ok(merge(original, patch))
}
