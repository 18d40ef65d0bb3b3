//! Admission: what the server adds to an object, and when it refuses one.
//!
//! Source: Kubernetes' "Admission control" (NamespaceLifecycle, ServiceAccount, DefaultTolerationSeconds,
//! DefaultStorageClass, StorageObjectInUseProtection, PersistentVolumeClaimResize, Priority).

use std::sync::MutexGuard;

use serde_json::{Value, json};

use super::{
    ApiServer, UserInfo, certificates, definitions, jobs, meta, nodes, pods, priority, services,
    status::{ApiError, collection},
    storage,
};
use crate::control_plane::{
    api::{Resource, custom::definition::CLEANUP},
    storage::CollectionKey,
};

/// Held while a Service's address is chosen and stored.
pub type Allocating<'a> = Option<MutexGuard<'a, ()>>;

impl ApiServer {
    /// Refuses objects in a namespace that is not there, or is going.
    pub(super) fn admit_namespace(&self, resource: &Resource, namespace: &str, name: &str) -> Result<(), ApiError> {
        if !resource.namespaced {
            return Ok(());
        }
        let found = self
            .store()
            .get(&CollectionKey::new("", "namespaces").object("", namespace));
        let Some(found) = found else {
            return Err(ApiError::core_not_found("namespaces", namespace));
        };
        if !meta::is_terminating(&found) {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = ApiError::forbidden(resource, name, why);
        let details = error.0.details.get_or_insert_default();
        details.causes = Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause {
            reason: Some("NamespaceTerminating".to_owned()),
            message: Some(format!("namespace {namespace} is being terminated")),
            field: Some("metadata.namespace".to_owned()),
        }]);
        Err(error)
    }

    /// Completes a new object.
    pub(super) fn admit_create(
        &self,
        user: &UserInfo,
        resource: &Resource,
        namespace: &str,
        object: &mut Value,
    ) -> Result<Allocating<'_>, ApiError> {
        nodes::admit_created(user, resource, object)?;
        match (resource.group.as_str(), resource.kind.as_str()) {
            ("", "Namespace") => complete_namespace(object),
            _ if definitions::is_definition(resource) => complete_definition(object),
            ("", "Pod") => {
                self.limit(resource, namespace, object)?;
                pods::admit(self, resource, namespace, object)?;
            }
            ("", "PersistentVolumeClaim") => {
                storage::admit_claim(self, object);
                self.limit(resource, namespace, object)?;
            }
            ("", "Service") => return services::admit_create(self, resource, object).map(Some),
            ("", "Secret") => merge_string_data(object),
            ("apps", "DaemonSet") => count_templates(None, object),
            ("batch", "Job") => jobs::complete(object),
            ("", "PersistentVolume") => storage::admit_volume(object),
            ("scheduling.k8s.io", "PriorityClass") => priority::admit_class(self, resource, object)?,
            _ if certificates::is_request(resource) => certificates::admit_create(user, resource, object)?,
            _ => {}
        }
        Ok(None)
    }

    /// Completes a changed object.
    pub(super) fn admit_update(
        &self,
        resource: &Resource,
        current: &Value,
        next: &mut Value,
    ) -> Result<Allocating<'_>, ApiError> {
        match (resource.group.as_str(), resource.kind.as_str()) {
            ("", "Service") => return services::admit_update(self, resource, current, next).map(Some),
            ("", "Secret") => merge_string_data(next),
            ("apps", "DaemonSet") => count_templates(Some(current), next),
            ("", "PersistentVolumeClaim") => storage::admit_resize(self, resource, current, next)?,
            ("scheduling.k8s.io", "PriorityClass") => priority::admit_class(self, resource, next)?,
            _ => {}
        }
        Ok(None)
    }

    /// What follows from a new object at once.
    pub(super) fn after_create(&self, resource: &Resource, object: &Value) {
        match (resource.group.as_str(), resource.kind.as_str()) {
            ("", "Namespace") => self.furnish(meta::name(object)),
            _ if definitions::is_definition(resource) => drop(self.registry()),
            ("" | "events.k8s.io", "Event") => self.sweep_events(),
            _ => {}
        }
    }

    /// What follows from a change at once.
    pub(super) fn after_update(&self, resource: &Resource) {
        if definitions::is_definition(resource) {
            self.registry();
        }
    }

    /// What follows at once from a deletion that has to wait for something.
    pub(super) fn after_mark(&self, resource: &Resource, object: &Value) {
        if definitions::is_definition(resource) {
            self.end_definition(object);
        }
    }

    /// What follows from a deletion at once.
    pub(super) fn after_delete(&self, resource: &Resource, last: &Value) {
        tracing::debug!(
            kind = resource.kind,
            namespace = meta::namespace(last),
            name = meta::name(last),
            "deleted"
        );
        if resource.custom.is_some() {
            self.settle(&collection(resource));
        } else if definitions::is_definition(resource) {
            self.registry();
        }
    }
}

/// A definition waits for its objects when it is deleted.
fn complete_definition(object: &mut Value) {
    let mut finalizers = meta::finalizers(object);
    if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
        finalizers.push(CLEANUP.to_owned());
    }
    meta::metadata(object).insert("finalizers".to_owned(), json!(finalizers));
}

fn complete_namespace(object: &mut Value) {
    let name = meta::name(object).to_owned();
    let labels = meta::child(meta::metadata(object), "labels");
    labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
    let fields = meta::fields(object);
    let spec = meta::child(fields, "spec");
    spec.entry("finalizers").or_insert_with(|| json!(["kubernetes"]));
    fields.insert("status".to_owned(), json!({"phase": "Active"}));
}

/// A DaemonSet's templates are counted in an annotation that clients cannot change.
fn count_templates(current: Option<&Value>, object: &mut Value) {
    const COUNT: &str = "deprecated.daemonset.template.generation";
    let template = |object: &Value| object.pointer("/spec/template").cloned();
    let count = current.map_or(1, |current| {
        let annotations = current.pointer("/metadata/annotations");
        let held = annotations.and_then(|all| all.get(COUNT)?.as_str()?.parse::<i64>().ok());
        held.unwrap_or(0) + i64::from(template(current) != template(object))
    });
    meta::child(meta::metadata(object), "annotations").insert(COUNT.to_owned(), json!(count.to_string()));
}

/// `stringData` is write-only: it is stored as `data`.
fn merge_string_data(object: &mut Value) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let fields = meta::fields(object);
    let Some(Value::Object(plain)) = fields.remove("stringData") else {
        return;
    };
    let data = meta::child(fields, "data");
    for (key, value) in plain {
        if let Value::String(text) = value {
            data.insert(key, json!(STANDARD.encode(text)));
        }
    }
}
