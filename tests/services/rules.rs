//! The kernel's rules for a small set of Services, as nft shows them.

use serde_json::{Value, json};

use super::{
    lab::{self, Lab},
    nft, service,
};

/// An EndpointSlice written by hand.
pub fn slice(service: &str, ports: Value, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "ports": ports, "endpoints": endpoints})
}

/// `nft list table` in the node's network namespace; `None` where this machine has no nft.
fn table(lab: &Lab) -> Option<String> {
    if !nft::there() {
        return None;
    }
    let lock: Value = serde_json::from_slice(&std::fs::read(lab.dir().join("lock")).unwrap()).unwrap();
    let pid = lock["node"]["pid"].as_u64().unwrap();
    let output = lab
        .command("nsenter")
        .args(nft::list(pid, "ztlab-services"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", lab::text(&output.stderr));
    Some(nft::in_order(&lab::text(&output.stdout)))
}

fn as_nft_shows_them(lab: &Lab) {
    let Some(before) = table(lab) else { return };
    let objects = [
        service(
            "many",
            json!({"clusterIP": "10.96.0.20", "ports": [{"name": "http", "port": 80}, {"name": "ask", "port": 53, "protocol": "UDP"}]}),
        ),
        slice(
            "many",
            json!([{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "ask", "port": 8081, "protocol": "UDP"}]),
            &["10.244.9.2", "10.244.9.3"],
        ),
        service(
            "open",
            json!({"type": "NodePort", "clusterIP": "10.96.0.21", "externalIPs": ["198.51.100.7"], "ports": [{"port": 80, "nodePort": 30080}]}),
        ),
        slice(
            "open",
            json!([{"name": "", "port": 8080, "protocol": "TCP"}]),
            &["10.244.9.4"],
        ),
        service(
            "sticky",
            json!({"clusterIP": "10.96.0.23", "ports": [{"port": 80}], "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 300}}}),
        ),
        slice(
            "sticky",
            json!([{"name": "", "port": 8080, "protocol": "TCP"}]),
            &["10.244.9.5", "10.244.9.6"],
        ),
        service("nobody", json!({"clusterIP": "10.96.0.22", "ports": [{"port": 80}]})),
    ];
    lab.apply(&objects);
    let expected = include_str!("rules.nft");
    let shown = || table(lab).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while shown() != expected && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(shown(), expected, "\n{}", shown());
    lab.kubectl(&["delete", "service", "many", "open", "sticky", "nobody"]);
    lab.kubectl(&[
        "delete",
        "endpointslice",
        "many-1",
        "sticky-1",
        "open-1",
        "--ignore-not-found",
    ]);
    lab.until("the rules go with the Services", || shown() == before);
}

#[test]
fn rules_are_as_nft_shows_them() {
    lab::everywhere(as_nft_shows_them);
}
