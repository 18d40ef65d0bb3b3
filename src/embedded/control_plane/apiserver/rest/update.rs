//! `update`, and the part that `patch` and subresources share with it.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    super::{
        ApiServer, Body, certificates,
        dispatch::{self, Call},
        meta, reply,
        status::{ApiError, collection},
    },
    options::{WriteOptions, decode},
};
use crate::control_plane::{
    api::{Resource, convert, defaults, validate},
    storage::{StoreError, revision_of},
};

/// How often an update without a resourceVersion is tried again after somebody else's.
const ATTEMPTS: usize = 16;

/// Which part of an object a request may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    /// The status.
    Status,
    /// A pod's node, and the condition that tells of it.
    Binding,
    /// A namespace's own finalizers.
    Finalize,
    /// A pod's ephemeral containers.
    EphemeralContainers,
    /// The resources of a pod's containers.
    Resize,
    /// Whether a CertificateSigningRequest is approved.
    Approval,
}

/// Answers `update`.
///
/// # Errors
/// 400, 404, 409, 415, 422.
pub fn replace(call: &Call, part: Part) -> Result<Response<Body>, ApiError> {
    let name = call.name()?;
    let options = WriteOptions::of(call)?;
    let decoded = decode(call)?;
    let mut object = decoded.value;
    let warnings = options.check_fields(&call.resource, &mut object, decoded.duplicates)?;
    check_identity(call, name, &object)?;
    let updated = call
        .server
        .update(&call.resource, call.namespace(), name, part, &options, &mut |_| {
            Ok(object.clone())
        })?;
    let mut response = dispatch::object(call, StatusCode::OK, &updated);
    reply::warn(&mut response, &warnings);
    Ok(response)
}

fn check_identity(call: &Call, name: &str, object: &Value) -> Result<(), ApiError> {
    let (given, namespace) = (meta::name(object), meta::namespace(object));
    if given != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    if !namespace.is_empty() && namespace != call.namespace() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Makes the wanted object from the current one (both in the version that the resource serves).
pub type Change<'a> = dyn FnMut(&Value) -> Result<Value, ApiError> + 'a;

impl ApiServer {
    /// Changes one part of an object, again when somebody else wrote in between.
    ///
    /// # Errors
    /// Those of `change`, and 404, 409, 422.
    pub(in super::super) fn update(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        part: Part,
        options: &WriteOptions,
        change: &mut Change<'_>,
    ) -> Result<Arc<Value>, ApiError> {
        let key = collection(resource).object(namespace, name);
        for _ in 0..ATTEMPTS {
            let stored = self.read(resource, namespace, name)?;
            let current = reply::served(resource, &stored);
            let wanted = change(&current)?;
            let mut wanted = self.prepare_update(resource, name, part, options, &current, wanted)?;
            convert::to_storage(resource, &mut wanted);
            if options.dry_run {
                return Ok(Arc::new(wanted));
            }
            let revision = Some(revision_of(&stored));
            let written = if super::delete::is_finished(resource, &wanted) {
                self.store().update(&key, revision, wanted).and_then(|last| {
                    let deleted = self.store().delete(&key, Some(revision_of(&last)));
                    deleted.inspect(|last| self.after_delete(resource, last))
                })
            } else {
                self.store().update(&key, revision, wanted)
            };
            match written {
                Err(StoreError::Conflict { .. }) => {}
                Ok(written) => {
                    self.after_update(resource);
                    return Ok(written);
                }
                other => return other.map_err(|error| ApiError::from_store(&error, resource, name)),
            }
        }
        Err(ApiError::stale(resource, name))
    }

    fn prepare_update(
        &self,
        resource: &Resource,
        name: &str,
        part: Part,
        options: &WriteOptions,
        current: &Value,
        mut wanted: Value,
    ) -> Result<Value, ApiError> {
        let given = meta::text(&wanted, "resourceVersion");
        if !given.is_empty() && given != "0" && given != meta::text(current, "resourceVersion") {
            return Err(ApiError::stale(resource, name));
        }
        let (uid, actual) = (meta::text(&wanted, "uid"), meta::text(current, "uid"));
        if !uid.is_empty() && uid != actual {
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}");
            return Err(ApiError::conflict(resource, name, why));
        }
        defaults::apply(resource, &mut wanted);
        let managers = meta::metadata(&mut wanted).remove("managedFields");
        let mut next = match certificates::is_request(resource) {
            true => certificates::restrict(part, current, &wanted),
            false => restrict(resource, part, current, wanted),
        };
        keep_identity(current, &mut next);
        meta::drop_empty(&mut next);
        let _allocating = self.admit_update(resource, current, &mut next)?;
        if counts_generations(resource) {
            let generation = current
                .pointer("/metadata/generation")
                .and_then(Value::as_i64)
                .unwrap_or(1);
            let generation = generation + i64::from(is_new_generation(resource, current, &next));
            meta::metadata(&mut next).insert("generation".to_owned(), json!(generation));
        }
        let errors = validate::object(resource, &next, Some(current));
        if !errors.is_empty() {
            return Err(ApiError::invalid(resource, name, &errors));
        }
        let user = options.user.as_ref();
        self.check_escalation(user, resource, Some(current), &next)?;
        certificates::admit_change(self, user, resource, part, current, &next)?;
        // Of a pod's spec, only who joins it later can make it break the rules of its namespace.
        if part == Part::EphemeralContainers {
            self.admit_pod_security(resource, meta::namespace(current), &next)?;
        }
        meta::set(meta::metadata(&mut next), "managedFields", managers);
        options.track(resource, Some(current), &mut next);
        Ok(next)
    }
}

/// Takes from `wanted` only what the part may change. Who manages what is not among it: that is most of an object, and added after.
fn restrict(resource: &Resource, part: Part, current: &Value, mut wanted: Value) -> Value {
    let take = |from: &mut Value, pointer: &str| from.pointer_mut(pointer).map(Value::take);
    match part {
        Part::Main => {
            if resource.subresource("status").is_some() {
                meta::set(meta::fields(&mut wanted), "status", current.get("status").cloned());
            }
            if resource.kind == "Namespace" {
                let finalizers = current.pointer("/spec/finalizers").cloned();
                meta::set(meta::child(meta::fields(&mut wanted), "spec"), "finalizers", finalizers);
            }
            wanted
        }
        Part::Status => {
            let mut next = without_managers(current);
            meta::set(meta::fields(&mut next), "status", take(&mut wanted, "/status"));
            // Nodes and pods let their status's writer set labels and annotations too, as the kubelet does.
            if matches!(resource.kind.as_str(), "Node" | "Pod") {
                for field in ["labels", "annotations"] {
                    let value = take(&mut wanted, &format!("/metadata/{field}"));
                    meta::set(meta::metadata(&mut next), field, value);
                }
            }
            next
        }
        // It is made here, not by a client.
        Part::Binding => wanted,
        // Only requests for certificates have it, and a function of their own.
        Part::Approval => current.clone(),
        Part::Finalize => {
            let mut next = without_managers(current);
            let finalizers = take(&mut wanted, "/spec/finalizers");
            meta::set(meta::child(meta::fields(&mut next), "spec"), "finalizers", finalizers);
            next
        }
        Part::EphemeralContainers => {
            let mut next = without_managers(current);
            let containers = take(&mut wanted, "/spec/ephemeralContainers");
            meta::set(
                meta::child(meta::fields(&mut next), "spec"),
                "ephemeralContainers",
                containers,
            );
            next
        }
        Part::Resize => {
            let mut next = without_managers(current);
            let wanted = take(&mut wanted, "/spec/containers");
            if let (Some(Value::Array(wanted)), Some(Value::Array(containers))) =
                (wanted, next.pointer_mut("/spec/containers"))
            {
                for container in containers {
                    let same = wanted.iter().find(|other| other["name"] == container["name"]);
                    if let Some(same) = same {
                        meta::set(meta::fields(container), "resources", same.get("resources").cloned());
                    }
                }
            }
            next
        }
    }
}

/// A copy without `managedFields`.
fn without_managers(object: &Value) -> Value {
    let members = |value: &Value, but: &str| -> Map<String, Value> {
        let fields = value.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| *name != but)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let mut copy = members(object, "metadata");
    if let Some(metadata) = object.get("metadata") {
        copy.insert("metadata".to_owned(), Value::Object(members(metadata, "managedFields")));
    }
    Value::Object(copy)
}

/// What no update changes.
fn keep_identity(current: &Value, next: &mut Value) {
    let old = current.get("metadata").unwrap_or(&Value::Null);
    let metadata = meta::metadata(next);
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "generation",
        "resourceVersion",
    ] {
        meta::set(metadata, field, old.get(field).cloned());
    }
}

/// Kinds that count their generations: those with a controller that reports which one it has seen.
pub fn counts_generations(resource: &Resource) -> bool {
    matches!(
        resource.group.as_str(),
        "apps" | "batch" | "networking.k8s.io" | "policy" | "discovery.k8s.io"
    ) && resource.kind != "ControllerRevision"
        || resource.kind == "ReplicationController"
        || resource.group == "apiextensions.k8s.io"
        || !resource.builtin
}

/// Whether anything but metadata and status differs; a custom kind without `status` of its own has a field of that
/// name like any other.
fn is_new_generation(resource: &Resource, current: &Value, next: &Value) -> bool {
    let plain_status = resource.custom.is_some() && resource.subresource("status").is_none();
    let (Some(current), Some(next)) = (current.as_object(), next.as_object()) else {
        return false;
    };
    let counted = |name: &String| match name.as_str() {
        "metadata" | "apiVersion" | "kind" => false,
        "status" => plain_status,
        _ => true,
    };
    let names = current.keys().chain(next.keys()).filter(|name| counted(name));
    names.into_iter().any(|name| current.get(name) != next.get(name))
}
