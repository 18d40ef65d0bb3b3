//! Mistakes that people make, with what kube-apiserver says of them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::super::{Registry, defaults, test_json},
    *,
};
use crate::control_plane::api::validate::invalid_status;

fn defaulted(api_version: &str, kind: &str, object: &Value) -> (Resource, Value) {
    let resource = (**Registry::builtin().by_kind(api_version, kind).expect(kind)).clone();
    let mut whole = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}});
    json_patch::merge(&mut whole, object);
    defaults::apply(&resource, &mut whole);
    (resource, whole)
}

fn texts(api_version: &str, kind: &str, object: &Value) -> Vec<String> {
    let (resource, whole) = defaulted(api_version, kind, object);
    super::object(&resource, &whole, None)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn changed(api_version: &str, kind: &str, old: &Value, new: &Value) -> Vec<String> {
    let (resource, old) = defaulted(api_version, kind, old);
    let (_, new) = defaulted(api_version, kind, new);
    super::object(&resource, &new, Some(&old))
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn pod(container: Value) -> Value {
    let mut whole = json!({"name": "c", "image": "i:1"});
    json_patch::merge(&mut whole, &container);
    json!({"spec": {"containers": [whole]}})
}

fn deployment(spec: Value) -> Value {
    let mut whole = json!({"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {"metadata":
        {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}});
    json_patch::merge(&mut whole, &json!({"spec": spec}));
    whole
}

#[test]
fn good_objects_pass() {
    assert_eq!(
        texts("v1", "Pod", &pod(json!({"ports": [{"containerPort": 80}]}))),
        Vec::<String>::new()
    );
    assert_eq!(
        texts("apps/v1", "Deployment", &deployment(json!({}))),
        Vec::<String>::new()
    );
    for (api_version, kind, object) in [
        (
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}], "clusterIP": "10.96.0.9"}}),
        ),
        ("v1", "Service", json!({"spec": {"clusterIP": "None"}})),
        ("v1", "ConfigMap", json!({"data": {"a.b": "c"}})),
        ("v1", "Secret", json!({"stringData": {"a": "b"}})),
        ("v1", "Namespace", json!({})),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"ingress": [{"from": [{"podSelector": {}}]}]}}),
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            json!({"metadata": {"name": "system:x"}, "rules": []}),
        ),
        ("coordination.k8s.io/v1", "Lease", json!({"spec": {}})),
    ] {
        assert_eq!(texts(api_version, kind, &object), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn pods() {
    let empty = json!({"spec": {"containers": []}});
    assert_eq!(texts("v1", "Pod", &empty), ["spec.containers: Required value"]);
    for (container, expected) in [
        (json!({"image": null}), "spec.containers[0].image: Required value"),
        (json!({"name": null}), "spec.containers[0].name: Required value"),
        (
            json!({"ports": [{"containerPort": 70000}]}),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"containerPort": 1, "protocol": "HTTP"}]}),
            "spec.containers[0].ports[0].protocol: Unsupported value: \"HTTP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"imagePullPolicy": "Sometimes"}),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"readinessProbe": {}}),
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"env": [{"value": "x"}]}),
            "spec.containers[0].env[0].name: Required value",
        ),
    ] {
        assert_eq!(texts("v1", "Pod", &pod(container)), [expected]);
    }
    let twice = json!({"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}],
        "volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]}});
    assert_eq!(
        texts("v1", "Pod", &twice),
        [
            "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
            "spec.containers[1].name: Duplicate value: \"a\"",
        ]
    );
}

#[test]
fn names_and_labels() {
    let bad = texts("v1", "ConfigMap", &json!({"metadata": {"name": "A_b"}}));
    assert!(
        bad[0].starts_with("metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must"),
        "{bad:?}"
    );
    let label = texts("v1", "ConfigMap", &json!({"metadata": {"labels": {"a": "b c"}}}));
    assert!(
        label[0].starts_with("metadata.labels: Invalid value: \"b c\": a valid label must be an empty string"),
        "{label:?}"
    );
    let service = texts(
        "v1",
        "Service",
        &json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 1}]}}),
    );
    assert!(service[0].contains("a DNS-1035 label must"), "{service:?}");
}

#[test]
fn deployments() {
    for (spec, expected) in [
        (
            json!({"replicas": -1}),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (json!({"selector": null}), "spec.selector: Required value"),
        (
            json!({"selector": {"matchLabels": null}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            json!({"template": {"metadata": {"labels": {"app": "b"}}}}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "Never"}}}),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ),
        (
            json!({"template": {"spec": {"containers": [{"name": "c"}]}}}),
            "spec.template.spec.containers[0].image: Required value",
        ),
    ] {
        assert_eq!(texts("apps/v1", "Deployment", &deployment(spec)), [expected]);
    }
}

#[test]
fn services_policies_secrets_and_roles() {
    for (api_version, kind, object, expected) in [
        ("v1", "Service", json!({"spec": {}}), "spec.ports: Required value"),
        (
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 70000, "targetPort": 1}]}}),
            "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"ingress": [{"from": [{}]}]}}),
            "spec.ingress[0].from[0]: Required value: must specify a peer",
        ),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}}),
            "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
        ),
        (
            "v1",
            "Secret",
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
            "data[tls.key]: Required value",
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
            "rules[0].verbs: Required value: verbs must contain at least one value",
        ),
    ] {
        assert_eq!(texts(api_version, kind, &object), [expected]);
    }
    let key = texts("v1", "ConfigMap", &json!({"data": {"a b": "c"}}));
    assert!(
        key[0].starts_with("data[a b]: Invalid value: \"a b\": a valid config key must consist of"),
        "{key:?}"
    );
}

#[test]
fn what_may_not_change() {
    let selector = changed(
        "apps/v1",
        "Deployment",
        &deployment(json!({})),
        &deployment(
            json!({"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}),
        ),
    );
    assert_eq!(
        selector,
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"]
    );
    let image = changed(
        "v1",
        "Pod",
        &pod(json!({})),
        &pod(json!({"image": "i:2", "imagePullPolicy": "IfNotPresent"})),
    );
    assert_eq!(image, Vec::<String>::new());
    let command = changed("v1", "Pod", &pod(json!({})), &pod(json!({"command": ["x"]})));
    assert!(
        command[0].starts_with("spec: Forbidden: pod updates may not change fields other than"),
        "{command:?}"
    );
    let mut bound = pod(json!({}));
    bound["spec"]["nodeName"] = json!("node");
    assert_eq!(changed("v1", "Pod", &pod(json!({})), &bound), Vec::<String>::new());
    let mut debugged = pod(json!({}));
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "d:1"}]);
    assert_eq!(changed("v1", "Pod", &pod(json!({})), &debugged), Vec::<String>::new());
    assert_eq!(changed("v1", "Pod", &debugged, &pod(json!({}))).len(), 1);
    let sealed = json!({"immutable": true, "data": {"a": "b"}});
    let broken = json!({"immutable": true, "data": {"a": "c"}});
    assert_eq!(
        changed("v1", "ConfigMap", &sealed, &broken),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    let service = |ip: &str| json!({"spec": {"clusterIP": ip, "ports": [{"port": 1}]}});
    assert_eq!(
        changed("v1", "Service", &service("10.96.0.5"), &service("10.96.0.6")),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.6\"]: may not change once set"]
    );
}

#[test]
fn the_status_lists_all_causes() {
    let (resource, whole) = defaulted(
        "apps/v1",
        "Deployment",
        &deployment(json!({"replicas": -1, "minReadySeconds": -1})),
    );
    let errors = super::object(&resource, &whole, None);
    let status = invalid_status(&resource, "x", &errors);
    assert_eq!(
        status["message"],
        "Deployment.apps \"x\" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
         spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0]"
    );
    assert_eq!(status["code"], 422);
    let cause = json!({"reason": "FieldValueInvalid", "field": "spec.replicas",
        "message": "Invalid value: -1: must be greater than or equal to 0"});
    assert_eq!(status["details"]["causes"][0], cause);
}

proptest! {
    #[test]
    fn never_panics(new in test_json::object(), old in test_json::object()) {
        for resource in Registry::builtin().iter() {
            let _ = super::object(resource, &new, Some(&old));
        }
    }
}

#[test]
fn what_a_service_cannot_ask_for() {
    let ports = |port: Value| json!([port, {"name": "other", "port": 81, "nodePort": 30_081}]);
    let port = json!({"name": "http", "port": 80});
    for (change, expected) in [
        (
            json!({"ports": [{"port": 80, "protocol": "SCTP"}]}),
            "spec.ports[0].protocol: Invalid value: \"SCTP\": this cluster does not carry SCTP: use TCP or UDP",
        ),
        (
            json!({"externalIPs": ["192.0.2.7", "here"]}),
            "spec.externalIPs[1]: Invalid value: \"here\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"internalTrafficPolicy": "Near"}),
            "spec.internalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
        ),
        (
            json!({"type": "NodePort", "externalTrafficPolicy": "Near"}),
            "spec.externalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
        ),
        (
            json!({"type": "NodePort", "ports": ports(json!({"name": "http", "port": 80, "nodePort": 30_081}))}),
            "spec.ports[1].nodePort: Duplicate value: 30081",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86_401}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
        ),
    ] {
        let mut spec = json!({"ports": [port.clone()]});
        json_patch::merge(&mut spec, &change);
        assert_eq!(texts("v1", "Service", &json!({"spec": spec})), [expected], "{change}");
    }
    for good in [
        json!({"type": "NodePort", "ports": ports(json!({"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30_081}))}),
        json!({"ports": [port], "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86_400}}}),
        json!({"ports": [{"port": 80}], "sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}),
    ] {
        assert_eq!(texts("v1", "Service", &json!({"spec": good})), [""; 0], "{good}");
    }
}

#[test]
fn volumes_claims_and_classes() {
    let volume = |more: Value| {
        let mut spec =
            json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/mnt/a"}});
        json_patch::merge(&mut spec, &more);
        json!({"spec": spec})
    };
    let none: [&str; 0] = [];
    assert_eq!(texts("v1", "PersistentVolume", &volume(json!({}))), none);
    for (more, expected) in [
        (json!({"accessModes": null}), "spec.accessModes: Required value"),
        (json!({"capacity": null}), "spec.capacity: Required value"),
        (
            json!({"hostPath": null}),
            "spec: Required value: must specify a volume type",
        ),
        (
            json!({"nfs": {"server": "s", "path": "/"}}),
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"hostPath": {"path": "/mnt/../etc"}}),
            "spec.hostPath.path: Invalid value: \"/mnt/../etc\": must not contain '..'",
        ),
        (
            json!({"persistentVolumeReclaimPolicy": "Burn"}),
            "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
        ),
    ] {
        assert_eq!(
            texts("v1", "PersistentVolume", &volume(more.clone())),
            [expected],
            "{more}"
        );
    }
    assert_eq!(
        changed(
            "v1",
            "PersistentVolume",
            &volume(json!({})),
            &volume(json!({"hostPath": {"path": "/mnt/b"}}))
        ),
        ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]
    );
    let class = |more: Value| {
        let mut class = json!({"provisioner": "p"});
        json_patch::merge(&mut class, &more);
        class
    };
    let of = |kind: &str, more: Value| texts("storage.k8s.io/v1", kind, &class(more));
    assert_eq!(of("StorageClass", json!({})), none);
    assert_eq!(
        of("StorageClass", json!({"provisioner": null})),
        ["provisioner: Required value"]
    );
    assert_eq!(
        of("StorageClass", json!({"volumeBindingMode": "Later"})),
        ["volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\""]
    );
    assert_eq!(
        changed(
            "storage.k8s.io/v1",
            "StorageClass",
            &class(json!({})),
            &class(json!({"provisioner": "q"}))
        ),
        ["provisioner: Forbidden: updates to provisioner are forbidden."]
    );
}

#[test]
fn a_claim_is_given_its_volume_once() {
    let claim = |more: Value| {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        json_patch::merge(&mut spec, &more);
        json!({"spec": spec})
    };
    let change = |from: Value, to: Value| changed("v1", "PersistentVolumeClaim", &claim(from), &claim(to));
    let none: [&str; 0] = [];
    let frozen = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    assert_eq!(change(json!({}), json!({"volumeName": "v"})), none);
    assert_eq!(change(json!({}), json!({"storageClassName": "standard"})), none);
    assert_eq!(change(json!({"volumeName": "v"}), json!({"volumeName": "w"})), [frozen]);
    assert_eq!(
        change(json!({"storageClassName": ""}), json!({"storageClassName": "standard"})),
        [frozen]
    );
    assert_eq!(change(json!({}), json!({"accessModes": ["ReadWriteMany"]})), [frozen]);
    assert_eq!(
        change(json!({}), json!({"resources": {"requests": {"storage": "2Gi"}}})),
        none
    );
    assert_eq!(
        change(json!({}), json!({"resources": {"requests": {"storage": "1Mi"}}})),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
}

#[test]
fn a_stateful_set_mounts_what_it_claims() {
    let set = |mounted: &str| {
        let container = json!({"name": "c", "image": "i:1", "volumeMounts": [{"name": mounted, "mountPath": "/data"}]});
        json!({"spec": {"selector": {"matchLabels": {"app": "a"}}, "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container]}}}})
    };
    assert_eq!(texts("apps/v1", "StatefulSet", &set("data")), [""; 0]);
    assert_eq!(
        texts("apps/v1", "StatefulSet", &set("other")),
        ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""]
    );
}

#[test]
fn gates_are_only_taken_away() {
    let gated = |gates: Value, more: Value| {
        let mut pod = pod(json!({}));
        pod["spec"]["schedulingGates"] = gates;
        json_patch::merge(&mut pod, &json!({"spec": more}));
        pod
    };
    let (one, two) = (json!([{"name": "a"}]), json!([{"name": "a"}, {"name": "b"}]));
    let selector = json!({"nodeSelector": {"zone": "a"}});
    let near = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}}});
    let none: [&str; 0] = [];
    let change = |from: Value, to: Value| changed("v1", "Pod", &from, &to);
    assert_eq!(
        change(gated(two.clone(), json!({})), gated(one.clone(), json!({}))),
        none
    );
    assert_eq!(change(gated(one.clone(), json!({})), pod(json!({}))), none);
    assert_eq!(
        change(gated(one.clone(), json!({})), gated(two, json!({}))),
        ["spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate"]
    );
    assert_eq!(
        change(gated(one.clone(), json!({})), gated(one.clone(), selector.clone())),
        none
    );
    assert_eq!(change(gated(one.clone(), json!({})), gated(one.clone(), near)), none);
    assert_eq!(
        change(gated(one.clone(), selector.clone()), gated(one.clone(), json!({}))).len(),
        1
    );
    assert_eq!(
        change(
            gated(one.clone(), selector.clone()),
            gated(one.clone(), json!({"nodeSelector": {"zone": "b"}}))
        )
        .len(),
        1
    );
    assert_eq!(change(pod(json!({})), gated(json!(null), selector)).len(), 1);
    assert_eq!(
        texts("v1", "Pod", &gated(one, json!({"nodeName": "n"}))),
        ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]
    );
}

#[test]
fn priorities_of_users_are_below_the_systems() {
    let of = |name: &str, value: i64| {
        texts(
            "scheduling.k8s.io/v1",
            "PriorityClass",
            &json!({"metadata": {"name": name}, "value": value}),
        )
    };
    let none: [&str; 0] = [];
    assert_eq!(of("mine", 1_000_000_000), none);
    assert_eq!(
        of("mine", 1_000_000_001),
        ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
    );
    assert_eq!(of("system-node-critical", 2_000_001_000), none);
    assert_eq!(of("system-mine", 1).len(), 1);
}
