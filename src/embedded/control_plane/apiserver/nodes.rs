//! What a kubelet may do: what its role says, about its own Node, its own pods, and what those refer to.
//!
//! Nodes read all pods and nodes; what else they read must belong to a pod that is bound to them. What they write is held to
//! what is theirs after the authoriser has said yes, as an admission controller does it in Kubernetes.
//!
//! Source: Kubernetes' "Using Node Authorization", "NodeRestriction".

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use super::{ApiServer, UserInfo, meta, status::ApiError};
use crate::control_plane::{
    api::Resource,
    rbac::{self, Attributes, Decision, policy},
    storage::CollectionKey,
};

/// The group of all kubelets.
const NODES: &str = "system:nodes";
/// Where their Leases are.
const LEASES: &str = "kube-node-lease";

static RULES: LazyLock<Vec<PolicyRule>> = LazyLock::new(policy::node_rules);

/// The name of the node that a user is the kubelet of.
pub fn name_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    user.is_in(NODES).then_some(name)
}

/// Whether kubelets may do such a thing to what is their own.
pub fn may_in_general(asked: &Attributes) -> bool {
    asked.path.is_none() && RULES.iter().any(|rule| rbac::allows(rule, asked))
}

/// Kinds of what a pod refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Referred {
    Secret,
    ConfigMap,
    Claim,
    Account,
}

impl ApiServer {
    /// What the node authoriser says; `None` about whoever is no node.
    pub(super) fn decide_node(&self, user: &UserInfo, asked: &Attributes) -> Option<Decision> {
        let node = name_of(user)?;
        let refused = |reason: String| Decision { allowed: false, reason };
        if !may_in_general(asked) {
            return Some(refused(String::new()));
        }
        let is_theirs = match (&*asked.group, &*asked.resource) {
            ("", "secrets") => self.reads(node, asked, Referred::Secret),
            ("", "configmaps") => self.reads(node, asked, Referred::ConfigMap),
            ("", "persistentvolumeclaims") => self.reads(node, asked, Referred::Claim),
            ("", "persistentvolumes") => self.reads_volume(node, &asked.name),
            ("", "serviceaccounts") => self.reads(node, asked, Referred::Account),
            ("coordination.k8s.io", "leases") if asked.namespace != LEASES => {
                return Some(refused(format!(
                    "can only access leases in the {LEASES:?} system namespace"
                )));
            }
            ("coordination.k8s.io", "leases") if asked.verb != "create" && asked.name != node => {
                let why = "can only access node lease with the same name as the requesting node";
                return Some(refused(why.to_owned()));
            }
            ("storage.k8s.io", "csinodes") if asked.verb != "create" && asked.name != node => {
                let why = "can only access CSINode with the same name as the requesting node";
                return Some(refused(why.to_owned()));
            }
            _ => true,
        };
        Some(match is_theirs {
            true => Decision {
                allowed: true,
                reason: String::new(),
            },
            false => refused(format!("no relationship found between node '{node}' and this object")),
        })
    }

    /// Whether a pod of the node refers to the object that is asked for.
    fn reads(&self, node: &str, asked: &Attributes, kind: Referred) -> bool {
        !asked.name.is_empty()
            && self
                .pods_on(node, Some(&asked.namespace))
                .any(|pod| refers(&pod, kind, &asked.name))
    }

    /// Whether a claim of a pod of the node is bound to a PersistentVolume.
    fn reads_volume(&self, node: &str, name: &str) -> bool {
        let claims = CollectionKey::new("", "persistentvolumeclaims");
        !name.is_empty()
            && self.store().list(&claims, None).items.iter().any(|claim| {
                claim.pointer("/spec/volumeName").and_then(Value::as_str) == Some(name)
                    && self
                        .pods_on(node, Some(meta::namespace(claim)))
                        .any(|pod| refers(&pod, Referred::Claim, meta::name(claim)))
            })
    }

    fn pods_on(&self, node: &str, namespace: Option<&str>) -> impl Iterator<Item = Arc<Value>> {
        let pods = self.store().list(&CollectionKey::new("", "pods"), namespace);
        let mine = move |pod: &Arc<Value>| node_of(pod) == node;
        pods.items.into_iter().filter(mine)
    }

    /// Holds a kubelet's writes to its own Node and pods. What a request creates is in its body: see [`admit_created`].
    ///
    /// # Errors
    /// 403.
    pub(super) fn restrict_node(&self, user: &UserInfo, asked: &Attributes) -> Result<(), ApiError> {
        let Some(node) = name_of(user) else { return Ok(()) };
        let writes = matches!(&*asked.verb, "create" | "update" | "patch" | "delete");
        let refused = |why: String| Err(ApiError::forbidden_to(&asked.group, &asked.resource, &asked.name, why));
        match (&*asked.group, &*asked.resource, &*asked.subresource) {
            ("", "nodes", _) if writes && !asked.name.is_empty() && asked.name != node => {
                refused(format!("node {node:?} is not allowed to modify node {:?}", asked.name))
            }
            ("", "pods", subresource) if writes && !asked.name.is_empty() => {
                let key = CollectionKey::new("", "pods").object(&asked.namespace, &asked.name);
                let pod = self.store().get(&key);
                if pod.is_none_or(|pod| node_of(&pod) == node) {
                    return Ok(());
                }
                let what = match subresource {
                    "status" => "update pod status for",
                    "eviction" => "evict",
                    _ => "delete",
                };
                refused(format!(
                    "node {node:?} can only {what} pods with spec.nodeName set to itself"
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Holds what a kubelet creates to what is its own.
///
/// # Errors
/// 403.
pub fn admit_created(user: &UserInfo, resource: &Resource, object: &Value) -> Result<(), ApiError> {
    let Some(node) = name_of(user) else { return Ok(()) };
    let name = meta::name(object);
    let why = match (&*resource.group, &*resource.kind) {
        ("", "Node") if name != node => format!("node {node:?} is not allowed to modify node {name:?}"),
        ("coordination.k8s.io", "Lease") if name != node => {
            "can only access node lease with the same name as the requesting node".to_owned()
        }
        ("", "Pod")
            if object
                .pointer("/metadata/annotations/kubernetes.io~1config.mirror")
                .is_none() =>
        {
            format!(
                "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
            )
        }
        ("", "Pod") if node_of(object) != node => {
            format!("node {node:?} can only create pods with spec.nodeName set to itself")
        }
        _ => return Ok(()),
    };
    Err(ApiError::forbidden(resource, name, why))
}

/// The node that a pod is bound to, or empty.
pub fn node_of(pod: &Value) -> &str {
    pod.pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

/// Whether a pod refers to an object of its namespace.
fn refers(pod: &Value, kind: Referred, name: &str) -> bool {
    let is = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str) == Some(name);
    let volumes = || list(pod, "/spec/volumes");
    let sources = || volumes().flat_map(|volume| list(volume, "/projected/sources"));
    let containers = || {
        ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"]
            .into_iter()
            .flat_map(|pointer| list(pod, pointer))
    };
    let from_env = |one: &str, all: &str| {
        containers().any(|container| {
            list(container, "/env").any(|env| is(env, one)) || list(container, "/envFrom").any(|env| is(env, all))
        })
    };
    match kind {
        Referred::Account => is(pod, "/spec/serviceAccountName"),
        Referred::Claim => volumes().any(|volume| {
            is(volume, "/persistentVolumeClaim/claimName")
                || volume.get("ephemeral").is_some()
                    && format!("{}-{}", meta::name(pod), volume["name"].as_str().unwrap_or_default()) == name
        }),
        Referred::ConfigMap => {
            volumes().any(|volume| is(volume, "/configMap/name"))
                || sources().any(|source| is(source, "/configMap/name"))
                || from_env("/valueFrom/configMapKeyRef/name", "/configMapRef/name")
        }
        Referred::Secret => {
            volumes().any(|volume| is(volume, "/secret/secretName") || is(volume, "/csi/nodePublishSecretRef/name"))
                || sources().any(|source| is(source, "/secret/name"))
                || list(pod, "/spec/imagePullSecrets").any(|secret| is(secret, "/name"))
                || from_env("/valueFrom/secretKeyRef/name", "/secretRef/name")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server() -> ApiServer {
        let server = super::super::tests::server();
        let put = |plural: &str, object: Value| {
            let key = CollectionKey::new("", plural).object(meta::namespace(&object), meta::name(&object));
            server.store().create(&key, object).unwrap();
        };
        for (name, node) in [("mine", "a"), ("other", "b")] {
            let of = |what: &str| format!("{name}-{what}");
            put(
                "pods",
                json!({"metadata": {"name": name, "namespace": "default"}, "spec": {
                    "nodeName": node,
                    "serviceAccountName": of("account"),
                    "imagePullSecrets": [{"name": of("pull")}],
                    "volumes": [
                        {"name": "s", "secret": {"secretName": of("volume")}},
                        {"name": "c", "configMap": {"name": of("map")}},
                        {"name": "p", "projected": {"sources": [{"secret": {"name": of("projected")}},
                            {"configMap": {"name": of("projected")}}]}},
                        {"name": "v", "persistentVolumeClaim": {"claimName": of("claim")}},
                        {"name": "e", "ephemeral": {}},
                    ],
                    "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": of("key")}}}]}],
                    "containers": [{"envFrom": [{"secretRef": {"name": of("env")}}, {"configMapRef": {"name": of("env")}}]}],
                }}),
            );
            put(
                "persistentvolumeclaims",
                json!({"metadata": {"name": of("claim"), "namespace": "default"}, "spec": {"volumeName": of("pv")}}),
            );
        }
        server
    }

    fn kubelet() -> UserInfo {
        UserInfo::new("system:node:a", &[NODES])
    }

    fn asked(verb: &str, what: &str) -> Attributes {
        // [group/]resource[:subresource] namespace/name
        let (resource, object) = what.split_once(' ').unwrap_or((what, "/"));
        let (group, resource) = resource.split_once('/').unwrap_or(("", resource));
        let (resource, subresource) = resource.split_once(':').unwrap_or((resource, ""));
        let (namespace, name) = object.split_once('/').unwrap_or_default();
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            path: None,
        }
    }

    #[test]
    fn a_node_reads_what_its_pods_refer_to() {
        let server = server();
        for (verb, what, expected) in [
            ("get", "secrets default/mine-volume", true),
            ("get", "secrets default/mine-projected", true),
            ("get", "secrets default/mine-pull", true),
            ("get", "secrets default/mine-key", true),
            ("watch", "secrets default/mine-env", true),
            ("get", "secrets default/mine-map", false),
            ("get", "secrets default/other-volume", false),
            ("get", "secrets kube-system/mine-volume", false),
            ("list", "secrets default/", false),
            ("list", "secrets", false),
            ("update", "secrets default/mine-volume", false),
            ("get", "configmaps default/mine-map", true),
            ("get", "configmaps default/mine-projected", true),
            ("get", "configmaps default/mine-env", true),
            ("get", "configmaps default/other-map", false),
            ("get", "persistentvolumeclaims default/mine-claim", true),
            ("get", "persistentvolumeclaims default/mine-e", true),
            ("get", "persistentvolumeclaims default/other-claim", false),
            ("get", "persistentvolumes /mine-pv", true),
            ("get", "persistentvolumes /other-pv", false),
            ("create", "serviceaccounts:token default/mine-account", true),
            ("create", "serviceaccounts:token default/other-account", false),
            ("create", "serviceaccounts:token default/default", false),
            ("get", "serviceaccounts default/mine-account", false),
            ("patch", "coordination.k8s.io/leases kube-node-lease/a", true),
            ("patch", "coordination.k8s.io/leases kube-node-lease/b", false),
            ("get", "coordination.k8s.io/leases default/a", false),
            ("list", "pods", true),
            ("create", "pods:exec default/mine", false),
            ("patch", "pods default/mine", false),
            ("list", "apps/deployments", false),
        ] {
            let decision = server.decide(&kubelet(), &asked(verb, what));
            assert_eq!(decision.allowed, expected, "{verb} {what}: {}", decision.reason);
        }
        let decision = server.decide(&kubelet(), &asked("get", "secrets default/other-volume"));
        assert_eq!(
            decision.reason,
            "no relationship found between node 'a' and this object"
        );
        // A name alone makes no node.
        let pretender = UserInfo::new("system:node:a", &[]);
        assert!(
            !server
                .decide(&pretender, &asked("get", "secrets default/mine-volume"))
                .allowed
        );
    }

    #[test]
    fn a_node_writes_its_own() {
        let server = server();
        for (verb, what, expected) in [
            ("patch", "nodes:status /a", true),
            ("patch", "nodes:status /b", false),
            ("update", "nodes /b", false),
            ("get", "nodes /b", true),
            ("patch", "pods:status default/mine", true),
            ("patch", "pods:status default/other", false),
            ("delete", "pods default/mine", true),
            ("delete", "pods default/other", false),
            ("create", "pods:eviction default/other", false),
            ("get", "pods default/other", true),
        ] {
            let asked = asked(verb, what);
            assert_eq!(
                server.restrict_node(&kubelet(), &asked).is_ok(),
                expected,
                "{verb} {what}"
            );
            assert!(server.restrict_node(&UserInfo::master("x"), &asked).is_ok());
        }
        let refused = server
            .restrict_node(&kubelet(), &asked("patch", "nodes:status /b"))
            .unwrap_err();
        assert_eq!(
            refused.0.message.as_deref(),
            Some("nodes \"b\" is forbidden: node \"a\" is not allowed to modify node \"b\"")
        );
        let registry = server.registry();
        for (kind, object, expected) in [
            ("nodes", json!({"metadata": {"name": "a"}}), true),
            ("nodes", json!({"metadata": {"name": "b"}}), false),
            (
                "pods",
                json!({"metadata": {"name": "p"}, "spec": {"nodeName": "a"}}),
                false,
            ),
            (
                "pods",
                json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "a"}}),
                true,
            ),
            ("configmaps", json!({"metadata": {"name": "x"}}), true),
        ] {
            let resource = registry.find("", "v1", kind).unwrap();
            assert_eq!(
                admit_created(&kubelet(), resource, &object).is_ok(),
                expected,
                "{object}"
            );
        }
    }
}
