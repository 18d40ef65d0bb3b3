//! Owner references and selectors.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{
    Resource, ResourceExt,
    core::{Selector, SelectorExt},
};

/// The reference that makes `owner` the controller of an object.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The reference to an object's controller, where it has one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|reference| reference.controller == Some(true))
}

/// Whether `owner` controls the object with `meta`.
pub fn controls<K: Resource>(owner: &K, meta: &ObjectMeta) -> bool {
    controller_of(meta).is_some_and(|reference| Some(&reference.uid) == owner.meta().uid.as_ref())
}

/// Whether the selector takes the labels. An empty or malformed selector takes nothing: a controller must not adopt by mistake.
pub fn selects(selector: &LabelSelector, labels: Option<&std::collections::BTreeMap<String, String>>) -> bool {
    match Selector::try_from(selector.clone()) {
        Ok(selector) if !selector.selects_all() => {
            selector.matches(labels.unwrap_or(&std::collections::BTreeMap::new()))
        }
        _ => false,
    }
}
