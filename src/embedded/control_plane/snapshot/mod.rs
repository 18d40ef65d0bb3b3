//! Snapshots: what a cluster is to be, put aside under a name, and put back.
//!
//! A snapshot holds desired objects, not what became of them. Putting it back is a list of writes ([`plan`]) that the store makes
//! with nothing between: everything that differs gets a new revision, so whoever watches sees it as it sees any change.
//!
//! Left out are Events and Leases, what controllers derive (pods and EndpointSlices that have an owner), and what is on its way out.
//! Status is left out, except where it is the API server's own word (a namespace is Active, a definition is served), and where it
//! says what is bound to what: volumes come back with what is in them ([`content`]), to the claims that they were of.

pub mod content;
mod plan;

pub use content::Held;
pub use plan::plan;

use serde_json::{Map, Value, json};

use super::{controllers::endpoints, storage::Key};

/// What a snapshot holds of an object; `None` where it holds nothing of it.
pub fn desired(key: &Key, object: &Value) -> Option<Value> {
    let metadata = object.get("metadata")?;
    if metadata.get("deletionTimestamp").is_some() || is_derived(key, object) || is_of_the_moment(key) {
        return None;
    }
    let mut kept = object.clone();
    let fields = kept.as_object_mut()?;
    if !keeps_status(key) {
        fields.remove("status");
    }
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        forget_status_managers(metadata);
    }
    if is(key, "", "pods") {
        let spec = fields.get_mut("spec").and_then(Value::as_object_mut)?;
        // Where it ran and who looked at it is not what it was to be.
        spec.remove("nodeName");
        spec.remove("ephemeralContainers");
    }
    Some(kept)
}

fn is(key: &Key, group: &str, resource: &str) -> bool {
    key.collection.group == group && key.collection.resource == resource
}

fn is_volume(key: &Key) -> bool {
    is(key, "", "persistentvolumes") || is(key, "", "persistentvolumeclaims")
}

fn is_of_the_moment(key: &Key) -> bool {
    is(key, "", "events") || is(key, "events.k8s.io", "events") || is(key, "coordination.k8s.io", "leases")
}

/// Pods and endpoints that a controller makes: it makes them anew.
fn is_derived(key: &Key, object: &Value) -> bool {
    let owned = is(key, "", "pods") || is(key, "discovery.k8s.io", "endpointslices");
    owned && !owners(object).is_empty() || is(key, "", "endpoints") && endpoints::is_managed(object)
}

fn owners(object: &Value) -> &[Value] {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.map_or(&[], Vec::as_slice)
}

/// Kinds whose status is not what a controller saw, but what the API server says of them; and volumes and claims, whose binding
/// is a state of both.
fn keeps_status(key: &Key) -> bool {
    is_volume(key)
        || is(key, "", "namespaces")
        || is(key, "apiextensions.k8s.io", "customresourcedefinitions")
        || is(key, "apiregistration.k8s.io", "apiservices")
}

fn forget_status_managers(metadata: &mut Map<String, Value>) {
    if let Some(managers) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
        managers.retain(|manager| manager.get("subresource") != Some(&json!("status")));
    }
}
