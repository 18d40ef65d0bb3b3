//! Who each part of a cluster is to its API server: the users, groups and service accounts that the same parts have in any other
//! Kubernetes, and a user of its own for what is this cluster's own. RBAC's bootstrap roles say what each may do.
//!
//! Pods, nodes and most other kinds are watched once for all parts ([`shared_informers`]); what a part writes, and what it reads
//! besides, it does as itself.
//!
//! Source: Kubernetes' "Using RBAC Authorization" (core component roles, roles for built-in controllers) and "Using Node
//! Authorization"; kubeadm's manifests of CoreDNS.

use super::control_plane::{
    apiserver::{Component, UserInfo},
    rbac::policy,
};

fn user(name: &str, program: &'static str) -> Component {
    Component::new(UserInfo::new(name, &[]), program)
}

fn account(name: &str, program: &'static str) -> Component {
    Component::new(UserInfo::service_account(policy::controllers::NAMESPACE, name), program)
}

/// The scheduler.
pub fn scheduler() -> Component {
    user("system:kube-scheduler", "kube-scheduler")
}

/// What the controllers share, and the controller of tokens in Secrets.
pub fn controller_manager() -> Component {
    user("system:kube-controller-manager", CONTROLLER_MANAGER)
}

/// The controller with this service account, as with `--use-service-account-credentials`.
pub fn controller(name: &str) -> Component {
    account(name, CONTROLLER_MANAGER)
}

/// The kubelet of a node.
pub fn kubelet(node: &str) -> Component {
    Component::new(UserInfo::node(node), "kubelet")
}

/// Who makes the rules for Services.
pub fn kube_proxy() -> Component {
    user("system:kube-proxy", "kube-proxy")
}

/// Cluster DNS.
pub fn dns() -> Component {
    account("coredns", "coredns")
}

/// Who enforces NetworkPolicies: a plugin's in other clusters, this cluster's own here.
pub fn network_policy() -> Component {
    user("system:network-policy", "network-policy")
}

/// The watches whose objects the parts share; this cluster's own, for elsewhere they are programs that share nothing.
pub fn shared_informers() -> Component {
    user("system:shared-informers", "shared-informers")
}

/// Who keeps the Services `kubernetes` and `kube-dns`. Elsewhere the API server keeps the first by its own connection, which may
/// do everything, and an administrator makes the second.
pub fn cluster_services() -> Component {
    user("system:cluster-services", "kube-apiserver")
}

const CONTROLLER_MANAGER: &str = "kube-controller-manager";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::{controllers, rbac::MASTERS};

    fn all() -> Vec<Component> {
        let mut all = vec![
            scheduler(),
            controller_manager(),
            kubelet("n"),
            kube_proxy(),
            dns(),
            network_policy(),
            shared_informers(),
            cluster_services(),
        ];
        all.extend(controllers::accounts().map(controller));
        all
    }

    #[test]
    fn none_may_do_everything() {
        for component in all() {
            assert!(
                !component.user.groups.iter().any(|group| group == MASTERS),
                "{component:?}"
            );
        }
        assert!(kubelet("n").user.groups.iter().any(|group| group == "system:nodes"));
        assert_eq!(
            controller("job-controller").user.name,
            "system:serviceaccount:kube-system:job-controller"
        );
    }

    /// A part without a role could do nothing, and a role of another name would be a slip of the pen.
    #[test]
    fn all_have_a_role() {
        let policy = policy::objects();
        let bindings: Vec<_> = policy
            .iter()
            .filter(|wanted| matches!(wanted.plural, "clusterrolebindings" | "rolebindings"))
            .map(|wanted| wanted.object.to_string())
            .collect();
        for component in all().iter().filter(|component| component.program != "kubelet") {
            let subject = match component.user.name.strip_prefix("system:serviceaccount:kube-system:") {
                Some(account) => format!(r#""kind":"ServiceAccount","name":"{account}","namespace":"kube-system""#),
                None => format!(r#""kind":"User","name":"{}""#, component.user.name),
            };
            assert!(bindings.iter().any(|binding| binding.contains(&subject)), "{subject}");
        }
    }
}
