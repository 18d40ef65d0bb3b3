//! PersistentVolumes from end to end, under the real `kubectl`: as whoever runs the tests, and where that is root, as an ordinary
//! user too.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use lab::{Lab, everywhere, pod, text};
use serde_json::{Value, json};

fn claim(name: &str, spec: Value) -> Value {
    let mut all = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": all})
}

fn volume(name: &str, spec: Value) -> Value {
    let mut all = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "16Mi"}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "labels": {"disk": name}}, "spec": all})
}

fn user(name: &str, claim: &str) -> Value {
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]);
    let mounts = json!([{"name": "v", "mountPath": "/data"}]);
    pod(name, json!({"volumeMounts": mounts}), json!({"volumes": volumes}))
}

/// The words of the row that `kubectl get` prints of an object, under its columns.
fn row(lab: &Lab, kind: &str, name: &str) -> (Vec<String>, Vec<String>) {
    let printed = lab.kubectl(&["get", kind, name]);
    let words = |line: &str| {
        line.split("  ")
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let lines: Vec<Vec<String>> = printed.lines().map(words).collect();
    (lines[0].clone(), lines[1].clone())
}

fn phase(lab: &Lab, kind: &str, name: &str) -> String {
    lab.get(&[kind, name])["status"]["phase"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn is_gone(lab: &Lab, kind: &str, name: &str) -> bool {
    text(&lab.try_kubectl(&["get", kind, name]).stderr).contains("not found")
}

fn bound_to(lab: &Lab, claim: &str) -> String {
    lab.until("the claim is bound", || phase(lab, "pvc", claim) == "Bound");
    lab.get(&["pvc", claim])["spec"]["volumeName"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_claim_gets_a_volume_of_the_default_class() {
    everywhere(|lab| {
        let (_, class) = row(lab, "sc", "standard");
        assert_eq!(
            class[..5],
            [
                "standard (default)",
                "ztlab.dev/local-path",
                "Delete",
                "WaitForFirstConsumer",
                "false"
            ]
        );
        lab.apply(&[claim("data", json!({}))]);
        lab.event(
            "data",
            "WaitForFirstConsumer: waiting for first consumer to be created before binding",
        );
        assert_eq!(phase(lab, "pvc", "data"), "Pending");
        assert_eq!(lab.get(&["pvc", "data"])["spec"]["storageClassName"], "standard");
        lab.apply(&[user("one", "data")]);
        lab.ready("one");
        let name = bound_to(lab, "data");
        lab.event(
            "data",
            &format!("ProvisioningSucceeded: Successfully provisioned volume {name}"),
        );
        let (columns, shown) = row(lab, "pvc", "data");
        assert_eq!(
            columns[..6],
            ["NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS"]
        );
        assert_eq!(shown[..6], ["data", "Bound", &name, "16Mi", "RWO", "standard"]);
        let (_, shown) = row(lab, "pv", &name);
        assert_eq!(
            shown[..7],
            [&name, "16Mi", "RWO", "Delete", "Bound", "default/data", "standard"]
        );
        let described = lab.kubectl(&["describe", "pvc", "data"]);
        assert!(described.contains("Used By:       one"), "{described}");

        // its data outlives the pod, and goes with the claim
        lab.sh("one", "echo kept > /data/file");
        let place = lab.dir().join("volumes").join(&name);
        assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), "kept\n");
        lab.kubectl(&["delete", "pod", "one"]);
        lab.apply(&[user("two", "data")]);
        lab.ready("two");
        assert_eq!(lab.sh("two", "cat /data/file"), "kept\n");
        lab.kubectl(&["delete", "pvc", "data", "--wait=false"]);
        let (_, shown) = row(lab, "pvc", "data");
        assert_eq!(shown[1], "Terminating", "a pod uses it");
        assert_eq!(lab.sh("two", "cat /data/file"), "kept\n");
        lab.kubectl(&["delete", "pod", "two"]);
        lab.until("the claim goes", || is_gone(lab, "pvc", "data"));
        lab.until("its volume goes", || is_gone(lab, "pv", &name));
        assert!(!place.exists());
    });
}

#[test]
fn classes_say_when_and_for_how_long() {
    everywhere(|lab| {
        let class = |name: &str, mode: &str, policy: &str| {
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
                "provisioner": "ztlab.dev/local-path", "volumeBindingMode": mode, "reclaimPolicy": policy})
        };
        lab.apply(&[
            claim("early", json!({"storageClassName": "at-once"})),
            claim("none", json!({"storageClassName": ""})),
            claim("foreign", json!({"storageClassName": "theirs"})),
            user("waits", "none"),
            user("lost", "nowhere"),
        ]);
        lab.event(
            "early",
            "ProvisioningFailed: storageclass.storage.k8s.io \"at-once\" not found",
        );
        lab.event(
            "none",
            "FailedBinding: no persistent volumes available for this claim and no storage class is set",
        );
        lab.event(
            "waits",
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        );
        lab.event(
            "lost",
            "0/1 nodes are available: persistentvolumeclaim \"nowhere\" not found.",
        );
        let mut theirs = class("theirs", "Immediate", "Delete");
        theirs["provisioner"] = json!("example.com/disk");
        lab.apply(&[class("at-once", "Immediate", "Retain"), theirs]);
        let name = bound_to(lab, "early");
        lab.event("foreign", "ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/disk'");
        assert_eq!(phase(lab, "pvc", "foreign"), "Pending");
        lab.apply(&[user("writer", "early")]);
        lab.ready("writer");
        lab.sh("writer", "echo kept > /data/file");
        lab.kubectl(&["delete", "pod", "writer"]);
        lab.kubectl(&["delete", "pvc", "early"]);
        lab.until("the volume is kept", || phase(lab, "pv", &name) == "Released");
        let place = lab.dir().join("volumes").join(&name);
        assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), "kept\n");
        lab.kubectl(&["delete", "pv", &name]);
        assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), "kept\n");

        // what a claim may not
        let grows = lab.try_kubectl(&[
            "patch",
            "pvc",
            "foreign",
            "-p",
            r#"{"spec": {"resources": {"requests": {"storage": "1Gi"}}}}"#,
        ]);
        assert!(
            text(&grows.stderr).contains("only dynamically provisioned pvc can be resized"),
            "{}",
            text(&grows.stderr)
        );
        let moves = lab.try_kubectl(&[
            "patch",
            "pvc",
            "foreign",
            "-p",
            r#"{"spec": {"storageClassName": "standard"}}"#,
        ]);
        assert!(
            text(&moves.stderr).contains("spec: Forbidden: spec is immutable after creation"),
            "{}",
            text(&moves.stderr)
        );
    });
}

#[test]
fn volumes_made_by_hand_are_matched_and_protected() {
    everywhere(|lab| {
        let place = |name: &str| json!({"path": lab.dir().join("volumes").join(name), "type": "DirectoryOrCreate"});
        let hand = |name: &str, size: &str, policy: &str| {
            volume(
                name,
                json!({"storageClassName": "by-hand", "capacity": {"storage": size}, "hostPath": place(name),
                    "persistentVolumeReclaimPolicy": policy}),
            )
        };
        lab.apply(&[
            hand("small", "1Mi", "Retain"),
            hand("right", "20Mi", "Delete"),
            hand("large", "1Gi", "Retain"),
        ]);
        lab.until("they are there", || phase(lab, "pv", "large") == "Available");
        lab.apply(&[claim("first", json!({"storageClassName": "by-hand"}))]);
        assert_eq!(bound_to(lab, "first"), "right", "the smallest that is large enough");
        let selector = json!({"matchLabels": {"disk": "small"}});
        lab.apply(&[claim(
            "second",
            json!({"storageClassName": "by-hand", "selector": selector, "resources": {"requests": {"storage": "1Mi"}}}),
        )]);
        assert_eq!(bound_to(lab, "second"), "small");
        let shared = json!({"storageClassName": "by-hand", "accessModes": ["ReadWriteMany"]});
        lab.apply(&[
            claim("shared", shared),
            claim("named", json!({"storageClassName": "by-hand", "volumeName": "small"})),
        ]);
        lab.event(
            "named",
            "FailedBinding: volume \"small\" already bound to a different claim.",
        );
        assert_eq!(phase(lab, "pvc", "shared"), "Pending");

        // a bound volume stays until its claim goes, and what is in it goes with the policy
        lab.apply(&[user("writer", "first")]);
        lab.ready("writer");
        lab.sh("writer", "echo there > /data/file");
        lab.kubectl(&["delete", "pv", "right", "--wait=false"]);
        let (_, shown) = row(lab, "pv", "right");
        assert_eq!(shown[4], "Terminating");
        assert_eq!(lab.sh("writer", "cat /data/file"), "there\n");
        lab.kubectl(&["delete", "pod/writer", "pvc/first"]);
        lab.until("the volume goes", || is_gone(lab, "pv", "right"));
        assert!(!lab.dir().join("volumes/right").exists());

        // a claim whose volume is taken away by force is lost
        lab.kubectl(&[
            "patch",
            "pv",
            "small",
            "--type=merge",
            "-p",
            r#"{"metadata": {"finalizers": null}}"#,
        ]);
        lab.kubectl(&["delete", "pv", "small"]);
        lab.until("the claim is lost", || phase(lab, "pvc", "second") == "Lost");
        lab.event(
            "second",
            "ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
    });
}

#[test]
fn a_restore_gives_fresh_volumes_and_a_restart_keeps_them() {
    everywhere(|lab| {
        let place = lab.dir().join("volumes/hand");
        let kept = json!({"storageClassName": "by-hand", "hostPath": {"path": place, "type": "DirectoryOrCreate"}});
        lab.apply(&[
            claim("data", json!({})),
            user("user", "data"),
            volume("hand", kept),
            claim("hand", json!({"storageClassName": "by-hand", "volumeName": "hand"})),
            user("hand", "hand"),
        ]);
        for name in ["user", "hand"] {
            lab.ready(name);
            lab.sh(name, "echo before > /data/file");
        }
        let ztlab = |args: &[&str]| {
            let output = lab.ztlab(args);
            assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        };
        ztlab(&["cluster", "stop", "t"]);
        ztlab(&["cluster", "start", "t"]);
        for name in ["user", "hand"] {
            lab.ready(name);
            assert_eq!(lab.sh(name, "cat /data/file"), "before\n", "{name}");
        }
        ztlab(&["cluster", "snapshot", "t", "--as", "s"]);
        let (old, uid) = (
            bound_to(lab, "data"),
            lab.get(&["pod", "user"])["metadata"]["uid"].clone(),
        );
        ztlab(&["cluster", "restore", "t", "s"]);
        lab.until("there is another pod", || {
            lab.get(&["pod", "user"])["metadata"]["uid"] != uid
        });
        for name in ["user", "hand"] {
            lab.ready(name);
            assert_eq!(lab.sh(name, "ls /data"), "", "{name}");
        }
        assert_ne!(bound_to(lab, "data"), old);
        lab.until("the old volume's data goes", || {
            !lab.dir().join("volumes").join(&old).exists()
        });
        assert!(is_gone(lab, "pv", &old));
    });
}
