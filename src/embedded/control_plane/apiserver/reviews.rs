//! Questions about users that store nothing: who am I, may I, whose token is this.
//!
//! Source: `authentication.k8s.io/v1`, `authorization.k8s.io/v1`.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    ApiServer, Body, UserInfo, authn,
    authz::{self, Attributes},
    dispatch::Call,
    meta, reply,
    rest::decode,
    status::ApiError,
};

/// Answers a review.
///
/// # Errors
/// 400, 405.
pub fn answer(call: &Call) -> Result<Response<Body>, ApiError> {
    if call.method != Method::POST || call.path.name.is_some() {
        return Err(ApiError::method_not_allowed());
    }
    let mut review = decode(call)?.value;
    let spec = review.get("spec").cloned().unwrap_or_default();
    let status = match call.resource.kind.as_str() {
        "SelfSubjectReview" => json!({"userInfo": user_info(&call.user)}),
        "TokenReview" => token_review(&call.server, &spec),
        "SelfSubjectAccessReview" => access(&call.user, &spec, ""),
        "LocalSubjectAccessReview" => access(&subject(&spec), &spec, call.namespace()),
        "SubjectAccessReview" => access(&subject(&spec), &spec, ""),
        "SelfSubjectRulesReview" => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        _ => return Err(ApiError::no_such_path()),
    };
    let fields = meta::fields(&mut review);
    fields.insert("status".to_owned(), status);
    let metadata = meta::child(fields, "metadata");
    metadata.entry("creationTimestamp").or_insert(Value::Null);
    Ok(reply::json(StatusCode::CREATED, &review))
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

fn token_review(server: &ApiServer, spec: &Value) -> Value {
    let token = spec.get("token").and_then(Value::as_str).unwrap_or_default();
    let asked = spec.get("audiences").and_then(Value::as_array);
    let asked: Vec<&str> = asked
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let asked = if asked.is_empty() { vec![authn::ISSUER] } else { asked };
    let found = asked.into_iter().find_map(|audience| {
        let user = authn::service_account(server, token, audience).ok()?;
        Some(json!({"authenticated": true, "user": user_info(&user), "audiences": [audience]}))
    });
    found.unwrap_or_else(|| json!({"user": {}, "error": "invalid bearer token"}))
}

fn subject(spec: &Value) -> UserInfo {
    let groups = spec.get("groups").and_then(Value::as_array);
    let groups: Vec<&str> = groups
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    UserInfo::new(spec.get("user").and_then(Value::as_str).unwrap_or_default(), &groups)
}

fn access(user: &UserInfo, spec: &Value, namespace: &str) -> Value {
    let text = |pointer: &str| {
        spec.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let attributes = if spec.get("nonResourceAttributes").is_some_and(Value::is_object) {
        Attributes {
            verb: text("/nonResourceAttributes/verb"),
            path: text("/nonResourceAttributes/path"),
            ..Attributes::default()
        }
    } else {
        let named = text("/resourceAttributes/namespace");
        Attributes {
            verb: text("/resourceAttributes/verb"),
            group: text("/resourceAttributes/group"),
            resource: text("/resourceAttributes/resource"),
            subresource: text("/resourceAttributes/subresource"),
            namespace: if namespace.is_empty() {
                named
            } else {
                namespace.to_owned()
            },
            name: text("/resourceAttributes/name"),
            path: String::new(),
        }
    };
    let decision = authz::authorize(user, &attributes);
    json!({"allowed": decision.allowed, "reason": decision.reason})
}
