//! SPIRE as pods on the embedded cluster, and the shop with its identities: who gets one, who is refused, rotation while traffic
//! flows, and an agent or a server that is killed.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "spire/in_pod.rs"]
mod in_pod;
#[path = "common/lab.rs"]
mod lab;
#[path = "spire/open.rs"]
mod open;
#[path = "common/shop.rs"]
mod shop;

use std::process::Output;

use lab::{Lab, everywhere, text};
use serde_json::{Value, json};
use shop::{layer, rolled_out};

const FETCH: &str = "spire-agent api fetch x509 -socketPath /spiffe-workload-api/spire-agent.sock";

fn install(lab: &Lab) {
    lab.apply_text(&layer("spire"));
    rolled_out(lab, "spire", &["statefulset/spire-server", "daemonset/spire-agent"]);
}

/// A pod of the tool box with the Workload API, in the namespace shop.
fn caller(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "ztlab.dev/toolbox:1",
            "volumeMounts": [{"name": "api", "mountPath": "/spiffe-workload-api", "readOnly": true}]}],
            "volumes": [{"name": "api", "csi": {"driver": "csi.spiffe.io", "readOnly": true}}]}})
}

/// What a shell in a pod of the shop prints, and whether it ended well.
fn shell(lab: &Lab, pod: &str, script: &str) -> (bool, String) {
    let output = lab.try_kubectl(&["exec", "-n", "shop", pod, "--", "sh", "-c", script]);
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// A command of the server's.
fn server(lab: &Lab, args: &[&str]) -> Output {
    let pod = ["exec", "-n", "spire", "spire-server-0", "-c", "spire-server", "--"];
    lab.try_kubectl(&[&pod[..], &["/opt/spire/bin/spire-server"], args].concat())
}

/// Makes an entry by hand below the cluster's nodes, and returns its id.
fn register(lab: &Lab, id: &str, more: &[&str]) -> String {
    let node = "spiffe://ztlab.example/cluster/ztlab";
    let nodes = [
        "entry",
        "create",
        "-node",
        "-spiffeID",
        node,
        "-selector",
        "k8s_psat:cluster:ztlab",
    ];
    let workload = ["entry", "create", "-spiffeID", id, "-parentID", node];
    let [made, created] = [nodes.to_vec(), [&workload[..], more].concat()].map(|args| server(lab, &args));
    for output in [&made, &created] {
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let said = text(&created.stdout);
    let entry = said.lines().find_map(|line| line.strip_prefix("Entry ID")).unwrap();
    entry.trim_start_matches([' ', ':']).to_owned()
}

fn measure(lab: &Lab, args: &[&str]) -> Value {
    let mut all = vec!["posture", "--cluster", "t", "--namespace", "shop", "--json"];
    all.extend_from_slice(args);
    let output = lab.ztlab(&all);
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), lab.log());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_shop_lives_on_identities_that_rotate() {
    everywhere(|lab| {
        lab.apply_text(&layer("flat"));
        lab.apply_text(&layer("microsegmented"));
        install(lab);
        // SVIDs of half a minute, dated back by ten seconds, rotate ten seconds after they came.
        let short = layer("spiffe").replacen("spec:\n  spiffeIDTemplate", "spec:\n  ttl: 30s\n  spiffeIDTemplate", 1);
        assert!(short.contains("ttl: 30s"));
        lab.apply_text(&short);
        let services = ["frontend", "orders-api", "payments-api", "ledger"].map(|name| format!("deploy/{name}"));
        rolled_out(lab, "shop", &services.each_ref().map(String::as_str));
        // No key anywhere that Kubernetes keeps.
        let secrets = lab.get(&["secrets", "-n", "shop"]).to_string();
        assert!(!secrets.contains("PRIVATE KEY") && !secrets.contains("kubernetes.io/tls"));
        let unwatched = measure(lab, &[]);
        assert_eq!(unwatched["level"]["level"], 2, "{:#}", unwatched["level"]);
        let measured = measure(lab, &["--rotation", "45s"]);
        assert_eq!(measured["level"]["level"], 3, "{:#}", measured["level"]);
        let cells = measured["matrix"]["cells"].as_array().unwrap();
        let declared = cells.iter().filter(|cell| cell["declared"] == true);
        let shown: Vec<&Value> = declared
            .flat_map(|cell| [&cell["credentials"]["server"], &cell["credentials"]["client"]])
            .collect();
        assert_eq!(shown.len(), 6);
        for credential in shown {
            let id = credential["identity"].as_str().unwrap();
            assert!(id.starts_with("spiffe://ztlab.example/ns/shop/sa/"), "{credential}");
            assert_eq!(credential["rotated"], "yes", "{credential}");
        }
        // Not one request failed while everything was replaced under it, nor of those that came after.
        let meanwhile = orders(lab).len();
        assert!(meanwhile > 5, "{meanwhile} orders while the identities were watched");
        lab.until("orders go on with what was rotated", || {
            orders(lab).len() > meanwhile + 5
        });
        let failed: Vec<String> = orders(lab)
            .into_iter()
            .filter(|line| line.contains("not placed"))
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
        a_client_that_serves_nowhere(lab);
        who_is_refused(lab);
        open::connection_lives_on(lab);
    });
}

/// What the frontend tells of its orders, from the first that was paid.
fn orders(lab: &Lab) -> Vec<String> {
    let log = lab.kubectl(&["logs", "-n", "shop", "deploy/frontend"]);
    let paid = log.lines().skip_while(|line| !line.contains("placed and paid"));
    paid.map(String::from).collect()
}

/// Its SVID is shown to nobody but its callee, whose log tells which one it was, and later the newer one.
fn a_client_that_serves_nowhere(lab: &Lab) {
    lab.kubectl(&["delete", "service", "frontend", "-n", "shop"]);
    let container = "/spec/template/spec/containers/0";
    let patch = json!([
        {"op": "remove", "path": format!("{container}/ports")},
        {"op": "remove", "path": format!("{container}/readinessProbe")},
    ]);
    lab.kubectl(&[
        "patch",
        "deployment",
        "frontend",
        "-n",
        "shop",
        "--type=json",
        "-p",
        &patch.to_string(),
    ]);
    rolled_out(lab, "shop", &["deploy/frontend"]);
    let measured = measure(lab, &["--rotation", "45s"]);
    let cells = measured["matrix"]["cells"].as_array().unwrap();
    assert!(
        cells.iter().all(|cell| cell["to"]["name"] != "frontend"),
        "{measured:#}"
    );
    let calls = cells
        .iter()
        .find(|cell| cell["declared"] == true && cell["from"]["name"] == "frontend")
        .unwrap();
    let client = &calls["credentials"]["client"];
    assert_eq!(client["rotated"], "yes", "{calls:#}");
    assert!(
        client["because"].as_str().unwrap().contains("in the callee's log"),
        "{client:#}"
    );
    let evidence = client["evidence"].as_array().unwrap();
    assert_eq!(evidence.len(), 2);
    assert!(evidence.iter().all(|one| one["kind"] == "log"), "{client:#}");
    let life = client["not_after"].as_i64().unwrap() - client["not_before"].as_i64().unwrap();
    assert!((30..=60).contains(&life), "{client:#}");
    assert_eq!(measured["level"]["level"], 3, "{:#}", measured["level"]);
}

/// A pod that the network takes for orders-api is not taken for it by payments-api: with no identity, and with its own.
fn who_is_refused(lab: &Lab) {
    lab.apply(&[caller("intruder", json!({"app": "orders-api", "who": "intruder"}))]);
    lab.kubectl(&[
        "wait",
        "-n",
        "shop",
        "--for=condition=Ready",
        "pod/intruder",
        "--timeout=60s",
    ]);
    // It wears the label of a service, so the template names it after its account: the default one.
    lab.until("the intruder has an identity", || shell(lab, "intruder", FETCH).0);
    let (_, said) = shell(lab, "intruder", FETCH);
    assert!(said.contains("spiffe://ztlab.example/ns/shop/sa/default"), "{said}");
    let call = "curl -sk --cert /tmp/svid.0.pem --key /tmp/svid.0.key https://payments-api/payments";
    let (allowed, said) = shell(lab, "intruder", &format!("{FETCH} -write /tmp >/dev/null && {call}"));
    assert!(!allowed, "{said}");
    let log = lab.kubectl(&["logs", "-n", "shop", "deploy/payments-api", "--tail=200"]);
    let refused = log
        .lines()
        .any(|line| line.contains("refused") && line.contains("spiffe://ztlab.example/ns/shop/sa/default"));
    assert!(refused, "{log}");
    let (allowed, said) = shell(lab, "intruder", "curl -sk https://payments-api/payments");
    assert!(!allowed, "{said}");
}

#[test]
fn whoever_is_killed_comes_back_with_what_it_knew() {
    everywhere(|lab| {
        lab.apply_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
        install(lab);
        lab.apply(&[caller("client", json!({"app": "client"}))]);
        lab.kubectl(&[
            "wait",
            "-n",
            "shop",
            "--for=condition=Ready",
            "pod/client",
            "--timeout=60s",
        ]);
        let (served, said) = shell(lab, "client", FETCH);
        assert!(!served && said.contains("no identity issued"), "{said}");
        let id = "spiffe://ztlab.example/ns/shop/sa/default";
        register(lab, id, &["-selector", "k8s:ns:shop", "-selector", "k8s:sa:default"]);
        let served = || {
            let (served, said) = shell(lab, "client", FETCH);
            served && said.contains(id)
        };
        lab.until("the client has its identity", served);
        in_pod::clients_of_others_making(lab, "client", id);
        for app in ["spire-agent", "spire-server"] {
            lab.kubectl(&[
                "delete",
                "pod",
                "-n",
                "spire",
                "-l",
                &format!("app={app}"),
                "--grace-period=0",
                "--force",
            ]);
            rolled_out(lab, "spire", &["statefulset/spire-server", "daemonset/spire-agent"]);
            lab.until("the client has its identity again", served);
        }
        let entries = text(&server(lab, &["entry", "show", "-spiffeID", id]).stdout);
        assert!(entries.contains("Found 1 entry"), "{entries}");
        comes_back(lab, id);
        lab.until("the client has its identity after the restore", || {
            lab.try_kubectl(&[
                "wait",
                "-n",
                "shop",
                "--for=condition=Ready",
                "pod/client",
                "--timeout=60s",
            ])
            .status
            .success()
                && served()
        });
    });
}

/// A snapshot has the server as it was: its authority and the entries that were made by hand, and none that came later.
fn comes_back(lab: &Lab, id: &str) {
    let said = |args: &[&str]| {
        let output = server(lab, args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let ztlab = |args: &[&str]| {
        let output = lab.ztlab(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    };
    let bundle = said(&["bundle", "show"]);
    ztlab(&["cluster", "snapshot", "t", "--as", "s"]);
    let later = "spiffe://ztlab.example/later";
    said(&[
        "entry",
        "create",
        "-spiffeID",
        later,
        "-parentID",
        id,
        "-selector",
        "k8s:ns:later",
    ]);
    assert!(said(&["entry", "show", "-spiffeID", later]).contains("Found 1 entry"));
    let uid = || lab.get(&["pod", "-n", "spire", "spire-server-0"])["metadata"]["uid"].clone();
    let before = uid();
    ztlab(&["cluster", "restore", "t", "s"]);
    lab.until("there is another server", || {
        let there = lab.try_kubectl(&["get", "pod", "-n", "spire", "spire-server-0"]);
        there.status.success() && uid() != before
    });
    rolled_out(lab, "spire", &["statefulset/spire-server", "daemonset/spire-agent"]);
    lab.until("the server answers", || {
        server(lab, &["bundle", "show"]).status.success()
    });
    assert_eq!(said(&["bundle", "show"]), bundle, "the same authority");
    assert!(said(&["entry", "show", "-spiffeID", id]).contains("Found 1 entry"));
    assert!(said(&["entry", "show", "-spiffeID", later]).contains("Found 0 entries"));
}
