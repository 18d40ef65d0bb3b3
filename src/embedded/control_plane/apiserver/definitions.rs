//! Kinds that definitions add while the server runs: which there are, and what becomes of their objects when they go.
//!
//! The kinds follow from the stored definitions alone, so whoever wrote them (a client, a restored snapshot), the next
//! request sees them. Kubernetes has controllers for this in its extension API server; here it is part of a write.
//!
//! Source: apiextensions-apiserver `pkg/controller/{status,establish,finalizer}`.

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    ApiServer, meta,
    rest::DeleteOptions,
    status::{ApiError, collection},
};
use crate::control_plane::{
    api::{
        Registry, Resource,
        custom::{self, definition::CLEANUP, structural},
    },
    storage::{CollectionKey, StoreError, revision_of},
};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// How often statuses are written and read again before the next request may go on with it.
const ROUNDS: usize = 4;

static DEFINITIONS: LazyLock<CollectionKey> = LazyLock::new(|| CollectionKey::new(GROUP, PLURAL));

/// The kinds served, and the revision of the definitions that they follow from.
pub struct Definitions {
    known: RwLock<(u64, Registry)>,
}

impl Default for Definitions {
    fn default() -> Self {
        Self {
            known: RwLock::new((0, Registry::builtin())),
        }
    }
}

/// Whether a resource is that of the definitions.
pub fn is_definition(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == PLURAL
}

/// What the writer of a definition should know.
pub fn warnings(resource: &Resource, object: &Value) -> Vec<String> {
    if is_definition(resource) && structural::has_rules(object) {
        let text = "x-kubernetes-validations are stored but not enforced by this cluster";
        return vec![text.to_owned()];
    }
    Vec::new()
}

impl ApiServer {
    /// The kinds that are served now.
    pub(super) fn registry(&self) -> Registry {
        let known = self
            .inner
            .definitions
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if known.0 == self.store().changed(&DEFINITIONS) {
            return known.1.clone();
        }
        drop(known);
        let mut known = self
            .inner
            .definitions
            .known
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for _ in 0..ROUNDS {
            let changed = self.store().changed(&DEFINITIONS);
            if known.0 == changed {
                break;
            }
            let definitions = self.store().list(&DEFINITIONS, None).items;
            let outcome = custom::serve(&Registry::builtin(), &definitions, &meta::now());
            let next = Registry::builtin().extended(outcome.resources);
            self.end_watches(&known.1, &next);
            *known = (changed, next);
            for (definition, status) in definitions.iter().zip(outcome.statuses) {
                self.note(definition, status);
            }
        }
        known.1.clone()
    }

    /// Writes a definition's status, where it differs.
    fn note(&self, definition: &Value, status: Value) {
        if definition.get("status") == Some(&status) {
            return;
        }
        let mut next = definition.clone();
        meta::fields(&mut next).insert("status".to_owned(), status);
        let key = DEFINITIONS.object("", meta::name(definition));
        // Somebody else's write in between makes the next round look again.
        if let Err(error) = self.store().update(&key, Some(revision_of(definition)), next) {
            tracing::debug!(%error, definition = key.name, "noting a definition's status");
        }
    }

    /// Ends the watches of kinds that are no more, or no longer the same.
    fn end_watches(&self, before: &Registry, now: &Registry) {
        for old in before.iter().filter(|resource| resource.custom.is_some()) {
            let same = now.find(&old.group, &old.version, &old.plural);
            if same.is_none_or(|new| new.custom != old.custom) {
                let gone = !now.iter().any(|resource| resource.storage == old.storage);
                self.store().end_watches(&collection(old), gone);
            }
        }
    }

    /// Refuses new objects of a kind whose definition is going.
    pub(super) fn admit_custom(&self, resource: &Resource, verb: &str) -> Result<(), ApiError> {
        match &resource.custom {
            Some(custom) if custom.terminating => Err(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                format!("{verb} not allowed while custom resource definition is terminating"),
            )),
            _ => Ok(()),
        }
    }

    /// Follows a definition that is being deleted: its objects go first.
    pub(super) fn end_definition(&self, definition: &Value) {
        let registry = self.registry();
        let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
        let resource = registry
            .iter()
            .find(|resource| resource.custom.is_some() && resource.group == group && resource.plural == plural);
        if let Some(resource) = resource {
            for object in self.store().list(&collection(resource), None).items {
                let (namespace, name) = (meta::namespace(&object), meta::name(&object));
                match self.delete(resource, namespace, name, &DeleteOptions::default()) {
                    Ok(_) => {}
                    Err(error) if error.code() == StatusCode::NOT_FOUND => {}
                    Err(error) => {
                        tracing::warn!(namespace, name, error = ?error.0.message, "deleting an object with its definition");
                    }
                }
            }
        }
        self.settle(&CollectionKey::new(group, plural));
    }

    /// After an object has gone: whether it was the last one that its definition waited for.
    pub(super) fn settle(&self, objects: &CollectionKey) {
        let key = DEFINITIONS.object("", &format!("{}.{}", objects.resource, objects.group));
        for _ in 0..ROUNDS {
            let Some(definition) = self.store().get(&key).filter(|found| meta::is_terminating(found)) else {
                return;
            };
            if self.store().count(objects) > 0 {
                return;
            }
            let mut finalizers = meta::finalizers(&definition);
            finalizers.retain(|finalizer| finalizer != CLEANUP);
            let gone = finalizers.is_empty();
            let mut next = (*definition).clone();
            let left = (!gone).then(|| json!(finalizers));
            meta::set(meta::metadata(&mut next), "finalizers", left);
            let revision = Some(revision_of(&definition));
            let written = self.store().update(&key, revision, next).and_then(|last| match gone {
                true => self.store().delete(&key, Some(revision_of(&last))),
                false => Ok(last),
            });
            if !matches!(written, Err(StoreError::Conflict { .. })) {
                break;
            }
        }
        self.registry();
    }

    /// Takes back an object whose definition went while it was made.
    pub(super) fn check_definition(&self, resource: &Resource, object: &Arc<Value>) -> Result<(), ApiError> {
        if resource.custom.is_none() {
            return Ok(());
        }
        let registry = self.registry();
        let served = registry.find(&resource.group, &resource.version, &resource.plural);
        if served.is_some_and(|now| now.custom.as_ref().is_some_and(|custom| !custom.terminating)) {
            return Ok(());
        }
        let key = collection(resource).object(meta::namespace(object), meta::name(object));
        // Gone already is as good.
        let _ = self.store().delete(&key, Some(revision_of(object)));
        self.settle(&collection(resource));
        Err(ApiError::no_such_path())
    }
}
