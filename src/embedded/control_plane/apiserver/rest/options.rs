//! What a write's query and body say.

use serde_json::{Value, json};

use super::super::{
    UserInfo,
    dispatch::Call,
    managed_fields::{self, Kind, Writer},
    meta,
    request::Query,
    status::ApiError,
};
use crate::control_plane::api::{
    Resource,
    decode::{self, DecodeError, Decoded},
    validate::{self, Problem},
};

/// What to do about fields that the schema does not know, or that are there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Refuse.
    Strict,
    /// Warn.
    Warn,
    /// Drop them silently.
    Ignore,
}

/// The options of a write.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Do everything but store it.
    pub dry_run: bool,
    /// What to do about unknown fields.
    pub validation: Validation,
    /// Who writes, for `managedFields`.
    pub manager: String,
    /// The subresource that is written to, or empty.
    pub subresource: String,
    /// Whether the object brings its `managedFields` as they are to be, as from a server-side apply.
    pub applying: bool,
    /// Who asks; nobody for the API server's own writes.
    pub user: Option<UserInfo>,
}

impl WriteOptions {
    /// The options of the API server's own writes.
    pub fn internal() -> Self {
        Self {
            dry_run: false,
            validation: Validation::Ignore,
            manager: "kube-apiserver".to_owned(),
            subresource: String::new(),
            applying: false,
            user: None,
        }
    }

    /// The options of a request.
    ///
    /// # Errors
    /// 422 as Kubernetes gives for values it does not know.
    pub fn of(call: &Call) -> Result<Self, ApiError> {
        let validation = match call.query.get("fieldValidation") {
            Some("Strict") => Validation::Strict,
            None | Some("Warn") => Validation::Warn,
            Some("Ignore") => Validation::Ignore,
            Some(other) => {
                return Err(bad_option(
                    "fieldValidation",
                    other,
                    r#"supported values: "Ignore", "Strict", "Warn""#,
                ));
            }
        };
        let agent = call
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let agent = agent.split('/').next().unwrap_or_default();
        // Who sends no agent is known by their user's name.
        let user = call.user.name.trim_start_matches("system:");
        let manager = call
            .query
            .get("fieldManager")
            .unwrap_or(if agent.is_empty() { user } else { agent });
        if manager.len() > 128 {
            return Err(bad_option("fieldManager", manager, "may not be more than 128 bytes"));
        }
        Ok(Self {
            dry_run: dry_run(&call.query)?,
            validation,
            manager: manager.to_owned(),
            subresource: call.path.subresource.clone().unwrap_or_default(),
            applying: false,
            user: Some(call.user.clone()),
        })
    }

    /// Notes an ordinary write in the object's `managedFields`.
    pub fn track(&self, resource: &Resource, current: Option<&Value>, next: &mut Value) {
        if self.applying {
            return;
        }
        let (now, api_version) = (meta::now(), resource.api_version());
        let writer = Writer {
            manager: &self.manager,
            api_version: &api_version,
            subresource: &self.subresource,
            now: &now,
        };
        managed_fields::track(Kind::of(resource), &writer, current, next);
    }

    /// Checks an object's fields, and drops what it cannot hold. Returns the warnings.
    ///
    /// # Errors
    /// 400 for a wrong type, and in strict mode for unknown and duplicate fields.
    pub fn check_fields(
        &self,
        resource: &Resource,
        object: &mut Value,
        duplicates: Vec<Problem>,
    ) -> Result<Vec<String>, ApiError> {
        let mut problems = duplicates;
        problems.extend(validate::fields(resource, object));
        if let Some(message) = validate::strict_error(resource, &problems, self.validation == Validation::Strict) {
            return Err(ApiError::bad_request(message));
        }
        validate::normalize(resource, object);
        Ok(match self.validation {
            Validation::Warn => problems.iter().map(Problem::to_string).collect(),
            _ => Vec::new(),
        })
    }
}

/// `?dryRun=All`.
///
/// # Errors
/// 400 for any other value.
pub fn dry_run(query: &Query) -> Result<bool, ApiError> {
    let mut values = query.all("dryRun").filter(|value| !value.is_empty());
    match values.next() {
        None => Ok(false),
        Some("All") => Ok(true),
        Some(other) => Err(bad_option("dryRun", other, r#"supported values: "All""#)),
    }
}

fn bad_option(name: &str, value: &str, why: &str) -> ApiError {
    ApiError::new(
        http::StatusCode::UNPROCESSABLE_ENTITY,
        "Invalid",
        format!("{name}: Invalid value: {}: {why}", json!(value)),
    )
}

/// Reads a request's body as an object of the resource that the path names.
///
/// # Errors
/// 400 and 415.
pub fn decode(call: &Call) -> Result<Decoded, ApiError> {
    let mut decoded = decode_as(call.content_type(), &call.body)?;
    check_kind(&call.resource, &mut decoded.value)?;
    Ok(decoded)
}

/// Reads bytes of a media type.
///
/// # Errors
/// 400 and 415.
pub fn decode_as(media: &str, bytes: &[u8]) -> Result<Decoded, ApiError> {
    let decoded = decode::body(media, bytes).map_err(|error| match error {
        DecodeError::UnsupportedMediaType => ApiError::unsupported_media_type(error.to_string()),
        DecodeError::Malformed(_) => ApiError::bad_request(error.to_string()),
    })?;
    if !decoded.value.is_object() {
        return Err(ApiError::bad_request("the body of the request is not an object"));
    }
    Ok(decoded)
}

/// Checks that an object is of the resource's kind; fills in what is missing.
///
/// # Errors
/// 400.
pub fn check_kind(resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
    let fields = meta::fields(object);
    for (field, expected, what) in [
        ("apiVersion", resource.api_version(), "API version"),
        ("kind", resource.kind.clone(), "kind"),
    ] {
        match fields.get(field) {
            None | Some(Value::Null) => {
                fields.insert(field.to_owned(), json!(expected));
            }
            Some(Value::String(given)) if *given == expected => {}
            Some(given) => {
                let given = given.as_str().unwrap_or_default();
                return Err(ApiError::bad_request(format!(
                    "the {what} in the data ({given}) does not match the expected {what} ({expected})"
                )));
            }
        }
    }
    Ok(())
}
