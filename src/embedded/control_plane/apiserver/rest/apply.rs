//! `patch` with `application/apply-patch+yaml`: server-side apply.

use http::{Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails};
use serde_json::{Value, json};

use super::{
    super::{
        Body,
        dispatch::{self, Call},
        managed_fields::{self, Apply, Conflict, Kind, Writer},
        meta, reply,
        status::ApiError,
    },
    options::{WriteOptions, check_kind, decode_as},
    update::Part,
};
use crate::control_plane::rbac::Attributes;

/// Answers a server-side apply: creates the object or merges into it.
///
/// # Errors
/// 400, 404 (of a subresource's object), 409 with one cause per conflict, 422.
pub fn apply(call: &Call, part: Part) -> Result<Response<Body>, ApiError> {
    let name = call.name()?;
    let options = WriteOptions {
        applying: true,
        ..WriteOptions::of(call)?
    };
    if call.query.get("fieldManager").is_none() {
        let message =
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message));
    }
    let (config, warnings) = config(call, name, &options)?;
    let now = meta::now();
    let api_version = call.resource.api_version();
    let request = Apply {
        writer: Writer {
            manager: &options.manager,
            api_version: &api_version,
            subresource: &options.subresource,
            now: &now,
        },
        force: call.query.flag("force"),
        may_set: &|path| (path.first().map(String::as_str) == Some("f:status")) == (part == Part::Status),
    };
    let kind = Kind::of(&call.resource);
    let merge = |current: Option<&Value>| {
        managed_fields::apply(kind, &request, current, &config).map_err(|conflicts| refuse(&conflicts))
    };
    let updated = call
        .server
        .update(&call.resource, call.namespace(), name, part, &options, &mut |current| {
            merge(Some(current))
        });
    let (code, object) = match updated {
        Err(error) if error.code() == StatusCode::NOT_FOUND && part == Part::Main => {
            if !meta::text(&config, "uid").is_empty() {
                return Err(ApiError::conflict(
                    &call.resource,
                    name,
                    "uid mismatch: the object does not exist",
                ));
            }
            // Who may only patch makes nothing new.
            let create = Attributes {
                verb: "create".to_owned(),
                group: call.resource.group.clone(),
                resource: call.resource.plural.clone(),
                namespace: call.namespace().to_owned(),
                name: name.to_owned(),
                ..Attributes::default()
            };
            call.server.authorize(&call.user, &create)?;
            let created = call
                .server
                .create(&call.user, &call.resource, call.namespace(), merge(None)?, &options)?;
            (StatusCode::CREATED, created)
        }
        other => (StatusCode::OK, other?),
    };
    let mut response = dispatch::object(call, code, &object);
    reply::warn(&mut response, &warnings);
    Ok(response)
}

/// What is applied, checked.
fn config(call: &Call, name: &str, options: &WriteOptions) -> Result<(Value, Vec<String>), ApiError> {
    let decoded = decode_as(call.content_type(), &call.body)?;
    let mut config = decoded.value;
    check_kind(&call.resource, &mut config)?;
    let warnings = options.check_fields(&call.resource, &mut config, decoded.duplicates)?;
    let has_managers = config
        .pointer("/metadata/managedFields")
        .is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty()));
    if has_managers {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let given = meta::name(&config);
    if !given.is_empty() && given != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let namespace = meta::namespace(&config);
    if !namespace.is_empty() && namespace != call.namespace() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let metadata = meta::metadata(&mut config);
    metadata.remove("managedFields");
    metadata.insert("name".to_owned(), json!(name));
    Ok((config, warnings))
}

fn refuse(conflicts: &[Conflict]) -> ApiError {
    let mut error = ApiError::new(StatusCode::CONFLICT, "Conflict", managed_fields::message(conflicts));
    let causes = conflicts.iter().map(|conflict| StatusCause {
        reason: Some("FieldManagerConflict".to_owned()),
        message: Some(format!("conflict with {}", conflict.owner)),
        field: Some(conflict.field.clone()),
    });
    error.0.details = Some(StatusDetails {
        causes: Some(causes.collect()),
        ..StatusDetails::default()
    });
    error
}
