//! Questions about users that store nothing: who am I, may I, what may I, whose token is this.
//!
//! Source: `authentication.k8s.io/v1`, `authorization.k8s.io/v1`; Kubernetes' "Checking API access".

use std::ops::ControlFlow;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    ApiServer, Body, UserInfo, authn,
    dispatch::Call,
    meta, reply,
    rest::{WriteOptions, decode},
    status::ApiError,
};
use crate::control_plane::{api::validate::FieldError, rbac::Attributes};

/// Audiences that one TokenReview may ask about.
const MAX_AUDIENCES: usize = 64;

/// Answers a review.
///
/// # Errors
/// 400, 405, 422.
pub fn answer(call: &Call) -> Result<Response<Body>, ApiError> {
    if call.method != Method::POST || call.path.name.is_some() {
        return Err(ApiError::method_not_allowed());
    }
    if call.resource.namespaced && call.path.namespace.is_none() {
        return Err(ApiError::method_not_allowed());
    }
    let decoded = decode(call)?;
    let mut review = decoded.value;
    let warnings = WriteOptions::of(call)?.check_fields(&call.resource, &mut review, decoded.duplicates)?;
    let spec = review.get("spec").cloned().unwrap_or_default();
    let status = match call.resource.kind.as_str() {
        "SelfSubjectReview" => json!({"userInfo": user_info(&call.user)}),
        "TokenReview" => token_review(&call.server, &spec)?,
        "SelfSubjectAccessReview" => access(call, &call.user, &spec)?,
        "LocalSubjectAccessReview" | "SubjectAccessReview" => access(call, &subject(call, &spec)?, &spec)?,
        "SelfSubjectRulesReview" => rules(&call.server, &call.user, &spec)?,
        _ => return Err(ApiError::no_such_path()),
    };
    let fields = meta::fields(&mut review);
    fields.insert("status".to_owned(), status);
    let metadata = meta::child(fields, "metadata");
    metadata.entry("creationTimestamp").or_insert(Value::Null);
    let mut response = reply::json(StatusCode::CREATED, &review);
    reply::warn(&mut response, &warnings);
    Ok(response)
}

fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if let Some(uid) = &user.uid {
        info["uid"] = json!(uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn strings(spec: &Value, field: &str) -> Vec<String> {
    let list = spec.get(field).and_then(Value::as_array);
    let list = list.into_iter().flatten().filter_map(Value::as_str);
    list.map(str::to_owned).collect()
}

fn token_review(server: &ApiServer, spec: &Value) -> Result<Value, ApiError> {
    let token = spec.get("token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked = strings(spec, "audiences");
    if asked.len() > MAX_AUDIENCES {
        let message = format!("a TokenReview may ask about at most {MAX_AUDIENCES} audiences");
        return Err(ApiError::bad_request(message));
    }
    let asked: Vec<&str> = match asked.as_slice() {
        [] => vec![authn::ISSUER],
        asked => asked.iter().map(String::as_str).collect(),
    };
    Ok(match authn::service_account(server, token, &asked) {
        Ok((user, audiences)) => json!({"authenticated": true, "user": user_info(&user), "audiences": audiences}),
        Err(_) => json!({"user": {}, "error": "[invalid bearer token]"}),
    })
}

/// Whom a review is about; their groups are as given.
fn subject(call: &Call, spec: &Value) -> Result<UserInfo, ApiError> {
    let user = spec.get("user").and_then(Value::as_str).unwrap_or_default();
    let groups = strings(spec, "groups");
    if user.is_empty() && groups.is_empty() {
        let why = "at least one of user or group must be specified";
        let field = |name: &str| FieldError::invalid(name, &json!(""), why);
        return Err(ApiError::invalid(
            &call.resource,
            "",
            &[field("spec.user"), field("spec.groups")],
        ));
    }
    Ok(UserInfo {
        groups,
        ..UserInfo::new(user, &[])
    })
}

fn access(call: &Call, user: &UserInfo, spec: &Value) -> Result<Value, ApiError> {
    let invalid = |name: &str, value: Value, why: &str| {
        ApiError::invalid(&call.resource, "", &[FieldError::invalid(name, &value, why)])
    };
    let part = |name: &str| spec.get(name).filter(|part| part.is_object());
    let asked = match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(part), None) => resource_attributes(part),
        (None, Some(_)) if call.resource.namespaced => {
            let why = "disallowed on this kind of request";
            return Err(invalid("spec.nonResourceAttributes", json!({}), why));
        }
        (None, Some(part)) => Attributes {
            verb: text(part, "verb"),
            path: Some(text(part, "path")),
            ..Attributes::default()
        },
        (Some(_), Some(_)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            return Err(invalid("spec.nonResourceAttributes", json!({}), why));
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(invalid("spec.resourceAttributes", Value::Null, why));
        }
    };
    if call.resource.namespaced && asked.namespace != call.namespace() {
        let why = "must match metadata.namespace";
        return Err(invalid(
            "spec.resourceAttributes.namespace",
            json!(asked.namespace),
            why,
        ));
    }
    let decision = call.server.decide(user, &asked);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    Ok(status)
}

fn text(part: &Value, field: &str) -> String {
    part.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn resource_attributes(part: &Value) -> Attributes {
    Attributes {
        verb: text(part, "verb"),
        group: text(part, "group"),
        resource: text(part, "resource"),
        subresource: text(part, "subresource"),
        namespace: text(part, "namespace"),
        name: text(part, "name"),
        path: None,
    }
}

fn rules(server: &ApiServer, user: &UserInfo, spec: &Value) -> Result<Value, ApiError> {
    let namespace = text(spec, "namespace");
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    let access = server.access();
    let errors = access.visit(user.who(), &namespace, &mut |granted| {
        let rule = granted.rule;
        let list = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        if list(&rule.resources) {
            resources.push(
                json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources,
                "resourceNames": rule.resource_names}),
            );
        }
        if list(&rule.non_resource_urls) {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
        ControlFlow::Continue(())
    });
    for rule in &mut resources {
        // An absent list is no `null`.
        meta::fields(rule).retain(|_, value| !value.is_null());
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": !errors.is_empty()});
    if !errors.is_empty() {
        status["evaluationError"] = json!(Vec::from_iter(errors).join(", "));
    }
    Ok(status)
}
