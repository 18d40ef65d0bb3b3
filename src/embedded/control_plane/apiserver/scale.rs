//! The `scale` subresource: one shape for everything that has replicas.
//!
//! Source: `autoscaling/v1` Scale.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    Body,
    dispatch::Call,
    meta, reply,
    rest::{Part, WriteOptions, decode_as},
    status::ApiError,
};
use crate::embedded::control_plane::api::{patch, validate::FieldError};

/// Answers requests for `scale`.
///
/// # Errors
/// 400, 404, 409, 415, 422.
pub fn answer(call: &Call, verb: &str) -> Result<Response<Body>, ApiError> {
    let name = call.name()?;
    match verb {
        "get" => {
            let object = call.server.read(&call.resource, call.namespace(), name)?;
            Ok(reply::json(StatusCode::OK, &scale_of(&object)))
        }
        "update" => {
            let scale = decode_as(call.content_type(), &call.body)?.value;
            set(call, &mut |_| Ok(scale.clone()))
        }
        "patch" => {
            let media = call.content_type();
            let change = crate::embedded::control_plane::api::decode::json(&call.body)
                .map_err(|error| ApiError::bad_request(error.to_string()))?
                .value;
            set(call, &mut |scale| match media {
                // A Scale has no lists, so a strategic merge is a merge.
                "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                    Ok(patch::merge(scale, &change))
                }
                "application/json-patch+json" => {
                    patch::json(scale, &change).map_err(|error| ApiError::bad_request(error.to_string()))
                }
                _ => Err(ApiError::unsupported_media_type(
                    patch::PatchError::UnsupportedMediaType.to_string(),
                )),
            })
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn set(call: &Call, change: &mut dyn FnMut(&Value) -> Result<Value, ApiError>) -> Result<Response<Body>, ApiError> {
    let name = call.name()?;
    let options = WriteOptions::of(call)?;
    let updated: Arc<Value> = call.server.update(
        &call.resource,
        call.namespace(),
        name,
        Part::Main,
        &options,
        &mut |current| {
            let scale = change(&scale_of(current))?;
            let replicas = match scale.pointer("/spec/replicas") {
                None | Some(Value::Null) => 0,
                Some(value) => value.as_i64().ok_or_else(|| {
                    ApiError::bad_request(
                        "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas is not a whole number",
                    )
                })?,
            };
            if replicas < 0 {
                let why = "must be greater than or equal to 0";
                let field = FieldError::invalid("spec.replicas", &json!(replicas), why);
                return Err(ApiError::invalid(&call.resource, name, &[field]));
            }
            let mut next = current.clone();
            meta::child(meta::fields(&mut next), "spec").insert("replicas".to_owned(), json!(replicas));
            let expected = meta::text(&scale, "resourceVersion").to_owned();
            meta::set(
                meta::metadata(&mut next),
                "resourceVersion",
                Some(json!(expected)).filter(|_| !expected.is_empty()),
            );
            Ok(next)
        },
    )?;
    Ok(reply::json(StatusCode::OK, &scale_of(&updated)))
}

fn scale_of(object: &Value) -> Value {
    let field = |pointer: &str| object.pointer(pointer).cloned();
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        meta::set(meta::fields(&mut metadata), name, field(&format!("/metadata/{name}")));
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": field("/spec/replicas").unwrap_or_else(|| json!(1))},
        "status": {
            "replicas": field("/status/replicas").unwrap_or_else(|| json!(0)),
            "selector": selector_text(object.pointer("/spec/selector")),
        },
    })
}

fn selector_text(selector: Option<&Value>) -> String {
    // A ReplicationController's selector is the map itself.
    let labels = selector.map(|selector| selector.get("matchLabels").unwrap_or(selector));
    let mut terms: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    let expressions = selector
        .and_then(|selector| selector.get("matchExpressions"))
        .and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
        let values = expression.get("values").and_then(Value::as_array);
        let values: Vec<&str> = values
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        terms.push(match expression.get("operator").and_then(Value::as_str) {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort();
    terms.join(",")
}
