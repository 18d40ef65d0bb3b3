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

/// A Job of a shell's script.
fn job(name: &str, script: &str, spec: Value) -> Value {
    let mut whole = json!({"template": {"metadata": {"labels": {"app": name}}, "spec": {"restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sh", "-c", script]}]}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": whole})
}

fn conditions(lab: &Lab, job: &str) -> Vec<String> {
    let job = lab.get(&["job", job]);
    let held = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    held.iter()
        .filter(|one| one["status"] == "True")
        .map(|one| format!("{}: {}", one["type"].as_str().unwrap(), one["reason"].as_str().unwrap()))
        .collect()
}

#[test]
fn jobs_run_to_their_ends_and_are_counted_once() {
    everywhere(|lab| {
        lab.kubectl(&[
            "create",
            "job",
            "hello",
            "--image=ztlab.dev/toolbox:1",
            "--",
            "sh",
            "-c",
            "echo hello",
        ]);
        lab.kubectl(&["wait", "--for=condition=complete", "job/hello", "--timeout=60s"]);
        assert_eq!(lab.kubectl(&["logs", "job/hello"]), "hello\n");
        let shown = lab.kubectl(&["get", "job/hello"]);
        let cells: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells[..3], ["hello", "Complete", "1/1"], "{shown}");
        assert_eq!(
            conditions(lab, "hello"),
            ["SuccessCriteriaMet: CompletionsReached", "Complete: CompletionsReached"]
        );
        lab.event("hello", "SuccessfulCreate: Created pod: hello-");
        lab.event("hello", "Completed: Job completed");
        let of_hello = lab.get(&["pods", "-l", "batch.kubernetes.io/job-name=hello"]);
        assert_eq!(of_hello["items"].as_array().unwrap().len(), 1);
        let finalizers = of_hello["items"][0]["metadata"]["finalizers"].as_array();
        assert!(finalizers.is_none_or(Vec::is_empty), "{of_hello}");

        // each index is done once, two at a time
        let script = "echo $JOB_COMPLETION_INDEX $(hostname)";
        lab.apply(&[job(
            "many",
            script,
            json!({"completions": 5, "parallelism": 2, "completionMode": "Indexed"}),
        )]);
        lab.kubectl(&["wait", "--for=condition=complete", "job/many", "--timeout=60s"]);
        let status = lab.get(&["job/many"])["status"].clone();
        assert_eq!(
            (&status["succeeded"], &status["completedIndexes"]),
            (&json!(5), &json!("0-4")),
            "{status}"
        );
        let logs = lab.kubectl(&["logs", "-l", "app=many", "--max-log-requests=9"]);
        let mut lines: Vec<&str> = logs.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["0 many-0", "1 many-1", "2 many-2", "3 many-3", "4 many-4"]);

        // a pod that is taken away counts as failed and is made again
        lab.apply(&[job("again", "sleep 1000", json!({}))]);
        let running = || {
            lab.until("it runs", || lab.get(&["job/again"])["status"]["ready"] == 1);
            pods(lab, "again", "/metadata/name")[0].as_str().unwrap().to_owned()
        };
        let first = running();
        lab.kubectl(&["delete", "pod", &first, "--wait=false"]);
        lab.until("it is counted", || lab.get(&["job/again"])["status"]["failed"] == 1);
        lab.until("another is made", || {
            pods(lab, "again", "/metadata/name")
                .iter()
                .any(|name| *name != first.as_str())
        });

        // what is left goes with its Job, uncounted
        lab.kubectl(&["delete", "job", "--all"]);
        lab.until("nothing is left", || {
            lab.get(&["pods"])["items"].as_array().unwrap().is_empty()
        });
    });
}

#[test]
fn jobs_fail_by_limit_policy_and_deadline() {
    everywhere(|lab| {
        let policy = json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]});
        lab.apply(&[
            job("limit", "exit 3", json!({"backoffLimit": 0})),
            job(
                "policy",
                "exit 42",
                json!({"backoffLimit": 6, "podFailurePolicy": policy}),
            ),
            job("late", "sleep 1000", json!({"activeDeadlineSeconds": 1})),
        ]);
        for (name, reason, message) in [
            (
                "limit",
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            ),
            (
                "policy",
                "PodFailurePolicy",
                "failed with exit code 42 matching FailJob rule at index 0",
            ),
            (
                "late",
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            ),
        ] {
            lab.kubectl(&[
                "wait",
                "--for=condition=failed",
                &format!("job/{name}"),
                "--timeout=60s",
            ]);
            assert_eq!(
                conditions(lab, name),
                [format!("FailureTarget: {reason}"), format!("Failed: {reason}")]
            );
            lab.event(name, message);
            assert_eq!(lab.get(&["job", name])["status"]["failed"], 1);
        }
        let refused = lab.try_apply(&[job(
            "never",
            "true",
            json!({"template": {"spec": {"containers": [
            {"name": "c", "image": "ztlab.dev/toolbox:1"}]}}}),
        )]);
        assert_eq!(
            text(&refused.stderr).trim(),
            "The Job \"never\" is invalid: spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
        );
    });
}

#[test]
fn jobs_wait_while_they_are_suspended_and_go_when_their_time_is_over() {
    everywhere(|lab| {
        lab.apply(&[job("later", "sleep 1000", json!({"suspend": true}))]);
        let suspended = || conditions(lab, "later") == ["Suspended: JobSuspended"];
        lab.until("it is suspended", suspended);
        assert!(pods(lab, "later", "/kind").is_empty());
        let suspend = |yes: bool| {
            let patch = format!(r#"{{"spec": {{"suspend": {yes}}}}}"#);
            lab.kubectl(&["patch", "job/later", "--type=merge", "-p", &patch]);
        };
        suspend(false);
        lab.until("it runs", || lab.get(&["job/later"])["status"]["ready"] == 1);
        suspend(true);
        lab.until("its pod is gone", || {
            lab.get(&["pods"])["items"].as_array().unwrap().is_empty()
        });
        lab.until("it is suspended again", suspended);
        let status = lab.get(&["job/later"])["status"].clone();
        assert!(status["failed"].is_null() && status["active"].is_null(), "{status}");
        lab.event("later", "Resumed: Job resumed");

        lab.apply(&[job("brief", "true", json!({"ttlSecondsAfterFinished": 1}))]);
        lab.event("brief", "Completed: Job completed");
        lab.until("it has gone by itself", || {
            let found = lab.try_kubectl(&["get", "job/brief"]);
            !found.status.success() && pods(lab, "brief", "/kind").is_empty()
        });
    });
}

#[test]
fn cron_jobs_make_jobs_at_their_times_and_on_demand() {
    everywhere(|lab| {
        let cron = |name: &str, spec: Value| {
            let template = job(name, "true", json!({}))["spec"].clone();
            let mut whole = json!({"schedule": "@every 1s", "jobTemplate": {"spec": template}});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": whole})
        };
        lab.apply(&[cron("tick", json!({}))]);
        lab.event("tick", "SuccessfulCreate: Created job tick-");
        lab.event("tick", "SawCompletedJob: Saw completed job: tick-");
        let held = lab.get(&["cronjob/tick"]);
        assert!(held["status"]["lastScheduleTime"].is_string(), "{held}");
        let made = lab.get(&["jobs"])["items"][0].clone();
        assert_eq!(made["metadata"]["ownerReferences"][0]["name"], "tick");
        assert!(made["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"].is_string());
        let shown = lab.kubectl(&["get", "cronjob/tick"]);
        assert!(shown.contains("@every 1s"), "{shown}");

        // one that waits makes none, but for who asks for one
        lab.apply(&[cron(
            "idle",
            json!({"schedule": "0 0 29 2 *", "timeZone": "Europe/Berlin", "suspend": true}),
        )]);
        lab.kubectl(&["create", "job", "--from=cronjob/idle", "now"]);
        lab.kubectl(&["wait", "--for=condition=complete", "job/now", "--timeout=60s"]);
        assert_eq!(lab.get(&["job/now"])["metadata"]["ownerReferences"][0]["name"], "idle");

        let refused = lab.try_apply(&[cron("bad", json!({"schedule": "every day", "timeZone": "Moon"}))]);
        assert_eq!(
            text(&refused.stderr).trim(),
            "The CronJob \"bad\" is invalid: \n\
             * spec.schedule: Invalid value: \"every day\": expected exactly 5 fields, found 2: [every day]\n\
             * spec.timeZone: Invalid value: \"Moon\": unknown time zone Moon"
        );
        lab.kubectl(&["delete", "cronjob", "--all"]);
        lab.until("nothing is left", || {
            lab.get(&["jobs,pods"])["items"].as_array().unwrap().is_empty()
        });
    });
}

#[test]
fn a_budget_keeps_pods_from_eviction_and_a_drained_node_keeps_its_daemons() {
    everywhere(|lab| {
        let node = lab.get(&["nodes"])["items"][0]["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        let container = json!({"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "1000"]});
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [container]}});
        let budget = |least: u32| {
            lab.apply(&[
                json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": {
                "minAvailable": least, "selector": {"matchLabels": {"app": "web"}}}}),
            ]);
            let allowed = 2_i64.saturating_sub(i64::from(least)).max(0);
            lab.until("the budget is counted", || {
                let budget = lab.get(&["pdb/web"]);
                let status = |field: &str| budget["status"][field].as_i64().unwrap_or(-1);
                budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
                    && status("currentHealthy") == 2
                    && status("disruptionsAllowed") == allowed
            });
        };
        daemon_set(lab, "one", json!({}));
        lab.apply(&[
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2,
            "selector": {"matchLabels": {"app": "web"}}, "template": template}}),
        ]);
        lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        lab.kubectl(&["rollout", "status", "daemonset/agent", "--timeout=60s"]);
        budget(2);
        let shown = lab.kubectl(&["get", "pdb/web"]);
        let cells: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells[..4], ["web", "2", "N/A", "0"], "{shown}");

        let before = pods(lab, "web", "/metadata/uid");
        let drain = |timeout: &str| {
            lab.try_kubectl(&["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", timeout])
        };
        let refused = drain("--timeout=3s");
        let said = text(&refused.stderr);
        assert!(!refused.status.success());
        assert!(
            said.contains("Cannot evict pod as it would violate the pod's disruption budget."),
            "{said}"
        );
        assert_eq!(pods(lab, "web", "/metadata/uid"), before);

        budget(0);
        let done = drain("--timeout=60s");
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert_eq!(pods(lab, "agent", "/kind").len(), 1);
        let left = pods(lab, "web", "/spec/nodeName");
        assert!(left.iter().all(Value::is_null), "{left:?}");
        lab.kubectl(&["uncordon", &node]);
        lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        assert!(
            pods(lab, "web", "/metadata/uid")
                .iter()
                .all(|uid| !before.contains(uid))
        );
    });
}

#[test]
fn quotas_and_limit_ranges_bound_a_namespace() {
    everywhere(|lab| {
        let sleeper = |name: &str, resources: Value| lab::pod(name, json!({"resources": resources}), json!({}));
        lab.apply(&[
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {
            "pods": "2", "requests.cpu": "500m", "count/configmaps": "3"}}}),
        ]);
        let used = |name: &str, amount: &str| {
            lab.until(&format!("{name}={amount}"), || {
                lab.get(&["quota/small"])["status"]["used"][name] == amount
            });
        };
        used("pods", "0");
        let refused = |object: Value, why: &str| {
            let said = text(&lab.try_apply(&[object]).stderr);
            assert!(said.contains(why), "{said}");
        };
        refused(
            sleeper("a", json!({})),
            "pods \"a\" is forbidden: failed quota: small: must specify requests.cpu for: c",
        );
        lab.apply(&[
            json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits"}, "spec": {"limits": [
            {"type": "Container", "default": {"cpu": "200m"}, "max": {"cpu": "400m"}}]}}),
        ]);
        lab.apply(&[sleeper("a", json!({}))]);
        assert_eq!(
            lab.get(&["pod/a"])["spec"]["containers"][0]["resources"]["requests"]["cpu"],
            "200m"
        );
        refused(
            sleeper("b", json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}})),
            "pods \"b\" is forbidden: maximum cpu usage per Container is 400m, but limit is 1",
        );
        refused(
            sleeper("b", json!({"requests": {"cpu": "400m"}, "limits": {"cpu": "400m"}})),
            "pods \"b\" is forbidden: exceeded quota: small, requested: requests.cpu=400m, used: requests.cpu=200m, limited: \
             requests.cpu=500m",
        );
        lab.apply(&[sleeper("b", json!({}))]);
        used("requests.cpu", "400m");
        refused(
            sleeper("d", json!({"requests": {"cpu": "1m"}})),
            "requested: pods=1, used: pods=2, limited: pods=2",
        );
        let shown = lab.kubectl(&["describe", "quota", "small"]);
        assert!(shown.contains("400m"), "{shown}");

        // controllers are told, and go on when there is room again
        lab.apply(&[json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "waits"}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["true"],
                "resources": {"requests": {"cpu": "50m"}}}]}}}})]);
        lab.event("waits", "exceeded quota: small");
        lab.kubectl(&["delete", "pod/b"]);
        lab.kubectl(&["wait", "--for=condition=complete", "job/waits", "--timeout=60s"]);
        used("pods", "1");
    });
}

#[test]
fn a_namespace_says_what_its_pods_may_do() {
    everywhere(|lab| {
        let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        lab.apply(&[
            namespace("strict", json!({"pod-security.kubernetes.io/enforce": "restricted"})),
            namespace("base", json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"})),
        ]);
        let within = |namespace: &str, mut object: Value| {
            object["metadata"]["namespace"] = json!(namespace);
            lab.try_apply(&[object])
        };
        let refused = within("strict", lab::pod("plain", json!({}), json!({})));
        let said = text(&refused.stderr);
        assert!(
            said.contains(
                "pods \"plain\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false \
                 (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities"
            ),
            "{said}"
        );
        let hardened =
            json!({"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
        let pod = json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}});
        let taken = within("strict", lab::pod("good", hardened, pod));
        assert!(taken.status.success(), "{}", text(&taken.stderr));
        // the warning is of what would be refused elsewhere
        let warned = within("base", lab::pod("plain", json!({}), json!({})));
        let said = text(&warned.stderr);
        assert!(
            warned.status.success() && said.contains("Warning: would violate PodSecurity \"restricted:latest\""),
            "{said}"
        );
        let refused = within("base", lab::pod("host", json!({}), json!({"hostNetwork": true})));
        let said = text(&refused.stderr);
        assert!(
            said.contains("violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"),
            "{said}"
        );
        // a controller is refused its pods, and says so
        let mut web = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "1000"]}]}}}});
        web["metadata"]["namespace"] = json!("strict");
        lab.apply(&[web]);
        lab.until("it is told", || {
            let events = lab.kubectl(&["get", "events", "-n", "strict"]);
            events.contains("Error creating: ") && events.contains("violates PodSecurity")
        });
    });
}
