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
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                    {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sh", "-c", "hostname >> /data/names; exec sleep 1000"],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Mi"}}}}]}})
        };
        lab.apply(&[
            set("keeps", json!({"whenDeleted": "Retain", "whenScaled": "Retain"})),
            set("drops", json!({"whenDeleted": "Delete", "whenScaled": "Retain"})),
            set("shrinks", json!({"whenDeleted": "Retain", "whenScaled": "Delete"})),
        ]);
        let claims = |name: &str| {
            lab.get(&["pvc", "-l", &format!("app={name}")])["items"]
                .as_array()
                .unwrap()
                .clone()
        };
        for name in ["keeps", "drops"] {
            lab.until("the claims are there", || claims(name).len() == 2);
            lab.kubectl(&["rollout", "status", &format!("statefulset/{name}"), "--timeout=60s"]);
            assert!(claims(name).iter().all(|claim| claim["status"]["phase"] == "Bound"));
        }
        // each pod has its own, also after it was made again; read on the machine, so that nothing but volumes is tried
        let written = |name: &str, expected: &str| {
            let claim = lab.get(&["pvc", &format!("data-{name}")]);
            let place = lab
                .dir()
                .join("volumes")
                .join(claim["spec"]["volumeName"].as_str().unwrap());
            lab.until("the pod has written its name", || {
                std::fs::read_to_string(place.join("names")).is_ok_and(|names| names == expected)
            });
        };
        for name in ["keeps-0", "keeps-1"] {
            written(name, &format!("{name}\n"));
        }
        lab.kubectl(&["delete", "pod", "keeps-0", "keeps-1"]);
        for name in ["keeps-0", "keeps-1"] {
            written(name, &format!("{name}\n{name}\n"));
        }
        lab.until("the set owns its claims", || {
            claims("drops")
                .iter()
                .all(|claim| claim["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet")
        });
        lab.kubectl(&["rollout", "status", "statefulset/shrinks", "--timeout=60s"]);
        lab.kubectl(&["scale", "statefulset/shrinks", "--replicas=1"]);
        lab.until("the claim of the pod that went goes", || claims("shrinks").len() == 1);
        assert_eq!(claims("shrinks")[0]["metadata"]["name"], "data-shrinks-0");
        lab.kubectl(&["delete", "statefulset", "keeps", "drops"]);
        lab.until("owned claims go", || claims("drops").is_empty());
        assert_eq!(claims("keeps").len(), 2);
    });
}

#[test]
fn a_stateful_set_starts_where_it_is_told_and_waits_to_be_updated() {
    everywhere(|lab| {
        let set = |note: &str| {
            let template = json!({"metadata": {"labels": {"app": "db"}, "annotations": {"note": note}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                    {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "1000"],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}});
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {"replicas": 2,
                "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template,
                "ordinals": {"start": 5}, "podManagementPolicy": "Parallel", "updateStrategy": {"type": "OnDelete"},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Mi"}}}}]}})
        };
        let ready = || {
            ["db-5", "db-6"].iter().for_each(|name| {
                lab.until("it is there", || {
                    lab.try_kubectl(&["get", "pod", name]).status.success()
                });
                lab.ready(name);
            });
        };
        let uids = || {
            pods(lab)
                .iter()
                .map(|pod| pod["metadata"]["uid"].clone())
                .collect::<Vec<_>>()
        };
        lab.apply(&[set("one")]);
        ready();
        assert_eq!(names(lab), ["db-5", "db-6"]);
        assert_eq!(pods(lab)[1]["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "6");

        // a new template waits until somebody deletes a pod
        let before = uids();
        lab.apply(&[set("two")]);
        lab.until("the set knows of it", || {
            let set = lab.get(&["statefulset", "db"]);
            set["status"]["observedGeneration"] == set["metadata"]["generation"]
                && set["status"]["updateRevision"] != set["status"]["currentRevision"]
        });
        assert_eq!((notes(lab), uids()), (vec!["one".to_owned(), "one".to_owned()], before));
        lab.kubectl(&["delete", "pod", "db-5"]);
        ready();
        assert_eq!(notes(lab), ["two", "one"]);

        // its pods outlive it, and the next of its name takes them as they are
        let before = uids();
        lab.kubectl(&["delete", "statefulset", "db", "--cascade=orphan"]);
        lab.until("they are nobody's", || {
            pods(lab)
                .iter()
                .all(|pod| pod["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty))
        });
        lab.apply(&[set("two")]);
        let owner = lab.get(&["statefulset", "db"])["metadata"]["uid"].clone();
        lab.until("it takes them", || {
            pods(lab)
                .iter()
                .all(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == owner)
        });
        assert_eq!(uids(), before);

        // a restore makes pods of the same names, with the volumes that they had and what was in them
        let ztlab = |args: &[&str]| {
            let output = lab.ztlab(args);
            assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        };
        lab.sh("db-6", "echo before > /data/file");
        ztlab(&["cluster", "snapshot", "t", "--as", "s"]);
        lab.sh("db-6", "echo after > /data/file; echo more > /data/more");
        lab.kubectl(&["scale", "statefulset/db", "--replicas=1"]);
        lab.until("one is left", || names(lab) == ["db-5"]);
        ztlab(&["cluster", "restore", "t", "s"]);
        lab.until("all are others", || {
            pods(lab).len() == 2 && uids().iter().all(|uid| !before.contains(uid))
        });
        ready();
        assert_eq!(names(lab), ["db-5", "db-6"]);
        assert_eq!(lab.sh("db-6", "cat /data/file; ls /data"), "before\nfile\n");
    });
}

/// A Deployment `web` of this many pods.
fn deployment(replicas: u32, image: &str, spec: Value) -> Value {
    let mut all = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template":
        {"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "image": image, "command": ["sleep", "1000"]}]}}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": all})
}

/// How many pods each ReplicaSet is to have, the oldest first.
fn sizes(lab: &Lab) -> Vec<u64> {
    let sets = lab.get(&["rs", "-l", "app=web"])["items"].as_array().unwrap().clone();
    let mut sets: Vec<_> = sets
        .iter()
        .map(|set| {
            let revision = set["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
                .as_str()
                .unwrap();
            (
                revision.parse::<u32>().unwrap(),
                set["spec"]["replicas"].as_u64().unwrap(),
            )
        })
        .collect();
    sets.sort_unstable();
    sets.into_iter().map(|(_, replicas)| replicas).collect()
}

const GOOD: &str = "ztlab.dev/toolbox:1";

#[test]
fn a_deployment_is_scaled_paused_and_given_up_as_it_says() {
    everywhere(|lab| {
        let strategy = json!({"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
        let with = |replicas: u32, image: &str, more: Value| {
            let mut spec = json!({"strategy": strategy.clone()});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            deployment(replicas, image, spec)
        };
        lab.apply(&[with(10, GOOD, json!({}))]);
        lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);

        // the document's example of proportional scaling
        lab.apply(&[with(
            10,
            "nobody.example/has:it",
            json!({"progressDeadlineSeconds": 600}),
        )]);
        lab.until("the rollout is stuck", || sizes(lab) == [8, 5]);
        lab.kubectl(&["scale", "deployment/web", "--replicas=15"]);
        lab.until("each has its part", || sizes(lab) == [11, 7]);
        lab.apply(&[with(3, "nobody.example/has:it", json!({"progressDeadlineSeconds": 1}))]);
        let status = lab.try_kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        assert!(
            text(&status.stderr).contains("deployment \"web\" exceeded its progress deadline"),
            "{}",
            text(&status.stderr)
        );
        lab.kubectl(&[
            "patch",
            "deployment",
            "web",
            "-p",
            r#"{"spec": {"progressDeadlineSeconds": 600}}"#,
        ]);
        lab.kubectl(&["rollout", "undo", "deployment/web"]);
        // As in Kubernetes, the condition stays until progress is seen, and `rollout status` gives up on it until then.
        lab.until("progress is seen again", || {
            let conditions = lab.get(&["deployment", "web"])["status"]["conditions"].to_string();
            !conditions.contains("ProgressDeadlineExceeded")
        });
        lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        lab.until("all are of the old template", || sizes(lab) == [0, 3]);

        // paused: scaled, and no template is rolled out
        lab.kubectl(&["rollout", "pause", "deployment/web"]);
        lab.kubectl(&["set", "env", "deployment/web", "NOTE=x"]);
        lab.kubectl(&["scale", "deployment/web", "--replicas=2"]);
        lab.until("it is scaled", || sizes(lab) == [0, 2]);
        let conditions = lab.get(&["deployment", "web"])["status"]["conditions"].to_string();
        assert!(conditions.contains("DeploymentPaused"), "{conditions}");
        lab.kubectl(&["rollout", "resume", "deployment/web"]);
        lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        lab.until("the template is rolled out", || sizes(lab) == [0, 0, 2]);

        // what changes beside the template reaches the ReplicaSet that is there; old ones go
        lab.kubectl(&[
            "patch",
            "deployment",
            "web",
            "-p",
            r#"{"spec": {"minReadySeconds": 1, "progressDeadlineSeconds": 60, "revisionHistoryLimit": 1}}"#,
        ]);
        lab.until("it has only one old revision", || sizes(lab).len() == 2);
        let set = lab.get(&["rs", "-l", "app=web"])["items"].as_array().unwrap().clone();
        let set = set.iter().find(|set| set["spec"]["replicas"] == 2).unwrap().clone();
        assert_eq!(set["spec"]["minReadySeconds"], 1);
    });
}
