//! What a pod shows is worked out twice: by the agent's stand-in, which hands out identities by it, and by `ztlab identity`, which
//! explains them and knows nothing of stand-ins, since it looks at SPIRE's own agents too. Here both may be seen, and are held to
//! the same answers.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use ztlab_spire::agent::attestor::k8s_selectors;

fn status(name: &str, image: &str, id: &str) -> Value {
    json!({"name": name, "image": image, "imageID": id, "containerID": "r://1", "ready": true, "restartCount": 0})
}

/// Pods as they are before and while they run, with all that makes a selector, and with nothing.
fn pods() -> Vec<(&'static str, Value)> {
    let spec = json!({
        "serviceAccountName": "orders", "nodeName": "node-1",
        "initContainers": [{"name": "init", "image": "init:1"}, {"name": "proxy", "image": "envoy:1", "restartPolicy": "Always"}],
        "containers": [{"name": "main", "image": "orders:1"}, {"name": "side", "image": "envoy:1"}]});
    let meta = json!({
        "name": "orders-1", "namespace": "shop", "uid": "u1",
        "labels": {"app": "orders", "empty": "", "app.kubernetes.io/name": "a:b"},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders", "uid": "o1"},
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "second", "uid": "o2"}]});
    let running = json!({
        "initContainerStatuses": [status("init", "docker.io/library/init:1", "docker.io/library/init@sha256:aaa")],
        "containerStatuses": [
            status("main", "docker.io/library/orders:1", "docker.io/library/orders@sha256:bbb"),
            status("side", "envoy:1", ""),
            status("not of the spec", "x", "y")],
        "ephemeralContainerStatuses": [status("observer", "ztlab:1", "sha256:ccc")]});
    let waiting = json!({"containerStatuses": [
        {"name": "main", "image": "orders:1", "imageID": "", "ready": false, "restartCount": 0}, status("side", "envoy:1", "")]});
    let mut observed = spec.clone();
    observed["ephemeralContainers"] = json!([{"name": "observer", "image": "ztlab:1"}]);
    vec![
        ("nothing", json!({})),
        ("a name", json!({"metadata": {"name": "bare"}})),
        ("no spec", json!({"metadata": meta, "status": running})),
        (
            "a container",
            json!({"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "c"}]}}),
        ),
        (
            "not scheduled",
            json!({"metadata": meta, "spec": {"containers": [{"name": "main", "image": ""}]}}),
        ),
        ("starting", json!({"metadata": meta, "spec": spec})),
        ("running", json!({"metadata": meta, "spec": spec, "status": running})),
        (
            "observed",
            json!({"metadata": meta, "spec": observed, "status": running}),
        ),
        (
            "one image twice",
            json!({"metadata": meta, "spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]},
                "status": {"containerStatuses": [status("b", "i", "i"), status("a", "", "")]}}),
        ),
        (
            "one that has not started",
            json!({"metadata": meta, "spec": spec, "status": waiting}),
        ),
    ]
}

#[test]
fn the_agents_stand_in_and_whoever_explains_it_find_the_same() {
    for (name, pod) in pods() {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        for container in [
            "main",
            "side",
            "init",
            "proxy",
            "observer",
            "a",
            "b",
            "c",
            "not of the spec",
            "none",
            "",
        ] {
            let explained = ztlab::spire::selectors(&pod, container);
            let explained: Vec<String> = explained.iter().map(ToString::to_string).collect();
            assert_eq!(
                explained,
                k8s_selectors(&pod, container),
                "pod `{name}`, container `{container}`"
            );
        }
    }
}

/// Were every pod the same to both, the comparison would say nothing.
#[test]
fn the_table_has_pods_that_differ() {
    let of = |index: usize, container: &str| {
        let pod: Pod = serde_json::from_value(pods()[index].1.clone()).unwrap();
        k8s_selectors(&pod, container)
    };
    let running = of(6, "main");
    assert!(
        running.len() > 20 && running != of(6, "side") && running != of(5, "main"),
        "{running:?}"
    );
    assert!(running.contains(&"k8s:container-image:docker.io/library/orders@sha256:bbb".to_owned()));
    assert!(
        !running.contains(&"k8s:container-image:orders:1".to_owned()),
        "the pod's author wrote it so"
    );
    assert!(running.contains(&"k8s:pod-label:app.kubernetes.io/name:a:b".to_owned()));
}
