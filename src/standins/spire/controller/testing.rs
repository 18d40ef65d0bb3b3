//! Objects for the tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod};
use serde_json::{Value, json};
use ztlab_identity::TrustDomain;

use super::{
    kinds::{ClusterSpiffeId, ClusterStaticEntry},
    plan::{Scope, Snapshot},
    render::{Cluster, PARENT},
    template::Template,
};

pub fn cluster() -> Cluster {
    Cluster {
        trust_domain: TrustDomain::new("shop.test").unwrap(),
        name: "demo".into(),
        domain: "cluster.local".into(),
        parent: Template::parse(PARENT).unwrap(),
    }
}

pub fn scope() -> Scope {
    Scope {
        cluster: cluster(),
        ignored_namespaces: vec![regex::Regex::new("kube-system").unwrap()],
        class_name: String::new(),
        watch_classless: false,
        prefix: "demo.".into(),
        cleanup: None,
    }
}

pub fn node(name: &str) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name, "uid": format!("{name}-uid"), "labels": {"zone": "a"}}}))
        .unwrap()
}

pub fn namespace(name: &str) -> Namespace {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}))
        .unwrap()
}

/// A pod `namespace/name` on node `n1` with the label `app`, its UID its name with `-uid`.
pub fn pod(namespace: &str, name: &str, app: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": namespace, "uid": format!("{name}-uid"), "labels": {"app": app}},
        "spec": {"nodeName": "n1", "serviceAccountName": app, "containers": [{"name": "main", "image": "a/b:1"}]},
    }))
    .unwrap()
}

pub fn endpoints(namespace: &str, name: &str, pods: &[&str]) -> Endpoints {
    let addresses: Vec<Value> = pods
        .iter()
        .map(|pod| json!({"ip": "10.0.0.1", "targetRef": {"kind": "Pod", "name": pod, "uid": format!("{pod}-uid")}}))
        .collect();
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
        "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}))
    .unwrap()
}

/// A ClusterSPIFFEID that was made at `second`, its spec the usual one with `changes`.
pub fn cluster_spiffe_id(name: &str, second: u32, changes: Value) -> ClusterSpiffeId {
    let mut object = json!({
        "metadata": {"name": name, "uid": format!("{name}-uid"), "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            "generation": 1},
        "spec": {"spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}"},
    });
    object["spec"]
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

pub fn static_entry(name: &str, second: u32, changes: Value) -> ClusterStaticEntry {
    let mut object = json!({
        "metadata": {"name": name, "uid": format!("{name}-uid"), "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
        "spec": {"spiffeID": "spiffe://shop.test/db", "parentID": "spiffe://shop.test/spire/agent/x", "selectors": ["unix:uid:1"]},
    });
    object["spec"]
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

/// Two pods in `shop`, one in `kube-system`, on one node.
pub fn snapshot(ids: Vec<ClusterSpiffeId>) -> Snapshot {
    Snapshot {
        namespaces: vec![Arc::new(namespace("kube-system")), Arc::new(namespace("shop"))],
        pods: vec![
            Arc::new(pod("shop", "orders-1", "orders")),
            Arc::new(pod("shop", "ledger-1", "ledger")),
            Arc::new(pod("kube-system", "dns-1", "dns")),
        ],
        nodes: vec![Arc::new(node("n1"))],
        cluster_spiffe_ids: ids.into_iter().map(Arc::new).collect(),
        ..Snapshot::default()
    }
}
