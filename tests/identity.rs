//! `ztlab identity` on the embedded cluster: what is seen and what is registered, why a pod has no identity, rotation as it
//! happens, and what is left when the agent is gone.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;
#[path = "common/shop.rs"]
mod shop;

use std::fs;

use lab::{Lab, everywhere, text};
use serde_json::{Value, json};
use shop::{layer, rolled_out};

/// Runs `ztlab identity …`; gives its exit status, standard output and standard error.
fn identity(lab: &Lab, args: &[&str]) -> (i32, String, String) {
    let mut all = vec!["identity", "--cluster", "t"];
    all.extend_from_slice(args);
    let output = lab.ztlab(&all);
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[track_caller]
fn json(lab: &Lab, args: &[&str], code: i32) -> Value {
    let mut all = args.to_vec();
    all.push("--json");
    let (status, out, err) = identity(lab, &all);
    assert_eq!(status, code, "{args:?}: {out}{err}\n{}", lab.log());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}{err}"))
}

const SERVICES: [&str; 4] = ["frontend", "orders-api", "payments-api", "ledger"];

fn id_of(service: &str) -> String {
    format!("spiffe://ztlab.example/ns/shop/sa/{service}")
}

/// The shop with SVIDs that live for half a minute.
fn shop(lab: &Lab) {
    lab.apply_text(&layer("spire"));
    rolled_out(lab, "spire", &["statefulset/spire-server", "daemonset/spire-agent"]);
    let short = layer("spiffe").replacen("spec:\n  spiffeIDTemplate", "spec:\n  ttl: 30s\n  spiffeIDTemplate", 1);
    assert!(short.contains("ttl: 30s"));
    lab.apply_text(&short);
    let services = SERVICES.map(|name| format!("deploy/{name}"));
    rolled_out(lab, "shop", &services.each_ref().map(String::as_str));
}

#[test]
fn who_is_who_is_seen_and_explained() {
    everywhere(|lab| {
        lab.apply_text(&layer("flat"));
        rolled_out(lab, "shop", &["deploy/mallory"]);
        before_spire(lab);
        shop(lab);
        everything(lab);
        with_and_without_identity(lab);
        a_slip_in_an_entry(lab);
        a_certificate_from_a_file(lab);
        a_rotation(lab);
        with_rights_in_one_namespace(lab);
        while_the_server_is_off(lab);
        without_agent(lab);
    });
}

fn before_spire(lab: &Lab) {
    let told = json(lab, &["explain", "mallory", "-n", "shop"], 1);
    assert_eq!(told["verdict"], "nothing", "{told:#}");
    let server = &told["steps"][3];
    assert!(
        server["says"]
            .as_str()
            .unwrap()
            .contains("no SPIRE server was found; looked for"),
        "{server}"
    );
    let (status, _, err) = identity(lab, &["entries"]);
    assert!(status == 2 && err.contains("hint: install SPIRE"), "{err}");
    let (status, _, err) = identity(lab, &["explain", "nobody", "-n", "shop"]);
    assert!(
        status == 2 && err.contains("there is no pod or workload `nobody`"),
        "{err}"
    );
    let (status, _, err) = identity(lab, &["-n", "nowhere"]);
    assert!(status == 2 && err.contains("there is no namespace `nowhere`"), "{err}");
}

fn everything(lab: &Lab) {
    let all = json(lab, &["-n", "shop"], 0);
    assert_eq!(all["healthy"], true, "{all:#}");
    for service in SERVICES {
        let pods = all["workloads"].as_array().unwrap().iter();
        let pod = pods
            .clone()
            .find(|pod| pod["pod"].as_str().unwrap().starts_with(&format!("{service}-")))
            .unwrap();
        let svid = &pod["seen"]["svids"][0];
        assert_eq!(svid["spiffe_id"], id_of(service), "{pod:#}");
        assert_eq!(svid["belief"]["holds"], true, "{svid:#}");
        assert_eq!(pod["given"][0]["spiffe_id"], id_of(service), "{pod:#}");
        assert_eq!(pod["given"][0]["x509_svid_ttl"], 30);
        let number = |value: &Value| value.as_i64().unwrap();
        let middle = i64::midpoint(number(&svid["not_before"]), number(&svid["not_after"]));
        assert!((number(&svid["rotation"]["about_s"]) - middle).abs() <= 1, "{svid:#}");
    }
    assert_eq!(all["entries"].as_array().unwrap().len(), 4, "{all:#}");
    assert_eq!(all["bundles"][0]["trust_domain"], "ztlab.example");
    assert_eq!(all["bundles"][0]["x509"][0]["state"], "active");
    assert_eq!(json(lab, &["bundles"], 0)[0]["own"], true);
    assert_eq!(json(lab, &["entries"], 0).as_array().unwrap().len(), 4);
    let own = json(lab, &["entries", "--pod", "ledger"], 0);
    assert_eq!(
        (own.as_array().unwrap().len(), &own[0]["spiffe_id"]),
        (1, &json!(id_of("ledger")))
    );
    // Without a namespace: all but the system's and SPIRE's own.
    let (status, page, err) = identity(lab, &[]);
    assert!(
        status == 0 && page.contains("Workloads of shop") && !page.contains("Workloads of spire"),
        "{page}{err}"
    );
    assert!(
        page.contains("Server is healthy.") && page.contains(&id_of("payments-api")),
        "{page}"
    );
}

fn with_and_without_identity(lab: &Lab) {
    let told = json(lab, &["explain", "orders-api", "-n", "shop"], 0);
    assert_eq!(told["verdict"], "identified", "{told:#}");
    assert_eq!(told["ids"], json!([id_of("orders-api")]));
    let origin = told["matching"][0]["origin"].as_str().unwrap();
    assert!(origin.contains("the ClusterSPIFFEID shop selects the pod"), "{origin}");
    let none = json(lab, &["explain", "shop/mallory"], 1);
    assert_eq!(none["verdict"], "nothing", "{none:#}");
    assert!(
        none["because"]
            .as_str()
            .unwrap()
            .contains("no volume of the CSI driver csi.spiffe.io"),
        "{none:#}"
    );
    let rule = &none["rules"][0];
    assert_eq!((&rule["name"], &rule["almost"]), (&json!("shop"), &json!(true)));
    let why = rule["because"][0].as_str().unwrap();
    assert!(why.contains("label `app` is `mallory`, and one of frontend"), "{why}");
    let shown = json(lab, &["show", "orders-api", "-n", "shop"], 0);
    assert_eq!(
        (&shown["holds"], &shown["certificates"][0]["role"]),
        (&json!(true), &json!("leaf"))
    );
    let (status, _, err) = identity(lab, &["show", "mallory", "-n", "shop"]);
    assert!(status == 2 && err.contains("no certificate of shop/mallory"), "{err}");
}

fn server(lab: &Lab, command: &str) -> String {
    let mut args = vec!["exec", "-n", "spire", "spire-server-0", "-c", "spire-server", "--"];
    args.push("/opt/spire/bin/spire-server");
    args.extend(command.split_whitespace());
    lab.kubectl(&args)
}

/// A pod that could ask, and whose entry has a letter too many.
fn a_slip_in_an_entry(lab: &Lab) {
    lab.apply(&[
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": "shop"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "ztlab.dev/toolbox:1",
            "volumeMounts": [{"name": "api", "mountPath": "/spiffe-workload-api", "readOnly": true}]}],
            "volumes": [{"name": "api", "csi": {"driver": "csi.spiffe.io", "readOnly": true}}]}}),
    ]);
    lab.kubectl(&[
        "wait",
        "-n",
        "shop",
        "--for=condition=Ready",
        "pod/client",
        "--timeout=60s",
    ]);
    let agents: Value = serde_json::from_str(&server(lab, "agent list -output json")).unwrap();
    let agent = format!(
        "spiffe://ztlab.example{}",
        agents["agents"][0]["id"]["path"].as_str().unwrap()
    );
    let create = |account: &str| {
        server(
            lab,
            &format!(
                "entry create -parentID {agent} -spiffeID {} -selector k8s:ns:shop -selector k8s:sa:{account}",
                id_of("client")
            ),
        )
    };
    create("defaults");
    let told = json(lab, &["explain", "client", "-n", "shop"], 1);
    assert_eq!(told["verdict"], "nothing", "{told:#}");
    let missing = &told["near"][0]["missing"][0];
    assert_eq!(missing["selector"], "k8s:sa:defaults", "{told:#}");
    assert_eq!(missing["says"], "its service account is `default`, not `defaults`");
    let next = told["steps"][5]["next"].as_str().unwrap();
    assert!(next.contains("spire-server entry update"), "{next}");
    // What it says is what the Workload API does.
    let fetch = "spire-agent api fetch x509 -socketPath /spiffe-workload-api/spire-agent.sock -write /tmp";
    let fetched = || lab.try_kubectl(&["exec", "-n", "shop", "client", "--", "sh", "-c", fetch]);
    assert!(text(&fetched().stderr).contains("no identity issued"));
    create("default");
    lab.until("the client has its identity", || fetched().status.success());
    let told = json(lab, &["explain", "client", "-n", "shop"], 0);
    assert_eq!(told["ids"], json!([id_of("client")]), "{told:#}");
    assert!(
        told["matching"][0]["origin"].as_str().unwrap().contains("by hand"),
        "{told:#}"
    );
}

fn a_certificate_from_a_file(lab: &Lab) {
    let file = |name: &str| {
        let path = lab.home().join(name);
        fs::write(
            &path,
            lab.kubectl(&["exec", "-n", "shop", "client", "--", "cat", &format!("/tmp/{name}")]),
        )
        .unwrap();
        path.display().to_string()
    };
    let (svid, bundle) = (file("svid.0.pem"), file("bundle.0.pem"));
    let shown = json(lab, &["show", "--cert", &svid, "--bundle", &bundle], 0);
    assert_eq!(shown["belief"]["holds"], true, "{shown:#}");
    // The bundle is an authority's certificate: judged as such, and believed by nobody as a workload's.
    let authority = json(lab, &["show", "--cert", &bundle], 0);
    assert_eq!(authority["certificates"][0]["role"], "signing");
    let refused = json(lab, &["show", "--cert", &bundle, "--bundle", &bundle], 1);
    assert_eq!(refused["belief"]["holds"], false, "{refused:#}");
    let (_, pem, _) = identity(lab, &["show", "--cert", &svid, "--pem"]);
    assert_eq!(pem, fs::read_to_string(&svid).unwrap());
    let (status, _, err) = identity(lab, &["show", "--cert", "/nowhere.pem"]);
    assert!(status == 2 && err.contains("cannot read /nowhere.pem"), "{err}");
}

fn a_rotation(lab: &Lab) {
    let (status, out, err) = identity(lab, &["show", "orders-api", "-n", "shop", "--watch", "--json"]);
    assert_eq!(status, 0, "{out}{err}");
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&events[0]["event"], &events[1]["event"]),
        (&json!("first"), &json!("rotated")),
        "{out}"
    );
    assert_eq!(events[1]["newer"], true);
    assert_ne!(events[0]["svid"]["serial"], events[1]["svid"]["serial"]);
    // It was replaced when the estimate said that it would be, within what a second of asking and a pod's own pace add.
    let seen = events[1]["svid"]["seen_s"].as_i64().unwrap();
    let rotation = &events[0]["svid"]["rotation"];
    let (from, until) = (
        rotation["from_s"].as_i64().unwrap(),
        rotation["until_s"].as_i64().unwrap(),
    );
    assert!(
        seen >= from - 1 && seen <= until + 8,
        "{seen} of {from} to {until}: {out}"
    );
}

/// Whoever may look at the shop alone sees what its pods show, and is told what is not to be seen; not that it is not there.
fn with_rights_in_one_namespace(lab: &Lab) {
    lab.apply_text(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: student, namespace: shop}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: student, namespace: shop}\nrules:\n\
         - {apiGroups: [''], resources: [pods, services, events], verbs: [get, list, watch]}\n\
         - {apiGroups: [''], resources: [pods/ephemeralcontainers], verbs: [get, patch, update]}\n\
         - {apiGroups: [''], resources: [pods/exec], verbs: [get, create]}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: student, namespace: shop}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: student}\n\
         subjects: [{kind: ServiceAccount, name: student, namespace: shop}]\n",
    );
    let token = lab.kubectl(&["create", "token", "student", "-n", "shop"]);
    let own: Value = serde_json::from_str(&lab.kubectl(&["config", "view", "--raw", "-o", "json"])).unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "student",
        "clusters": [{"name": "t", "cluster": own["clusters"][0]["cluster"]}],
        "users": [{"name": "student", "user": {"token": token.trim()}}],
        "contexts": [{"name": "student", "context": {"cluster": "t", "user": "student"}}]});
    let path = lab.home().join("state/student");
    fs::write(&path, config.to_string()).unwrap();
    let student = |args: &[&str]| {
        let mut command = lab.command(lab.program());
        command
            .env("KUBECONFIG", &path)
            .args(["identity", "--context", "student"]);
        let output = command.args(args).output().unwrap();
        let code = output.status.code().unwrap();
        (code, text(&output.stdout), text(&output.stderr))
    };
    let (status, out, err) = student(&["-n", "shop", "--json"]);
    assert_eq!(status, 0, "{out}{err}");
    let all: Value = serde_json::from_str(&out).unwrap();
    let pods = all["workloads"].as_array().unwrap();
    let mut orders = pods
        .iter()
        .filter(|pod| pod["pod"].as_str().unwrap().starts_with("orders-api-"));
    let orders = orders.next().unwrap();
    assert_eq!(
        orders["seen"]["svids"][0]["spiffe_id"],
        id_of("orders-api"),
        "{orders:#}"
    );
    assert_eq!(
        (&orders["given"], &all["nodes"]),
        (&Value::Null, &Value::Null),
        "{all:#}"
    );
    let (status, page, err) = student(&["-n", "shop"]);
    assert_eq!(status, 0, "{err}");
    for told in ["whether a SPIRE server runs is not known", "name SPIRE's namespace too"] {
        assert!(
            page.split_whitespace().collect::<Vec<_>>().join(" ").contains(told),
            "{told}: {page}"
        );
    }
    assert!(!page.contains("install SPIRE"), "{page}");
    // What a handshake showed is known; a pod that shows nothing is undetermined, not without.
    let (status, out, err) = student(&["explain", "shop/orders-api", "--json"]);
    assert_eq!(status, 0, "{out}{err}");
    let (status, out, err) = student(&["explain", "client", "-n", "shop", "--json"]);
    assert_eq!(status, 1, "{out}{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["verdict"], "undetermined", "{told:#}");
    let (status, _, err) = student(&[]);
    assert!(
        status == 2 && err.contains("name the namespaces that you may look at"),
        "{err}"
    );
    let (status, _, err) = student(&["-n", "spire"]);
    assert!(status == 2 && err.contains("the pods of spire"), "{err}");
}

/// A server that is switched off is to be switched on, and not installed.
fn while_the_server_is_off(lab: &Lab) {
    let scale = |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        lab.kubectl(&["scale", "statefulset", "spire-server", "-n", "spire", &replicas]);
    };
    scale("0");
    lab.until("the server is gone", || {
        lab.get(&["pods", "-n", "spire", "-l", "app=spire-server"])["items"] == json!([])
    });
    let off = "the StatefulSet spire/spire-server is scaled to 0";
    let on = "kubectl -n spire scale statefulset spire-server --replicas=1";
    let all = json(lab, &["-n", "shop"], 0);
    assert!(
        all["server"].as_str().unwrap().contains(off) && all["healthy"] == false,
        "{all:#}"
    );
    assert!(all["next"].as_str().unwrap().contains(on), "{all:#}");
    let told = json(lab, &["explain", "client", "-n", "shop"], 1);
    assert!(told["because"].as_str().unwrap().contains(off), "{told:#}");
    assert!(told["steps"][3]["next"].as_str().unwrap().contains(on), "{told:#}");
    let (status, _, err) = identity(lab, &["bundles"]);
    assert!(status == 2 && err.contains(off) && err.contains(on), "{err}");
    scale("1");
    rolled_out(lab, "spire", &["statefulset/spire-server"]);
    // The agent finds it again by itself; the shop goes on.
    lab.until("orders-api shows an SVID that is renewed", || {
        let (status, out, _) = identity(lab, &["explain", "orders-api", "-n", "shop", "--json"]);
        status == 0 && out.contains("which a handshake showed and an entry gives")
    });
}

/// What a pod has lives on without an agent, and ends.
fn without_agent(lab: &Lab) {
    lab.kubectl(&["delete", "daemonset", "spire-agent", "-n", "spire"]);
    lab.until("the agent is gone", || {
        lab.get(&["pods", "-n", "spire", "-l", "app=spire-agent"])["items"] == json!([])
    });
    let told = json(lab, &["explain", "orders-api", "-n", "shop"], 1);
    assert_eq!(told["verdict"], "fading", "{told:#}");
    assert!(
        told["because"]
            .as_str()
            .unwrap()
            .contains("no SPIRE agent runs in the cluster"),
        "{told:#}"
    );
}
