//! The scheduler from end to end, under the real `kubectl`: as whoever runs the tests, and where that is root, as an ordinary
//! user too.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use lab::{Lab, everywhere, pod, text};
use serde_json::{Value, json};

/// Removes a pod at once.
fn remove(lab: &Lab, pods: &[&str]) {
    let mut args = vec!["delete", "pod", "--wait=true"];
    args.extend_from_slice(pods);
    lab.kubectl(&args);
}

fn node(lab: &Lab) -> String {
    lab.get(&["nodes"])["items"][0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned()
}

const HELPLESS: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

#[test]
fn pods_go_where_node_and_neighbours_allow() {
    everywhere(|lab| {
        let node = node(lab);
        let required = |terms: Value| json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
        let expressions = json!([{"key": "zone", "operator": "In", "values": ["a"]}]);
        let in_zone = required(json!({"nodeSelectorTerms": [{"matchExpressions": expressions}]}));
        let term = |app: &str| {
            let selector = json!({"matchLabels": {"app": app}});
            required(json!([{"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}]))
        };
        let with = |name: &str, affinity: Value| pod(name, json!({}), json!({"affinity": affinity}));
        lab.apply(&[
            pod("selects", json!({}), json!({"nodeSelector": {"zone": "a"}})),
            with("wants", json!({"nodeAffinity": in_zone})),
            with("near", json!({"podAffinity": term("later")})),
        ]);
        let elsewhere = "FailedScheduling: 0/1 nodes are available: 1 node(s) didn't match";
        for name in ["selects", "wants"] {
            lab.event(name, &format!("{elsewhere} Pod's node affinity/selector. {HELPLESS}"));
        }
        lab.event("near", &format!("{elsewhere} pod affinity rules. {HELPLESS}"));
        assert_eq!(
            lab.get(&["pod", "near"])["status"]["conditions"][0]["reason"],
            "Unschedulable"
        );
        lab.kubectl(&["label", "node", &node, "zone=a"]);
        lab.ready("selects");
        lab.ready("wants");
        lab.apply(&[pod("later", json!({}), json!({}))]);
        lab.ready("near");

        lab.apply(&[with("far", json!({"podAntiAffinity": term("later")}))]);
        lab.event(
            "far",
            &format!(
                "{elsewhere} pod anti-affinity rules. preemption: 0/1 nodes are available: 1 No preemption victims"
            ),
        );
        remove(lab, &["later"]);
        lab.ready("far");
        lab.apply(&[pod("later", json!({}), json!({}))]);
        lab.event(
            "later",
            "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
        );
        remove(lab, &["far"]);
        lab.ready("later");

        let constraint = json!({"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "spread"}}});
        lab.apply(&[pod(
            "spread",
            json!({}),
            json!({"topologySpreadConstraints": [constraint]}),
        )]);
        lab.event(
            "spread",
            "1 node(s) didn't match pod topology spread constraints (missing required label).",
        );
        lab.kubectl(&["label", "node", &node, "rack=1"]);
        lab.ready("spread");
    });
}

#[test]
fn cordons_taints_and_gates_hold_pods_back() {
    everywhere(|lab| {
        let node = node(lab);
        lab.kubectl(&["cordon", &node]);
        assert!(lab.kubectl(&["get", "nodes"]).contains("Ready,SchedulingDisabled"));
        lab.apply(&[pod("waits", json!({}), json!({}))]);
        lab.event(
            "waits",
            &format!("0/1 nodes are available: 1 node(s) were unschedulable. {HELPLESS}"),
        );
        lab.kubectl(&["uncordon", &node]);
        lab.ready("waits");

        lab.kubectl(&["taint", "node", &node, "team=red:NoSchedule"]);
        let tolerations = json!([{"key": "team", "operator": "Equal", "value": "red", "effect": "NoSchedule"}]);
        lab.apply(&[
            pod("blue", json!({}), json!({})),
            pod("red", json!({}), json!({"tolerations": tolerations})),
        ]);
        lab.ready("red");
        lab.event(
            "blue",
            &format!("0/1 nodes are available: 1 node(s) had untolerated taint {{team: red}}. {HELPLESS}"),
        );
        lab.kubectl(&["taint", "node", &node, "team-"]);
        lab.ready("blue");

        lab.apply(&[pod(
            "gated",
            json!({}),
            json!({"schedulingGates": [{"name": "example.com/first"}, {"name": "example.com/second"}]}),
        )]);
        lab.until("kubectl says why", || {
            lab.kubectl(&["get", "pod", "gated"]).contains("SchedulingGated")
        });
        let less = r#"[{"op": "remove", "path": "/spec/schedulingGates/0"}]"#;
        lab.kubectl(&["patch", "pod", "gated", "--type=json", "-p", less]);
        assert!(lab.get(&["pod", "gated"])["spec"]["nodeName"].is_null());
        lab.kubectl(&["patch", "pod", "gated", "--type=json", "-p", less]);
        lab.ready("gated");
    });
}

#[test]
fn what_pods_ask_for_is_counted() {
    everywhere(|lab| {
        let node = lab.get(&["node", &node(lab)]);
        let cpus: u32 = node["status"]["allocatable"]["cpu"].as_str().unwrap().parse().unwrap();
        let asks = |name: &str, millis: u32, class: &str| {
            let requests = json!({"requests": {"cpu": format!("{millis}m")}});
            pod(
                name,
                json!({"resources": requests}),
                json!({"priorityClassName": class}),
            )
        };
        let class = |name: &str, value: i32, policy: &str| {
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
                "preemptionPolicy": policy})
        };
        lab.apply(&[
            class("low", 10, "PreemptLowerPriority"),
            class("high", 1000, "PreemptLowerPriority"),
            class("polite", 1000, "Never"),
        ]);
        let all = cpus * 1000;
        lab.apply(&[asks("most", all - 200, "low"), asks("rest", 200, "low")]);
        lab.ready("most");
        lab.ready("rest");
        assert_eq!(lab.get(&["pod", "most"])["spec"]["priority"], 10);
        lab.apply(&[
            asks("huge", all + 1, "low"),
            asks("more", 100, "low"),
            asks("polite", 100, "polite"),
        ]);
        lab.event(
            "huge",
            &format!("0/1 nodes are available: 1 Insufficient cpu. {HELPLESS}"),
        );
        lab.event(
            "more",
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        );
        lab.event(
            "polite",
            "1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.",
        );
        let described = lab.kubectl(&["describe", "node"]);
        assert!(described.contains("100%"), "{described}");

        // who matters more takes the place of the least that makes room, and nobody slips in before
        lab.apply(&[asks("important", 200, "high")]);
        lab.ready("important");
        lab.event("rest", "Preempted: Preempted by pod");
        lab.until("it went", || {
            text(&lab.try_kubectl(&["get", "pod", "rest"]).stderr).contains("not found")
        });
        assert!(lab.get(&["pod", "more"])["spec"]["nodeName"].is_null());
        lab.ready("most");
        remove(lab, &["important"]);
        lab.ready("more");
        lab.ready("polite");

        let unknown = lab.try_apply(&[asks("unknown", 1, "nobody")]);
        assert!(
            text(&unknown.stderr).contains("no PriorityClass with name nobody was found"),
            "{}",
            text(&unknown.stderr)
        );
        lab.apply(&[
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "usual"},
            "value": 5, "globalDefault": true}),
        ]);
        lab.apply(&[pod("plain", json!({}), json!({}))]);
        let plain = lab.get(&["pod", "plain"]);
        assert_eq!(
            (&plain["spec"]["priority"], &plain["spec"]["priorityClassName"]),
            (&json!(5), &json!("usual"))
        );
        let second = lab.try_apply(&[
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "other"},
            "value": 6, "globalDefault": true}),
        ]);
        assert!(
            text(&second.stderr)
                .contains("PriorityClass usual is already marked as default. Only one default can exist"),
            "{}",
            text(&second.stderr)
        );
    });
}
