//! Who is asking: a client certificate's subject or a service account's token.
//!
//! Source: Kubernetes' "Authenticating", "User impersonation".

use std::collections::BTreeMap;

use http::{HeaderMap, header};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ApiServer, meta, status::ApiError};
use crate::embedded::control_plane::storage::CollectionKey;

/// The audience of tokens meant for the API server, and the issuer of all.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

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
        groups.push("system:authenticated".to_owned());
        Self {
            name: name.to_owned(),
            uid: None,
            groups,
            extra: BTreeMap::new(),
        }
    }

    /// A component of the control plane, such as `system:kube-scheduler`.
    pub fn component(name: &str) -> Self {
        Self::new(name, &["system:masters"])
    }

    /// The user that a verified client certificate names.
    pub(super) fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let groups: Vec<&str> = subject
            .iter_organization()
            .filter_map(|name| name.as_str().ok())
            .collect();
        Some(Self::new(name, &groups))
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|mine| mine == group)
    }
}

/// The user of a request over the network.
///
/// # Errors
/// 401 when there is neither a certificate nor a token, or the token does not hold.
pub fn authenticate(
    server: &ApiServer,
    certificate: Option<&UserInfo>,
    headers: &HeaderMap,
) -> Result<UserInfo, ApiError> {
    if let Some(user) = certificate {
        return Ok(user.clone());
    }
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match token {
        Some(token) => service_account(server, token, ISSUER),
        None => Err(ApiError::unauthorized()),
    }
}

/// The service account of a token, which must still exist with the uid the token is bound to.
///
/// # Errors
/// 401.
pub fn service_account(server: &ApiServer, token: &str, audience: &str) -> Result<UserInfo, ApiError> {
    let unauthorized = |_| ApiError::unauthorized();
    let now = jiff::Timestamp::now().as_second();
    let claims = server
        .inner
        .token_key
        .verify(token, audience, now)
        .map_err(unauthorized)?;
    let text = |pointer: &str| claims.kubernetes.pointer(pointer).and_then(Value::as_str);
    let (Some(namespace), Some(name), Some(uid)) = (
        text("/namespace"),
        text("/serviceaccount/name"),
        text("/serviceaccount/uid"),
    ) else {
        return Err(ApiError::unauthorized());
    };
    let lives = |resource: &str, name: &str, uid: &str| {
        let key = CollectionKey::new("", resource).object(namespace, name);
        server
            .store()
            .get(&key)
            .is_some_and(|object| meta::text(&object, "uid") == uid)
    };
    let mut extra = BTreeMap::new();
    if let (Some(pod), Some(pod_uid)) = (text("/pod/name"), text("/pod/uid")) {
        if !lives("pods", pod, pod_uid) {
            return Err(ApiError::unauthorized());
        }
        extra.insert("authentication.kubernetes.io/pod-name".to_owned(), vec![pod.to_owned()]);
        extra.insert(
            "authentication.kubernetes.io/pod-uid".to_owned(),
            vec![pod_uid.to_owned()],
        );
    }
    if !lives("serviceaccounts", name, uid) {
        return Err(ApiError::unauthorized());
    }
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
    Ok(UserInfo {
        uid: Some(uid.to_owned()),
        extra,
        ..UserInfo::new(&claims.sub, &groups)
    })
}

/// The user that a request wants to be taken for (`kubectl --as`), or the user themselves.
///
/// # Errors
/// 403 when they may not impersonate, 400 when the headers make no sense.
pub fn impersonate(user: UserInfo, headers: &HeaderMap) -> Result<UserInfo, ApiError> {
    let values = |name: &str| -> Vec<&str> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect()
    };
    let groups = values("impersonate-group");
    let Some(name) = values("impersonate-user").first().copied() else {
        return match groups.is_empty() {
            true => Ok(user),
            false => Err(ApiError::bad_request(
                "requested [{Group}] without impersonating a user",
            )),
        };
    };
    if !user.is_in("system:masters") {
        return Err(ApiError::new(
            http::StatusCode::FORBIDDEN,
            "Forbidden",
            format!(
                "users \"{name}\" is forbidden: User \"{}\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
                user.name
            ),
        ));
    }
    Ok(UserInfo::new(name, &groups))
}
