//! The kernel's rules for a small set of Services, as nft shows them.

use std::process::Command;

use serde_json::{Value, json};

use super::{
    lab::{self, Lab},
    service,
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
    if Command::new("/usr/sbin/nft").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must have nft");
        eprintln!("SKIPPED: there is no nft");
        return None;
    }
    let lock: Value = serde_json::from_slice(&std::fs::read(lab.dir().join("lock")).unwrap()).unwrap();
    let pid = lock["node"]["pid"].to_string();
    let output = lab
        .command("nsenter")
        .args([
            "-t",
            &pid,
            "-U",
            "-n",
            "--preserve-credentials",
            "/usr/sbin/nft",
            "list",
            "table",
            "ip",
            "ztlab-services",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", lab::text(&output.stderr));
    Some(in_order(&lab::text(&output.stdout)))
}

/// The kernel keeps elements by a hash that differs from run to run, and chains as they were made: in order of their names
/// here, an element a line. Newer nft counts the elements of a set.
fn in_order(table: &str) -> String {
    let lines = table
        .lines()
        .map(|line| line.split("\t# count").next().unwrap_or_default());
    let table = lines.collect::<Vec<_>>().join("\n");
    let table = table.trim_end().trim_end_matches('}');
    let (head, blocks) = table.split_once('\n').unwrap();
    let mut blocks: Vec<String> = blocks.split("\n\n").map(block_in_order).collect();
    blocks.sort();
    format!("{head}\n{}\n}}\n", blocks.join("\n\n"))
}

fn block_in_order(block: &str) -> String {
    let Some((head, rest)) = block.split_once("elements = {") else {
        return block.trim_end().to_owned();
    };
    let (elements, tail) = rest.split_once('}').unwrap();
    let mut elements: Vec<&str> = elements.split(',').map(str::trim).collect();
    elements.sort_unstable();
    let elements: String = elements.iter().map(|element| format!("\t\t\t{element}\n")).collect();
    format!("{head}elements = {{\n{elements}\t\t}}{}", tail.trim_end())
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
