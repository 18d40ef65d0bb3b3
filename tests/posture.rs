//! The posture of real networks: the shop, flat and segmented, a callee that is dead, a label that is put on.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use std::{fs, path::Path};

use lab::{Lab, everywhere, text};
use serde_json::Value;

/// The objects of a topology, as one text.
fn topology(layer: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(layer);
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "yaml"));
    files.sort();
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    texts.join("\n---\n")
}

fn shop(lab: &Lab) {
    lab.apply_text(&topology("flat"));
    ready(lab);
}

fn ready(lab: &Lab) {
    for deployment in ["frontend", "orders-api", "payments-api", "ledger", "mallory"] {
        lab.kubectl(&[
            "rollout",
            "status",
            "-n",
            "shop",
            &format!("deployment/{deployment}"),
            "--timeout=60s",
        ]);
    }
}

/// What `ztlab posture --json` measures.
fn measure(lab: &Lab, args: &[&str]) -> Value {
    let mut all = vec!["posture", "--cluster", "t", "--namespace", "shop", "--json"];
    all.extend_from_slice(args);
    let output = lab.ztlab(&all);
    assert!(
        output.status.code() != Some(2),
        "{}\n{}",
        text(&output.stderr),
        lab.log()
    );
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

fn level(measured: &Value) -> u64 {
    measured["level"]["level"]
        .as_u64()
        .unwrap_or_else(|| panic!("{measured:#}"))
}

fn cell<'a>(measured: &'a Value, from: &str, to: &str, port: u64) -> &'a Value {
    let cells = measured["matrix"]["cells"].as_array().unwrap();
    cells
        .iter()
        .find(|cell| cell["from"]["name"] == from && cell["to"]["name"] == to && cell["port"] == port)
        .unwrap_or_else(|| panic!("no cell {from} → {to}:{port} in {measured:#}"))
}

fn answers(measured: &Value, from: &str, to: &str, port: u64) -> (String, String) {
    let cell = cell(measured, from, to, port);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&cell["reach"]), text(&cell["readable"]["answer"]))
}

fn pair(one: &str, other: &str) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

const DECLARED: [(&str, &str, u64); 3] = [
    ("frontend", "orders-api", 80),
    ("orders-api", "payments-api", 80),
    ("payments-api", "ledger", 5432),
];

#[test]
fn the_shop_gets_the_level_it_has() {
    everywhere(|lab| {
        shop(lab);
        flat(lab);
        faces(lab);
        segmented(lab);
        mutual(lab);
        a_label_is_no_identity(lab);
        a_dead_callee_proves_nothing(lab);
    });
}

fn flat(lab: &Lab) {
    let measured = measure(lab, &[]);
    assert_eq!(level(&measured), 0, "{measured:#}");
    assert_eq!(measured["matrix"]["cells"].as_array().unwrap().len(), 16);
    for (from, to, port) in DECLARED {
        assert_eq!(
            answers(&measured, from, to, port),
            pair("allowed", "yes"),
            "{measured:#}"
        );
        let cell = cell(&measured, from, to, port);
        assert_eq!(cell["declared"], true);
        // The application's own words, in a packet of the callee's pod, and not a probe's.
        let proof = &cell["readable"]["evidence"][0];
        assert_eq!(proof["kind"], "packet", "{cell:#}");
        assert!(proof["pod"].as_str().unwrap().starts_with(to), "{cell:#}");
        assert!(proof["says"].as_str().unwrap().contains("in clear"), "{cell:#}");
    }
    let token = cell(&measured, "orders-api", "payments-api", 80);
    assert_eq!(token["credentials"]["client"]["kind"], "shared-secret", "{token:#}");
    for to in [
        ("frontend", 80),
        ("orders-api", 80),
        ("payments-api", 80),
        ("ledger", 5432),
    ] {
        let mallory = cell(&measured, "mallory", to.0, to.1);
        assert_eq!(
            (mallory["declared"].as_bool(), mallory["reach"].as_str()),
            (Some(false), Some("allowed"))
        );
        assert_eq!(mallory["readable"]["answer"], "yes", "{mallory:#}");
    }
    let against = measured["level"]["rules"][0]["against"].as_u64();
    assert_eq!(against, Some(13), "16 cells, 3 of them declared");
}

/// The same measurement in every format, and the exit status.
fn faces(lab: &Lab) {
    let run = |args: &[&str]| {
        let mut all = vec!["posture", "--cluster", "t", "--namespace", "shop"];
        all.extend_from_slice(args);
        lab.ztlab(&all)
    };
    let output = run(&["--at-least", "1"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.starts_with("Posture of shop: level 0\n"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let page = lab.home().join("state/posture.html");
    let output = run(&["--at-least", "0", "--format", "html", "-o", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && page.contains("payments-api"));
    for outside in ["<script", "src=", "href=", "@import", "url(http"] {
        assert!(!page.contains(outside), "the page needs {outside}");
    }
    assert!(text(&run(&["--format", "markdown"]).stdout).starts_with("# Posture of shop"));
    // Without a declaration nothing can be against it.
    lab.kubectl(&["annotate", "service", "--all", "-n", "shop", "ztlab.dev/callers-"]);
    let output = run(&["--at-least", "0", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let measured: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(measured["level"]["level"].is_null(), "{measured:#}");
    lab.apply_text(&topology("flat"));
    let missing = lab.ztlab(&["posture", "--cluster", "t", "--namespace", "no-such-namespace"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        text(&missing.stderr).contains("no-such-namespace"),
        "{}",
        text(&missing.stderr)
    );
}

/// Default deny, and what the application declares, by label: all that a NetworkPolicy can say.
fn policies() -> String {
    let mut all = vec![
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: default-deny, namespace: shop }\n\
         spec: { podSelector: {}, policyTypes: [Ingress, Egress] }\n"
            .to_owned(),
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: dns, namespace: shop }\n\
         spec:\n  podSelector: {}\n  policyTypes: [Egress]\n  egress:\n    - ports: [{ port: 53, protocol: UDP }, { port: 53, protocol: TCP }]\n"
            .to_owned(),
    ];
    for (from, to, port) in DECLARED {
        let port = if port == 80 { 8080 } else { port };
        for (of, kind, word, peer) in [(to, "Ingress", "from", from), (from, "Egress", "to", to)] {
            all.push(format!(
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                 metadata: {{ name: {from}-to-{to}-{word}, namespace: shop }}\n\
                 spec:\n  podSelector: {{ matchLabels: {{ app: {of} }} }}\n  policyTypes: [{kind}]\n  {}:\n    \
                 - {word}: [{{ podSelector: {{ matchLabels: {{ app: {peer} }} }} }}]\n      ports: [{{ port: {port} }}]\n",
                kind.to_lowercase()
            ));
        }
    }
    all.join("---\n")
}

/// Waits until the policies are in force: nothing tells but a connection that no longer opens.
fn in_force(lab: &Lab) {
    lab.until("mallory still reaches the ledger", || {
        let probe = [
            "exec",
            "-n",
            "shop",
            "deploy/mallory",
            "--",
            "nc",
            "-z",
            "-w",
            "1",
            "ledger",
            "5432",
        ];
        !lab.try_kubectl(&probe).status.success()
    });
    lab.until("orders-api does not reach payments-api", || {
        let log = lab.kubectl(&["logs", "-n", "shop", "deploy/payments-api", "--since=2s"]);
        log.contains("/charge")
    });
}

fn segmented(lab: &Lab) {
    lab.apply_text(&policies());
    in_force(lab);
    let measured = measure(lab, &["--at-least", "1"]);
    assert_eq!(level(&measured), 1, "{measured:#}");
    for (from, to, port) in DECLARED {
        assert_eq!(
            answers(&measured, from, to, port),
            pair("allowed", "yes"),
            "{measured:#}"
        );
    }
    for cell in measured["matrix"]["cells"].as_array().unwrap() {
        if cell["declared"] == false {
            let reach = cell["reach"].as_str().unwrap();
            assert!(["refused", "timed-out"].contains(&reach), "{cell:#}");
            let kinds = cell["reachable"]["evidence"].as_array().unwrap();
            assert!(
                kinds.iter().any(|one| one["kind"] == "control"),
                "no positive control: {cell:#}"
            );
        }
    }
    let second = &measured["level"]["rules"][1];
    assert_eq!(
        (second["holds"].as_str(), second["against"].as_u64()),
        (Some("no"), Some(3))
    );
}

/// Mutual TLS on every declared call, with certificates made for this test; the policies stay.
fn mutual(lab: &Lab) {
    let manifests = lab.ztlab(&["manifests", "mtls", "--certificates"]);
    assert!(manifests.status.success(), "{}", text(&manifests.stderr));
    lab.apply_text(&text(&manifests.stdout));
    ready(lab);
    lab.until("pods of before are still there", || {
        let pods = lab.get(&["pods", "-n", "shop"]);
        pods["items"].as_array().unwrap().len() == 5
    });
    lab.until("orders-api does not reach payments-api over TLS", || {
        let log = lab.kubectl(&["logs", "-n", "shop", "deploy/payments-api", "--since=2s"]);
        log.contains("certificate of CN=orders-api") && log.contains("/charge")
    });
    let measured = measure(lab, &[]);
    assert_eq!(level(&measured), 2, "{measured:#}");
    for (from, to, port) in [
        ("frontend", "orders-api", 443),
        ("orders-api", "payments-api", 443),
        ("payments-api", "ledger", 5432),
    ] {
        assert_eq!(
            answers(&measured, from, to, port),
            pair("allowed", "no"),
            "{measured:#}"
        );
        let cell = cell(&measured, from, to, port);
        assert_eq!(cell["client_authenticated"]["answer"], "yes", "{cell:#}");
        assert_eq!(cell["server_authenticated"]["answer"], "yes", "{cell:#}");
        let shown = &cell["credentials"]["server"];
        assert_eq!(shown["kind"], "x509", "{cell:#}");
        assert!(shown["not_after"].as_i64() > shown["not_before"].as_i64(), "{cell:#}");
        // The application's own conversation was seen to be encrypted, and a probe without a certificate was refused.
        let kinds: Vec<_> = cell["client_authenticated"]["evidence"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["kind"].as_str())
            .collect();
        assert!(kinds.contains(&"probe") && kinds.contains(&"packet"), "{cell:#}");
    }
    // The port for the kubelet is shown for what it is, and refused to other pods.
    let health = cell(&measured, "mallory", "orders-api", 8081);
    assert_eq!(health["purpose"], "health", "{health:#}");
    assert!(
        ["refused", "timed-out"].contains(&health["reach"].as_str().unwrap()),
        "{health:#}"
    );
    let third = &measured["level"]["rules"][2];
    assert_eq!(
        third["holds"], "no",
        "certificates made by hand are no SVIDs: {third:#}"
    );
    // Back to the layer below, with its Services.
    lab.apply_text(&topology("flat"));
    ready(lab);
    in_force(lab);
}

/// mallory's pod wears the label of orders-api and walks through the policy; it is still mallory who does.
fn a_label_is_no_identity(lab: &Lab) {
    let pod = lab.kubectl(&["get", "pods", "-n", "shop", "-l", "app=mallory", "-o", "name"]);
    let spec = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "spoof", "namespace": "shop", "labels": { "app": "orders-api" } },
        "spec": { "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [{ "name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "1000"] }] },
    });
    assert!(pod.starts_with("pod/"), "{pod}");
    lab.apply(&[spec]);
    lab.kubectl(&[
        "wait",
        "-n",
        "shop",
        "--for=condition=Ready",
        "pod/spoof",
        "--timeout=60s",
    ]);
    let reaches = [
        "exec",
        "-n",
        "shop",
        "spoof",
        "--",
        "nc",
        "-z",
        "-w",
        "1",
        "payments-api",
        "80",
    ];
    lab.until("the label does not open the way", || {
        lab.try_kubectl(&reaches).status.success()
    });
    let measured = measure(lab, &[]);
    assert_eq!(level(&measured), 0, "{measured:#}");
    let spoof = cell(&measured, "spoof", "payments-api", 80);
    assert_eq!(
        (spoof["declared"].as_bool(), spoof["reach"].as_str()),
        (Some(false), Some("allowed"))
    );
    lab.kubectl(&["delete", "pod", "-n", "shop", "spoof", "--wait=true"]);
}

/// A payments-api that does not listen refuses everybody, which shows nothing about the network.
fn a_dead_callee_proves_nothing(lab: &Lab) {
    let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"payments-api","image":"ztlab.dev/toolbox:1","command":["sleep","1000"],"readinessProbe":null}]}}}}"#;
    lab.kubectl(&[
        "patch",
        "deployment",
        "-n",
        "shop",
        "payments-api",
        "--type=strategic",
        "-p",
        patch,
    ]);
    lab.kubectl(&[
        "rollout",
        "status",
        "-n",
        "shop",
        "deployment/payments-api",
        "--timeout=60s",
    ]);
    lab.until("the old pod is still there", || {
        let pods = lab.get(&["pods", "-n", "shop", "-l", "app=payments-api"]);
        pods["items"].as_array().unwrap().len() == 1
    });
    let measured = measure(lab, &[]);
    for from in ["frontend", "ledger", "mallory", "orders-api"] {
        let cell = cell(&measured, from, "payments-api", 80);
        assert_eq!(cell["reach"], "undetermined", "{cell:#}");
        assert!(
            cell["reachable"]["because"].as_str().unwrap().contains("dead"),
            "{cell:#}"
        );
    }
    assert_eq!(level(&measured), 0, "what is not shown is not reached: {measured:#}");
    assert_eq!(measured["level"]["rules"][0]["holds"], "undetermined", "{measured:#}");
    lab.kubectl(&["scale", "deployment", "-n", "shop", "payments-api", "--replicas=0"]);
    lab.until("the pod is still there", || {
        let pods = lab.get(&["pods", "-n", "shop", "-l", "app=payments-api"]);
        pods["items"].as_array().unwrap().is_empty()
    });
    let measured = measure(lab, &[]);
    let cell = cell(&measured, "mallory", "payments-api", 80);
    assert_eq!(cell["reach"], "undetermined", "{cell:#}");
    assert!(
        cell["reachable"]["because"].as_str().unwrap().contains("no pod"),
        "{cell:#}"
    );
}

/// A pod whose proxy ends TLS and speaks in clear to the program beside it: the clear text never leaves the pod, and is not
/// taken for what a neighbour or the network can read.
#[test]
fn a_proxy_in_the_pod_is_not_taken_for_the_network() {
    everywhere(|lab| {
        shop(lab);
        let mtls = lab.ztlab(&["manifests", "mtls", "--certificates"]);
        lab.apply_text(&text(&mtls.stdout));
        ready(lab);
        let variable = |name: &str, value: &str| serde_json::json!({"name": name, "value": value});
        let secret = |name: &str, secret: &str, key: &str| {
            serde_json::json!({"name": name,
            "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
        };
        // orders-api ends TLS; payments-api, in the same pod, serves in clear on the loopback interface alone.
        let patch = serde_json::json!({"spec": {"template": {
            "metadata": {"annotations": {"ztlab.dev/proxy": "orders-api"}},
            "spec": {"containers": [
                {"name": "orders-api", "env": [variable("PAYMENTS_URL", "http://127.0.0.1:9090")]},
                {"name": "program", "image": "ztlab.dev/shop/payments-api:1",
                    "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
                    "env": [variable("LISTEN", "127.0.0.1:9090"),
                        secret("PAYMENTS_TOKEN", "payments-token", "token"),
                        variable("LEDGER_URL", "postgresql://ledger:5432/shop?sslmode=verify-full"),
                        secret("LEDGER_USER", "ledger-login", "username"),
                        secret("LEDGER_PASSWORD", "ledger-login", "password"),
                        variable("TLS_UPSTREAM_CA_FILE", "/tls/ca.crt"),
                        variable("TLS_UPSTREAM_CERT_FILE", "/tls/tls.crt"),
                        variable("TLS_UPSTREAM_KEY_FILE", "/tls/tls.key")]}]}}}});
        lab.kubectl(&[
            "patch",
            "deployment",
            "orders-api",
            "-n",
            "shop",
            "-p",
            &patch.to_string(),
        ]);
        ready(lab);
        lab.until("no order goes through the proxy", || {
            lab.kubectl(&["logs", "-n", "shop", "deploy/frontend", "--since=3s"])
                .contains("placed and paid")
        });
        let args = [
            "capture",
            "--cluster",
            "t",
            "--namespace",
            "shop",
            "--pod",
            "orders-api",
            "--for",
            "6s",
            "--json",
        ];
        let output = lab.ztlab(&args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let captured = text(&output.stdout);
        let messages: Vec<Value> = captured
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        // The kubelet's health checks are in clear, on a port of their own.
        let of_the_node = |message: &Value| {
            [&message["from"], &message["to"]]
                .iter()
                .any(|end| end["who"]["kind"] == "node")
        };
        let own = messages
            .iter()
            .filter(|message| message["by_ztlab"] == false && !of_the_node(message));
        let own: Vec<&Value> = own.collect();
        let on = |interface: &str| {
            own.iter()
                .filter(|message| message["point"]["interface"] == interface)
                .count()
        };
        assert!(on("lo") > 0 && on("eth0") > 0, "{captured}");
        for message in &own {
            let point = &message["point"];
            assert_eq!(point["proxy"], "orders-api", "{message:#}");
            let leaks = message["leaks"].as_array().is_some_and(|leaks| !leaks.is_empty());
            match point["interface"].as_str().unwrap() {
                "lo" => {
                    assert_eq!(
                        (&point["kind"], &point["side"]),
                        (&"inside-pod".into(), &"program".into()),
                        "{message:#}"
                    );
                }
                _ => {
                    assert_eq!(
                        (&point["kind"], &point["side"]),
                        (&"on-the-wire".into(), &"network".into()),
                        "{message:#}"
                    );
                    assert!(
                        !leaks && message["protocol"] != "http",
                        "in clear between pods: {message:#}"
                    );
                }
            }
        }
        let inside = |message: &&&Value| message["point"]["interface"] == "lo" && message["protocol"] == "http";
        let clear: Vec<_> = own.iter().filter(inside).collect();
        assert!(
            clear.iter().any(|message| message.to_string().contains("card-number")),
            "{captured}"
        );
        // The posture is about what is between pods.
        let measured = measure(lab, &[]);
        for (from, to, port) in [("frontend", "orders-api", 443), ("orders-api", "ledger", 5432)] {
            let cell = cell(&measured, from, to, port);
            assert_eq!(cell["reach"], "allowed", "{cell:#}");
            assert_eq!(cell["readable"]["answer"], "no", "{cell:#}");
        }
        let calls = cell(&measured, "frontend", "orders-api", 443);
        assert_eq!(calls["client_authenticated"]["answer"], "yes", "{calls:#}");
        // Nobody else comes to the program's own port, and no cell says so.
        let cells = measured["matrix"]["cells"].as_array().unwrap();
        assert!(cells.iter().all(|cell| cell["port"] != 9090), "{measured:#}");
    });
}
