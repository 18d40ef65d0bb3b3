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

fn ztlab(lab: &Lab, args: &[&str]) -> String {
    let output = lab.ztlab(args);
    assert!(
        output.status.success(),
        "{args:?}: {}\n{}",
        text(&output.stderr),
        lab.log()
    );
    text(&output.stdout)
}

fn read(lab: &Lab, volume: &str, file: &str) -> Option<String> {
    std::fs::read_to_string(lab.dir().join("volumes").join(volume).join(file)).ok()
}

fn trees(lab: &Lab) -> usize {
    std::fs::read_dir(lab.dir().join("snapshots/trees")).unwrap().count()
}

/// A pod that uses a path of the node, under its own name.
fn on_the_node(name: &str, path: &str) -> Value {
    let volumes = json!([{"name": "v", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]);
    let mounts = json!([{"name": "v", "mountPath": "/data"}]);
    pod(name, json!({"volumeMounts": mounts}), json!({"volumes": volumes}))
}

#[test]
fn volumes_come_back_with_a_snapshot() {
    everywhere(|lab| {
        let place = lab.dir().join("volumes/hand");
        let kept = json!({"storageClassName": "by-hand", "hostPath": {"path": place, "type": "DirectoryOrCreate"}});
        let names = ["user", "hand", "idle", "node"];
        lab.apply(&[
            claim("data", json!({})),
            user("user", "data"),
            volume("hand", kept),
            claim("hand", json!({"storageClassName": "by-hand", "volumeName": "hand"})),
            user("hand", "hand"),
            claim("idle", json!({})),
            user("idle", "idle"),
            on_the_node("node", "/data/state"),
        ]);
        for name in names {
            lab.ready(name);
            lab.sh(
                name,
                "echo before > /data/file; mkdir -m 700 /data/dir; ln -s /etc/passwd /data/dir/link",
            );
        }
        ztlab(lab, &["cluster", "stop", "t"]);
        ztlab(lab, &["cluster", "start", "t"]);
        for name in ["user", "hand", "idle"] {
            lab.ready(name);
            assert_eq!(lab.sh(name, "cat /data/file"), "before\n", "{name}: a restart keeps it");
        }
        lab.ready("node");
        assert_eq!(lab.sh("node", "ls /data"), "", "the node's own directories are memory");
        lab.sh("node", "echo before > /data/file; mkdir /data/dir");
        let taken = ztlab(lab, &["cluster", "snapshot", "t", "--as", "s", "--json"]);
        let taken: Value = serde_json::from_str(&taken).unwrap();
        assert_eq!(taken["snapshot"]["volumes"], 3, "{taken}");

        let (data, idle) = (bound_to(lab, "data"), bound_to(lab, "idle"));
        let uid = |kind: &str, name: &str| lab.get(&[kind, name])["metadata"]["uid"].clone();
        let before = [
            uid("pvc", "data"),
            uid("pv", &data),
            uid("pvc", "idle"),
            uid("pv", &idle),
        ];
        let inode = |volume: &str| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(lab.dir().join("volumes").join(volume)).unwrap().ino()
        };
        let idle_is = inode(&idle);
        for name in ["user", "hand", "node"] {
            lab.sh(name, "echo after > /data/file; echo more > /data/more; rm -r /data/dir");
        }
        lab.kubectl(&["delete", "pod/hand", "pvc/hand", "pv/hand"]);
        lab.apply(&[claim("late", json!({})), user("late", "late")]);
        lab.ready("late");
        let late = bound_to(lab, "late");
        let pods = ["user", "node"].map(|name| uid("pod", name));
        ztlab(lab, &["cluster", "restore", "t", "s"]);
        for name in names {
            lab.until("there is another pod", || {
                lab.try_kubectl(&["get", "pod", name]).status.success() && !pods.contains(&uid("pod", name))
            });
            lab.ready(name);
            assert_eq!(
                lab.sh(name, "cat /data/file; ls /data"),
                "before\ndir\nfile\n",
                "{name}"
            );
        }
        assert_eq!(
            lab.sh("user", "readlink /data/dir/link; stat -c %a /data/dir"),
            "/etc/passwd\n700\n"
        );
        assert_eq!(
            before,
            [
                uid("pvc", "data"),
                uid("pv", &data),
                uid("pvc", "idle"),
                uid("pv", &idle)
            ]
        );
        assert_eq!(inode(&idle), idle_is, "what did not change is left alone");
        assert_eq!(phase(lab, "pv", "hand"), "Bound");
        assert!(is_gone(lab, "pvc", "late") && is_gone(lab, "pv", &late));
        lab.until("what is no more is removed", || {
            let left = |name: &str| lab.dir().join("snapshots").join(name).exists();
            !lab.dir().join("volumes").join(&late).exists() && !left("old") && !left("staged") && !left("restoring")
        });

        // A claim that is deleted and made again has another volume; the old one comes back to the old claim.
        lab.kubectl(&["delete", "pod/user", "pvc/data"]);
        lab.until("its volume goes", || is_gone(lab, "pv", &data));
        lab.apply(&[claim("data", json!({})), user("user", "data")]);
        lab.ready("user");
        assert_ne!(bound_to(lab, "data"), data);
        assert_eq!(lab.sh("user", "ls /data"), "");
        let uid_now = uid("pod", "user");
        ztlab(lab, &["cluster", "restore", "t", "s"]);
        lab.until("there is another pod", || {
            lab.try_kubectl(&["get", "pod", "user"]).status.success() && uid("pod", "user") != uid_now
        });
        lab.ready("user");
        assert_eq!(bound_to(lab, "data"), data);
        assert_eq!(lab.sh("user", "cat /data/file"), "before\n");

        // Trees are shared by snapshots, and go with the last that has them.
        assert_eq!(trees(lab), 4);
        lab.sh("user", "echo other > /data/file");
        ztlab(lab, &["cluster", "snapshot", "t", "--as", "second"]);
        assert_eq!(trees(lab), 5);
        ztlab(lab, &["cluster", "snapshots", "t", "--delete", "s"]);
        assert_eq!(trees(lab), 4);
        ztlab(lab, &["cluster", "snapshots", "t", "--delete", "second"]);
        assert_eq!(trees(lab), 0);
    });
}

/// A program that never stops writing: what is in its files at any moment follows from their order.
const WRITER: &str = "i=0; while :; do i=$((i+1)); echo $i > /data/a.new; mv /data/a.new /data/a; echo $i >> /data/log; \
    echo $i > /data/b.new; mv /data/b.new /data/b; done";

#[test]
fn a_snapshot_of_a_volume_that_is_written_to_is_of_one_moment() {
    everywhere(|lab| {
        let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
        let mounts = json!([{"name": "v", "mountPath": "/data"}]);
        let writes = json!({"volumeMounts": mounts, "command": ["sh", "-c", WRITER]});
        lab.apply(&[
            claim("data", json!({})),
            pod("writer", writes, json!({"volumes": volumes})),
        ]);
        lab.ready("writer");
        let name = bound_to(lab, "data");
        let number = |file: &str| read(lab, &name, file).and_then(|text| text.trim().parse::<i64>().ok());
        lab.until("it writes", || number("b") > Some(20));
        for _ in 0..5 {
            let taken = number("b").unwrap();
            ztlab(lab, &["cluster", "snapshot", "t", "--as", "s"]);
            lab.until("it goes on", || number("b") > Some(taken + 20));
            let snapshot = lab.dir().join("snapshots/trees");
            let trees: Vec<_> = std::fs::read_dir(snapshot)
                .unwrap()
                .map(|tree| tree.unwrap().path())
                .collect();
            assert_eq!(trees.len(), 1, "the one before it is gone");
            let held = |file: &str| std::fs::read_to_string(trees[0].join(file)).unwrap();
            let number = |text: &str| text.trim().parse::<i64>().unwrap();
            let (a, b) = (number(&held("a")), number(&held("b")));
            let log = held("log");
            let last = number(log.lines().last().unwrap());
            assert!(a >= last && last >= b && a - b <= 1, "a {a}, log {last}, b {b}");
            assert!(b >= taken);
        }
        // It is the same program all the time: nothing was ended.
        assert_eq!(
            lab.get(&["pod", "writer"])["status"]["containerStatuses"][0]["restartCount"],
            0
        );
    });
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new_whole() {
    everywhere(|lab| {
        let volumes = ["one", "two"];
        for name in volumes {
            lab.apply(&[claim(name, json!({})), user(name, name)]);
        }
        for name in volumes {
            lab.ready(name);
        }
        let places = volumes.map(|name| bound_to(lab, name));
        let write = |word: &str| {
            for name in volumes {
                lab.sh(
                    name,
                    &format!("echo {word} > /data/file; head -c 3000000 /dev/zero > /data/{word}; sync"),
                );
            }
            let patch = format!("--from-literal=is={word}");
            lab.kubectl(&["delete", "configmap", "state", "--ignore-not-found"]);
            lab.kubectl(&["create", "configmap", "state", &patch]);
        };
        write("old");
        ztlab(lab, &["cluster", "snapshot", "t", "--as", "s"]);
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..16_u64 {
            for name in volumes {
                lab.ready(name);
            }
            write("new");
            let mut restore = lab.command(lab.program());
            restore
                .args(["cluster", "restore", "t", "s"])
                .stdout(std::process::Stdio::null());
            let mut restore = restore.stderr(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(round * 6));
            let pid = rustix::process::Pid::from_raw(i32::try_from(lab.node_pid()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            restore.wait().unwrap();
            let started = ztlab(lab, &["cluster", "start", "t", "--json"]);
            let started: Value = serde_json::from_str(&started).unwrap();
            assert_eq!(started["notes"], json!([]), "round {round}");
            let state = lab.get(&["configmap", "state"])["data"]["is"]
                .as_str()
                .unwrap()
                .to_owned();
            for place in &places {
                assert_eq!(read(lab, place, "file").unwrap().trim(), state, "round {round}");
                let other = if state == "old" { "new" } else { "old" };
                assert!(read(lab, place, &state).is_some(), "round {round}");
                // What is new came after what is old, and did not remove it.
                assert!(state == "new" || read(lab, place, other).is_none(), "round {round}");
            }
            seen.insert(state);
            let left = std::fs::read_dir(lab.dir().join("snapshots")).unwrap();
            let mut left: Vec<_> = left
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            left.sort();
            assert_eq!(left, ["s.snapshot", "trees"], "round {round}");
        }
        assert_eq!(seen.len(), 2, "the kills hit both sides of the restore: {seen:?}");
    });
}

#[test]
fn a_snapshot_says_what_it_does_not_take() {
    everywhere(|lab| {
        lab.apply(&[claim("deep", json!({})), user("deep", "deep")]);
        lab.ready("deep");
        lab.sh(
            "deep",
            "cd /data; i=0; while [ $i -lt 120 ]; do mkdir d; cd d; i=$((i+1)); done",
        );
        let refused = lab.ztlab(&["cluster", "snapshot", "t", "--as", "s"]);
        let said = text(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("directories in one another"),
            "{said}"
        );
        let name = bound_to(lab, "deep");
        assert!(said.contains(&name), "{said}");
        assert_eq!(trees(lab), 0, "nothing is left of it");
        // Its program goes on.
        lab.sh("deep", "rm -r /data/d; echo x > /data/file");
        ztlab(lab, &["cluster", "snapshot", "t", "--as", "s"]);
    });
}
