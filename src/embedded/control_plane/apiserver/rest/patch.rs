//! `patch`: JSON patch, merge patch, strategic merge patch.

use http::{Response, StatusCode};
use serde_json::Value;

use super::{
    super::{
        Body,
        dispatch::{self, Call},
        meta, reply,
        status::ApiError,
    },
    apply::apply,
    options::{WriteOptions, check_kind},
    update::Part,
};
use crate::control_plane::api::{
    decode,
    patch::{self, PatchError},
    validate::Problem,
};

/// Operations in one JSON patch.
const MAX_OPERATIONS: usize = 10_000;

/// A patch as it came.
struct Patch {
    media: String,
    value: Value,
    duplicates: Vec<Problem>,
}

impl Patch {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let media = call.content_type().to_owned();
        let decoded = decode::json(&call.body).map_err(|error| ApiError::bad_request(error.to_string()))?;
        if decoded
            .value
            .as_array()
            .is_some_and(|operations| operations.len() > MAX_OPERATIONS)
        {
            let message = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}");
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                message,
            ));
        }
        Ok(Self {
            media,
            value: decoded.value,
            duplicates: decoded.duplicates,
        })
    }

    fn apply(&self, call: &Call, current: &Value) -> Result<Value, ApiError> {
        let patched = match self.media.as_str() {
            "application/json-patch+json" => patch::json(current, &self.value),
            "application/merge-patch+json" => Ok(patch::merge(current, &self.value)),
            "application/strategic-merge-patch+json" => patch::strategic(&call.resource, current, &self.value),
            _ => Err(PatchError::UnsupportedMediaType),
        };
        patched.map_err(|error| match error {
            PatchError::BadRequest(message) => ApiError::bad_request(message),
            PatchError::Unprocessable(_) => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", error.to_string())
            }
            PatchError::UnsupportedMediaType => ApiError::unsupported_media_type(error.to_string()),
        })
    }
}

/// Answers `patch`.
///
/// # Errors
/// 400, 404, 409, 415, 422.
pub fn patch(call: &Call, part: Part) -> Result<Response<Body>, ApiError> {
    if call.content_type() == "application/apply-patch+yaml" {
        return apply(call, part);
    }
    let name = call.name()?;
    let options = WriteOptions::of(call)?;
    let patch = Patch::of(call)?;
    let mut warnings = Vec::new();
    let updated = call
        .server
        .update(&call.resource, call.namespace(), name, part, &options, &mut |current| {
            let mut patched = patch.apply(call, current)?;
            check_kind(&call.resource, &mut patched)?;
            if meta::name(&patched) != name {
                return Err(ApiError::bad_request(
                    "the name of an object cannot be changed by a patch",
                ));
            }
            warnings = options.check_fields(&call.resource, &mut patched, patch.duplicates.clone())?;
            Ok(patched)
        })?;
    let mut response = dispatch::object(call, StatusCode::OK, &updated);
    reply::warn(&mut response, &warnings);
    Ok(response)
}
