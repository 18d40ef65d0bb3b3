//! `delete` and `deletecollection`: graceful deletion, finalizers, propagation.
//!
//! Source: Kubernetes' "Finalizers", "Garbage collection", "Pod termination".

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    super::{
        ApiServer, Body,
        dispatch::Call,
        meta, reply,
        status::{ApiError, collection},
    },
    list::Selection,
    options::{decode_as, dry_run},
};
use crate::control_plane::{
    api::Resource,
    storage::{StoreError, revision_of},
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Namespaces that cannot be deleted.
const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];
const ATTEMPTS: usize = 16;

/// `DeleteOptions` of meta/v1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds an object gets to end by itself; `None` is its own default.
    pub grace: Option<i64>,
    /// `Foreground`, `Background` or `Orphan`.
    pub propagation: Option<String>,
    /// Only if the object has this uid.
    pub uid: Option<String>,
    /// Only if the object has this resourceVersion.
    pub resource_version: Option<String>,
    /// Do everything but delete.
    pub dry_run: bool,
}

impl DeleteOptions {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let mut options = match call.body.is_empty() {
            true => Self::default(),
            false => Self::from_object(&decode_as(call.content_type(), &call.body)?.value)?,
        };
        options.grace = call.query.number("gracePeriodSeconds")?.or(options.grace);
        if let Some(propagation) = call.query.get("propagationPolicy") {
            options.propagation = Some(propagation.to_owned());
        }
        options.dry_run |= dry_run(&call.query)?;
        options.checked()
    }

    /// Reads a `DeleteOptions` object.
    ///
    /// # Errors
    /// 400 for fields of a wrong type.
    pub fn from_object(object: &Value) -> Result<Self, ApiError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let grace = match object.get("gracePeriodSeconds") {
            None | Some(Value::Null) => None,
            Some(value) => Some(
                value
                    .as_i64()
                    .ok_or_else(|| ApiError::bad_request("gracePeriodSeconds: not a whole number"))?,
            ),
        };
        let dry_run = object
            .get("dryRun")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
        let orphan = object.get("orphanDependents").and_then(Value::as_bool);
        Self {
            grace,
            propagation: text("/propagationPolicy")
                .or_else(|| orphan.filter(|orphan| *orphan).map(|_| "Orphan".to_owned())),
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, ApiError> {
        match self.propagation.as_deref() {
            None | Some("Foreground" | "Background" | "Orphan") => Ok(self),
            Some(other) => Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{other}\": supported values: \"Background\", \"Foreground\", \"Orphan\""
                ),
            )),
        }
    }
}

/// What became of an object.
pub enum Deleted {
    /// It is gone.
    Gone(Arc<Value>),
    /// It is marked, and goes when its grace or its finalizers are over.
    Pending(Arc<Value>),
}

/// Answers `delete`.
///
/// # Errors
/// 400, 403, 404, 409.
pub fn delete(call: &Call) -> Result<Response<Body>, ApiError> {
    let name = call.name()?;
    let options = DeleteOptions::of(call)?;
    let deleted = call.server.delete(&call.resource, call.namespace(), name, &options)?;
    Ok(match deleted {
        Deleted::Gone(last) if call.resource.kind != "Pod" => reply::json(
            StatusCode::OK,
            &reply::success(&call.resource, name, meta::text(&last, "uid")),
        ),
        Deleted::Gone(object) | Deleted::Pending(object) => {
            super::super::dispatch::object(call, StatusCode::OK, &object)
        }
    })
}

/// Answers `deletecollection`: the objects as they were last.
///
/// # Errors
/// 400, 403, 409.
pub fn delete_collection(call: &Call) -> Result<Response<Body>, ApiError> {
    if call.resource.namespaced && call.path.namespace.is_none() {
        return Err(ApiError::method_not_allowed());
    }
    let options = DeleteOptions::of(call)?;
    let selection = Selection::of(call)?;
    let listed = call
        .server
        .store()
        .list(&collection(&call.resource), call.path.namespace.as_deref());
    let mut deleted = Vec::new();
    for object in listed
        .items
        .iter()
        .filter(|object| selection.matches(&call.resource, object))
    {
        match call
            .server
            .delete(&call.resource, meta::namespace(object), meta::name(object), &options)
        {
            Ok(Deleted::Gone(last) | Deleted::Pending(last)) => deleted.push(last),
            Err(error) if error.code() == StatusCode::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
    }
    let metadata = json!({"resourceVersion": call.server.store().revision().to_string()});
    Ok(reply::list(&call.resource, call.form, call.include, &deleted, metadata))
}

impl ApiServer {
    /// Deletes an object, or marks it for deletion.
    ///
    /// # Errors
    /// 403, 404, 409.
    pub(in super::super) fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        if resource.kind == "Namespace" && PROTECTED.contains(&name) {
            return Err(ApiError::forbidden(resource, name, "this namespace may not be deleted"));
        }
        let key = collection(resource).object(namespace, name);
        for _ in 0..ATTEMPTS {
            let current = self.read(resource, namespace, name)?;
            check_preconditions(resource, name, &current, options)?;
            let marked = mark(resource, &current, options);
            let finished = is_finished(resource, &marked);
            if options.dry_run {
                let object = Arc::new(marked);
                return Ok(if finished {
                    Deleted::Gone(object)
                } else {
                    Deleted::Pending(object)
                });
            }
            let revision = Some(revision_of(&current));
            let written = if finished {
                self.store().delete(&key, revision).map(|last| {
                    self.after_delete(resource, &last);
                    Deleted::Gone(last)
                })
            } else {
                self.store().update(&key, revision, marked).map(|marked| {
                    self.after_mark(resource, &marked);
                    Deleted::Pending(marked)
                })
            };
            match written {
                Err(StoreError::Conflict { .. }) => {}
                other => return other.map_err(|error| ApiError::from_store(&error, resource, name)),
            }
        }
        Err(ApiError::stale(resource, name))
    }
}

fn check_preconditions(
    resource: &Resource,
    name: &str,
    current: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    for (wanted, field, what) in [
        (&options.uid, "uid", "UID"),
        (&options.resource_version, "resourceVersion", "ResourceVersion"),
    ] {
        let actual = meta::text(current, field);
        if let Some(wanted) = wanted
            .as_deref()
            .filter(|wanted| !wanted.is_empty() && *wanted != actual)
        {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}");
            return Err(ApiError::conflict(resource, name, why));
        }
    }
    Ok(())
}

/// The object as it is once its deletion has begun.
fn mark(resource: &Resource, current: &Value, options: &DeleteOptions) -> Value {
    let mut object = current.clone();
    let mut finalizers = meta::finalizers(current);
    if let Some(policy) = options.propagation.as_deref() {
        finalizers.retain(|finalizer| finalizer != FOREGROUND && finalizer != ORPHAN);
        match policy {
            "Foreground" => finalizers.push(FOREGROUND.to_owned()),
            "Orphan" => finalizers.push(ORPHAN.to_owned()),
            _ => {}
        }
        let list = (!finalizers.is_empty()).then(|| json!(finalizers));
        meta::set(meta::metadata(&mut object), "finalizers", list);
    }
    let grace = grace(resource, current, options.grace);
    let before = current
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    // Deleting again can only make it quicker.
    if meta::is_terminating(current) && before.is_some_and(|before| before <= grace) {
        return object;
    }
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
    let metadata = meta::metadata(&mut object);
    metadata.insert("deletionTimestamp".to_owned(), json!(meta::time(at)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    if resource.kind == "Namespace" {
        let status = meta::child(meta::fields(&mut object), "status");
        status.insert("phase".to_owned(), json!("Terminating"));
    }
    if super::update::counts_generations(resource) {
        let generation = current
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or(1);
        meta::metadata(&mut object).insert("generation".to_owned(), json!(generation + 1));
    }
    object
}

/// Only pods end gracefully, and only those that a node may be running.
fn grace(resource: &Resource, current: &Value, wanted: Option<i64>) -> i64 {
    if resource.kind != "Pod" {
        return 0;
    }
    let text = |pointer: &str| current.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/spec/nodeName").is_empty() || matches!(text("/status/phase"), "Succeeded" | "Failed") {
        return 0;
    }
    let own = current
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(30);
    // A bound, since the sum with the present must be a time.
    wanted.unwrap_or(own).clamp(0, 31_536_000)
}

/// Whether a marked object has nothing left to wait for.
pub fn is_finished(resource: &Resource, object: &Value) -> bool {
    let namespace_finalizers = object.pointer("/spec/finalizers").and_then(Value::as_array);
    meta::is_terminating(object)
        && meta::finalizers(object).is_empty()
        && object
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64)
            .unwrap_or(0)
            == 0
        && (resource.kind != "Namespace" || namespace_finalizers.is_none_or(Vec::is_empty))
}
