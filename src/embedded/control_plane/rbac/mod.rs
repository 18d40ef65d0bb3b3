//! Role-based access control as pure functions: what a rule allows, which rules a user has, what one may grant to others,
//! and the policy that every cluster starts with.
//!
//! The API server asks on every request ([`Index::decide`]) and on every write of a role or binding
//! ([`escalation`]); the controller of aggregated roles shares [`aggregate`] with the bootstrap.
//!
//! Source: Kubernetes' "Using RBAC Authorization".

pub mod aggregate;
pub mod escalation;
mod index;
pub mod policy;
mod rule;

#[cfg(test)]
mod properties;

pub use index::{Binding, Decision, Granted, Index, Roles};
pub use rule::{allows, nonresource_matches};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The group whose members are asked for nothing.
pub const MASTERS: &str = "system:masters";

/// Who asks, as bindings name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    /// The user's name.
    pub name: &'a str,
    /// The groups they are in.
    pub groups: &'a [String],
}

impl Who<'_> {
    /// Whether they are in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|mine| mine == group)
    }
}

/// What is asked for, as RBAC rules name it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `get`, `list`, `create` and so on.
    pub verb: String,
    /// API group.
    pub group: String,
    /// Plural resource.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name, or empty.
    pub name: String,
    /// The path of a request that is for no resource; `None` for one that is.
    pub path: Option<String>,
}

impl Attributes {
    /// `pods`, or `pods/log`.
    pub fn combined_resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }

    /// The refusal in Kubernetes' words: `User "x" cannot list resource "pods" in API group "" in the namespace "y"`.
    pub fn refusal(&self, user: &str) -> String {
        if let Some(path) = &self.path {
            return format!("User {user:?} cannot {} path {path:?}", self.verb);
        }
        let scope = match self.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!(
            "User {user:?} cannot {} resource {:?} in API group {:?} {scope}",
            self.verb,
            self.combined_resource(),
            self.group
        )
    }
}

/// The user that a service account is.
pub fn service_account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The namespace and the name in a service account's user name.
pub fn service_account_parts(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
