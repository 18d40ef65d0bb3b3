//! The roles and bindings of a cluster, ready to be asked.
//!
//! Source: Kubernetes' `pkg/registry/rbac/validation/rule.go` and `plugin/pkg/auth/authorizer/rbac`.

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
    sync::Arc,
};

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};

use super::{Attributes, MASTERS, Who, allows, service_account};

/// The authoriser's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why: the binding that allows it, or the roles that bindings name and that are not there.
    pub reason: String,
}

/// A RoleBinding or ClusterRoleBinding.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// Its namespace; empty for a ClusterRoleBinding.
    pub namespace: String,
    /// Which role it gives.
    pub role: RoleRef,
    /// To whom.
    pub subjects: Vec<Subject>,
}

/// The rules of roles by namespace and name; a ClusterRole's namespace is empty.
pub type Roles = HashMap<(String, String), Arc<[PolicyRule]>>;

/// Roles and bindings. Its parts are shared, so that a change to one collection leaves the others as they are.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Roles.
    pub roles: Arc<Roles>,
    /// ClusterRoles.
    pub cluster_roles: Arc<Roles>,
    /// RoleBindings by namespace.
    pub bindings: Arc<HashMap<String, Vec<Binding>>>,
    /// ClusterRoleBindings.
    pub cluster_bindings: Arc<Vec<Binding>>,
}

/// A rule that somebody has, and from where.
pub struct Granted<'a> {
    /// The rule.
    pub rule: &'a PolicyRule,
    /// The binding that gives it.
    pub binding: &'a Binding,
    /// The subject of the binding that the user is.
    pub subject: &'a Subject,
}

impl Index {
    /// The rules of the role that a binding in `namespace` (empty for a ClusterRoleBinding) names.
    ///
    /// # Errors
    /// `clusterrole.rbac.authorization.k8s.io "x" not found`.
    pub fn role(&self, role: &RoleRef, namespace: &str) -> Result<&Arc<[PolicyRule]>, String> {
        let (roles, namespace) = match role.kind.as_str() {
            "Role" => (&self.roles, namespace),
            _ => (&self.cluster_roles, ""),
        };
        let found = roles.get(&(namespace.to_owned(), role.name.clone()));
        found.ok_or_else(|| {
            format!(
                "{}.{} {:?} not found",
                role.kind.to_lowercase(),
                super::GROUP,
                role.name
            )
        })
    }

    /// Shows every rule that `who` has in `namespace` (empty: in the whole cluster) until `visit` breaks. Returns the errors
    /// met on the way.
    pub fn visit<'a>(
        &'a self,
        who: Who<'_>,
        namespace: &str,
        visit: &mut dyn FnMut(Granted<'a>) -> ControlFlow<()>,
    ) -> BTreeSet<String> {
        let mut errors = BTreeSet::new();
        let local = match namespace {
            "" => None,
            namespace => self.bindings.get(namespace),
        };
        for binding in self.cluster_bindings.iter().chain(local.into_iter().flatten()) {
            let Some(subject) = binding
                .subjects
                .iter()
                .find(|subject| is_subject(subject, &binding.namespace, who))
            else {
                continue;
            };
            let rules = match self.role(&binding.role, &binding.namespace) {
                Ok(rules) => rules,
                Err(error) => {
                    errors.insert(error);
                    continue;
                }
            };
            for rule in rules.iter() {
                if visit(Granted { rule, binding, subject }).is_break() {
                    return errors;
                }
            }
        }
        errors
    }

    /// Whether `who` may do what is asked for.
    pub fn decide(&self, who: Who<'_>, asked: &Attributes) -> Decision {
        if who.is_in(MASTERS) {
            return Decision {
                allowed: true,
                reason: String::new(),
            };
        }
        // Paths belong to no namespace.
        let namespace = if asked.path.is_some() { "" } else { &asked.namespace };
        let mut found = None;
        let errors = self.visit(who, namespace, &mut |granted| match allows(granted.rule, asked) {
            true => {
                found = Some(granted);
                ControlFlow::Break(())
            }
            false => ControlFlow::Continue(()),
        });
        match found {
            Some(granted) => Decision {
                allowed: true,
                reason: format!("RBAC: allowed by {}", granted.describe()),
            },
            None => Decision {
                allowed: false,
                reason: missing_roles(errors),
            },
        }
    }

    /// Every rule that `who` has in `namespace`.
    pub fn rules(&self, who: Who<'_>, namespace: &str) -> Vec<&PolicyRule> {
        let mut rules = Vec::new();
        self.visit(who, namespace, &mut |granted| {
            rules.push(granted.rule);
            ControlFlow::Continue(())
        });
        rules
    }
}

fn missing_roles(errors: BTreeSet<String>) -> String {
    let errors: Vec<String> = errors.into_iter().collect();
    match errors.as_slice() {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}

impl Granted<'_> {
    /// `ClusterRoleBinding "b" of ClusterRole "r" to Group "g"`.
    fn describe(&self) -> String {
        let Binding {
            name, namespace, role, ..
        } = self.binding;
        let binding = match namespace.as_str() {
            "" => format!("ClusterRoleBinding {name:?}"),
            namespace => format!("RoleBinding {:?}", format!("{name}/{namespace}")),
        };
        let subject = match self.subject.kind.as_str() {
            "ServiceAccount" => {
                let of = self.subject.namespace.as_deref().filter(|of| !of.is_empty());
                format!("{}/{}", self.subject.name, of.unwrap_or(namespace))
            }
            _ => self.subject.name.clone(),
        };
        format!(
            "{binding} of {} {:?} to {} {subject:?}",
            role.kind, role.name, self.subject.kind
        )
    }
}

/// Whether a subject of a binding in `namespace` is `who`.
fn is_subject(subject: &Subject, namespace: &str, who: Who<'_>) -> bool {
    match subject.kind.as_str() {
        "User" => subject.name == who.name,
        "Group" => who.is_in(&subject.name),
        "ServiceAccount" => {
            let of = subject.namespace.as_deref().filter(|of| !of.is_empty());
            let of = of.unwrap_or(namespace);
            !of.is_empty() && service_account(of, &subject.name) == who.name
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> PolicyRule {
        PolicyRule {
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            api_groups: Some(vec![group.to_owned()]),
            resources: Some(resources.iter().map(|resource| (*resource).to_owned()).collect()),
            ..PolicyRule::default()
        }
    }

    fn binding(name: &str, namespace: &str, role: (&str, &str), kind: &str, subject: &str) -> Binding {
        let (of, subject) = subject.split_once('/').unwrap_or(("", subject));
        Binding {
            name: name.into(),
            namespace: namespace.into(),
            role: RoleRef {
                api_group: super::super::GROUP.into(),
                kind: role.0.into(),
                name: role.1.into(),
            },
            subjects: vec![Subject {
                kind: kind.into(),
                name: subject.into(),
                namespace: Some(of.to_owned()).filter(|of| !of.is_empty()),
                ..Subject::default()
            }],
        }
    }

    fn index() -> Index {
        let key = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        Index {
            roles: Arc::new(HashMap::from([(
                key("shop", "reader"),
                [rule(&["get"], "", &["pods"])].into(),
            )])),
            cluster_roles: Arc::new(HashMap::from([(
                key("", "lister"),
                [rule(&["list"], "", &["pods", "nodes"])].into(),
            )])),
            bindings: Arc::new(HashMap::from([(
                "shop".to_owned(),
                vec![
                    binding("a", "shop", ("Role", "reader"), "User", "jane"),
                    binding("b", "shop", ("ClusterRole", "lister"), "ServiceAccount", "robot"),
                    binding("c", "shop", ("Role", "nothing"), "User", "jane"),
                ],
            )])),
            cluster_bindings: Arc::new(vec![binding("d", "", ("ClusterRole", "lister"), "Group", "ops")]),
        }
    }

    fn ask(name: &str, groups: &[&str], verb: &str, resource: &str, namespace: &str) -> Decision {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let asked = Attributes {
            verb: verb.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            ..Attributes::default()
        };
        index().decide(Who { name, groups: &groups }, &asked)
    }

    #[test]
    fn bindings_give_roles_where_they_are() {
        assert_eq!(
            ask("jane", &[], "get", "pods", "shop").reason,
            "RBAC: allowed by RoleBinding \"a/shop\" of Role \"reader\" to User \"jane\""
        );
        assert!(!ask("jane", &[], "get", "pods", "other").allowed);
        assert!(
            !ask("jane", &[], "get", "pods", "").allowed,
            "a Role gives nothing cluster-wide"
        );
        assert!(
            !ask("joe", &["jane"], "get", "pods", "shop").allowed,
            "a group is no user"
        );
        let robot = "system:serviceaccount:shop:robot";
        assert_eq!(
            ask(robot, &[], "list", "pods", "shop").reason,
            "RBAC: allowed by RoleBinding \"b/shop\" of ClusterRole \"lister\" to ServiceAccount \"robot/shop\""
        );
        assert!(!ask(robot, &[], "list", "nodes", "").allowed);
        assert!(ask("joe", &["ops"], "list", "nodes", "").allowed);
        assert!(ask("joe", &["ops"], "list", "pods", "anywhere").allowed);
        assert!(ask("joe", &["system:masters"], "delete", "nodes", "").allowed);
    }

    #[test]
    fn a_binding_to_no_role_is_named_in_the_refusal() {
        assert_eq!(
            ask("jane", &[], "delete", "pods", "shop"),
            Decision {
                allowed: false,
                reason: "RBAC: role.rbac.authorization.k8s.io \"nothing\" not found".to_owned()
            }
        );
    }

    #[test]
    fn refusals_are_in_kubernetes_words() {
        let mut asked = Attributes {
            verb: "get".into(),
            group: "apps".into(),
            resource: "deployments".into(),
            subresource: "scale".into(),
            namespace: "shop".into(),
            ..Attributes::default()
        };
        assert_eq!(
            asked.refusal("x"),
            "User \"x\" cannot get resource \"deployments/scale\" in API group \"apps\" in the namespace \"shop\""
        );
        asked.namespace.clear();
        assert!(
            asked
                .refusal("x")
                .ends_with("in API group \"apps\" at the cluster scope")
        );
        asked.path = Some("/metrics".into());
        assert_eq!(asked.refusal("x"), "User \"x\" cannot get path \"/metrics\"");
    }
}
