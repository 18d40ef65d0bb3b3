//! Responses.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::{Body, meta, negotiate::Form, status::ApiError};
use crate::control_plane::api::{
    Resource, convert,
    table::{self, IncludeObject},
};

/// A body of bytes that are all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A response with a body and its media type.
pub fn with_type(code: StatusCode, media: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A JSON response.
pub fn json(code: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_type(code, "application/json", bytes),
        Err(error) => failure(&ApiError::internal(error)),
    }
}

/// A JSON response with indentation: what people read with `kubectl get --raw`.
pub fn pretty(code: StatusCode, value: &Value) -> Response<Body> {
    match serde_json::to_vec_pretty(value) {
        Ok(bytes) => with_type(code, "application/json", bytes),
        Err(error) => failure(&ApiError::internal(error)),
    }
}

/// An error as a response.
pub fn failure(error: &ApiError) -> Response<Body> {
    let bytes = serde_json::to_vec(&error.0).unwrap_or_default();
    let mut response = with_type(error.code(), "application/json", bytes);
    let retry = error.0.details.as_ref().and_then(|details| details.retry_after_seconds);
    if let Some(seconds) = retry.and_then(|seconds| u32::try_from(seconds).ok()) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A `Status` of success about an object.
pub fn success(resource: &Resource, name: &str, uid: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": name, "group": resource.group, "kind": resource.plural, "uid": uid},
    })
}

/// The stored object in the version that `resource` serves.
pub fn served(resource: &Resource, object: &Arc<Value>) -> Arc<Value> {
    if convert::is_identity(resource) {
        return object.clone();
    }
    let mut converted = (**object).clone();
    convert::from_storage(resource, &mut converted);
    Arc::new(converted)
}

/// One object in the form the client wants.
pub fn in_form(resource: &Resource, form: Form, include: IncludeObject, object: &Arc<Value>) -> Arc<Value> {
    let object = served(resource, object);
    match form {
        Form::Object | Form::AggregatedDiscovery => object,
        Form::Metadata => Arc::new(meta::partial(&object)),
        Form::Table => {
            let metadata = json!({"resourceVersion": meta::text(&object, "resourceVersion")});
            let items = [Arc::unwrap_or_clone(object)];
            Arc::new(table::table(
                resource,
                &items,
                include,
                jiff::Timestamp::now(),
                metadata,
                true,
            ))
        }
    }
}

/// A list in the form the client wants. `metadata` is the list's.
pub fn list(
    resource: &Resource,
    form: Form,
    include: IncludeObject,
    items: &[Arc<Value>],
    metadata: Value,
) -> Response<Body> {
    let items = items.iter().map(|item| served(resource, item));
    match form {
        Form::Table => {
            let items: Vec<Value> = items.map(Arc::unwrap_or_clone).collect();
            let table = table::table(resource, &items, include, jiff::Timestamp::now(), metadata, true);
            json(StatusCode::OK, &table)
        }
        Form::Metadata => json(
            StatusCode::OK,
            &json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": items.map(|item| meta::partial(&item)).collect::<Vec<_>>(),
            }),
        ),
        Form::Object | Form::AggregatedDiscovery => json(
            StatusCode::OK,
            &ObjectList {
                kind: &resource.list_kind,
                api_version: resource.api_version(),
                metadata,
                items: items.collect(),
            },
        ),
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectList<'a> {
    kind: &'a str,
    api_version: String,
    metadata: Value,
    items: Vec<Arc<Value>>,
}

/// Adds the warnings that kubectl prints.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// A body that is sent as it comes.
pub fn stream(
    media: &'static str,
    chunks: impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    use futures::StreamExt;
    let frames = http_body_util::StreamBody::new(chunks.map(|chunk| chunk.map(http_body::Frame::data)));
    let mut response = Response::new(frames.boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
