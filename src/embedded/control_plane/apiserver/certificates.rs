//! CertificateSigningRequests: who asks, who may approve and sign, and what of one may change.
//!
//! Source: Kubernetes' "Certificate Signing Requests", admission CertificateApproval, CertificateSigning and
//! CertificateSubjectRestriction, `pkg/apis/certificates/validation`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{ApiServer, UserInfo, meta, rest::Part, status::ApiError};
use crate::control_plane::{
    api::{Resource, validate::FieldError},
    pki::{CertificateRequest, usage},
    rbac::{Attributes, MASTERS},
};

/// The API group.
pub const GROUP: &str = "certificates.k8s.io";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Seconds that a certificate must hold at least.
const SHORTEST: i64 = 600;

/// Whether a resource is CertificateSigningRequests.
pub fn is_request(resource: &Resource) -> bool {
    resource.group == GROUP && resource.kind == "CertificateSigningRequest"
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Completes a new request with who asks, and checks it.
///
/// # Errors
/// 403 for a certificate of an administrator, 422.
pub fn admit_create(user: &UserInfo, resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
    let spec = meta::child(meta::fields(object), "spec");
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".to_owned(), json!(user.name));
    spec.insert("groups".to_owned(), json!(user.groups));
    if let Some(uid) = &user.uid {
        spec.insert("uid".to_owned(), json!(uid));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
    let errors = check(object);
    if !errors.is_empty() {
        return Err(ApiError::invalid(resource, meta::name(object), &errors));
    }
    let asked = read(object);
    if text(object, "/spec/signerName") == CLIENT
        && asked.is_ok_and(|asked| asked.organizations.iter().any(|group| group == MASTERS))
    {
        let why = format!("use of {CLIENT} signer with {MASTERS} group is not allowed");
        return Err(ApiError::forbidden(resource, meta::name(object), why));
    }
    Ok(())
}

fn read(object: &Value) -> Result<CertificateRequest, String> {
    let pem = STANDARD
        .decode(text(object, "/spec/request"))
        .map_err(|_| "illegal base64 data".to_owned())?;
    CertificateRequest::from_pem(&pem)
}

fn check(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = |field: &str| object.get("spec").and_then(|spec| spec.get(field));
    if let Err(why) = read(object) {
        errors.push(FieldError::invalid(
            "spec.request",
            spec("request").unwrap_or(&Value::Null),
            why,
        ));
    }
    let usages: Vec<&Value> = spec("usages").and_then(Value::as_array).into_iter().flatten().collect();
    if usages.is_empty() {
        errors.push(FieldError::required("spec.usages", ""));
    }
    for (index, name) in usages.iter().enumerate() {
        let field = format!("spec.usages[{index}]");
        if usages[..index].contains(name) {
            errors.push(FieldError::duplicate(field, name));
        } else if name.as_str().and_then(usage).is_none() {
            errors.push(FieldError::invalid(field, name, "unrecognized usage"));
        }
    }
    let signer = text(object, "/spec/signerName");
    let good = signer.split_once('/').is_some_and(|(domain, path)| {
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        domain.split('.').count() > 1 && domain.split('.').chain(path.split('.')).all(is_part) && signer.len() <= 571
    });
    if signer.is_empty() {
        errors.push(FieldError::required("spec.signerName", ""));
    } else if !good {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid("spec.signerName", &json!(signer), why));
    }
    if let Some(seconds) = spec("expirationSeconds").filter(|seconds| !seconds.is_null())
        && seconds.as_i64().is_none_or(|seconds| seconds < SHORTEST)
    {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid("spec.expirationSeconds", seconds, why));
    }
    errors
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    let list = object.pointer("/status/conditions").and_then(Value::as_array);
    list.into_iter().flatten()
}

fn is_verdict(condition: &Value) -> bool {
    matches!(text(condition, "/type"), "Approved" | "Denied")
}

/// Takes from `wanted` what a part may change: of the conditions, those of an approver or those of a signer.
pub fn restrict(part: Part, current: &Value, wanted: &Value) -> Value {
    let mut next = current.clone();
    if !matches!(part, Part::Approval | Part::Status) {
        // What was asked for does not change.
        next["metadata"] = wanted["metadata"].clone();
        return next;
    }
    let approving = part == Part::Approval;
    let mine = |condition: &&Value| is_verdict(condition) == approving;
    let kept = conditions(current).filter(|condition| !mine(condition));
    let now = meta::now();
    let changed = conditions(wanted).filter(mine).cloned().map(|mut condition| {
        if let Value::Object(fields) = &mut condition {
            for field in ["lastUpdateTime", "lastTransitionTime"] {
                if fields.get(field).is_none_or(Value::is_null) {
                    fields.insert(field.to_owned(), json!(now));
                }
            }
        }
        condition
    });
    let all: Vec<Value> = kept.cloned().chain(changed).collect();
    let status = meta::child(meta::fields(&mut next), "status");
    meta::set(status, "conditions", Some(json!(all)).filter(|_| !all.is_empty()));
    if !approving {
        meta::set(status, "certificate", wanted.pointer("/status/certificate").cloned());
    }
    next
}

/// Checks a verdict or a certificate: that it makes sense, and that its user may give it.
///
/// # Errors
/// 403, 422.
pub fn admit_change(
    server: &ApiServer,
    user: Option<&UserInfo>,
    resource: &Resource,
    part: Part,
    current: &Value,
    next: &Value,
) -> Result<(), ApiError> {
    if !is_request(resource) {
        return Ok(());
    }
    let certificate = |object: &Value| {
        object
            .pointer("/status/certificate")
            .filter(|value| !value.is_null())
            .cloned()
    };
    let verb = match part {
        Part::Approval => "approve",
        Part::Status if certificate(current) != certificate(next) || failed(current) != failed(next) => "sign",
        _ => return Ok(()),
    };
    let signer = text(current, "/spec/signerName");
    let mut errors = Vec::new();
    let has = |object: &Value, kind: &str| conditions(object).any(|condition| text(condition, "/type") == kind);
    if has(next, "Approved") && has(next, "Denied") {
        let why = "Approved and Denied conditions are mutually exclusive";
        errors.push(FieldError::invalid("status.conditions", &json!("Denied"), why));
    }
    for kind in ["Approved", "Denied", "Failed"] {
        if has(current, kind) && !has(next, kind) {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden("status.conditions", why));
        }
    }
    for (index, condition) in conditions(next).enumerate() {
        if text(condition, "/status") != "True" && matches!(text(condition, "/type"), "Approved" | "Denied" | "Failed")
        {
            let field = format!("status.conditions[{index}].status");
            errors.push(FieldError::not_supported(field, &condition["status"], &["True"]));
        }
    }
    if certificate(current).is_some() && certificate(current) != certificate(next) {
        let why = "updates may not modify certificate content";
        errors.push(FieldError::forbidden("status.certificate", why));
    }
    let name = meta::name(current);
    let user_may = |user: &UserInfo| {
        // `example.com/*` stands for every signer of a domain.
        let domain = signer
            .split_once('/')
            .map_or_else(String::new, |(domain, _)| format!("{domain}/*"));
        [signer, &domain].into_iter().any(|name| {
            let asked = Attributes {
                verb: verb.to_owned(),
                group: GROUP.to_owned(),
                resource: "signers".to_owned(),
                name: name.to_owned(),
                ..Attributes::default()
            };
            server.decide(user, &asked).allowed
        })
    };
    if user.is_some_and(|user| !user_may(user)) {
        let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
        return Err(ApiError::forbidden(resource, name, why));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(resource, name, &errors)),
    }
}

fn failed(object: &Value) -> bool {
    conditions(object).any(|condition| text(condition, "/type") == "Failed")
}
