//! Volumes of real pods, as whoever runs the tests and, where that is root, as an ordinary user.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use lab::{Lab, everywhere, pod, text};
use serde_json::{Value, json};

fn mount(name: &str, path: &str) -> Value {
    json!({"name": name, "mountPath": path})
}

#[test]
fn an_empty_directory_is_shared_and_bounded() {
    everywhere(|lab| {
        lab.apply(&[pod(
            "p",
            json!({"volumeMounts": [mount("small", "/small"), mount("memory", "/memory"), mount("plain", "/plain")]}),
            json!({
                "volumes": [
                    {"name": "small", "emptyDir": {"sizeLimit": "2Mi"}},
                    {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                    {"name": "plain", "emptyDir": {}}],
                "initContainers": [{"name": "i", "image": "ztlab.dev/toolbox:1", "command": ["sh", "-c", "echo first > /in/first"],
                    "volumeMounts": [mount("small", "/in")]}]}),
        )]);
        lab.ready("p");
        assert_eq!(lab.sh("p", "cat /small/first"), "first\n");
        // A file system of the asked size, not a promise; on disk it can be seen to be over.
        for (dir, kib) in [("/small", 3072), ("/memory", 1024), ("/plain", 131_072)] {
            let fits = lab.sh("p", &format!("df -k {dir} | tail -1 | tr -s ' ' | cut -d' ' -f2"));
            assert_eq!(fits.trim(), kib.to_string(), "{dir}");
        }
        let full = lab.try_sh("p", "dd if=/dev/zero of=/memory/big bs=1024 count=4096");
        assert!(
            text(&full.stderr).contains("No space left on device"),
            "{}",
            text(&full.stderr)
        );
        lab.sh("p", "echo fine > /plain/x");
        // a container that is started again finds what the one before left
        let twice = json!({"command": ["sh", "-c", "test -e /v/left && exec sleep 1000; touch /v/left; exit 1"],
            "volumeMounts": [mount("v", "/v")]});
        lab.apply(&[pod("again", twice, json!({"volumes": [{"name": "v", "emptyDir": {}}]}))]);
        lab.until("the second start finds the file", || {
            lab.get(&["pod", "again"])["status"]["containerStatuses"][0]["ready"] == true
        });
    });
}

#[test]
fn who_keeps_more_than_they_may_is_evicted() {
    everywhere(|lab| {
        let limited = json!({"resources": {"limits": {"ephemeral-storage": "4Mi"}}});
        let mut with_volume = limited.clone();
        with_volume["volumeMounts"] = json!([mount("v", "/v")]);
        let plain = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
        let small = json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "2Mi"}}]});
        lab.apply(&[
            pod("root", limited.clone(), json!({})),
            pod("volume", json!({"volumeMounts": [mount("v", "/v")]}), small),
            pod("both", with_volume, plain),
            pod("talks", limited, json!({})),
            pod("fine", json!({}), json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        ]);
        let names = ["root", "volume", "both", "talks"];
        for name in names {
            lab.ready(name);
            let annotations = lab.get(&["pod", name])["metadata"]["annotations"].clone();
            let not_enforced = &annotations["ztlab.dev/limits-not-enforced"];
            assert!(!not_enforced.to_string().contains("ephemeral-storage"), "{annotations}");
        }
        lab.ready("fine");
        // Each stays where it may be, and goes when it is over.
        let write = |to: &str, mib: u32| format!("dd if=/dev/zero of={to} bs=1048576 count={mib}");
        lab.sh("root", &write("/tmp/a", 3));
        lab.sh("volume", &write("/v/a", 1));
        lab.sh("both", &format!("{}; {}", write("/v/a", 2), write("/tmp/a", 1)));
        std::thread::sleep(std::time::Duration::from_millis(2500));
        for name in names {
            assert_eq!(lab.get(&["pod", name])["status"]["phase"], "Running", "{name}");
        }
        lab.try_sh("root", &write("/tmp/b", 2));
        lab.try_sh("volume", "head -c 1200000 /dev/zero > /v/b");
        lab.try_sh("both", &write("/v/b", 2));
        // What a container says is kept on the node too.
        lab.try_sh(
            "talks",
            "head -c 5000000 /dev/zero | tr '\\0' 'x' | fold > /proc/1/fd/1",
        );
        for (name, message) in [
            (
                "root",
                "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
            ),
            ("volume", "Usage of EmptyDir volume \"v\" exceeds the limit \"2Mi\". "),
            (
                "both",
                "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
            ),
            (
                "talks",
                "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
            ),
        ] {
            lab.until("it is evicted", || {
                lab.get(&["pod", name])["status"]["phase"] == "Failed"
            });
            let status = lab.get(&["pod", name])["status"].clone();
            assert_eq!(
                (&status["reason"], &status["message"]),
                (&json!("Evicted"), &json!(message)),
                "{name}"
            );
            lab.event(name, &format!("Evicted: {message}"));
            let shown = lab.kubectl(&["describe", "pod", name]);
            let reason = shown.lines().find(|line| line.starts_with("Reason:"));
            assert!(reason.is_some_and(|reason| reason.ends_with("Evicted")), "{shown}");
        }
        assert_eq!(lab.get(&["pod", "fine"])["status"]["phase"], "Running");
        // What an evicted pod kept is freed.
        let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", lab.node_pid())).unwrap();
        let uid = lab.get(&["pod", "volume"])["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(!mounts.contains(&uid), "{mounts}");
    });
}

#[test]
fn configuration_arrives_in_files_and_changes_there() {
    everywhere(|lab| {
        lab.apply(&[
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "1", "b": "2"}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "secret"}}),
            pod(
                "p",
                json!({"resources": {"limits": {"memory": "64Mi"}}, "volumeMounts": [
                    mount("all", "/all"), mount("some", "/some"), mount("both", "/both"), mount("none", "/none"),
                    {"name": "all", "mountPath": "/one/a", "subPath": "a"}]}),
                json!({"volumes": [
                    {"name": "all", "configMap": {"name": "cm"}},
                    {"name": "some", "configMap": {"name": "cm", "defaultMode": 288, "items": [
                        {"key": "a", "path": "deep/er/x"}, {"key": "b", "path": "y", "mode": 256}]}},
                    {"name": "none", "secret": {"secretName": "absent", "optional": true}},
                    {"name": "both", "projected": {"sources": [
                        {"secret": {"name": "s"}}, {"configMap": {"name": "cm", "items": [{"key": "b", "path": "b"}]}},
                        {"serviceAccountToken": {"path": "token", "audience": "bank", "expirationSeconds": 600}},
                        {"downwardAPI": {"items": [
                            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                            {"path": "mem", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}}]}}]}}]}),
            ),
        ]);
        lab.ready("p");
        assert_eq!(lab.sh("p", "cat /all/a /all/b /one/a; ls /none | wc -l"), "1210\n");
        assert_eq!(
            lab.sh("p", "cat /some/deep/er/x; stat -Lc %a /some/deep/er/x /some/y"),
            "1440\n400\n"
        );
        assert_eq!(lab.sh("p", "cat /both/key /both/b /both/mem"), "secret264");
        assert_eq!(lab.sh("p", "cat /both/labels"), "app=\"p\"");
        let token = lab.sh("p", "cut -d. -f2 /both/token");
        let claims = decode(token.trim());
        assert_eq!(claims["aud"], json!(["bank"]));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
        assert_eq!(claims["kubernetes.io"]["pod"]["name"], "p");
        let write = lab.try_sh("p", "echo x > /all/new");
        assert!(
            text(&write.stderr).contains("Read-only file system"),
            "{}",
            text(&write.stderr)
        );
        // both files change at once: no reader ever sees one of each
        lab.sh(
            "p",
            "(while ! [ -e /tmp/stop ]; do d=$(readlink /all/..data); echo $(cat /all/$d/a /all/$d/b) >> /tmp/seen; done) \
             > /dev/null 2>&1 & true",
        );
        lab.kubectl(&["patch", "cm", "cm", "-p", r#"{"data": {"a": "3", "b": "4", "c": "5"}}"#]);
        lab.until("the new values arrive", || {
            lab.sh("p", "cat /all/a /all/b /all/c 2>/dev/null; true") == "345"
        });
        lab.sh("p", "touch /tmp/stop");
        let seen = lab.sh("p", "sort -u /tmp/seen");
        // A directory that was left may go while it is read.
        let whole = |line: &str| ["12", "34", "1", "2", ""].contains(&line);
        assert!(seen.lines().all(whole), "{seen}");
        // as in Kubernetes, a subPath keeps what it had
        assert_eq!(lab.sh("p", "cat /one/a"), "1");
        lab.kubectl(&["label", "pod", "p", "app=q", "--overwrite"]);
        lab.until("the new label arrives", || {
            lab.sh("p", "cat /both/labels") == "app=\"q\""
        });
    });
}

fn decode(part: &str) -> Value {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn what_is_missing_is_said_and_waited_for() {
    everywhere(|lab| {
        let volume = |name: &str, volume: Value| {
            let mut volume = volume;
            volume["name"] = json!("v");
            pod(
                name,
                json!({"volumeMounts": [mount("v", "/v")]}),
                json!({"volumes": [volume]}),
            )
        };
        lab.apply(&[
            volume("map", json!({"configMap": {"name": "late"}})),
            volume("secret", json!({"secret": {"secretName": "never"}})),
            volume("outside", json!({"hostPath": {"path": "/etc"}})),
            volume("type", json!({"hostPath": {"path": "/run/nothing", "type": "Socket"}})),
            volume("csi", json!({"csi": {"driver": "csi.example.com"}})),
            volume("writable", json!({"csi": {"driver": "csi.spiffe.io"}})),
            volume(
                "agent",
                json!({"hostPath": {"path": "/run/spire/agent-sockets", "type": "DirectoryOrCreate"}}),
            ),
            volume(
                "workload",
                json!({"csi": {"driver": "csi.spiffe.io", "readOnly": true}}),
            ),
        ]);
        let failed = "FailedMount: MountVolume.SetUp failed for volume \"v\" : ";
        lab.event("map", &format!("{failed}configmap \"late\" not found"));
        lab.event("secret", &format!("{failed}secret \"never\" not found"));
        lab.event(
            "outside",
            &format!("{failed}hostPath \"/etc\" is not in a directory that the cluster owns"),
        );
        lab.event(
            "type",
            &format!("{failed}hostPath type check failed: /run/nothing is not a socket file"),
        );
        lab.event(
            "csi",
            "driver name csi.example.com not found in the list of registered CSI drivers",
        );
        lab.event("writable", "pod.spec.volumes[].csi.readOnly must be set to 'true'");
        // What SPIRE's agent puts into its directory, a workload finds there, and cannot change.
        lab.ready("agent");
        lab.ready("workload");
        lab.sh("agent", "echo socket > /v/spire-agent.sock");
        assert_eq!(lab.sh("workload", "cat /v/spire-agent.sock"), "socket\n");
        let write = lab.try_sh("workload", "rm /v/spire-agent.sock");
        assert!(text(&write.stderr).contains("Read-only file system"));
        lab.kubectl(&["create", "configmap", "late", "--from-literal=k=here"]);
        lab.ready("map");
        assert_eq!(lab.sh("map", "cat /v/k"), "here");
        for name in ["secret", "outside", "type", "csi", "writable"] {
            let phase = lab.get(&["pod", name])["status"]["phase"].clone();
            assert_eq!(phase, "Pending", "{name}");
        }
        let unnamed = lab.try_apply(&[pod(
            "unnamed",
            json!({"volumeMounts": [mount("nowhere", "/v")]}),
            json!({}),
        )]);
        let said = text(&unnamed.stderr);
        assert!(
            said.contains("spec.containers[0].volumeMounts[0].name: Not found: \"nowhere\""),
            "{said}"
        );
    });
}

#[test]
fn pods_share_a_socket_through_the_node() {
    everywhere(|lab| {
        let shared = |name: &str, container: Value, path: &str| {
            let mut container = container;
            container["volumeMounts"] = json!([mount("sockets", "/sockets")]);
            let volume = json!({"name": "sockets", "hostPath": {"path": path, "type": "DirectoryOrCreate"}});
            pod(name, container, json!({"volumes": [volume]}))
        };
        lab.apply(&[
            shared(
                "server",
                json!({"securityContext": {"runAsUser": 1000}}),
                "/run/spire/sockets",
            ),
            shared("client", json!({}), "/var/run/spire/sockets"),
        ]);
        lab.ready("server");
        lab.ready("client");
        let serve = r#"$s = IO::Socket::UNIX->new(Local => "/sockets/agent.sock", Listen => 5) or die;
            while ($c = $s->accept) { print $c "an identity\n"; close $c }"#;
        let ask = r#"$s = IO::Socket::UNIX->new(Peer => "/sockets/agent.sock") or die "$!"; print <$s>"#;
        let perl = |script: &str| format!("perl -MIO::Socket::UNIX -e '{script}'");
        lab.sh(
            "server",
            &format!("nohup {} > /dev/null 2>&1 < /dev/null & true", perl(serve)),
        );
        lab.until("the socket is there", || {
            lab.try_sh("client", "test -S /sockets/agent.sock").status.success()
        });
        lab.until("it answers", || {
            text(&lab.try_sh("client", &perl(ask)).stdout) == "an identity\n"
        });
        lab.sh("server", "echo from the server > /sockets/note");
        assert_eq!(lab.sh("client", "cat /sockets/note"), "from the server\n");
        // none of it is the machine's
        assert!(!std::path::Path::new("/run/spire/sockets/note").exists());
    });
}

#[test]
fn no_part_of_a_volume_leads_out_of_it() {
    everywhere(|lab| {
        let with = |name: &str, mount: Value| {
            let env = json!([{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "UP", "value": ".."}]);
            let path = json!({"path": "/run/shared", "type": "DirectoryOrCreate"});
            let volumes = json!({"volumes": [{"name": "v", "hostPath": path}]});
            pod(name, json!({"env": env, "volumeMounts": [mount]}), volumes)
        };
        lab.apply(&[with("maker", json!({"name": "v", "mountPath": "/v"}))]);
        lab.ready("maker");
        lab.sh(
            "maker",
            "ln -s /etc /v/out; ln -s ../.. /v/up; mkdir /v/in; echo inner > /v/in/file; ln -s in /v/link",
        );
        lab.apply(&[
            with("out", json!({"name": "v", "mountPath": "/w", "subPath": "out"})),
            with("up", json!({"name": "v", "mountPath": "/w", "subPath": "up"})),
            with(
                "expr",
                json!({"name": "v", "mountPath": "/w", "subPathExpr": "$(UP)/x"}),
            ),
            with("link", json!({"name": "v", "mountPath": "/w", "subPath": "link"})),
            with(
                "named",
                json!({"name": "v", "mountPath": "/w", "subPathExpr": "$(WHO)"}),
            ),
        ]);
        for name in ["out", "up", "expr"] {
            lab.event(
                name,
                "failed to prepare subPath for volumeMount \"v\" of container \"c\"",
            );
            let status = lab.get(&["pod", name])["status"]["containerStatuses"][0].clone();
            assert_eq!(
                status["state"]["waiting"]["reason"], "CreateContainerConfigError",
                "{status}"
            );
        }
        lab.ready("link");
        lab.ready("named");
        assert_eq!(lab.sh("link", "cat /w/file"), "inner\n");
        lab.sh("named", "echo mine > /w/x");
        assert_eq!(lab.sh("maker", "cat /v/named/x"), "mine\n");
        let back = lab.try_apply(&[with("back", json!({"name": "v", "mountPath": "/w", "subPath": "../x"}))]);
        assert!(
            text(&back.stderr).contains("must not contain '..'"),
            "{}",
            text(&back.stderr)
        );
    });
}

/// A volume that is bound by hand, so that this test stands on the kubelet alone.
fn bind(lab: &Lab, name: &str, path: &str) {
    let (modes, size) = (json!(["ReadWriteOnce"]), json!({"storage": "1Gi"}));
    lab.apply(&[
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {"accessModes": modes,
            "capacity": size, "storageClassName": "by-hand", "hostPath": {"path": path, "type": "DirectoryOrCreate"},
            "claimRef": {"namespace": "default", "name": "claim"}}}),
    ]);
    lab.kubectl(&[
        "patch",
        "pvc",
        "claim",
        "-p",
        &format!(r#"{{"spec": {{"volumeName": "{name}"}}}}"#),
    ]);
    let bound = r#"{"status": {"phase": "Bound"}}"#;
    lab.kubectl(&[
        "patch",
        "pvc",
        "claim",
        "--subresource=status",
        "--type=merge",
        "-p",
        bound,
    ]);
}

#[test]
fn a_claim_outlives_its_pods() {
    everywhere(|lab| {
        let user = |name: &str, read_only: bool| {
            let claim = json!({"claimName": "claim", "readOnly": read_only});
            let volumes = json!({"volumes": [{"name": "data", "persistentVolumeClaim": claim}]});
            pod(name, json!({"volumeMounts": [mount("data", "/data")]}), volumes)
        };
        // bound to the node, so that the scheduler's view of claims is not what is tried
        let mut first = user("first", false);
        let node = lab.get(&["nodes"])["items"][0]["metadata"]["name"].clone();
        first["spec"]["nodeName"] = node;
        lab.apply(&[first]);
        let waits = "FailedMount: Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed \
                     to process volumes=[data]: error processing PVC default/claim: ";
        lab.event(
            "first",
            &format!("{waits}failed to fetch PVC from API server: persistentvolumeclaims \"claim\" not found"),
        );
        let resources = json!({"requests": {"storage": "1Gi"}});
        lab.apply(&[
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand", "resources": resources}}),
        ]);
        lab.event("first", &format!("{waits}PVC default/claim has non-bound phase"));
        let place = lab.dir().join("volumes/pv-1");
        bind(lab, "pv-1", place.to_str().unwrap());
        lab.ready("first");
        lab.sh("first", "echo kept > /data/file");
        lab.kubectl(&["delete", "pod", "first"]);
        assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), "kept\n");
        lab.apply(&[user("second", true)]);
        lab.ready("second");
        assert_eq!(lab.sh("second", "cat /data/file"), "kept\n");
        let write = lab.try_sh("second", "echo x > /data/file");
        assert!(
            text(&write.stderr).contains("Read-only file system"),
            "{}",
            text(&write.stderr)
        );
    });
}
