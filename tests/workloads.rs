//! The controllers of workloads from end to end, under the real `kubectl`: as whoever runs the tests, and where that is root,
//! as an ordinary user too.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use lab::{Lab, everywhere, text};
use serde_json::{Value, json};

/// A StatefulSet with its headless Service.
fn stateful_set(lab: &Lab, replicas: u32, note: &str) {
    let template = json!({"metadata": {"labels": {"app": "db"}, "annotations": {"note": note}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "1000"]}]}});
    lab.apply(&[
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": {"clusterIP": "None",
            "selector": {"app": "db"}, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {"replicas": replicas,
            "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template}}),
    ]);
}

fn pods(lab: &Lab) -> Vec<Value> {
    lab.get(&["pods", "-l", "app=db"])["items"].as_array().unwrap().clone()
}

fn names(lab: &Lab) -> Vec<String> {
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    pods(lab).iter().map(name).collect()
}

fn rolled_out(lab: &Lab) {
    lab.kubectl(&["rollout", "status", "statefulset/db", "--timeout=60s"]);
}

fn notes(lab: &Lab) -> Vec<String> {
    let note = |pod: &Value| pod["metadata"]["annotations"]["note"].as_str().unwrap().to_owned();
    pods(lab).iter().map(note).collect()
}

#[test]
fn a_stateful_set_has_names_an_order_and_a_way_back() {
    everywhere(|lab| {
        stateful_set(lab, 2, "one");
        rolled_out(lab);
        assert_eq!(names(lab), ["db-0", "db-1"]);
        let started = |at: usize| {
            pods(lab)[at]["metadata"]["creationTimestamp"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert!(started(0) <= started(1));
        assert_eq!(lab.sh("db-0", "hostname"), "db-0\n");
        let address = pods(lab)[1]["status"]["podIP"].as_str().unwrap().to_owned();
        lab.until("the pod's name is known", || {
            text(&lab.try_sh("db-0", "getent hosts db-1.db").stdout).starts_with(&address)
        });
        lab.kubectl(&["scale", "statefulset/db", "--replicas=3"]);
        rolled_out(lab);
        assert_eq!(names(lab), ["db-0", "db-1", "db-2"]);

        // a partition holds the lower ordinals back
        lab.kubectl(&[
            "patch",
            "statefulset/db",
            "-p",
            r#"{"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}}}}"#,
        ]);
        stateful_set(lab, 3, "two");
        rolled_out(lab);
        assert_eq!(notes(lab), ["one", "one", "two"]);
        lab.kubectl(&[
            "patch",
            "statefulset/db",
            "-p",
            r#"{"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}"#,
        ]);
        rolled_out(lab);
        assert_eq!(notes(lab), ["two", "two", "two"]);

        let history = lab.kubectl(&["rollout", "history", "statefulset/db"]);
        assert_eq!(
            history.lines().filter(|line| line.starts_with(['1', '2'])).count(),
            2,
            "{history}"
        );
        lab.kubectl(&["rollout", "undo", "statefulset/db"]);
        rolled_out(lab);
        assert_eq!(notes(lab), ["one", "one", "one"]);
        let history = lab.kubectl(&["rollout", "history", "statefulset/db"]);
        assert_eq!(
            history.lines().filter(|line| line.starts_with(['2', '3'])).count(),
            2,
            "{history}"
        );

        // a deleted pod comes back under its name, and the highest go first
        let before = pods(lab)[1]["metadata"]["uid"].clone();
        lab.kubectl(&["delete", "pod", "db-1"]);
        lab.until("db-1 is back", || {
            pods(lab)
                .get(1)
                .is_some_and(|pod| pod["metadata"]["name"] == "db-1" && pod["metadata"]["uid"] != before)
        });
        lab.kubectl(&["scale", "statefulset/db", "--replicas=1"]);
        lab.until("only the first is left", || names(lab) == ["db-0"]);
        lab.event("db", "SuccessfulDelete: delete Pod db-2 in StatefulSet db successful");
        lab.kubectl(&["delete", "statefulset/db"]);
        lab.until("nothing is left", || {
            names(lab).is_empty()
                && lab.get(&["controllerrevisions"])["items"]
                    .as_array()
                    .unwrap()
                    .is_empty()
        });
    });
}

#[test]
fn a_stateful_set_claims_volumes_and_keeps_them() {
    everywhere(|lab| {
        let set = |name: &str, policy: Value| {
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {"replicas": 2,
                "podManagementPolicy": "Parallel", "serviceName": name, "selector": {"matchLabels": {"app": name}},
                "persistentVolumeClaimRetentionPolicy": policy,
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                    {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "1000"]}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Mi"}}}}]}})
        };
        lab.apply(&[
            set("keeps", json!({"whenDeleted": "Retain", "whenScaled": "Retain"})),
            set("drops", json!({"whenDeleted": "Delete", "whenScaled": "Retain"})),
        ]);
        let claims = |name: &str| {
            lab.get(&["pvc", "-l", &format!("app={name}")])["items"]
                .as_array()
                .unwrap()
                .clone()
        };
        for name in ["keeps", "drops"] {
            lab.until("the claims are there", || claims(name).len() == 2);
        }
        lab.until("the set owns its claims", || {
            claims("drops")
                .iter()
                .all(|claim| claim["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet")
        });
        lab.kubectl(&["delete", "statefulset", "keeps", "drops"]);
        lab.until("owned claims go", || claims("drops").is_empty());
        assert_eq!(claims("keeps").len(), 2);
    });
}
