//! Admission of claims and volumes: the default class, protection, growth; and the class that every cluster has.
//!
//! Source: Kubernetes' "Admission control" (DefaultStorageClass, StorageObjectInUseProtection, PersistentVolumeClaimResize).

use serde_json::{Value, json};

use super::{ApiServer, meta, status::ApiError};
use crate::control_plane::{
    api::{Resource, validate::quantity},
    storage::CollectionKey,
};

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// The class that every cluster has, of the name and the ways that kind gives its own: manifests mean the same there.
pub fn standard_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": {DEFAULT: "true"}},
        "provisioner": "ztlab.dev/local-path",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers = meta::finalizers(object);
    if !finalizers.iter().any(|held| held == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
    meta::metadata(object).insert("finalizers".to_owned(), json!(finalizers));
}

/// Completes a new volume.
pub fn admit_volume(object: &mut Value) {
    protect(object, "kubernetes.io/pv-protection");
}

/// Completes a new claim: its protection, and the default class where it names none.
pub fn admit_claim(server: &ApiServer, object: &mut Value) {
    protect(object, "kubernetes.io/pvc-protection");
    let old = object.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    let named = old.is_some()
        || object
            .pointer("/spec/storageClassName")
            .is_some_and(|class| !class.is_null());
    if !named
        && let Some(class) = default_class(server)
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.insert("storageClassName".to_owned(), json!(class));
    }
}

/// Of several defaults, the newest; of those, the first by name.
fn default_class(server: &ApiServer) -> Option<String> {
    let classes = server
        .store()
        .list(&CollectionKey::new("storage.k8s.io", "storageclasses"), None)
        .items;
    let is_default = |class: &&std::sync::Arc<Value>| {
        let annotations = class.pointer("/metadata/annotations");
        annotations.is_some_and(|annotations| annotations.get(DEFAULT) == Some(&json!("true")))
    };
    let newest = classes.iter().filter(is_default).max_by_key(|class| {
        let made = meta::text(class, "creationTimestamp").to_owned();
        (made, std::cmp::Reverse(meta::name(class).to_owned()))
    });
    newest.map(|class| meta::name(class).to_owned())
}

fn requested(claim: &Value) -> Option<quantity::Quantity> {
    quantity::parse(claim.pointer("/spec/resources/requests/storage")?.as_str()?)
}

/// Refuses to let a claim grow whose class does not allow it.
///
/// # Errors
/// 403.
pub fn admit_resize(server: &ApiServer, resource: &Resource, current: &Value, next: &Value) -> Result<(), ApiError> {
    if requested(next) <= requested(current) {
        return Ok(());
    }
    let class = next
        .pointer("/spec/storageClassName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let key = CollectionKey::new("storage.k8s.io", "storageclasses").object("", class);
    let allows = server
        .store()
        .get(&key)
        .is_some_and(|class| class.get("allowVolumeExpansion") == Some(&json!(true)));
    if allows {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(ApiError::forbidden(resource, meta::name(next), why))
}
