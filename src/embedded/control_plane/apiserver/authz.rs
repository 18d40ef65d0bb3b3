//! Who may do what: RBAC over the stored roles and bindings.
//!
//! What is asked for is read from the request alone, before it is known whether the resource exists: who may not, learns
//! nothing about it. The roles and bindings are kept parsed, and parsed again when their collection changes.
//!
//! Source: Kubernetes' "Authorization", apiserver's `RequestInfo` and `filters/authorization.go`.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use http::{StatusCode, request::Parts};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::Value;

use super::{
    ApiServer, UserInfo, meta,
    request::{Query, ResourcePath, Target},
    status::ApiError,
};
use crate::control_plane::{
    api::Resource,
    rbac::{self, Attributes, Binding, Decision, Index, MASTERS, escalation},
    storage::CollectionKey,
};

static COLLECTIONS: LazyLock<[CollectionKey; 4]> = LazyLock::new(|| {
    ["roles", "clusterroles", "rolebindings", "clusterrolebindings"]
        .map(|plural| CollectionKey::new(rbac::GROUP, plural))
});

/// The roles and bindings, and the revisions of the four collections that they were read at.
#[derive(Default)]
pub struct Authorizer {
    known: RwLock<([u64; 4], Index)>,
}

impl ApiServer {
    /// The roles and bindings as they are now.
    pub(super) fn access(&self) -> Index {
        let revisions = || {
            COLLECTIONS
                .each_ref()
                .map(|collection| self.store().changed(collection))
        };
        let authorizer = &self.inner.authorizer;
        let known = authorizer.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.0 == revisions() {
            return known.1.clone();
        }
        drop(known);
        let mut known = authorizer.known.write().unwrap_or_else(PoisonError::into_inner);
        // Taken before the reading: what is written meanwhile is read again by the next request.
        let now = revisions();
        let is_new = |at: usize| known.0[at] != now[at];
        let changed = [is_new(0), is_new(1), is_new(2), is_new(3)];
        if changed[0] {
            known.1.roles = Arc::new(self.roles::<Role>(&COLLECTIONS[0], |role| role.rules));
        }
        if changed[1] {
            known.1.cluster_roles = Arc::new(self.roles::<ClusterRole>(&COLLECTIONS[1], |role| role.rules));
        }
        if changed[2] {
            let mut bindings = HashMap::<String, Vec<Binding>>::new();
            for (object, binding) in self.parsed::<RoleBinding>(&COLLECTIONS[2]) {
                let binding = self::binding(&object, binding.role_ref, binding.subjects);
                bindings.entry(binding.namespace.clone()).or_default().push(binding);
            }
            known.1.bindings = Arc::new(bindings);
        }
        if changed[3] {
            let bindings = self.parsed::<ClusterRoleBinding>(&COLLECTIONS[3]).into_iter();
            let bindings = bindings.map(|(object, found)| binding(&object, found.role_ref, found.subjects));
            known.1.cluster_bindings = Arc::new(bindings.collect());
        }
        known.0 = now;
        known.1.clone()
    }

    fn parsed<T: DeserializeOwned>(&self, collection: &CollectionKey) -> Vec<(Arc<Value>, T)> {
        let objects = self.store().list(collection, None).items.into_iter();
        let parsed = objects.filter_map(|object| match T::deserialize(&*object) {
            Ok(parsed) => Some((object, parsed)),
            Err(error) => {
                // It gives nothing to anybody then.
                tracing::warn!(%error, name = meta::name(&object), "a role or binding that cannot be read");
                None
            }
        });
        parsed.collect()
    }

    fn roles<T: DeserializeOwned>(
        &self,
        collection: &CollectionKey,
        rules: impl Fn(T) -> Option<Vec<PolicyRule>>,
    ) -> rbac::Roles {
        let roles = self.parsed::<T>(collection).into_iter();
        let role = |(object, role): (Arc<Value>, T)| {
            let key = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
            (key, rules(role).unwrap_or_default().into())
        };
        roles.map(role).collect()
    }

    /// Whether a user may do what is asked for.
    pub(super) fn decide(&self, user: &UserInfo, asked: &Attributes) -> Decision {
        if user.is_in(MASTERS) {
            return Decision {
                allowed: true,
                reason: String::new(),
            };
        }
        let by_role = |node: Option<Decision>| {
            let decision = self.access().decide(user.who(), asked);
            match node {
                // Why a node is refused, the node authoriser knows best.
                Some(refused) if !decision.allowed && decision.reason.is_empty() => refused,
                _ => decision,
            }
        };
        match self.decide_node(user, asked) {
            Some(allowed) if allowed.allowed => allowed,
            refused => by_role(refused),
        }
    }

    /// Refuses what a user may not do.
    ///
    /// # Errors
    /// 403.
    pub(super) fn authorize(&self, user: &UserInfo, asked: &Attributes) -> Result<(), ApiError> {
        let decision = self.decide(user, asked);
        if decision.allowed {
            return self.restrict_node(user, asked);
        }
        let mut why = asked.refusal(&user.name);
        if !decision.reason.is_empty() {
            why = format!("{why}: {}", decision.reason);
        }
        Err(match asked.path {
            Some(_) => ApiError::new(StatusCode::FORBIDDEN, "Forbidden", format!("forbidden: {why}")),
            None => ApiError::forbidden_to(&asked.group, &asked.resource, &asked.name, why),
        })
    }

    /// Keeps users from granting what they do not have: `current` is the role or binding before the write.
    ///
    /// # Errors
    /// 403, and 404 for a binding to a role that is not there.
    pub(super) fn check_escalation(
        &self,
        user: Option<&UserInfo>,
        resource: &Resource,
        current: Option<&Value>,
        next: &Value,
    ) -> Result<(), ApiError> {
        // The server's own writes have no user.
        let Some(user) = user.filter(|user| resource.group == rbac::GROUP && !user.is_in(MASTERS)) else {
            return Ok(());
        };
        let (namespace, name) = (meta::namespace(next), meta::name(next));
        let forbidden = |why: String| ApiError::forbidden(resource, name, why);
        // A label may be what another role gathers by: all but what the garbage collector changes is checked.
        if current.is_some_and(|current| without_gc_fields(current) == without_gc_fields(next)) {
            return Ok(());
        }
        let access = self.access();
        let asked = |verb: &str, plural: &str, name: &str| Attributes {
            verb: verb.to_owned(),
            group: rbac::GROUP.to_owned(),
            resource: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        let wanted: Vec<PolicyRule> = match resource.kind.as_str() {
            "Role" | "ClusterRole" => {
                if self.decide(user, &asked("escalate", &resource.plural, name)).allowed {
                    return Ok(());
                }
                let gathers = |role: &Value| role.get("aggregationRule").is_some_and(Value::is_object);
                if gathers(next) || current.is_some_and(gathers) {
                    let owned = access.rules(user.who(), "");
                    escalation::check(user.who(), &owned, &escalation::everything()).map_err(|_| {
                        forbidden("must have cluster-admin privileges to use an aggregationRule".to_owned())
                    })?;
                }
                rules_of(next).map_err(ApiError::bad_request)?
            }
            _ => {
                let role: RoleRef = next
                    .get("roleRef")
                    .and_then(|role| RoleRef::deserialize(role).ok())
                    .ok_or_else(|| ApiError::bad_request("roleRef: Required value"))?;
                let plural = if role.kind == "Role" { "roles" } else { "clusterroles" };
                if self.decide(user, &asked("bind", plural, &role.name)).allowed {
                    return Ok(());
                }
                let rules = access
                    .role(&role, namespace)
                    .map_err(|_| ApiError::not_found_in(rbac::GROUP, plural, &role.name))?;
                rules.to_vec()
            }
        };
        let owned = access.rules(user.who(), namespace);
        escalation::check(user.who(), &owned, &wanted).map_err(forbidden)
    }
}

/// An object without what the garbage collector and the server write: owners, finalizers, who manages which field.
fn without_gc_fields(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = meta::metadata(&mut object);
    for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
        metadata.remove(field);
    }
    object
}

fn rules_of(role: &Value) -> Result<Vec<PolicyRule>, String> {
    match role.get("rules") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(rules) => Vec::deserialize(rules).map_err(|error| format!("rules: {error}")),
    }
}

fn binding(object: &Value, role: RoleRef, subjects: Option<Vec<k8s_openapi::api::rbac::v1::Subject>>) -> Binding {
    Binding {
        name: meta::name(object).to_owned(),
        namespace: meta::namespace(object).to_owned(),
        role,
        subjects: subjects.unwrap_or_default(),
    }
}

/// What a request asks the authoriser.
///
/// # Errors
/// 400 when its path or query cannot be read.
pub fn attributes(parts: &Parts) -> Result<Attributes, ApiError> {
    let method = parts.method.as_str().to_ascii_lowercase();
    let path = match Target::parse(parts.uri.path())? {
        Target::Resource(path) => path,
        Target::Other(_) => {
            return Ok(Attributes {
                verb: method,
                path: Some(parts.uri.path().to_owned()),
                ..Attributes::default()
            });
        }
    };
    let query = Query::parse(parts.uri.query())?;
    // The selector is looked at where it limits what is shown; a new object's name is in its body, which nobody has read yet.
    let selected = || selected_name(&query).filter(|_| matches!(method.as_str(), "get" | "head"));
    let name = path.name.clone().or_else(selected).unwrap_or_default();
    let subresource = path.subresource.as_deref().unwrap_or_default();
    Ok(Attributes {
        verb: verb(&method, &path, &query).to_owned(),
        // `proxy/a/b` is the subresource `proxy`.
        subresource: subresource.split('/').next().unwrap_or_default().to_owned(),
        namespace: namespace(&path),
        name,
        group: path.group,
        resource: path.resource,
        path: None,
    })
}

fn verb<'a>(method: &'a str, path: &ResourcePath, query: &Query) -> &'a str {
    match (method, path.name.is_some()) {
        ("get" | "head", true) => "get",
        ("get" | "head", false) if query.flag("watch") => "watch",
        ("get" | "head", false) => "list",
        ("post", _) => "create",
        ("put", _) => "update",
        ("delete", false) => "deletecollection",
        (other, _) => other,
    }
}

/// A namespace is in itself.
fn namespace(path: &ResourcePath) -> String {
    let own = path
        .name
        .as_ref()
        .filter(|_| path.group.is_empty() && path.resource == "namespaces");
    path.namespace.as_ref().or(own).cloned().unwrap_or_default()
}

/// The one name that a list or watch is about.
fn selected_name(query: &Query) -> Option<String> {
    let selector = query.get("fieldSelector")?;
    // What looks like a term may be part of an escaped value.
    if selector.contains('\\') {
        return None;
    }
    selector.split(',').find_map(|term| {
        let value = term.trim().strip_prefix("metadata.name=")?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!value.is_empty() && !value.contains(['/', '%', '='])).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, uri: &str) -> Attributes {
        let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
        attributes(&request.into_parts().0).unwrap()
    }

    #[test]
    fn requests_as_the_authoriser_sees_them() {
        // method, URI → verb, group, resource, namespace, name
        for (method, uri, expected) in [
            ("GET", "/api/v1/pods", ("list", "", "pods", "", "")),
            ("GET", "/api/v1/pods?watch=true", ("watch", "", "pods", "", "")),
            ("HEAD", "/api/v1/namespaces/a/pods/x", ("get", "", "pods", "a", "x")),
            ("GET", "/api/v1/namespaces/a", ("get", "", "namespaces", "a", "a")),
            (
                "PUT",
                "/api/v1/namespaces/a/finalize",
                ("update", "", "namespaces/finalize", "a", "a"),
            ),
            ("GET", "/api/v1/namespaces", ("list", "", "namespaces", "", "")),
            ("POST", "/api/v1/namespaces", ("create", "", "namespaces", "", "")),
            (
                "DELETE",
                "/api/v1/namespaces/a/pods",
                ("deletecollection", "", "pods", "a", ""),
            ),
            (
                "DELETE",
                "/api/v1/namespaces/a/pods/x",
                ("delete", "", "pods", "a", "x"),
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/x/scale",
                ("patch", "apps", "deployments/scale", "a", "x"),
            ),
            (
                "GET",
                "/api/v1/namespaces/a/services/x/proxy/b/c",
                ("get", "", "services/proxy", "a", "x"),
            ),
            (
                "POST",
                "/api/v1/namespaces/a/pods/x/exec",
                ("create", "", "pods/exec", "a", "x"),
            ),
            (
                "GET",
                "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx",
                ("list", "", "pods", "a", "x"),
            ),
            (
                "GET",
                "/api/v1/pods?watch=1&fieldSelector=status.phase=R,metadata.name==x",
                ("watch", "", "pods", "", "x"),
            ),
            (
                "POST",
                "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx",
                ("create", "", "pods", "a", ""),
            ),
            (
                "DELETE",
                "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx",
                ("deletecollection", "", "pods", "a", ""),
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name!%3Dx",
                ("list", "", "pods", "", ""),
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=status.phase%3Da%5C,metadata.name%3Dx",
                ("list", "", "pods", "", ""),
            ),
            (
                "GET",
                "/apis/example.com/v1/nonsense",
                ("list", "example.com", "nonsense", "", ""),
            ),
        ] {
            let got = asked(method, uri);
            let resource = got.combined_resource();
            let got = (
                got.verb.as_str(),
                got.group.as_str(),
                resource.as_str(),
                got.namespace.as_str(),
                got.name.as_str(),
            );
            assert_eq!(got, expected, "{method} {uri}");
        }
        let path = asked("GET", "/healthz");
        assert_eq!((path.verb.as_str(), path.path.as_deref()), ("get", Some("/healthz")));
    }
}
