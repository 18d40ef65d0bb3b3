//! Cells of real-life objects.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::test_json, *};
use crate::control_plane::api::Registry;

const NOW: &str = "2026-01-02T00:00:00Z";

fn now() -> jiff::Timestamp {
    NOW.parse().expect("a time")
}

fn cells(api_version: &str, kind: &str, object: Value) -> Vec<String> {
    let registry = Registry::builtin();
    let resource = registry.by_kind(api_version, kind).expect(kind);
    let table = table(resource, &[object], IncludeObject::None, now(), json!({}), true);
    let columns = table["columnDefinitions"].as_array().expect("columns").len();
    let cells = table["rows"][0]["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), columns, "{kind}");
    cells
        .iter()
        .map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned))
        .collect()
}

fn pod(status: Value, extra: Value) -> Vec<String> {
    let mut object = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T23:59:00Z"},
        "spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}]}, "status": status});
    json_patch::merge(&mut object, &extra);
    cells("v1", "Pod", object)
}

#[test]
fn a_running_pod() {
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    let restarted = json!({"ready": true, "restartCount": 2, "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T23:59:30Z"}}});
    let status =
        json!({"phase": "Running", "podIPs": [{"ip": "10.244.0.9"}], "containerStatuses": [running, restarted]});
    assert_eq!(
        pod(status, json!({})),
        [
            "p",
            "2/2",
            "Running",
            "2 (30s ago)",
            "60s",
            "10.244.0.9",
            "n",
            "<none>",
            "<none>"
        ]
    );
}

#[test]
fn pod_status_is_what_kubectl_shows() {
    let waiting = |reason: &str| json!({"restartCount": 0, "state": {"waiting": {"reason": reason}}});
    let ended = |code: i64, reason: &str| json!({"restartCount": 0, "state": {"terminated": {"exitCode": code, "reason": reason}}});
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    let gone = json!({"metadata": {"deletionTimestamp": NOW}});
    let init = json!({"spec": {"initContainers": [{"name": "i"}, {"name": "j"}]}});
    let sidecar = json!({"spec": {"initContainers": [{"name": "i", "restartPolicy": "Always"}]}});
    let none = json!({});
    for (status, extra, ready, expected) in [
        (json!({"phase": "Pending"}), &none, "0/2", "Pending"),
        (
            json!({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}),
            &none,
            "0/2",
            "ContainerCreating",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff"), running]}),
            &none,
            "1/2",
            "CrashLoopBackOff",
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [waiting("ErrImagePull")]}),
            &none,
            "0/2",
            "ErrImagePull",
        ),
        (
            json!({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}),
            &none,
            "0/2",
            "Completed",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [ended(1, "Error")]}),
            &none,
            "0/2",
            "Error",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [ended(3, "")]}),
            &none,
            "0/2",
            "ExitCode:3",
        ),
        (json!({"phase": "Failed", "reason": "Evicted"}), &none, "0/2", "Evicted"),
        (
            json!({"phase": "Running", "containerStatuses": [running]}),
            &gone,
            "1/2",
            "Terminating",
        ),
        (
            json!({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}),
            &gone,
            "0/2",
            "Completed",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            &init,
            "0/2",
            "Init:0/2",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [ended(0, "Completed"), waiting("PodInitializing")]}),
            &init,
            "0/2",
            "Init:1/2",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [ended(1, "Error")]}),
            &init,
            "0/2",
            "Init:Error",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [waiting("CrashLoopBackOff")]}),
            &init,
            "0/2",
            "Init:CrashLoopBackOff",
        ),
        (
            json!({"phase": "Running", "initContainerStatuses": [{"name": "i", "started": true, "ready": true, "state": {"running": {}}}],
            "containerStatuses": [running, running]}),
            &sidecar,
            "3/3",
            "Running",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [ended(0, "Completed"), running]}),
            &none,
            "1/2",
            "NotReady",
        ),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            &none,
            "0/2",
            "SchedulingGated",
        ),
    ] {
        let cells = pod(status.clone(), extra.clone());
        assert_eq!((cells[1].as_str(), cells[2].as_str()), (ready, expected), "{status}");
    }
}

#[test]
fn other_kinds() {
    let meta = json!({"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"});
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j:2"}]}});
    for (api_version, kind, object, expected) in [
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 2, "template": template, "selector": {"matchLabels": {"app": "x"}}},
                "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}),
            vec!["x", "1/2", "2", "1", "24h", "a,b", "i:1,j:2", "app=x"],
        ),
        (
            "apps/v1",
            "ReplicaSet",
            json!({"spec": {"replicas": 2, "template": template}, "status": {"replicas": 2, "readyReplicas": 1}}),
            vec!["x", "2", "2", "1", "24h", "a,b", "i:1,j:2", "<none>"],
        ),
        (
            "v1",
            "Service",
            json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
                "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}],
                "selector": {"app": "x"}}}),
            vec![
                "x",
                "ClusterIP",
                "10.96.0.1",
                "<none>",
                "80/TCP,53:30053/UDP",
                "24h",
                "app=x",
            ],
        ),
        (
            "v1",
            "Service",
            json!({"spec": {"type": "LoadBalancer", "clusterIPs": ["None"]}}),
            vec!["x", "LoadBalancer", "None", "<pending>", "<none>", "24h", "<none>"],
        ),
        (
            "v1",
            "Node",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1", "osImage": "os", "kernelVersion": "6", "containerRuntimeVersion": "z://1"}}}),
            vec![
                "x",
                "Ready,SchedulingDisabled",
                "control-plane",
                "24h",
                "v1",
                "10.0.0.1",
                "<none>",
                "os",
                "6",
                "z://1",
            ],
        ),
        (
            "storage.k8s.io/v1",
            "CSIDriver",
            json!({"spec": {"attachRequired": false, "podInfoOnMount": true, "volumeLifecycleModes": ["Persistent", "Ephemeral"]}}),
            vec![
                "x",
                "false",
                "true",
                "false",
                "<unset>",
                "false",
                "Persistent,Ephemeral",
                "24h",
            ],
        ),
        (
            "v1",
            "Namespace",
            json!({"status": {"phase": "Active"}}),
            vec!["x", "Active", "24h"],
        ),
        (
            "v1",
            "ConfigMap",
            json!({"data": {"a": "b"}, "binaryData": {"c": ""}}),
            vec!["x", "2", "24h"],
        ),
        (
            "v1",
            "Secret",
            json!({"type": "Opaque", "data": {"a": "b"}}),
            vec!["x", "Opaque", "1", "24h"],
        ),
        ("v1", "ServiceAccount", json!({}), vec!["x", "0", "24h"]),
        (
            "v1",
            "Event",
            json!({"type": "Normal", "reason": "Started", "message": "Started container\n", "count": 3,
                "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
                "source": {"component": "kubelet", "host": "n"},
                "firstTimestamp": "2026-01-01T23:00:00Z", "lastTimestamp": "2026-01-01T23:59:55Z"}),
            vec![
                "5s",
                "Normal",
                "Started",
                "pod/p",
                "spec.containers{a}",
                "kubelet, n",
                "Started container",
                "60m",
                "3",
                "x",
            ],
        ),
        (
            "events.k8s.io/v1",
            "Event",
            json!({"type": "Normal", "reason": "R", "note": "n", "regarding": {"kind": "Node", "name": "m"},
                "reportingController": "c", "eventTime": "2026-01-01T23:59:50.123456Z"}),
            vec!["10s", "Normal", "R", "node/m", "", "c", "n", "10s", "1", "x"],
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1"]},
                {"addresses": ["2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]}),
            vec!["x", "IPv4", "80", "1,2,3 + 1 more...", "24h"],
        ),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["z", "b"]}]}}}),
            vec!["x", "a in (b,z)", "24h"],
        ),
        (
            "coordination.k8s.io/v1",
            "Lease",
            json!({"spec": {"holderIdentity": "me"}}),
            vec!["x", "me", "24h"],
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
            vec!["x", "Role/r", "24h", "u", "", "n/s"],
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({}),
            vec!["x", "2026-01-01T00:00:00Z"],
        ),
        (
            "batch/v1",
            "Job",
            json!({"spec": {"completions": 3, "template": template}, "status": {"succeeded": 3,
                "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:03Z",
                "conditions": [{"type": "Complete", "status": "True"}]}}),
            vec!["x", "Complete", "3/3", "63s", "24h", "a,b", "i:1,j:2", "<none>"],
        ),
    ] {
        let mut whole = json!({"metadata": meta});
        json_patch::merge(&mut whole, &object);
        assert_eq!(cells(api_version, kind, whole), expected);
    }
}

#[test]
fn ages_as_kubectl_prints_them() {
    for (seconds, text) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (5, "5s"),
        (119, "119s"),
        (120, "2m"),
        (182, "3m2s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (9 * 3600, "9h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (10 * 86400, "10d"),
        (800 * 86400, "2y70d"),
        (3000 * 86400, "8y"),
    ] {
        assert_eq!(human_duration(seconds), text, "{seconds}");
    }
}

#[test]
fn every_row_has_as_many_cells_as_columns() {
    for resource in Registry::builtin().iter() {
        cells(
            &resource.api_version(),
            &resource.kind,
            json!({"metadata": {"name": "x"}}),
        );
    }
}

#[test]
fn rows_carry_what_was_asked_for() {
    let registry = Registry::builtin();
    let pods = registry.by_kind("v1", "Pod").expect("Pod");
    let object = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Succeeded"}});
    let of = |include, columns| {
        table(
            pods,
            std::slice::from_ref(&object),
            include,
            now(),
            json!({"resourceVersion": "7"}),
            columns,
        )
    };
    let metadata = of(IncludeObject::Metadata, true);
    assert_eq!(metadata["metadata"]["resourceVersion"], "7");
    assert_eq!(metadata["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(metadata["rows"][0]["conditions"][0]["type"], "Completed");
    assert_eq!(metadata["columnDefinitions"][0]["format"], "name");
    assert_eq!(metadata["columnDefinitions"][5]["priority"], 1);
    assert_eq!(of(IncludeObject::Object, true)["rows"][0]["object"], object);
    assert!(of(IncludeObject::None, false)["columnDefinitions"].is_null());
    assert_eq!(IncludeObject::parse("Some"), None);
}

proptest! {
    #[test]
    fn never_panics(object in test_json::object()) {
        for resource in Registry::builtin().iter() {
            let _ = table(resource, std::slice::from_ref(&object), IncludeObject::Metadata, now(), Value::Null, true);
        }
    }
}
