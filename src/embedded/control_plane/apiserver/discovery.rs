//! Everything that is not an object: what is served, its schemas, health, version.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use super::{ApiServer, Body, negotiate::Form, reply, status::ApiError, tokens};
use crate::control_plane::api::{Registry, discovery, openapi};

const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers a request for a path that names no resource.
///
/// # Errors
/// 404 for a path nobody serves, 405 for another method than GET.
pub fn answer(
    server: &ApiServer,
    method: &Method,
    segments: &[String],
    form: Form,
    headers: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    if !matches!(method, &Method::GET | &Method::HEAD) {
        return Err(ApiError::method_not_allowed());
    }
    let registry = &server.registry();
    let aggregated = form == Form::AggregatedDiscovery;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let found = match segments.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => return Ok(reply::with_type(StatusCode::OK, "text/plain", "ok")),
        ["version"] => return Ok(reply::pretty(StatusCode::OK, &discovery::version())),
        ["api"] if aggregated => return Ok(aggregate(&discovery::aggregated_core(registry))),
        ["apis"] if aggregated => return Ok(aggregate(&discovery::aggregated_groups(registry))),
        ["api"] => Some(discovery::api_versions(&server.inner.address)),
        ["apis"] => Some(discovery::api_group_list(registry)),
        ["api", version] => discovery::api_resource_list(registry, "", version),
        ["apis", group] => discovery::api_group(registry, group),
        ["apis", group, version] => discovery::api_resource_list(registry, group, version),
        ["openapi", "v2"] => return Ok(second(registry, headers)),
        ["openapi", "v3"] => Some(openapi::v3_index(registry)),
        ["openapi", "v3", "api", version] => return schemas(server, "", version, headers),
        ["openapi", "v3", "apis", group, version] => return schemas(server, group, version, headers),
        ["openid", "v1", "jwks"] => return Ok(tokens::keys(server)),
        [".well-known", "openid-configuration"] => return Ok(tokens::configuration(server)),
        [] => return Ok(reply::pretty(StatusCode::OK, &json!({"paths": paths(registry)}))),
        _ => None,
    };
    let found = found.ok_or_else(ApiError::no_such_path)?;
    Ok(reply::json(StatusCode::OK, &found))
}

/// Every path below which something is served, sorted, as kube-apiserver lists them at `/`.
fn paths(registry: &Registry) -> Vec<String> {
    let fixed = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    let mut paths: Vec<String> = fixed.iter().map(|&path| path.to_owned()).collect();
    for (group, versions) in registry.groups() {
        let base = if group.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{group}")
        };
        paths.extend(versions.iter().map(|version| format!("{base}/{version}")));
        paths.push(base);
    }
    paths.sort();
    paths.dedup();
    paths
}

fn aggregate(document: &serde_json::Value) -> Response<Body> {
    let mut response = reply::json(StatusCode::OK, document);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(discovery::AGGREGATED_V2));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// A document under a URL with its hash never changes, so the client may keep it for good.
fn schemas(server: &ApiServer, group: &str, version: &str, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let (document, hash) = openapi::v3(&server.registry(), group, version).ok_or_else(ApiError::no_such_path)?;
    let mut response = unless_held(headers, document, &hash, "application/json");
    let next_year = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(365 * 24);
    let expires = next_year.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    if let Ok(expires) = HeaderValue::from_str(&expires) {
        headers.insert(header::EXPIRES, expires);
    }
    Ok(response)
}

/// The document of all kinds, which changes with them.
fn second(registry: &Registry, headers: &HeaderMap) -> Response<Body> {
    let mut accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    // kubectl writes `v2@v1.0`, which is no media type; what is answered is one.
    let (form, media) = match accepted.any(|value| value.contains("proto-openapi.spec.v2")) {
        true => (openapi::Form::Protobuf, OPENAPI_V2),
        false => (openapi::Form::Json, "application/json"),
    };
    let (document, hash) = openapi::v2(registry, form);
    unless_held(headers, document, &hash, media)
}

/// A document with its hash; nothing but that where the client has it already.
fn unless_held(headers: &HeaderMap, document: Bytes, hash: &str, media: &'static str) -> Response<Body> {
    let etag = format!("\"{hash}\"");
    let held = headers.get(header::IF_NONE_MATCH);
    let mut response = match held.is_some_and(|value| value.as_bytes() == etag.as_bytes()) {
        true => reply::with_type(StatusCode::NOT_MODIFIED, media, ""),
        false => reply::with_type(StatusCode::OK, media, document),
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}
