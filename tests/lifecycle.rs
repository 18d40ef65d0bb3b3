//! How containers begin and end: hooks, probes, graces, orders. Real pods, as whoever runs the tests and, where that is root, as an
//! ordinary user.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use lab::{Lab, everywhere, pod, text};
use serde_json::{Value, json};

const IMAGE: &str = "ztlab.dev/toolbox:1";

/// A program that writes to `/s/log` when it is asked to end, does `last`, and ends.
fn asked(name: &str, last: &str) -> Value {
    let script =
        format!("trap 'echo {name}-term >> /s/log; {last}' TERM; touch /s/{name}-up; while :; do sleep 0.05; done");
    json!(["sh", "-c", script])
}

/// A program that does not end when it is asked to.
fn deaf() -> Value {
    json!([
        "sh",
        "-c",
        "trap '' TERM; touch /tmp/deaf; while :; do sleep 0.05; done"
    ])
}

fn container(name: &str, command: Value, rest: Value) -> Value {
    let mut made = json!({"name": name, "image": IMAGE, "command": command,
        "volumeMounts": [{"name": "s", "mountPath": "/s"}]});
    made.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    made
}

/// A pod of these containers, which share `/s` with each other and with [`reader`].
fn sharing(name: &str, containers: Value, rest: Value) -> Value {
    let mut spec = json!({"containers": containers,
        "volumes": [{"name": "s", "hostPath": {"path": format!("/run/{name}"), "type": "DirectoryOrCreate"}}]});
    spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

/// A pod that sees what pod `of` shares, after its end too.
fn reader(lab: &Lab, of: &str) -> String {
    let name = format!("{of}-reader");
    let volume = json!({"name": "s", "hostPath": {"path": format!("/run/{of}"), "type": "DirectoryOrCreate"}});
    let mounts = json!({"volumeMounts": [{"name": "s", "mountPath": "/s"}]});
    lab.apply(&[pod(&name, mounts, json!({"volumes": [volume]}))]);
    lab.ready(&name);
    name
}

fn gone(lab: &Lab, name: &str) -> bool {
    !lab.try_kubectl(&["get", "pod", name]).status.success()
}

fn status(lab: &Lab, pod: &str, container: &str) -> Value {
    let all = lab.get(&["pod", pod])["status"]["containerStatuses"].clone();
    let all = all.as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["name"] == container).unwrap_or_default()
}

#[test]
fn a_pod_ends_side_by_side_and_its_sidecars_last() {
    everywhere(|lab| {
        // Each waits for the other's signal: one after the other, neither would end within its grace.
        let waits = |name: &str, other: &str| {
            let last =
                format!("until grep -q {other}-term /s/log; do sleep 0.05; done; echo {name}-end >> /s/log; exit 0");
            let hook = json!({"preStop": {"exec": {"command": ["sh", "-c", format!("echo {name}-pre >> /s/log")]}}});
            container(name, asked(name, &last), json!({"lifecycle": hook}))
        };
        let sidecar = |name: &str| container(name, asked(name, "exit 0"), json!({"restartPolicy": "Always"}));
        lab.apply(&[sharing(
            "order",
            json!([waits("a", "b"), waits("b", "a")]),
            json!({"terminationGracePeriodSeconds": 300, "initContainers": [sidecar("first"), sidecar("second")]}),
        )]);
        lab.ready("order");
        let reader = reader(lab, "order");
        lab.until("all have set their traps", || {
            lab.try_sh(
                &reader,
                "test -e /s/a-up -a -e /s/b-up -a -e /s/first-up -a -e /s/second-up",
            )
            .status
            .success()
        });
        lab.kubectl(&["delete", "pod", "order", "--timeout=60s"]);
        let log = lab.sh(&reader, "cat /s/log");
        let at = |what: &str| {
            let found = log.lines().position(|line| line == what);
            found.unwrap_or_else(|| panic!("no {what} in\n{log}"))
        };
        for (before, after) in [
            ("a-pre", "a-term"),
            ("b-pre", "b-term"),
            ("a-end", "second-term"),
            ("b-end", "second-term"),
            ("second-term", "first-term"),
        ] {
            assert!(at(before) < at(after), "{before} before {after}:\n{log}");
        }
    });
}

#[test]
fn a_grace_can_be_made_shorter() {
    everywhere(|lab| {
        let slow = json!({"lifecycle": {"preStop": {"sleep": {"seconds": 500}}}});
        let never = json!({"lifecycle": {"postStart": {"exec": {"command": ["sleep", "1000"]}}}});
        let grace = json!({"terminationGracePeriodSeconds": 600});
        lab.apply(&[
            pod("deaf", json!({"command": deaf()}), grace.clone()),
            pod("forced", slow.clone(), grace.clone()),
            pod("slow", slow, grace.clone()),
            pod("never", never, grace),
        ]);
        for name in ["deaf", "slow", "forced"] {
            lab.ready(name);
        }
        lab.until("it hears nothing", || {
            lab.try_sh("deaf", "test -e /tmp/deaf").status.success()
        });
        lab.event("never", "Started container c");
        let waiting = status(lab, "never", "c")["state"]["waiting"]["reason"].clone();
        assert_eq!(waiting, "ContainerCreating");
        lab.kubectl(&["delete", "pod", "deaf", "slow", "forced", "never", "--wait=false"]);
        for name in ["deaf", "slow", "forced", "never"] {
            lab.event(name, "Killing: Stopping container c");
        }
        assert!(!gone(lab, "deaf") && !gone(lab, "slow") && !gone(lab, "forced"));
        lab.until("a hook after the start holds up no end", || gone(lab, "never"));
        lab.kubectl(&["delete", "pod", "deaf", "slow", "--grace-period=1", "--timeout=60s"]);
        lab.kubectl(&[
            "delete",
            "pod",
            "forced",
            "--force",
            "--grace-period=0",
            "--timeout=60s",
        ]);
        // Nothing of it is left on the node either: its name is free.
        lab.apply(&[pod("forced", json!({}), json!({}))]);
        lab.ready("forced");
    });
}

#[test]
fn a_hook_after_the_start_holds_up_what_follows() {
    everywhere(|lab| {
        let idle = json!(["sleep", "1000"]);
        let hook = |script: &str| json!({"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", script]}}}});
        lab.apply(&[
            sharing(
                "held",
                json!([
                    container("one", idle.clone(), hook("until test -e /s/go; do sleep 0.05; done")),
                    container("two", idle.clone(), json!({})),
                ]),
                json!({"terminationGracePeriodSeconds": 0}),
            ),
            sharing(
                "fails",
                json!([container(
                    "one",
                    deaf(),
                    hook("until test -e /tmp/deaf; do sleep 0.05; done; exit 3")
                )]),
                json!({"terminationGracePeriodSeconds": 1, "restartPolicy": "Never"}),
            ),
        ]);
        lab.event("held", "Started container one");
        for name in ["one", "two"] {
            let reason = status(lab, "held", name)["state"]["waiting"]["reason"].clone();
            assert_eq!(reason, "ContainerCreating", "{name}");
        }
        lab.kubectl(&["exec", "held", "-c", "one", "--", "touch", "/s/go"]);
        lab.ready("held");
        lab.event("fails", "FailedPostStartHook: PostStartHook failed");
        lab.event("fails", "Killing: FailedPostStartHook");
        lab.until("the container is killed", || {
            let ended = status(lab, "fails", "one")["state"]["terminated"].clone();
            ended["exitCode"] == 137 && ended["reason"] == "Error"
        });
        assert_eq!(lab.get(&["pod", "fails"])["status"]["phase"], "Failed");
    });
}

#[test]
fn a_failed_probe_ends_a_container_as_a_deletion_does() {
    everywhere(|lab| {
        let liveness = |rest: Value| {
            let mut probe = json!({"exec": {"command": ["test", "!", "-e", "/s/sick"]}, "periodSeconds": 1,
                "failureThreshold": 1});
            probe.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            probe
        };
        let hook = json!({"preStop": {"exec": {"command": ["sh", "-c", "rm /s/sick; echo pre >> /s/log"]}}});
        let kind = json!({"lifecycle": hook, "livenessProbe": liveness(json!({}))});
        let deaf = json!([
            "sh",
            "-c",
            "trap '' TERM; rm -f /s/sick; touch /tmp/deaf; while :; do sleep 0.05; done"
        ]);
        let own = json!({"livenessProbe": liveness(json!({"terminationGracePeriodSeconds": 1}))});
        let long = json!({"terminationGracePeriodSeconds": 600});
        lab.apply(&[
            sharing(
                "kind",
                json!([container("c", asked("c", "exit 7"), kind)]),
                long.clone(),
            ),
            sharing("deaf", json!([container("c", deaf, own)]), long),
        ]);
        for name in ["kind", "deaf"] {
            lab.ready(name);
        }
        for (name, sign) in [("kind", "/s/c-up"), ("deaf", "/tmp/deaf")] {
            lab.until("the trap is set", || {
                lab.try_sh(name, &format!("test -e {sign}")).status.success()
            });
        }
        for name in ["kind", "deaf"] {
            lab.sh(name, "touch /s/sick");
            lab.event(name, "Container c failed liveness probe, will be restarted");
        }
        for (name, code) in [("kind", 7), ("deaf", 137)] {
            lab.until("it is started again", || {
                let status = status(lab, name, "c");
                status["restartCount"] == 1 && status["lastState"]["terminated"]["exitCode"] == code
            });
        }
        lab.ready("kind");
        assert_eq!(lab.sh("kind", "cat /s/log"), "pre\nc-term\n");
        lab.kubectl(&["delete", "pod", "kind", "deaf", "--force", "--grace-period=0"]);
    });
}

#[test]
fn probes_ask_as_they_are_told_and_say_what_they_found() {
    everywhere(|lab| {
        let server = |probe: Value| {
            json!({"image": "registry.k8s.io/e2e-test-images/agnhost:2.53", "command": null, "args": ["netexec"],
                "ports": [{"name": "web", "containerPort": 8080}], "readinessProbe": probe})
        };
        let every = |mut probe: Value| {
            probe["periodSeconds"] = json!(1);
            probe
        };
        // The hook asks a sidecar, which is up by then: its own container may not listen yet.
        let told = json!({"postStart": {"httpGet": {"port": 8081, "path": "/shell?cmd=touch%20/tmp/told"}}});
        let mut named = server(every(json!({"httpGet": {"port": "web", "path": "/hostname"}})));
        named["lifecycle"] = told;
        let sidecar = json!({"name": "side", "image": "registry.k8s.io/e2e-test-images/agnhost:2.53", "restartPolicy": "Always",
            "args": ["netexec", "--http-port=8081", "--udp-port=-1"], "startupProbe": {"tcpSocket": {"port": 8081}, "periodSeconds": 1}});
        let endless = json!(["sh", "-c", "trap '' HUP TERM; while :; do sleep 0.1; done; : probing"]);
        lab.apply(&[
            pod("named", named, json!({"initContainers": [sidecar]})),
            pod(
                "refuses",
                server(every(
                    json!({"httpGet": {"port": "web", "path": "/echo?msg=no&code=503"}}),
                )),
                json!({}),
            ),
            pod("closed", server(every(json!({"tcpSocket": {"port": 9}}))), json!({})),
            pod("grpc", server(every(json!({"grpc": {"port": 9}}))), json!({})),
            pod(
                "https",
                server(every(json!({"httpGet": {"port": "web", "scheme": "HTTPS"}}))),
                json!({}),
            ),
            pod(
                "loud",
                json!({"readinessProbe": {"exec": {"command": ["sh", "-c", "head -c 300000 /dev/zero >&2"]}}}),
                json!({}),
            ),
            pod(
                "late",
                json!({"livenessProbe": {"exec": {"command": endless}, "periodSeconds": 1, "failureThreshold": 1000}}),
                json!({}),
            ),
        ]);
        for name in ["named", "loud"] {
            lab.ready(name);
        }
        lab.kubectl(&["exec", "named", "-c", "side", "--", "sh", "-c", "test -e /tmp/told"]);
        lab.event(
            "refuses",
            "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503",
        );
        lab.event("closed", ":9: connect: connection refused");
        lab.event("grpc", "Readiness probe failed: timeout: failed to connect service \"");
        lab.event("https", "Readiness probe failed: Get \"https://");
        lab.event("late", "timed out after 1s");
        let about = "involvedObject.name=late,reason=Unhealthy";
        lab.until("it was late three times", || {
            lab.get(&["events", "--field-selector", about])["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|event| event["count"].as_u64() >= Some(3))
        });
        // Each was killed: at most the latest one runs.
        lab.until("probes are killed", || {
            lab.sh("late", "grep -l '[p]robing' /proc/[0-9]*/cmdline 2>/dev/null | wc -l")
                .trim()
                .parse::<u32>()
                .unwrap()
                <= 1
        });
        assert_eq!(status(lab, "late", "c")["restartCount"], 0);
    });
}

/// The state of a pod's container `c`.
fn state(lab: &Lab, pod: &str) -> Value {
    status(lab, pod, "c")["state"].clone()
}

#[test]
fn what_a_container_says_of_its_end_is_in_its_status() {
    everywhere(|lab| {
        let ends = |script: &str, rest: Value| {
            let mut container = json!({"command": ["sh", "-c", script]});
            container
                .as_object_mut()
                .unwrap()
                .extend(rest.as_object().unwrap().clone());
            container
        };
        let once = json!({"restartPolicy": "Never"});
        let elsewhere = json!({"terminationMessagePath": "/tmp/deep/why", "securityContext": {"runAsUser": 1000}});
        let logs = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
        let again = "test -e /v/again && exec sleep 1000; touch /v/again; echo of the first; exit 1";
        let volume = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        lab.apply(&[
            pod(
                "says",
                ends("echo bye > /dev/termination-log; exit 3", json!({})),
                once.clone(),
            ),
            pod(
                "elsewhere",
                ends("echo because > /tmp/deep/why; exit 4", elsewhere),
                once.clone(),
            ),
            pod(
                "logs",
                ends("echo first; echo last; exit 5", logs.clone()),
                once.clone(),
            ),
            pod("well", ends("echo fine", logs), once.clone()),
            pod(
                "floods",
                ends(
                    "head -c 9999999 /dev/zero | tr '\\0' x > /dev/termination-log; exit 6",
                    json!({}),
                ),
                once,
            ),
            pod(
                "again",
                ends(again, volume),
                json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            ),
        ]);
        let long = "x".repeat(4096);
        for (name, code, message) in [
            ("says", 3, json!("bye\n")),
            ("elsewhere", 4, json!("because\n")),
            ("logs", 5, json!("first\nlast\n")),
            ("well", 0, Value::Null),
            ("floods", 6, json!(long)),
        ] {
            lab.until("it has ended", || state(lab, name)["terminated"].is_object());
            let ended = state(lab, name)["terminated"].clone();
            assert_eq!(
                (&ended["exitCode"], &ended["message"]),
                (&json!(code), &message),
                "{name}"
            );
        }
        lab.until("it runs again", || status(lab, "again", "c")["restartCount"] == 1);
        assert_eq!(lab.kubectl(&["logs", "-p", "again"]), "of the first\n");
    });
}

#[test]
fn conditions_of_others_stay_and_open_the_gates() {
    everywhere(|lab| {
        let gates =
            json!({"readinessGates": [{"conditionType": "example.com/open"}], "terminationGracePeriodSeconds": 1});
        lab.apply(&[pod("gated", json!({}), gates)]);
        let condition = |kind: &str| {
            let all = lab.get(&["pod", "gated"])["status"]["conditions"].clone();
            let all = all.as_array().cloned().unwrap_or_default();
            all.into_iter().find(|one| one["type"] == kind).unwrap_or_default()
        };
        lab.until("its containers are ready", || {
            condition("ContainersReady")["status"] == "True"
        });
        let ready = condition("Ready");
        assert_eq!(
            (&ready["status"], &ready["reason"]),
            (&json!("False"), &json!("ReadinessGatesNotReady"))
        );
        let open = json!({"status": {"conditions": [{"type": "example.com/open", "status": "True"}]}}).to_string();
        lab.kubectl(&["patch", "pod", "gated", "--subresource=status", "-p", &open]);
        lab.ready("gated");
        // A new status of the kubelet's leaves what others wrote.
        lab.try_sh("gated", "kill 1");
        lab.until("it was started again", || {
            status(lab, "gated", "c")["restartCount"] == 1
        });
        assert_eq!(condition("example.com/open")["status"], "True");
        lab.ready("gated");
        // Who takes it away, takes the readiness too.
        let shut = open.replace("True", "False");
        lab.kubectl(&["patch", "pod", "gated", "--subresource=status", "-p", &shut]);
        lab.until("the gate is shut", || condition("Ready")["status"] == "False");
    });
}

/// The safe sysctls of Kubernetes 1.33, each with a value that is not the kernel's own.
const SAFE: [(&str, &str); 12] = [
    ("kernel.shm_rmid_forced", "1"),
    ("net.ipv4.ip_local_port_range", "40000 41000"),
    ("net.ipv4.tcp_syncookies", "0"),
    ("net.ipv4.ping_group_range", "0 0"),
    ("net.ipv4.ip_unprivileged_port_start", "80"),
    ("net.ipv4.ip_local_reserved_ports", "40500"),
    ("net.ipv4.tcp_keepalive_time", "600"),
    ("net.ipv4.tcp_fin_timeout", "30"),
    ("net.ipv4.tcp_keepalive_intvl", "60"),
    ("net.ipv4.tcp_keepalive_probes", "5"),
    ("net.ipv4.tcp_rmem", "4096 65536 1048576"),
    ("net.ipv4.tcp_wmem", "4096 32768 1048576"),
];

#[test]
fn what_the_node_does_not_do_is_refused_or_said() {
    everywhere(|lab| {
        let context = |context: Value| json!({"securityContext": context});
        let sysctl = |name: &str, value: &str| context(json!({"sysctls": [{"name": name, "value": value}]}));
        let safe: Vec<Value> = SAFE
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "mine.json"}});
        lab.apply(&[
            pod("unsafe", json!({}), sysctl("kernel.msgmax", "1")),
            pod(
                "armoured",
                context(json!({"appArmorProfile": {"type": "RuntimeDefault"}})),
                json!({}),
            ),
            pod("safe", json!({}), context(json!({"sysctls": safe}))),
            pod("sees", json!({}), json!({"hostPID": true})),
            pod("filtered", context(local), json!({})),
            pod(
                "masked",
                context(json!({"procMount": "Unmasked"})),
                context(json!({"fsGroup": 7})),
            ),
        ]);
        for (name, reason, message) in [
            (
                "unsafe",
                "SysctlForbidden",
                "forbidden sysctl: \"kernel.msgmax\" not allowlisted",
            ),
            ("armoured", "AppArmor", "AppArmor is not enabled on the host"),
        ] {
            lab.until("it is rejected", || {
                lab.get(&["pod", name])["status"]["phase"] == "Failed"
            });
            let status = lab.get(&["pod", name])["status"].clone();
            assert_eq!(status["reason"], reason);
            assert!(status["message"].as_str().unwrap().contains(message), "{status}");
            lab.event(name, message);
        }
        lab.ready("safe");
        for (name, value) in SAFE {
            let held = lab.sh("safe", &format!("cat /proc/sys/{}", name.replace('.', "/")));
            assert_eq!(held.split_whitespace().collect::<Vec<_>>().join(" "), value, "{name}");
        }
        lab.ready("sees");
        lab.event(
            "sees",
            "NotSupported: this node does otherwise than asked: hostPID (no pod sees the node's processes",
        );
        // It may ask the node, and sees no process but its own.
        assert_eq!(
            lab.sh("sees", "echo /run/ztlab/peers/*").trim(),
            "/run/ztlab/peers/attest.sock"
        );
        assert_eq!(
            lab.sh("sees", "set -- /proc/[0-9]*; echo $#").trim(),
            lab.sh("safe", "set -- /proc/[0-9]*; echo $#").trim()
        );
        assert!(!lab.sh("safe", "echo /run/*").contains("ztlab"));
        lab.event("filtered", "cannot load seccomp profile \"mine.json\"");
        assert_eq!(
            state(lab, "filtered")["waiting"]["reason"],
            "CreateContainerConfigError"
        );
        lab.ready("masked");
        let said = if lab.has_groups() { "procMount" } else { "fsGroup" };
        lab.event(
            "masked",
            &format!("NotSupported: this node does otherwise than asked: {said}"),
        );
        assert!(
            lab.kubectl(&["describe", "pod", "masked"])
                .contains("ztlab.dev/NotHonoured")
        );
    });
}

#[test]
fn volumes_and_processes_are_of_the_pods_groups() {
    everywhere(|lab| {
        let volumes = json!([
            {"name": "empty", "emptyDir": {}},
            {"name": "secret", "secret": {"secretName": "s", "defaultMode": 256}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ]);
        let mounts: Vec<_> = ["empty", "secret", "claim", "token"]
            .iter()
            .map(|name| json!({"name": name, "mountPath": format!("/{name}")}))
            .collect();
        let context = json!({"fsGroup": 2000, "supplementalGroups": [3000]});
        let with = |name: &str, own: Value| {
            let command = json!(["sh", "-c", "id -G; exec sleep 1000"]);
            pod(
                name,
                json!({"command": command, "securityContext": own, "volumeMounts": mounts}),
                json!({"volumes": volumes, "securityContext": context}),
            )
        };
        lab.apply(&[
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "value"}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}),
            with("user", json!({"runAsUser": 1000, "runAsGroup": 4000})),
            with("root", json!({})),
            with("plain", json!({"runAsUser": 1000})),
        ]);
        for (name, groups) in [
            ("user", "4000 2000 3000"),
            ("root", "0 2000 3000"),
            ("plain", "0 2000 3000"),
        ] {
            lab.ready(name);
            // whatever the groups, its user reads and writes
            lab.sh(
                name,
                "cat /secret/key /token/token && echo x > /empty/file && echo x > /claim/$(hostname)",
            );
            if !lab.has_groups() {
                lab.event(name, "NotSupported: this node does otherwise than asked: fsGroup");
                lab.event(name, "supplementalGroups");
                continue;
            }
            let sorted = |text: &str| {
                let mut all: Vec<u32> = text.split_whitespace().map(|one| one.parse().unwrap()).collect();
                all.sort_unstable();
                all.dedup();
                all
            };
            assert_eq!(
                sorted(&lab.sh(name, "id -G")),
                sorted(groups),
                "{name}: what is run in it"
            );
            assert_eq!(sorted(&lab.kubectl(&["logs", name])), sorted(groups), "{name}");
            let stat = |path: &str| lab.sh(name, &format!("stat -Lc '%g %a' {path}"));
            for (path, expected) in [
                ("/empty", "2000 2777\n"),
                ("/claim", "2000 2775\n"),
                ("/secret/key", "2000 440\n"),
                ("/token/token", "2000 640\n"),
            ] {
                assert_eq!(stat(path), expected, "{name}: {path}");
            }
            for path in ["/empty/file", "/claim/$(hostname)"] {
                assert!(stat(path).starts_with("2000 "), "{name}: {path}");
            }
            assert!(
                !lab.kubectl(&["describe", "pod", name])
                    .contains("ztlab.dev/NotHonoured"),
                "{name}"
            );
        }
        // what pods wrote to disk is gone with the claim
        for name in ["user", "root", "plain"] {
            lab.kubectl(&["delete", "pod", name]);
        }
        lab.kubectl(&["delete", "pvc", "c"]);
        lab.until("the volume is gone", || {
            lab.get(&["pv"])["items"].as_array().unwrap().is_empty()
        });
    });
}

#[test]
fn containers_that_share_their_processes_outlive_each_other() {
    everywhere(|lab| {
        let more = json!({"name": "d", "image": IMAGE, "command": ["sleep", "2000"],
            "securityContext": {"runAsUser": 1000}});
        let mut shares = pod("shares", json!({}), json!({"shareProcessNamespace": true}));
        shares["spec"]["containers"].as_array_mut().unwrap().push(more);
        lab.apply(&[shares]);
        lab.ready("shares");
        let sh = |container: &str, script: &str| {
            let output = lab.try_kubectl(&["exec", "shares", "-c", container, "--", "sh", "-c", script]);
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        };
        for container in ["c", "d"] {
            let seen = sh(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
            for program in ["sleep 1000", "sleep 2000", "__pause"] {
                assert!(seen.contains(program), "{container}: {seen}");
            }
            assert!(sh(container, "tr '\\0' ' ' < /proc/1/cmdline").contains("__pause"));
        }
        // the first container's end is its own
        let first = "for p in /proc/[0-9]*; do grep -qa '^sleep.1000' $p/cmdline && kill -9 ${p#/proc/}; done; true";
        sh("c", first);
        lab.until("it was started again", || {
            status(lab, "shares", "c")["restartCount"] == 1
        });
        lab.ready("shares");
        assert_eq!(status(lab, "shares", "d")["restartCount"], 0);
        // an orphan is the first process' child, which takes its leave of it
        sh("d", "sh -c 'sleep 0.1 & echo $!'");
        lab.until("no process is left that has ended", || {
            !sh("c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").contains("sleep 0.1")
                && sh("c", "grep -l '^State:.Z' /proc/[0-9]*/status; true").is_empty()
        });
        let said = lab.kubectl(&["describe", "pod", "shares"]);
        assert!(!said.contains("ztlab.dev/NotHonoured"), "{said}");
    });
}

#[test]
fn images_and_programs_that_are_not_there_are_named() {
    everywhere(|lab| {
        let image = |name: &str, policy: &str| json!({"image": name, "imagePullPolicy": policy});
        lab.apply(&[
            pod("invalid", image("Not:An:Image", "Always"), json!({})),
            pod("never", image("example.com/none:1", "Never"), json!({})),
            pod("none", image("example.com/none:1", "IfNotPresent"), json!({})),
            pod("always", image(IMAGE, "Always"), json!({})),
            pod("present", image(IMAGE, "IfNotPresent"), json!({})),
            pod(
                "program",
                json!({"command": ["no-such-program"]}),
                json!({"restartPolicy": "Never"}),
            ),
            pod("again", json!({"command": ["no-such-program"]}), json!({})),
        ]);
        for (name, reason) in [
            ("again", &["RunContainerError", "CrashLoopBackOff"][..]),
            ("invalid", &["InvalidImageName"]),
            ("never", &["ErrImageNeverPull"]),
            ("none", &["ErrImagePull", "ImagePullBackOff"]),
        ] {
            lab.until("it waits", || {
                let waiting = state(lab, name)["waiting"]["reason"].clone();
                reason.iter().any(|reason| waiting == *reason)
            });
        }
        lab.event(
            "invalid",
            "couldn't parse image name \"Not:An:Image\": invalid reference format",
        );
        lab.ready("always");
        lab.event("always", "Pulling: Pulling image");
        lab.event("always", "Pulled: Successfully pulled image");
        lab.ready("present");
        lab.event("present", "already present on machine");
        lab.until("it could not start", || state(lab, "program")["terminated"].is_object());
        let ended = state(lab, "program")["terminated"].clone();
        assert_eq!(
            (&ended["reason"], &ended["exitCode"]),
            (&json!("StartError"), &json!(128))
        );
        assert!(
            ended["message"]
                .as_str()
                .unwrap()
                .contains("executable file not found in $PATH")
        );
        // One that is tried again waits for that, and then as one that crashes.
        let last = status(lab, "again", "c")["lastState"]["terminated"].clone();
        assert_eq!(
            (&last["reason"], &last["exitCode"]),
            (&json!("StartError"), &json!(128))
        );
        lab.until("it crashes", || {
            state(lab, "again")["waiting"]["reason"] == "CrashLoopBackOff"
        });
        assert!(status(lab, "again", "c")["restartCount"].as_u64() >= Some(1));
        // The node has a range for its pods and told of its beginning.
        let node = lab.get(&["nodes"])["items"][0].clone();
        let range = node["spec"]["podCIDR"].as_str().unwrap();
        let ip = lab.get(&["pod", "present"])["status"]["podIP"].clone();
        let ip: std::net::IpAddr = ip.as_str().unwrap().parse().unwrap();
        assert!(range.parse::<ipnet::IpNet>().unwrap().contains(&ip), "{range} {ip}");
        lab.event(node["metadata"]["name"].as_str().unwrap(), "NodeReady: Node ");
    });
}

#[test]
fn the_node_says_how_the_machine_is() {
    everywhere(|lab| {
        let node = lab.get(&["nodes"])["items"][0].clone();
        let condition = |kind: &str| {
            let all = node["status"]["conditions"].as_array().unwrap();
            all.iter().find(|one| one["type"] == kind).cloned().unwrap_or_default()
        };
        let disk = rustix::fs::statvfs(lab.dir()).unwrap();
        // What is close to the threshold may be on either side of it by now.
        let share = |free: u64, all: u64| (free as f64) / (all as f64).max(1.0);
        let (bytes, files) = (share(disk.f_bavail, disk.f_blocks), share(disk.f_favail, disk.f_files));
        if (bytes - 0.10).abs() > 0.01 && (files - 0.05).abs() > 0.01 {
            let full = bytes < 0.10 || (disk.f_files > 0 && files < 0.05);
            let said = condition("DiskPressure");
            assert_eq!(said["status"], if full { "True" } else { "False" }, "{said}");
        }
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let available = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))
            .unwrap();
        let available: u64 = available.split_whitespace().next().unwrap().parse().unwrap();
        if available > 1 << 20 {
            let said = condition("MemoryPressure");
            assert_eq!(
                (&said["status"], &said["reason"]),
                (&json!("False"), &json!("KubeletHasSufficientMemory"))
            );
        }
        for kind in ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"] {
            let said = condition(kind);
            let whole = ["reason", "message", "lastHeartbeatTime", "lastTransitionTime"];
            assert!(whole.iter().all(|field| said[field].is_string()), "{kind}: {said}");
        }
        let memory = node["status"]["capacity"]["memory"].as_str().unwrap();
        let all = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
        assert_eq!(memory.trim_end_matches("Ki"), all.split_whitespace().next().unwrap());
    });
}

#[test]
fn a_pods_program_loads_no_library_that_only_captures_use() {
    everywhere(|lab| {
        lab.apply(&[pod(
            "web",
            json!({"image": "nginxdemos/hello", "command": null}),
            json!({}),
        )]);
        lab.ready("web");
        let loaded = lab.sh("web", "cat /proc/1/maps");
        assert!(loaded.contains("libc.so"), "{loaded}");
        for library in ["libpcap", "libdbus", "libsystemd"] {
            assert!(!loaded.contains(library), "{library}: {loaded}");
        }
    });
}
