//! Services and cluster DNS by real connections between pods: as whoever runs the tests, and where that is root, as an ordinary
//! user too.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "services/endpoints.rs"]
mod endpoints;
#[path = "common/lab.rs"]
mod lab;
#[path = "services/names.rs"]
mod names;
#[path = "common/nft.rs"]
mod nft;
#[path = "services/policies.rs"]
mod policies;
#[path = "services/readiness.rs"]
mod readiness;
#[path = "services/rules.rs"]
mod rules;
#[path = "services/ways.rs"]
mod ways;

use std::collections::BTreeSet;

use lab::Lab;
use serde_json::{Value, json};

const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.47";

/// A pod that says who it is and who asked: HTTP on 8080 (`http`) and 9090, UDP on 8081 (`ask`).
fn server(name: &str, rest: Value) -> Value {
    let netexec = |port: &str, udp: &str| json!(["/agnhost", "netexec", "--http-port", port, "--udp-port", udp]);
    let ready = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1});
    let mut spec = json!({"terminationGracePeriodSeconds": 0, "containers": [
        {"name": "main", "image": AGNHOST, "command": netexec("8080", "8081"), "readinessProbe": ready,
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "ask", "containerPort": 8081, "protocol": "UDP"}]},
        {"name": "second", "image": AGNHOST, "command": netexec("9090", "-1")}]});
    spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web", "pod": name}}, "spec": spec})
}

/// A pod to ask from: the tool box, and beside it agnhost, whose `/dial` asks by UDP.
fn client(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "image": "ztlab.dev/toolbox:1"},
            {"name": "dial", "image": AGNHOST, "command": ["/agnhost", "netexec", "--http-port", "8099", "--udp-port", "-1"]}]}})
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn field(lab: &Lab, what: &[&str], pointer: &str) -> String {
    let object = lab.get(what);
    let value = object
        .pointer(pointer)
        .unwrap_or_else(|| panic!("no {pointer}: {object}"));
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn pod_ip(lab: &Lab, pod: &str) -> String {
    field(lab, &["pod", pod], "/status/podIP")
}

fn cluster_ip(lab: &Lab, service: &str) -> String {
    field(lab, &["service", service], "/spec/clusterIP")
}

fn node_ip(lab: &Lab) -> String {
    field(lab, &["nodes"], "/items/0/status/addresses/0/address")
}

/// What comes of asking `url` from a pod: the answer, or curl's exit code.
fn get(lab: &Lab, from: &str, url: &str) -> Result<String, i32> {
    let output = lab.try_kubectl(&["exec", from, "-c", "c", "--", "curl", "-s", "-m", "20", url]);
    if output.status.success() {
        Ok(lab::text(&output.stdout))
    } else {
        Err(output.status.code().unwrap())
    }
}

/// curl's exit code when a connection is refused.
const REFUSED: Result<String, i32> = Err(7);

/// Asks `times` times on connections of their own, in one go; the different answers.
fn answers(lab: &Lab, from: &str, url: &str, times: u32) -> BTreeSet<String> {
    let script = format!("for i in $(seq {times}); do curl -s -m 20 {url} || echo failed $?; echo; done");
    let output = lab.kubectl(&["exec", from, "-c", "c", "--", "sh", "-c", &script]);
    output
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What agnhost's `/dial` in a pod gets: the answers and the errors.
fn dial(lab: &Lab, from: &str, protocol: &str, to: &str, request: &str, tries: u32) -> (BTreeSet<String>, String) {
    let (host, port) = to.split_once(':').unwrap();
    let url = format!(
        "http://127.0.0.1:8099/dial?host={host}&port={port}&protocol={protocol}&request={request}&tries={tries}"
    );
    let output = lab.kubectl(&["exec", from, "-c", "c", "--", "curl", "-s", "-m", "60", &url]);
    let answer: Value = serde_json::from_str(&output).unwrap();
    let list = |name: &str| -> Vec<String> {
        let list = answer[name].as_array().cloned().unwrap_or_default();
        list.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    (list("responses").into_iter().collect(), list("errors").join("\n"))
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The address of `address:port`.
fn host(text: &str) -> &str {
    text.trim().rsplit_once(':').map_or(text, |(host, _)| host)
}
