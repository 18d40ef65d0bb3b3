//! DaemonSets, Jobs and CronJobs from end to end, under the real `kubectl`: as whoever runs the tests, and where that is root,
//! as an ordinary user too.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use lab::{Lab, everywhere, text};
use serde_json::{Value, json};

fn daemon_set(lab: &Lab, note: &str, strategy: Value) {
    lab.apply(&[
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": {"updateStrategy": strategy,
            "selector": {"matchLabels": {"app": "agent"}}, "template": {"metadata": {"labels": {"app": "agent"},
            "annotations": {"note": note}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "1000"]}]}}}}),
    ]);
}

/// What is true of each pod of an application, in words.
fn pods(lab: &Lab, app: &str, pointer: &str) -> Vec<Value> {
    let all = lab.get(&["pods", "-l", &format!("app={app}")]);
    let all = all["items"].as_array().unwrap().iter();
    all.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| pod.pointer(pointer).cloned().unwrap_or_default())
        .collect()
}

#[test]
fn a_daemon_set_has_one_pod_on_the_node_and_a_way_back() {
    everywhere(|lab| {
        let rolled_out = || lab.kubectl(&["rollout", "status", "daemonset/agent", "--timeout=60s"]);
        let notes = || pods(lab, "agent", "/metadata/annotations/note");
        daemon_set(lab, "one", json!({}));
        rolled_out();
        assert_eq!(notes(), ["one"]);
        let shown = lab.kubectl(&["get", "daemonset/agent"]);
        let cells: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells[..6], ["agent", "1", "1", "1", "1", "1"], "{shown}");
        let node = lab.get(&["nodes"])["items"][0]["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        let affinity = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
        assert_eq!(pods(lab, "agent", affinity), [node.as_str()]);

        // an update takes the old pod away first, or makes the new one first
        daemon_set(lab, "two", json!({}));
        rolled_out();
        assert_eq!(notes(), ["two"]);
        daemon_set(
            lab,
            "three",
            json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
        );
        rolled_out();
        lab.until("only the new pod is left", || notes() == ["three"]);
        let history = lab.kubectl(&["rollout", "history", "daemonset/agent"]);
        let revisions = history.lines().filter(|line| line.starts_with(['1', '2', '3'])).count();
        assert_eq!(revisions, 3, "{history}");
        lab.kubectl(&["rollout", "undo", "daemonset/agent", "--to-revision=1"]);
        rolled_out();
        lab.until("the first template is back", || notes() == ["one"]);

        // a restart makes new pods of the same template
        let before = pods(lab, "agent", "/metadata/uid");
        lab.kubectl(&["rollout", "restart", "daemonset/agent"]);
        rolled_out();
        lab.until("the pod is a new one", || {
            let now = pods(lab, "agent", "/metadata/uid");
            now.len() == 1 && now != before
        });

        // with OnDelete only who deletes a pod updates it
        daemon_set(lab, "four", json!({"type": "OnDelete", "rollingUpdate": null}));
        lab.until("the change is seen", || {
            let set = lab.get(&["daemonset/agent"]);
            set["status"]["observedGeneration"] == set["metadata"]["generation"]
                && set["status"]["updatedNumberScheduled"].is_null()
        });
        assert_eq!(notes(), ["one"]);
        lab.kubectl(&["delete", "pod", "-l", "app=agent"]);
        lab.until("the pod comes back updated", || notes() == ["four"]);

        lab.event("agent", "SuccessfulCreate: Created pod: agent-");
        lab.kubectl(&["delete", "daemonset/agent"]);
        lab.until("nothing is left", || {
            let left = lab.get(&["pods,controllerrevisions"]);
            left["items"].as_array().unwrap().is_empty()
        });
    });
}

#[test]
fn a_daemon_set_follows_labels_and_taints_of_the_node() {
    everywhere(|lab| {
        let node = lab.get(&["nodes"])["items"][0]["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        daemon_set(lab, "one", json!({}));
        let desired = |number: i64| {
            lab.until(&format!("{number} wanted"), || {
                let set = lab.get(&["daemonset/agent"]);
                let status = |field: &str| set["status"][field].as_i64().unwrap_or(0);
                set["status"]["observedGeneration"] == set["metadata"]["generation"]
                    && status("desiredNumberScheduled") == number
                    && status("numberAvailable") == number
            });
            lab.until("as many pods", || {
                pods(lab, "agent", "/kind").len() == usize::try_from(number).unwrap()
            });
        };
        desired(1);
        let select = |labels: &str| {
            let patch = format!(r#"{{"spec": {{"template": {{"spec": {{"nodeSelector": {labels}}}}}}}}}"#);
            lab.kubectl(&["patch", "daemonset/agent", "--type=merge", "-p", &patch]);
        };
        select(r#"{"agent": "yes"}"#);
        desired(0);
        lab.kubectl(&["label", "node", &node, "agent=yes"]);
        desired(1);
        // a node that is closed to others is not closed to daemons; a taint that nobody tolerates drives them off
        let before = pods(lab, "agent", "/metadata/uid");
        lab.kubectl(&["cordon", &node]);
        lab.kubectl(&["delete", "pod", "-l", "app=agent"]);
        lab.until("a new pod in spite of the cordon", || {
            let now = pods(lab, "agent", "/metadata/uid");
            now.len() == 1 && now != before
        });
        desired(1);
        lab.kubectl(&["taint", "node", &node, "x=y:NoExecute"]);
        desired(0);
        lab.kubectl(&["taint", "node", &node, "x-"]);
        desired(1);

        let refused = lab.try_kubectl(&[
            "patch",
            "daemonset/agent",
            "--type=merge",
            "-p",
            r#"{"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}}"#,
        ]);
        assert_eq!(
            text(&refused.stderr).trim(),
            "The DaemonSet \"agent\" is invalid: spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 \
             when maxSurge is 0"
        );
    });
}
