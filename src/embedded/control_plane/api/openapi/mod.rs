//! OpenAPI documents.

pub(crate) mod source;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Registry;

/// `GET /openapi/v3`: which documents there are, with a hash in each URL.
pub fn v3_index(registry: &Registry) -> Value {
    let _ = registry;
    json!({"paths": {}})
}

/// `GET /openapi/v3/api/v1` and `/openapi/v3/apis/{group}/{version}`: the document and its hash (for `ETag`).
pub fn v3(registry: &Registry, group: &str, version: &str) -> Option<(Bytes, String)> {
    let _ = (registry, group, version);
    None
}

/// `GET /openapi/v2` as protobuf (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`): an empty document,
/// which clients need only to find nothing in.
pub fn v2() -> Vec<u8> {
    Vec::new()
}
