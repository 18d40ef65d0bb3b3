//! Who is asking: a client certificate's subject or a service account's token.
//!
//! Source: Kubernetes' "Authenticating", "User impersonation".

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ApiServer, meta, request, status::ApiError};
use crate::control_plane::{
    pki::{LegacyClaims, TokenClaims},
    rbac::{self, Attributes, Who},
    storage::CollectionKey,
};

/// The audience of tokens meant for the API server, and the issuer of all.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";

/// A user as the API server knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInfo {
    /// Their name.
    pub name: String,
    /// Their unique id, where the authenticator knows one.
    pub uid: Option<String>,
    /// The groups they are in.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user in `groups`, and in `system:authenticated`.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        groups.push(AUTHENTICATED.to_owned());
        Self {
            name: name.to_owned(),
            uid: None,
            groups,
            extra: BTreeMap::new(),
        }
    }

    /// One who may do everything: the API server itself, an administrator.
    pub fn master(name: &str) -> Self {
        Self::new(name, &[rbac::MASTERS])
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = service_account_groups(namespace);
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        Self::new(&rbac::service_account(namespace, name), &groups)
    }

    /// The kubelet of a node.
    pub fn node(name: &str) -> Self {
        Self::new(&format!("system:node:{name}"), &["system:nodes"])
    }

    /// Somebody who has shown nothing.
    pub(super) fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            uid: None,
            groups: vec![UNAUTHENTICATED.to_owned()],
            extra: BTreeMap::new(),
        }
    }

    /// The user as roles and bindings know them.
    pub(super) fn who(&self) -> Who<'_> {
        Who {
            name: &self.name,
            groups: &self.groups,
        }
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|mine| mine == group)
    }
}

/// What a client certificate says that the handshake has verified.
#[derive(Debug, Clone)]
pub struct Certified {
    pub(super) user: UserInfo,
    /// Its last second, since 1970. A connection may live longer.
    pub(super) not_after: i64,
}

impl Certified {
    /// The user that a verified client certificate names.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let groups: Vec<&str> = subject
            .iter_organization()
            .filter_map(|name| name.as_str().ok())
            .collect();
        Some(Self {
            user: UserInfo::new(name, &groups),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// The user of a request over the network; one without credentials is `system:anonymous`.
///
/// # Errors
/// 401 when there is a token and it does not hold, or when the certificate's time is over by now (seconds since 1970).
pub fn authenticate(
    server: &ApiServer,
    certificate: Option<&Certified>,
    headers: &HeaderMap,
    now: i64,
) -> Result<UserInfo, ApiError> {
    if let Some(certified) = certificate {
        return match now <= certified.not_after {
            true => Ok(certified.user.clone()),
            false => Err(ApiError::unauthorized()),
        };
    }
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty());
    match token {
        Some(token) => Ok(service_account(server, token, &[ISSUER])?.0),
        None => Ok(UserInfo::anonymous()),
    }
}

/// The service account of a token and for which of `audiences` it is. The account must still exist with the uid that the
/// token names, and so must what the token is bound to.
///
/// # Errors
/// 401.
pub fn service_account(
    server: &ApiServer,
    token: &str,
    audiences: &[&str],
) -> Result<(UserInfo, Vec<String>), ApiError> {
    let unauthorized = |_| ApiError::unauthorized();
    let now = jiff::Timestamp::now().as_second();
    let claims = server.inner.token_key.verify(token, now).map_err(unauthorized)?;
    let audiences = claims.audiences(audiences, ISSUER).map_err(unauthorized)?;
    let (namespace, name, uid, extra) = match &claims.legacy {
        Some(legacy) => {
            lives_in_secret(server, legacy, token)?;
            (&*legacy.namespace, &*legacy.account, &*legacy.uid, BTreeMap::new())
        }
        None => bound(server, &claims)?,
    };
    let sub = rbac::service_account(namespace, name);
    if sub != claims.sub || !lives(server, "serviceaccounts", namespace, name, uid) {
        return Err(ApiError::unauthorized());
    }
    let user = UserInfo {
        uid: Some(uid.to_owned()),
        extra,
        ..UserInfo::service_account(namespace, name)
    };
    Ok((user, audiences))
}

type Extra = BTreeMap<String, Vec<String>>;

/// The account of a bound token, once everything that it is bound to is found alive.
fn bound<'a>(server: &ApiServer, claims: &'a TokenClaims) -> Result<(&'a str, &'a str, &'a str, Extra), ApiError> {
    let text = |pointer: &str| claims.kubernetes.pointer(pointer).and_then(Value::as_str);
    let (Some(namespace), Some(name), Some(uid)) = (
        text("/namespace"),
        text("/serviceaccount/name"),
        text("/serviceaccount/uid"),
    ) else {
        return Err(ApiError::unauthorized());
    };
    for (field, resource) in [("pod", "pods"), ("secret", "secrets")] {
        let Some(reference) = claims.kubernetes.get(field) else {
            continue;
        };
        let of = |name: &str| reference.get(name).and_then(Value::as_str).unwrap_or_default();
        if !lives(server, resource, namespace, of("name"), of("uid")) {
            return Err(ApiError::unauthorized());
        }
    }
    let mut extra = BTreeMap::new();
    let mut note = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        }
    };
    note("credential-id", claims.jti.as_ref().map(|id| format!("JTI={id}")));
    for (key, pointer) in [
        ("pod-name", "/pod/name"),
        ("pod-uid", "/pod/uid"),
        ("node-name", "/node/name"),
        ("node-uid", "/node/uid"),
    ] {
        note(key, text(pointer).map(str::to_owned));
    }
    Ok((namespace, name, uid, extra))
}

/// How long tokens outlive what is being deleted, in seconds; as kube-apiserver has it.
const LEEWAY: i64 = 60;

/// Whether an object of the core group is there, is the one that was meant, and is not held by a finalizer alone.
fn lives(server: &ApiServer, resource: &str, namespace: &str, name: &str, uid: &str) -> bool {
    let found = server
        .store()
        .get(&CollectionKey::new("", resource).object(namespace, name));
    found.is_some_and(|object| !uid.is_empty() && meta::text(&object, "uid") == uid && !is_over(&object))
}

fn is_over(object: &Value) -> bool {
    let deleted = meta::text(object, "deletionTimestamp").parse::<jiff::Timestamp>();
    deleted.is_ok_and(|deleted| deleted.as_second() < jiff::Timestamp::now().as_second() - LEEWAY)
}

/// A token in a Secret holds as long as the Secret has it.
fn lives_in_secret(server: &ApiServer, claims: &LegacyClaims, token: &str) -> Result<(), ApiError> {
    let key = CollectionKey::new("", "secrets").object(&claims.namespace, &claims.secret);
    let held = server.store().get(&key).filter(|secret| !is_over(secret));
    let held = held.as_ref().and_then(|secret| secret.pointer("/data/token")?.as_str());
    let held = held.and_then(|text| STANDARD.decode(text).ok());
    match held {
        Some(held) if held == token.as_bytes() => Ok(()),
        _ => Err(ApiError::unauthorized()),
    }
}

fn service_account_groups(namespace: &str) -> [String; 2] {
    [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

/// The user that a request wants to be taken for (`kubectl --as`), or the user themselves.
///
/// # Errors
/// 403 when they may not impersonate, 400 when the headers make no sense.
pub fn impersonate(server: &ApiServer, user: UserInfo, headers: &HeaderMap) -> Result<UserInfo, ApiError> {
    let values = |name: &str| -> Result<Vec<String>, ApiError> { headers.get_all(name).iter().map(readable).collect() };
    let mut groups = values("impersonate-group")?;
    let uid = values("impersonate-uid")?.pop();
    let extra = extra_headers(headers)?;
    let Some(name) = values("impersonate-user")?.into_iter().find(|name| !name.is_empty()) else {
        return match groups.is_empty() && uid.is_none() && extra.is_empty() {
            true => Ok(user),
            false => Err(ApiError::bad_request(
                "groups, a uid or extra were to be impersonated without a user: say whose they are (--as)",
            )),
        };
    };
    let account = rbac::service_account_parts(&name);
    let may = |group: &str, resource: (&str, &str), namespace: &str, name: &str| {
        let asked = Attributes {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            resource: resource.0.to_owned(),
            subresource: resource.1.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            path: None,
        };
        server.authorize(&user, &asked)
    };
    match account {
        Some((namespace, account)) => may("", ("serviceaccounts", ""), namespace, account)?,
        None => may("", ("users", ""), "", &name)?,
    }
    for group in &groups {
        may("", ("groups", ""), "", group)?;
    }
    const AUTHENTICATION: &str = "authentication.k8s.io";
    if let Some(uid) = &uid {
        may(AUTHENTICATION, ("uids", ""), "", uid)?;
    }
    for (key, values) in &extra {
        for value in values {
            may(AUTHENTICATION, ("userextras", key), "", value)?;
        }
    }
    if let Some((namespace, _)) = account.filter(|_| groups.is_empty()) {
        groups = service_account_groups(namespace).to_vec();
    }
    let everybody = match name.as_str() {
        ANONYMOUS => UNAUTHENTICATED,
        _ => AUTHENTICATED,
    };
    if !groups
        .iter()
        .any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED)
    {
        groups.push(everybody.to_owned());
    }
    Ok(UserInfo {
        name,
        uid,
        groups,
        extra,
    })
}

/// A header of an impersonation. One that was left out because it cannot be read would leave the request its own user's rights.
fn readable(value: &http::HeaderValue) -> Result<String, ApiError> {
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned)
        .map_err(|_| ApiError::bad_request("an Impersonate header is no UTF-8"))
}

/// `Impersonate-Extra-<key>`, the key percent-encoded.
fn extra_headers(headers: &HeaderMap) -> Result<Extra, ApiError> {
    let mut extra = Extra::new();
    for (name, value) in headers {
        let Some(escaped) = name.as_str().strip_prefix("impersonate-extra-") else {
            continue;
        };
        let key = request::unescape(escaped)
            .ok_or_else(|| ApiError::bad_request(format!("{name}: not valid percent-encoded UTF-8")))?;
        extra.entry(key).or_default().push(readable(value)?);
    }
    Ok(extra)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::pki::Pki;

    #[test]
    fn a_certificate_ends_in_the_middle_of_a_connection() {
        let server = super::super::tests::server();
        let identity = Pki::create().unwrap().client("jane", &["devs"]).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(identity.certificate.as_bytes()).unwrap();
        let certified = Certified::of(&pem.contents).unwrap();
        let headers = HeaderMap::new();
        let end = certified.not_after;
        let jane = authenticate(&server, Some(&certified), &headers, end).unwrap();
        assert_eq!(jane, UserInfo::new("jane", &["devs"]));
        assert_eq!(
            authenticate(&server, Some(&certified), &headers, end + 1)
                .unwrap_err()
                .code(),
            401
        );
    }

    #[test]
    fn an_impersonation_that_cannot_be_read_is_none_of_ones_own_requests() {
        let server = super::super::tests::server();
        let admin = UserInfo::master("admin");
        for (name, value) in [
            ("impersonate-user", &b"\xff"[..]),
            ("impersonate-group", b"\xff"),
            ("impersonate-extra-%zz", b"x"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_bytes(value).unwrap());
            let refused = impersonate(&server, admin.clone(), &headers).unwrap_err();
            assert_eq!(refused.code(), 400, "{name}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            "impersonate-user",
            http::HeaderValue::from_bytes("zoë".as_bytes()).unwrap(),
        );
        assert_eq!(impersonate(&server, admin, &headers).unwrap().name, "zoë");
    }
}
