//! Defaults of real-life objects.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::test_json, *};
use crate::control_plane::api::Registry;

fn defaulted(api_version: &str, kind: &str, mut object: Value) -> Value {
    let registry = Registry::builtin();
    apply(registry.by_kind(api_version, kind).expect(kind), &mut object);
    object
}

#[test]
fn a_pod() {
    let pod = defaulted(
        "v1",
        "Pod",
        json!({"spec": {"containers": [{"name": "c", "image": "nginx",
        "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 0},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
        "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "x"}}]}}),
    );
    let expected = json!({
        "spec": {
            "containers": [{
                "name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 10,
                    "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3},
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
            }],
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler", "securityContext": {}, "enableServiceLinks": true,
        },
        "status": {"phase": "Pending", "qosClass": "Guaranteed"},
    });
    assert_eq!(pod, expected);
}

#[test]
fn explicit_zeros_stay() {
    let pod = defaulted(
        "v1",
        "Pod",
        json!({"spec": {"terminationGracePeriodSeconds": 0, "enableServiceLinks": false}}),
    );
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 0);
    assert_eq!(pod["spec"]["enableServiceLinks"], false);
    let deployment = defaulted("apps/v1", "Deployment", json!({"spec": {"replicas": 0}}));
    assert_eq!(deployment["spec"]["replicas"], 0);
}

#[test]
fn the_pull_policy_goes_by_the_tag() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
    ] {
        let pod = defaulted("v1", "Pod", json!({"spec": {"containers": [{"image": image}]}}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn a_deployment_with_an_empty_strategy() {
    let before = json!({"spec": {"strategy": {}, "template": {"metadata": {"creationTimestamp": null},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}});
    let after = defaulted("apps/v1", "Deployment", before);
    let spec = &after["spec"];
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    assert_eq!(spec["strategy"], rolling);
    assert_eq!(
        (&spec["replicas"], &spec["revisionHistoryLimit"]),
        (&json!(1), &json!(10))
    );
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    assert_eq!(spec["template"]["metadata"], json!({}));
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    assert!(
        spec["template"]["spec"].get("enableServiceLinks").is_none(),
        "only pods have it by default"
    );
    let recreate = defaulted(
        "apps/v1",
        "Deployment",
        json!({"spec": {"strategy": {"type": "Recreate"}}}),
    );
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn services() {
    let service = defaulted(
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}}),
    );
    let expected = json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        
        "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}, {"port": 81, "targetPort": "web", "protocol": "TCP"}]});
    assert_eq!(service["spec"], expected);
    let external = defaulted(
        "v1",
        "Service",
        json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}),
    );
    assert!(external["spec"].get("ipFamilies").is_none());
}

#[test]
fn secrets_namespaces_policies_and_bindings() {
    let secret = defaulted("v1", "Secret", json!({"data": {"a": "eA=="}, "stringData": {"b": "y"}}));
    assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "eA==", "b": "eQ=="}}));
    let namespace = defaulted("v1", "Namespace", json!({"metadata": {"name": "shop"}}));
    assert_eq!(
        namespace["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "shop"})
    );
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    let gone = json!({"metadata": {"name": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}});
    assert!(
        defaulted("v1", "Namespace", gone)["spec"].get("finalizers").is_none(),
        "finalizing is final"
    );
    let policy = defaulted(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}),
    );
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    let binding = json!({"roleRef": {"kind": "Role"}, "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]});
    let binding = defaulted("rbac.authorization.k8s.io/v1", "RoleBinding", binding);
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert!(binding["subjects"][1].get("apiGroup").is_none());
}

proptest! {
    #[test]
    fn never_panics_and_once_is_enough(object in test_json::object()) {
        for resource in Registry::builtin().iter() {
            let mut once = object.clone();
            apply(resource, &mut once);
            let mut twice = once.clone();
            apply(resource, &mut twice);
            prop_assert_eq!(once, twice, "{}", resource.kind);
        }
    }
}
