//! Service accounts get tokens, and anybody may check them.
//!
//! Source: Kubernetes' "TokenRequest", "Service account issuer discovery" (KEP-1393), OpenID Connect Discovery 1.0.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    ApiServer, Body, authn,
    dispatch::Call,
    meta, nodes, reply,
    rest::{WriteOptions, decode_as},
    status::ApiError,
};
use crate::control_plane::{api::validate::FieldError, pki::TokenClaims, rbac, storage::CollectionKey};

/// Seconds.
const MIN_LIFETIME: i64 = 600;
/// Seconds. Kubernetes leaves this to the cluster's owner.
const MAX_LIFETIME: i64 = 86_400;
/// Seconds.
const DEFAULT_LIFETIME: i64 = 3600;
/// Audiences that one token may have.
const MAX_AUDIENCES: usize = 64;

/// Answers `serviceaccounts/token`.
///
/// # Errors
/// 400, 404, 409, 422.
pub fn answer(call: &Call) -> Result<Response<Body>, ApiError> {
    let (namespace, name) = (call.namespace(), call.name()?);
    let account = call.server.read(&call.resource, namespace, name)?;
    let options = WriteOptions::of(call)?;
    let mut request = decode_as(call.content_type(), &call.body)?.value;
    let spec = request.get("spec").cloned().unwrap_or_default();
    let asked = lifetime(call, name, &spec)?;
    let lifetime = asked.min(MAX_LIFETIME);
    let audiences = audiences(call, name, &spec)?;
    let now = jiff::Timestamp::now();
    let expires = now + jiff::SignedDuration::from_secs(lifetime);
    let mut bound = json!({
        "namespace": namespace,
        "serviceaccount": {"name": name, "uid": meta::text(&account, "uid")},
    });
    bind(call, &spec, name, &mut bound)?;
    if let Some(node) = nodes::name_of(&call.user) {
        let why = match bound.pointer("/pod") {
            None => "node requested token not bound to a pod",
            Some(_) if bound.pointer("/node/name").and_then(Value::as_str) != Some(node) => {
                "node requested token bound to a pod scheduled on a different node"
            }
            Some(_) => "",
        };
        if !why.is_empty() {
            return Err(ApiError::forbidden(&call.resource, name, why));
        }
    }
    let claims = TokenClaims {
        iss: authn::ISSUER.to_owned(),
        sub: rbac::service_account(namespace, name),
        aud: audiences.clone(),
        exp: Some(expires.as_second()),
        iat: Some(now.as_second()),
        nbf: Some(now.as_second()),
        jti: Some(meta::uid()),
        kubernetes: bound,
        legacy: None,
    };
    let token = call.server.inner.token_key.sign(&claims).map_err(ApiError::internal)?;
    let fields = meta::fields(&mut request);
    fields.insert("kind".to_owned(), json!("TokenRequest"));
    fields.insert("apiVersion".to_owned(), json!("authentication.k8s.io/v1"));
    let metadata = json!({"name": name, "namespace": namespace, "creationTimestamp": meta::time(now)});
    fields.insert("metadata".to_owned(), metadata);
    let spec = meta::child(fields, "spec");
    spec.insert("audiences".to_owned(), json!(audiences));
    spec.insert("expirationSeconds".to_owned(), json!(lifetime));
    let shown = if options.dry_run { String::new() } else { token };
    fields.insert(
        "status".to_owned(),
        json!({"token": shown, "expirationTimestamp": meta::time(expires)}),
    );
    let mut response = reply::json(StatusCode::CREATED, &request);
    if asked > lifetime {
        let text = format!("requested expiration of {asked} seconds shortened to {lifetime} seconds");
        reply::warn(&mut response, &[text]);
    }
    Ok(response)
}

fn lifetime(call: &Call, name: &str, spec: &Value) -> Result<i64, ApiError> {
    let seconds = spec
        .get("expirationSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(DEFAULT_LIFETIME);
    let why = match seconds {
        ..MIN_LIFETIME => "may not specify a duration less than 10 minutes",
        seconds if seconds > 1 << 32 => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(seconds),
    };
    let field = FieldError::invalid("spec.expirationSeconds", &json!(seconds), why);
    Err(ApiError::invalid(&call.resource, name, &[field]))
}

fn audiences(call: &Call, name: &str, spec: &Value) -> Result<Vec<String>, ApiError> {
    let list = spec.get("audiences").and_then(Value::as_array);
    let list: Vec<String> = list
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|audience| !audience.is_empty())
        .map(str::to_owned)
        .collect();
    if list.len() > MAX_AUDIENCES {
        let why = format!("must have at most {MAX_AUDIENCES} items");
        let field = FieldError::invalid("spec.audiences", &json!(list.len()), why);
        return Err(ApiError::invalid(&call.resource, name, &[field]));
    }
    Ok(match list.is_empty() {
        true => vec![authn::ISSUER.to_owned()],
        false => list,
    })
}

/// A token bound to a pod or a Secret ends with it.
fn bind(call: &Call, spec: &Value, account: &str, bound: &mut Value) -> Result<(), ApiError> {
    let Some(reference) = spec.get("boundObjectRef").filter(|reference| reference.is_object()) else {
        return Ok(());
    };
    let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
    let (field, plural) = match (text("apiVersion"), text("kind")) {
        ("v1" | "", "Pod") => ("pod", "pods"),
        ("v1" | "", "Secret") => ("secret", "secrets"),
        (_, kind) => {
            let message = format!(
                "cannot bind token for serviceaccount \"{account}\" to object of type {kind}: use a Pod or a Secret"
            );
            return Err(ApiError::bad_request(message));
        }
    };
    let key = CollectionKey::new("", plural).object(call.namespace(), text("name"));
    let object = call
        .server
        .store()
        .get(&key)
        .ok_or_else(|| ApiError::core_not_found(plural, text("name")))?;
    let uid = meta::text(&object, "uid");
    if !text("uid").is_empty() && text("uid") != uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(ApiError::conflict(&call.resource, account, why));
    }
    if field == "pod" {
        let spec = |name: &str| {
            object
                .pointer(&format!("/spec/{name}"))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if spec("serviceAccountName") != account {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
            )));
        }
        if !spec("nodeName").is_empty() {
            let node = call
                .server
                .store()
                .get(&CollectionKey::new("", "nodes").object("", spec("nodeName")));
            bound["node"] = json!({"name": spec("nodeName")});
            if let Some(node) = node {
                bound["node"]["uid"] = json!(meta::text(&node, "uid"));
            }
        }
    }
    bound[field] = json!({"name": text("name"), "uid": uid});
    Ok(())
}

/// What `/.well-known/openid-configuration` says: who signs tokens, and where their keys are.
pub fn configuration(server: &ApiServer) -> Response<Body> {
    let document = json!({
        "issuer": authn::ISSUER,
        "jwks_uri": format!("https://{}/openid/v1/jwks", server.inner.address),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    reply::json(StatusCode::OK, &document)
}

/// What `/openid/v1/jwks` says: the keys that tokens are checked with.
pub fn keys(server: &ApiServer) -> Response<Body> {
    let document = json!({"keys": [server.inner.token_key.jwk()]}).to_string();
    reply::with_type(StatusCode::OK, "application/jwk-set+json", document)
}
