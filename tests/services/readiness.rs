//! Who gets traffic: the pods that are ready, as they come and go.

use std::process::Stdio;

use serde_json::json;

use super::{
    REFUSED, answers, client, get,
    lab::{self, Lab},
    pod_ip, server, service, set,
};

/// The rest of a server's spec that makes it ready when a file is there.
fn when_told() -> serde_json::Value {
    json!({"containers": [{"name": "main", "image": super::AGNHOST, "command": ["/agnhost", "netexec"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"exec": {"command": ["sh", "-c", "test -e /tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}}]})
}

fn addresses(lab: &Lab, name: &str) -> Vec<String> {
    let output = lab.kubectl(&["exec", "client", "-c", "c", "--", "dig", "+short", "+search", name]);
    let mut found: Vec<String> = output.lines().map(str::to_owned).collect();
    found.sort();
    found
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

fn only_who_is_ready(lab: &Lab) {
    let selector = json!({"app": "web"});
    let ports = json!([{"name": "http", "port": 80, "targetPort": "http"}]);
    lab.apply(&[
        server("one", when_told()),
        server("two", when_told()),
        client("client"),
        service("web", json!({"selector": selector, "ports": ports})),
        service(
            "early",
            json!({"selector": selector, "ports": ports, "publishNotReadyAddresses": true}),
        ),
        service(
            "pods",
            json!({"selector": selector, "ports": ports, "clusterIP": "None"}),
        ),
        service(
            "all-pods",
            json!({"selector": selector, "ports": ports, "clusterIP": "None", "publishNotReadyAddresses": true}),
        ),
    ]);
    lab.ready("client");
    for pod in ["one", "two"] {
        lab.kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Running",
            &format!("pod/{pod}"),
            "--timeout=60s",
        ]);
    }
    let both = set(&["one", "two"]);
    let (one, two) = (pod_ip(lab, "one"), pod_ip(lab, "two"));
    lab.until("unready pods are published where that is wanted", || {
        answers(lab, "client", "http://early/hostname", 20) == both
    });
    lab.until("unready pods are named where that is wanted", || {
        addresses(lab, "all-pods") == sorted(vec![one.clone(), two.clone()])
    });
    assert_eq!(get(lab, "client", "http://web/hostname"), REFUSED, "nobody is ready");
    assert_eq!(addresses(lab, "pods"), [""; 0], "nobody is ready");

    lab.sh("one", "touch /tmp/ready");
    lab.ready("one");
    lab.until("the first pod is ready", || {
        get(lab, "client", "http://web/hostname") == Ok("one".to_owned())
    });
    lab.until("a headless name is the ready pod's", || {
        addresses(lab, "pods") == [one.as_str()]
    });
    assert_eq!(answers(lab, "client", "http://web/hostname", 20), set(&["one"]));
    assert_eq!(get(lab, "client", "http://pods:8080/hostname"), Ok("one".to_owned()));

    lab.sh("two", "touch /tmp/ready");
    lab.until("both are ready", || {
        answers(lab, "client", "http://web/hostname", 20) == both
    });
    lab.sh("one", "rm /tmp/ready");
    lab.until("the first is not ready any more", || {
        answers(lab, "client", "http://web/hostname", 20) == set(&["two"])
    });
    lab.until("nor has it the headless name", || {
        addresses(lab, "pods") == [two.as_str()]
    });
    lab.kubectl(&["delete", "pod", "two"]);
    lab.until("with the last ready pod goes the way", || {
        get(lab, "client", "http://web/hostname") == REFUSED
    });
}

/// While pods come and go, no request meets one that has gone: each pod serves on for a moment after it was told to end.
fn under_traffic(lab: &Lab) {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "terminationGracePeriodSeconds": 20, "containers": [{"name": "main", "image": super::AGNHOST,
            "command": ["/agnhost", "netexec", "--delay-shutdown", "3"],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}}]}});
    lab.apply(&[
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template,
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}}}),
        service(
            "web",
            json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}),
        ),
        client("client"),
    ]);
    lab.ready("client");
    lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    lab.until("the Service leads somewhere", || {
        get(lab, "client", "http://web/hostname").is_ok()
    });
    let names = |lab: &Lab| lab.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
    let before = names(lab);
    let script =
        "until [ -e /tmp/enough ]; do curl -s -m 20 http://web/hostname || echo failed $?; echo; done > /tmp/said";
    let traffic = lab
        .command("kubectl")
        .args(["exec", "client", "-c", "c", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = || lab::text(&lab.try_sh("client", "cat /tmp/said").stdout);
    let answered = |names: &str| {
        let said = said();
        names
            .lines()
            .any(|name| said.lines().any(|line| name.trim_start_matches("pod/") == line))
    };
    lab.until("a pod of before answers", || answered(&before));
    lab.kubectl(&["rollout", "restart", "deployment/web"]);
    lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    lab.until("the old pods are gone", || {
        let now = names(lab);
        now.lines().count() == 2 && !now.lines().any(|name| before.contains(name))
    });
    let now = names(lab);
    lab.until("a pod of after answers", || answered(&now));
    lab.sh("client", "touch /tmp/enough");
    let ended = traffic.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", lab::text(&ended.stderr));
    let said = said();
    let wrong: Vec<&str> = said.lines().filter(|line| line.starts_with("failed")).collect();
    assert!(wrong.is_empty(), "{wrong:?} of {}", said.lines().count());
}

#[test]
fn only_pods_that_are_ready_get_traffic() {
    lab::everywhere(only_who_is_ready);
}

#[test]
fn a_rollout_under_traffic_fails_no_request() {
    lab::everywhere(under_traffic);
}
