//! The `scale` subresource: one shape for everything that has replicas.
//!
//! Source: `autoscaling/v1` Scale.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    Body,
    dispatch::Call,
    meta,
    negotiate::Form,
    reply,
    rest::{Part, WriteOptions, decode_as},
    status::ApiError,
};
use crate::control_plane::api::{Resource, custom::ScalePaths, patch, table, validate::FieldError};

/// Answers requests for `scale`.
///
/// # Errors
/// 400, 404, 409, 415, 422.
pub fn answer(call: &Call, verb: &str) -> Result<Response<Body>, ApiError> {
    let name = call.name()?;
    match verb {
        "get" => {
            let object = call.server.read(&call.resource, call.namespace(), name)?;
            Ok(reply(call, &scale_of(&call.resource, &object)?))
        }
        "update" => {
            let scale = decode_as(call.content_type(), &call.body)?.value;
            set(call, &mut |_| Ok(scale.clone()))
        }
        "patch" => {
            let media = call.content_type();
            let change = crate::control_plane::api::decode::json(&call.body)
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

fn reply(call: &Call, scale: &Value) -> Response<Body> {
    match call.form {
        Form::Table => reply::json(
            StatusCode::OK,
            &table::scale(scale, call.include, jiff::Timestamp::now()),
        ),
        _ => reply::json(StatusCode::OK, scale),
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
            let scale = change(&scale_of(&call.resource, current)?)?;
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
            set_replicas(&call.resource, &mut next, replicas);
            let expected = meta::text(&scale, "resourceVersion").to_owned();
            meta::set(
                meta::metadata(&mut next),
                "resourceVersion",
                Some(json!(expected)).filter(|_| !expected.is_empty()),
            );
            Ok(next)
        },
    )?;
    Ok(reply(call, &scale_of(&call.resource, &updated)?))
}

/// The replicas of a custom object stand where its definition says.
fn paths(resource: &Resource) -> Option<&ScalePaths> {
    resource.custom.as_ref()?.scale.as_ref()
}

fn set_replicas(resource: &Resource, object: &mut Value, replicas: i64) {
    let path = paths(resource).map_or("/spec/replicas", |paths| paths.spec.as_str());
    let mut names: Vec<&str> = path.split('/').skip(1).collect();
    let Some(last) = names.pop() else { return };
    let mut fields = meta::fields(object);
    for name in names {
        fields = meta::child(fields, &unescaped(name));
    }
    fields.insert(unescaped(last), json!(replicas));
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

fn scale_of(resource: &Resource, object: &Value) -> Result<Value, ApiError> {
    let field = |pointer: &str| object.pointer(pointer).cloned();
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        meta::set(meta::fields(&mut metadata), name, field(&format!("/metadata/{name}")));
    }
    let (wanted, actual, selector) = match paths(resource) {
        None => (
            field("/spec/replicas").unwrap_or_else(|| json!(1)),
            field("/status/replicas"),
            selector_text(object.pointer("/spec/selector")),
        ),
        Some(paths) => {
            let missing = || {
                let path = paths.spec.replace('/', ".");
                ApiError::internal(format!("the spec replicas field {path:?} does not exist"))
            };
            let text = |pointer: &String| Some(object.pointer(pointer)?.as_str()?.to_owned());
            (
                field(&paths.spec)
                    .filter(|value| !value.is_null())
                    .ok_or_else(missing)?,
                field(&paths.status),
                paths.selector.as_ref().and_then(text).unwrap_or_default(),
            )
        }
    };
    Ok(json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": wanted},
        "status": {"replicas": actual.unwrap_or_else(|| json!(0)), "selector": selector},
    }))
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
