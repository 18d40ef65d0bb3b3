//! `create`.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    super::{
        ApiServer, Body, UserInfo, definitions,
        dispatch::{self, Call},
        meta, reply,
        status::{ApiError, collection},
    },
    options::{WriteOptions, decode},
};
use crate::control_plane::{
    api::{Resource, convert, defaults, validate},
    storage::StoreError,
};

/// How often a generated name is drawn again when it is taken.
const NAME_ATTEMPTS: usize = 8;

/// Answers `create`.
///
/// # Errors
/// 400, 403, 404 (the namespace), 409, 415, 422.
pub fn create(call: &Call) -> Result<Response<Body>, ApiError> {
    if call.path.name.is_some() || (call.resource.namespaced && call.path.namespace.is_none()) {
        return Err(ApiError::method_not_allowed());
    }
    call.server.admit_custom(&call.resource, "create")?;
    let options = WriteOptions::of(call)?;
    let decoded = decode(call)?;
    let mut object = decoded.value;
    let mut warnings = options.check_fields(&call.resource, &mut object, decoded.duplicates)?;
    let created = call
        .server
        .create(&call.user, &call.resource, call.namespace(), object, &options)?;
    let mut response = dispatch::object(call, StatusCode::CREATED, &created);
    warnings.extend(definitions::warnings(&call.resource, &created));
    warnings.extend(
        call.server
            .pod_security_warning(&call.resource, call.namespace(), &created),
    );
    reply::warn(&mut response, &warnings);
    Ok(response)
}

impl ApiServer {
    /// Creates an object whose fields have been checked.
    ///
    /// # Errors
    /// 400, 403, 404 (the namespace), 409, 422.
    pub(in super::super) fn create(
        &self,
        user: &UserInfo,
        resource: &Resource,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, ApiError> {
        prepare(resource, namespace, &mut object)?;
        if !options.applying {
            meta::metadata(&mut object).remove("managedFields");
        }
        let base = meta::text(&object, "generateName").to_owned();
        let generated = meta::name(&object).is_empty() && !base.is_empty();
        let mut attempts = if generated { NAME_ATTEMPTS } else { 1 };
        loop {
            let mut candidate = object.clone();
            if generated {
                meta::metadata(&mut candidate).insert("name".to_owned(), json!(meta::generate_name(&base)));
            }
            attempts -= 1;
            match self.create_named(user, resource, namespace, candidate, options) {
                Err(error) if attempts > 0 && error.0.reason.as_deref() == Some("AlreadyExists") => {}
                other => return other,
            }
        }
    }

    fn create_named(
        &self,
        user: &UserInfo,
        resource: &Resource,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, ApiError> {
        defaults::apply(resource, &mut object);
        self.admit_namespace(resource, namespace, meta::name(&object))?;
        let allocating = self.admit_create(user, resource, namespace, &mut object)?;
        let name = meta::name(&object).to_owned();
        let errors = validate::object(resource, &object, None);
        if !errors.is_empty() {
            return Err(ApiError::invalid(resource, &name, &errors));
        }
        if name.is_empty() {
            return Err(ApiError::invalid(
                resource,
                "",
                &[validate::FieldError::required(
                    "metadata.name",
                    "name or generateName is required",
                )],
            ));
        }
        self.check_escalation(options.user.as_ref(), resource, None, &object)?;
        self.admit_pod_security(resource, namespace, &object)?;
        // Held to the end, so that no two objects are given the same address or the same room.
        let _held = self.admit_quota(resource, namespace, &object, allocating)?;
        options.track(resource, None, &mut object);
        convert::to_storage(resource, &mut object);
        let key = collection(resource).object(namespace, &name);
        if options.dry_run {
            return match self.store().get(&key) {
                Some(_) => Err(ApiError::from_store(&StoreError::AlreadyExists, resource, &name)),
                None => Ok(Arc::new(object)),
            };
        }
        let created = self
            .store()
            .create(&key, object)
            .map_err(|error| ApiError::from_store(&error, resource, &name))?;
        self.check_definition(resource, &created)?;
        self.after_create(resource, &created);
        Ok(created)
    }
}

/// Sets what the server owns of a new object.
fn prepare(resource: &Resource, namespace: &str, object: &mut Value) -> Result<(), ApiError> {
    if !meta::text(object, "resourceVersion").is_empty() {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let given = meta::namespace(object).to_owned();
    if !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    meta::drop_empty(object);
    let metadata = meta::metadata(object);
    for owned in [
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "generation",
    ] {
        metadata.remove(owned);
    }
    metadata.insert("uid".to_owned(), json!(meta::uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(meta::now()));
    meta::set(
        metadata,
        "namespace",
        Some(json!(namespace)).filter(|_| resource.namespaced),
    );
    if super::update::counts_generations(resource) {
        metadata.insert("generation".to_owned(), json!(1));
    }
    if resource.subresource("status").is_some() {
        meta::fields(object).remove("status");
    }
    Ok(())
}
