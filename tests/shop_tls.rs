//! The shop's three topologies in a real cluster, by the real kubectl: what is cut, what is encrypted, who is refused.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use std::fs;

use lab::{Lab, everywhere, text};
use serde_json::{Value, json};

const NS: &[&str] = &["-n", "shop"];

fn topology(lab: &Lab, name: &str, more: &[&str]) {
    let mut args = vec!["manifests", name];
    args.extend_from_slice(more);
    let output = lab.ztlab(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    lab.apply_text(&text(&output.stdout));
    for workload in ["frontend", "orders-api", "payments-api", "ledger", "mallory"] {
        let deployment = format!("deploy/{workload}");
        lab.kubectl(&[NS, &["rollout", "status", &deployment, "--timeout=60s"]].concat());
    }
}

fn log(lab: &Lab, workload: &str) -> Vec<Value> {
    let deployment = format!("deploy/{workload}");
    let lines = lab.kubectl(&[NS, &["logs", &deployment]].concat());
    lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Waits until `frontend`'s newest order was paid.
fn trades(lab: &Lab, since: &str) {
    lab.until(&format!("no order was paid: {:?}", log(lab, "frontend").last()), || {
        log(lab, "frontend").iter().any(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.ends_with("placed and paid") && line["ts"].as_str().unwrap_or_default() > since
        })
    });
}

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// What `curl` says in a pod: whether it got an answer, and all it printed.
fn curl(lab: &Lab, pod: &str, args: &[&str]) -> (bool, String) {
    let fixed = ["exec", pod, "--", "curl", "-sS", "-m", "3"];
    let output = lab.try_kubectl(&[NS, &fixed[..], args].concat());
    let all = [output.stdout, output.stderr].concat();
    (output.status.success(), text(&all))
}

fn run_pod(lab: &Lab, name: &str, labels: Value, secret: &str) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "ztlab.dev/toolbox:1", "volumeMounts": [
                {"name": "pair", "mountPath": "/pair"}, {"name": "ca", "mountPath": "/ca"}]}],
            "volumes": [{"name": "pair", "secret": {"secretName": secret}},
                {"name": "ca", "configMap": {"name": "shop-ca"}}]}});
    lab.apply(&[pod]);
    lab.kubectl(
        &[
            NS,
            &["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"],
        ]
        .concat(),
    );
}

const PAIR: &[&str] = &[
    "--cacert",
    "/ca/ca.crt",
    "--cert",
    "/pair/tls.crt",
    "--key",
    "/pair/tls.key",
];
const BARE: &[&str] = &["--cacert", "/ca/ca.crt"];

#[test]
fn from_a_flat_shop_to_mutual_tls() {
    everywhere(|lab| {
        topology(lab, "flat", &[]);
        trades(lab, "");
        let (open, _) = curl(lab, "deploy/mallory", &["http://orders-api/orders"]);
        assert!(open, "the flat shop is open");

        topology(lab, "microsegmented", &[]);
        trades(lab, &now());
        let (open, said) = curl(lab, "deploy/mallory", &["http://orders-api/orders"]);
        assert!(!open && said.contains("timed out"), "{said}");

        topology(lab, "mtls", &["--certificates"]);
        trades(lab, &now());
        mutual(lab);
        opaque(lab);
        refused(lab);
        renewed(lab);
    });
}

/// Every access names the caller's certificate, and the Services have the port of TLS only.
fn mutual(lab: &Lab) {
    for (service, caller) in [
        ("orders-api", "certificate of CN=frontend (DNS:frontend, "),
        ("payments-api", "certificate of CN=orders-api (DNS:orders-api, "),
        ("ledger", "certificate of CN=payments-api (DNS:payments-api, "),
    ] {
        let accesses = log(lab, service);
        let accesses: Vec<&Value> = accesses.iter().filter(|line| line["level"] == "access").collect();
        assert!(!accesses.is_empty(), "{service}");
        for access in accesses {
            let said = access["caller"].as_str().unwrap();
            assert!(said.starts_with(caller), "{service}: {access}");
        }
    }
    let service = lab.get(&[NS, &["service", "payments-api"]].concat());
    let ports: Vec<&Value> = service["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| &port["port"])
        .collect();
    assert_eq!(ports, [443]);
}

/// Both conversations of payments-api are seen, and neither can be read.
fn opaque(lab: &Lab) {
    let file = lab.home().join("state/shop.pcapng");
    let path = file.display().to_string();
    let args = [
        "capture",
        "--cluster",
        "t",
        "-n",
        "shop",
        "--pod",
        "payments-api",
        "--for",
        "3s",
        "-w",
        &path,
    ];
    let output = lab.ztlab(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.len() > 2000, "{} bytes were captured", bytes.len());
    for secret in [
        "tok_demo",
        "4111111111111111",
        "ledger-demo-password",
        "INSERT",
        "POST /charge",
    ] {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is on the wire");
    }
}

/// The right label is not enough: nothing, a certificate of another authority, or one in clear; a stolen pair is.
fn refused(lab: &Lab) {
    let foreign = rcgen::generate_simple_self_signed(vec!["orders-api".to_owned()]).unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "foreign", "namespace": "shop"},
        "stringData": {"tls.crt": foreign.cert.pem(), "tls.key": foreign.signing_key.serialize_pem()}});
    lab.apply(&[secret]);
    run_pod(lab, "spoof", json!({"app": "orders-api"}), "foreign");
    run_pod(lab, "thief", json!({"app": "orders-api"}), "orders-api-tls");
    let url = "https://payments-api/healthz";
    for (pod, identity, says) in [
        ("spoof", BARE, "CertificateRequired"),
        ("spoof", PAIR, "UnknownCA"),
        ("thief", BARE, "CertificateRequired"),
    ] {
        let (open, said) = curl(lab, pod, &[identity, &[url]].concat());
        assert!(!open && said.contains(says), "{pod} {identity:?}: {said}");
    }
    let (open, said) = curl(lab, "thief", &[PAIR, &[url]].concat());
    assert!(open, "a stolen pair opens: {said}");
    let clear = format!("http://{}:443/healthz", "payments-api");
    let (open, _) = curl(lab, "thief", &[&clear]);
    assert!(!open, "in clear");
    let reasons: Vec<String> = log(lab, "payments-api")
        .iter()
        .filter(|line| line["level"] == "refused")
        .map(|line| line["reason"].as_str().unwrap().to_owned())
        .collect();
    for reason in ["peer sent no certificates", "invalid peer certificate: UnknownIssuer"] {
        assert!(reasons.iter().any(|said| said == reason), "{reason}: {reasons:?}");
    }
    lab.kubectl(&[NS, &["delete", "pod", "spoof", "thief", "--wait"]].concat());
}

/// New certificates in the Secrets are taken up without a restart, and the shop goes on trading.
fn renewed(lab: &Lab) {
    let before = lab.get(&[NS, &["pods"]].concat());
    let output = lab.ztlab(&["manifests", "mtls", "--certificates", "--json"]);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let made: Vec<Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|object| object["kind"] == "Secret" || object["kind"] == "ConfigMap")
        .cloned()
        .collect();
    lab.apply(&made);
    for service in ["orders-api", "payments-api", "ledger"] {
        lab.until(&format!("{service} did not read its certificate again"), || {
            log(lab, service).iter().any(|line| {
                let message = line["message"].as_str().unwrap_or_default();
                message.starts_with("read again: certificate /tls/tls.crt")
            })
        });
    }
    trades(lab, &now());
    let names = |pods: &Value| -> Vec<(String, Value)> {
        let pods = pods["items"].as_array().unwrap();
        let of = |pod: &Value| {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            (name, pod["status"]["containerStatuses"][0]["restartCount"].clone())
        };
        pods.iter().map(of).collect()
    };
    assert_eq!(names(&before), names(&lab.get(&[NS, &["pods"]].concat())));
}
