//! OpenAPI documents: what `kubectl apply` looks at before it sends, and what `kubectl explain` prints.
//!
//! Built when first asked for, then kept; the server does nothing for them at start.

mod document;
mod gnostic;
pub(crate) mod source;
mod swagger;

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Registry, Resource};

/// Raise it when the documents change for the same kinds: clients keep documents by their hash for ever.
const FORMAT: u32 = 1;

/// Documents kept; more are built again when asked for.
const KEPT: usize = 64;

static DOCUMENTS: LazyLock<Mutex<BTreeMap<String, Bytes>>> = LazyLock::new(Mutex::default);
static SECOND: LazyLock<Mutex<BTreeMap<Form, (Bytes, String)>>> = LazyLock::new(Mutex::default);

/// `GET /openapi/v3`: which documents there are, with a hash in each URL.
pub fn v3_index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            let path = prefix(&group, &version);
            let hash = hash(&members(registry, &group, &version));
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}),
            );
        }
    }
    json!({"paths": paths})
}

/// `GET /openapi/v3/api/v1` and `/openapi/v3/apis/{group}/{version}`: the document (JSON) and its hash (for `ETag`).
pub fn v3(registry: &Registry, group: &str, version: &str) -> Option<(Bytes, String)> {
    let members = members(registry, group, version);
    if members.is_empty() {
        return None;
    }
    let hash = hash(&members);
    let kept = |documents: &mut BTreeMap<String, Bytes>| documents.get(&hash).cloned();
    if let Some(document) = kept(&mut DOCUMENTS.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Some((document, hash));
    }
    let document = Bytes::from(document::build(&members, &prefix(group, version)).to_string());
    let mut documents = DOCUMENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if documents.len() >= KEPT {
        documents.clear();
    }
    documents.insert(hash.clone(), document.clone());
    Some((document, hash))
}

/// The forms of the version 2 document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// JSON.
    Json,
    /// Protocol Buffers, as kubectl asks for it.
    Protobuf,
}

/// `GET /openapi/v2`: the document of all kinds and its hash (for `ETag`). Of each form the last is kept.
pub fn v2(registry: &Registry, form: Form) -> (Bytes, String) {
    let members: Vec<&Resource> = registry.iter().map(AsRef::as_ref).collect();
    let hash = format!("{}{form:?}", hash(&members));
    let kept = |documents: &BTreeMap<Form, (Bytes, String)>| {
        let held = documents.get(&form).filter(|(_, of)| *of == hash);
        held.cloned()
    };
    if let Some(held) = kept(&SECOND.lock().unwrap_or_else(PoisonError::into_inner)) {
        return held;
    }
    let document = swagger::build(registry);
    let document = match form {
        Form::Json => Bytes::from(document.to_string()),
        Form::Protobuf => Bytes::from(gnostic::encode(&document)),
    };
    let mut documents = SECOND.lock().unwrap_or_else(PoisonError::into_inner);
    documents.insert(form, (document.clone(), hash.clone()));
    (document, hash)
}

fn members<'a>(registry: &'a Registry, group: &str, version: &str) -> Vec<&'a Resource> {
    let all = registry.iter().map(AsRef::as_ref);
    all.filter(|r: &&Resource| r.group == group && r.version == version)
        .collect()
}

fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// A hash of everything a document is made from.
fn hash(members: &[&Resource]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{FORMAT} {} {members:?}", env!("CARGO_PKG_VERSION")));
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests;
