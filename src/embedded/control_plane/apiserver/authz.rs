//! Who may do what.
//!
//! For now every authenticated user may do everything; the question is asked where Kubernetes asks it, so that RBAC
//! answers it later.

use super::authn::UserInfo;

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
    /// The path of a request that is for no resource, or empty.
    pub path: String,
}

/// The authoriser's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
}

/// Decides.
pub fn authorize(user: &UserInfo, _attributes: &Attributes) -> Decision {
    let allowed = user.is_in("system:authenticated");
    Decision {
        allowed,
        reason: String::new(),
    }
}
