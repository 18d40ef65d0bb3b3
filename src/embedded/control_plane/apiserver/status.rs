//! Errors as Kubernetes says them: a `Status` with a code, a reason and a text.
//!
//! Source: meta/v1 `Status`; texts of apimachinery's `api/errors`.

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::control_plane::{
    api::{
        Resource,
        validate::{self, FieldError},
    },
    storage::{CollectionKey, StoreError},
};

/// A refusal, as the client will read it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError(pub Box<Status>);

impl From<Box<Status>> for ApiError {
    fn from(status: Box<Status>) -> Self {
        Self(status)
    }
}

impl ApiError {
    /// A refusal with a code, a reason and a text.
    pub fn new(code: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Status {
            code: Some(i32::from(code.as_u16())),
            status: Some("Failure".to_owned()),
            reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
            message: Some(message.into()),
            ..Status::default()
        }))
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.0.details.get_or_insert_default();
        details.group = Some(group.to_owned()).filter(|text| !text.is_empty());
        details.kind = Some(kind.to_owned());
        details.name = Some(name.to_owned()).filter(|text| !text.is_empty());
        self
    }

    /// 400: the request itself makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401: nobody knows who is asking.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 403: an admission rule or the authoriser said no.
    pub fn forbidden(resource: &Resource, name: &str, why: impl std::fmt::Display) -> Self {
        let plural = resource.qualified_plural();
        let message = if name.is_empty() {
            format!("{plural} is forbidden: {why}")
        } else {
            format!("{plural} \"{name}\" is forbidden: {why}")
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(&resource.group, &resource.plural, name)
    }

    /// 403: RBAC said no.
    pub fn forbidden_to(group: &str, plural: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let qualified = match group {
            "" => plural.to_owned(),
            group => format!("{plural}.{group}"),
        };
        let message = match name {
            "" => format!("{qualified} is forbidden: {why}"),
            name => format!("{qualified} \"{name}\" is forbidden: {why}"),
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(group, plural, name)
    }

    /// 404 for an object of a resource by its group and name.
    pub fn not_found_in(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{plural}.{group} \"{name}\" not found");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(group, plural, name)
    }

    /// 404 for an object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.qualified_plural());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(&resource.group, &resource.plural, name)
    }

    /// 404 for an object of a named resource of the core group.
    pub fn core_not_found(plural: &str, name: &str) -> Self {
        let message = format!("{plural} \"{name}\" not found");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about("", plural, name)
    }

    /// 404 for a path nobody serves.
    pub fn no_such_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 406: the client accepts nothing that is served.
    pub fn not_acceptable(accepted: &str) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            format!("only the following media types are accepted: {accepted}"),
        )
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.qualified_plural());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(&resource.group, &resource.plural, name)
    }

    /// 409: somebody else wrote first, or a precondition does not hold.
    pub fn conflict(resource: &Resource, name: &str, why: impl std::fmt::Display) -> Self {
        let plural = resource.qualified_plural();
        let message = format!("Operation cannot be fulfilled on {plural} \"{name}\": {why}");
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(&resource.group, &resource.plural, name)
    }

    /// The conflict of a stale resourceVersion.
    pub fn stale(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410: the resourceVersion is too old to go on from.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 413: the body is larger than the server takes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// 429: this user, or all together, have as many requests under way as the server takes.
    pub fn too_many_requests() -> Self {
        let message = "Too many requests, please try again later.";
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        error.0.details = Some(StatusDetails {
            retry_after_seconds: Some(1),
            ..StatusDetails::default()
        });
        error
    }

    /// 415: the body's format is not served.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 422: the object breaks rules; one cause per rule.
    pub fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        match serde_json::from_value(validate::invalid_status(resource, name, errors)) {
            Ok(status) => Self(Box::new(status)),
            Err(error) => Self::internal(error),
        }
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }

    /// 503: the part that could answer is not there (yet).
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// What a storage error means to the client.
    pub fn from_store(error: &StoreError, resource: &Resource, name: &str) -> Self {
        match error {
            StoreError::AlreadyExists => Self::already_exists(resource, name),
            StoreError::NotFound => Self::not_found(resource, name),
            StoreError::Conflict { .. } => Self::stale(resource, name),
            StoreError::Expired { .. } => Self::expired(error.to_string()),
            // As kube-apiserver passes on what etcd says.
            StoreError::NoSpace => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "", error.to_string()),
            StoreError::TooLarge { .. } => {
                let mut timeout = Self::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "Timeout",
                    format!("Too large resource version: {error}"),
                );
                timeout.0.details = Some(StatusDetails {
                    causes: Some(vec![StatusCause {
                        reason: Some("ResourceVersionTooLarge".to_owned()),
                        message: Some("Too large resource version".to_owned()),
                        field: None,
                    }]),
                    retry_after_seconds: Some(1),
                    ..StatusDetails::default()
                });
                timeout
            }
        }
    }

    /// The HTTP code.
    pub fn code(&self) -> StatusCode {
        self.0
            .code
            .and_then(|code| u16::try_from(code).ok())
            .and_then(|code| StatusCode::from_u16(code).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether a retry on the newest object can help.
    pub fn is_conflict(&self) -> bool {
        self.0.reason.as_deref() == Some("Conflict")
    }
}

/// Where objects of a resource are stored.
pub fn collection(resource: &Resource) -> CollectionKey {
    CollectionKey::new(&resource.storage.0, &resource.storage.1)
}
