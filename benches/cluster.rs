//! What the project claims about the embedded cluster's speed, measured here and now beside the peers that are
//! installed. `make bench` runs it on the release build. Nothing here passes or fails.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
#[path = "cluster/line.rs"]
mod line;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Bench, REST, Row, memory, ms, print, row, time};
use futures::{StreamExt, TryStreamExt, future::join_all};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, networking::v1::NetworkPolicy};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{AttachParams, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::params::PropagationPolicy,
};
use line::Line;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use ztlab::cluster::{Capabilities, ClusterHandle, manifests, no_progress};

const CLUSTER: &str = "bench";
/// Longer than anything here may take.
const LIMIT: Duration = Duration::from_secs(120);

async fn client(kubeconfig: &str) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

fn apply(bench: &Bench, manifest: &Value) -> bool {
    let mut command = bench.command("kubectl");
    command
        .env("KUBECONFIG", bench.kubeconfig(CLUSTER))
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(manifest.to_string().as_bytes())
        .unwrap();
    child.wait().unwrap().success()
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                    {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "100000"]}
                ]}
            }
        }
    })
}

/// Returns when the deployment has that many ready pods, seen on a watch that began before.
async fn ready(client: &Client, name: &str, replicas: i32) {
    let api: Api<Deployment> = Api::default_namespaced(client.clone());
    let watch = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = api.watch(&watch, "0").await.unwrap().boxed();
    let seen = async {
        while let Some(event) = events.try_next().await.unwrap() {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                && object.status.and_then(|status| status.ready_replicas) == Some(replicas)
            {
                return;
            }
        }
        panic!("the watch ended");
    };
    tokio::time::timeout(LIMIT, seen)
        .await
        .expect("the pods never became ready");
}

async fn gone(client: &Client, name: &str) {
    let api: Api<Deployment> = Api::default_namespaced(client.clone());
    let how = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let _ = api.delete(name, &how).await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let of = ListParams::default().labels(&format!("app={name}"));
    while !pods.list(&of).await.unwrap().items.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn hundred_pods(bench: &Bench, client: &Client, rows: &mut Vec<Row>) {
    let mut times = Vec::new();
    for run in 0..5 {
        let name = format!("hundred-{run}");
        let waiting = tokio::spawn({
            let (client, name) = (client.clone(), name.clone());
            async move { ready(&client, &name, 100).await }
        });
        // The watch is there before the clock starts.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let manifest = deployment(&name, 100);
        let start = Instant::now();
        let applied = tokio::task::block_in_place(|| apply(bench, &manifest));
        assert!(applied, "kubectl apply failed");
        waiting.await.unwrap();
        times.push(ms(start.elapsed()));
        gone(client, &name).await;
    }
    rows.push(row("100 pods Ready from one `kubectl apply`", times, "500 ms"));
}

/// From the request that writes a policy to the first datagram that did not come through any more, and to the answer.
async fn policy_cuts(client: &Client, line: Line) -> [f64; 2] {
    let policies: Api<NetworkPolicy> = Api::default_namespaced(client.clone());
    let policy: NetworkPolicy = serde_json::from_value(json!({
        "metadata": {"name": "cut"},
        "spec": {"podSelector": {"matchLabels": {"role": "server"}}, "policyTypes": ["Ingress"]}
    }))
    .unwrap();
    line.busy(100).await;
    let start = Instant::now();
    policies.create(&PostParams::default(), &policy).await.unwrap();
    let answered = start.elapsed();
    let cut = line.cut(start, LIMIT).await;
    policies.delete("cut", &DeleteParams::default()).await.unwrap();
    [ms(cut.duration_since(start)), ms(answered)]
}

async fn policy_change(bench: &Bench, client: &Client, rows: &mut Vec<Row>) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut addresses = Vec::new();
    for role in ["client", "server"] {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": role, "labels": {"role": role}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "100000"]}
            ]}
        }))
        .unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let running = kube::runtime::wait::conditions::is_pod_running();
        let pod = kube::runtime::wait::await_condition(pods.clone(), role, running).await;
        let address = pod.unwrap().and_then(|pod| pod.status?.pod_ip);
        addresses.push(address.unwrap().parse().unwrap());
    }
    let mut cuts = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..15 {
        let line = Line::start(node_pid(bench, CLUSTER), addresses[0], addresses[1]);
        let [cut, answered] = policy_cuts(client, line).await;
        cuts.push(cut);
        answers.push(answered);
    }
    for name in ["client", "server"] {
        let now = DeleteParams::default().grace_period(0);
        pods.delete(name, &now).await.unwrap();
    }
    rows.push(row(
        "policy posted until it cuts a flow between two pods, with 100 pods",
        cuts,
        "5 ms",
    ));
    rows.push(row("the same until the API answers", answers, "-"));
}

async fn thousand_pods(bench: &Bench, client: &Client, rows: &mut Vec<Row>) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let made = (0..1000).map(|number| {
        let pods = pods.clone();
        async move {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": format!("many-{number}"), "labels": {"app": "many"}},
                // No scheduler takes it: it is the API that is measured.
                "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "ztlab.dev/toolbox:1"}]}
            }))
            .unwrap();
            pods.create(&PostParams::default(), &pod).await.unwrap();
        }
    });
    futures::stream::iter(made)
        .buffer_unordered(16)
        .collect::<Vec<()>>()
        .await;
    let of = ListParams::default().labels("app=many");
    let mut lists = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        assert_eq!(pods.list(&of).await.unwrap().items.len(), 1000);
        lists.push(ms(start.elapsed()));
    }
    rows.push(row("list of 1,000 pods by a `kube` client, decoded", lists, "-"));
    let mut events = pods
        .watch(&WatchParams::default().labels("app=many"), "0")
        .await
        .unwrap()
        .boxed();
    let mut seen = 0;
    while seen < 1000 {
        if let WatchEvent::Added(_) = events.try_next().await.unwrap().unwrap() {
            seen += 1;
        }
    }
    let mut changes = Vec::new();
    for number in 0..50 {
        let patch = json!({"metadata": {"annotations": {"bench": number.to_string()}}});
        let start = Instant::now();
        let name = format!("many-{number}");
        pods.patch(&name, &Default::default(), &kube::api::Patch::Merge(&patch))
            .await
            .unwrap();
        while let Some(event) = events.try_next().await.unwrap() {
            if matches!(&event, WatchEvent::Modified(pod) if pod.name_any() == name) {
                break;
            }
        }
        changes.push(ms(start.elapsed()));
    }
    rows.push(row("a change to one of them, patched to seen on a watch", changes, "-"));
    let mut kubectl = Vec::new();
    for _ in 0..5 {
        let mut command = bench.command("kubectl");
        command
            .env("KUBECONFIG", bench.kubeconfig(CLUSTER))
            .args(["get", "pods", "-l", "app=many"])
            .stdout(Stdio::null());
        kubectl.push(ms(time(|| drop(command.status()))));
    }
    rows.push(row("`kubectl get pods` of 1,000", kubectl, "-"));
    pods.delete_collection(&DeleteParams::default().grace_period(0), &of)
        .await
        .unwrap();
}

/// The processes of one cluster, by the lock file that names its first.
fn node_pid(bench: &Bench, cluster: &str) -> u32 {
    let lock = bench.home.join("state/ztlab/clusters").join(cluster).join("lock");
    let handle: Value = serde_json::from_slice(&fs::read(lock).unwrap()).unwrap();
    u32::try_from(handle["node"]["pid"].as_u64().unwrap()).unwrap()
}

async fn http(bench: &Bench, client: &Client, rows: &mut Vec<Row>) {
    // Pods inherit it: client and server share one processor, so that it is the network that is compared.
    let node = node_pid(bench, CLUSTER).to_string();
    let pinned = Command::new("taskset").args(["-a", "-p", "-c", "0", &node]).output();
    let pinned = pinned.is_ok_and(|output| output.status.success());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for name in ["web-a", "web-b"] {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "nginxdemos/hello:plain-text"}]}
        }))
        .unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let running = kube::runtime::wait::conditions::is_pod_running();
        kube::runtime::wait::await_condition(pods.clone(), name, running)
            .await
            .unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let address = pods.get("web-b").await.unwrap().status.unwrap().pod_ip.unwrap();
    let mut medians = BTreeMap::new();
    // One against the other in turn, so that a machine that changes its pace changes both.
    for _ in 0..5 {
        for (what, authority) in [
            ("loopback", "127.0.0.1:80".to_owned()),
            ("pod to pod", format!("{address}:80")),
        ] {
            let mut times = round_trips(&pods, "web-a", &authority).await;
            medians
                .entry(what)
                .or_insert_with(Vec::new)
                .push(common::median(&mut times));
        }
    }
    let mut ratios: Vec<f64> = medians["pod to pod"]
        .iter()
        .zip(&medians["loopback"])
        .map(|(a, b)| a / b)
        .collect();
    let microseconds = |what: &str| common::median(&mut medians[what].clone());
    rows.push(Row {
        what: format!(
            "HTTP keep-alive, median round trip, pod to pod against loopback{}",
            if pinned {
                " on the same processor"
            } else {
                " (not pinned: no taskset)"
            }
        ),
        measured: format!("{:.2}×", common::median(&mut ratios)),
        spread: format!(
            "{:.1} µs against {:.1} µs",
            microseconds("pod to pod"),
            microseconds("loopback")
        ),
        aim: "1.5×",
    });
}

async fn round_trips(pods: &Api<Pod>, pod: &str, authority: &str) -> Vec<f64> {
    let command = ["/.ztlab/ztlab", "__http-round-trips", authority, "3000"];
    let mut process = pods
        .exec(pod, command, &AttachParams::default().stderr(false))
        .await
        .unwrap();
    let mut text = String::new();
    process.stdout().unwrap().read_to_string(&mut text).await.unwrap();
    let times: Vec<f64> = text.lines().skip(500).filter_map(|line| line.parse().ok()).collect();
    assert!(times.len() > 1000, "no round trips were timed: {text:?}");
    times
}

fn idle(rows: &mut Vec<Row>) {
    let bench = Bench::new("idle");
    bench.ztlab(&["cluster", "create", "idle"]);
    std::thread::sleep(REST);
    let (mib, processes) = memory(&bench.ztlab, Some(node_pid(&bench, "idle")));
    rows.push(Row {
        what: "memory of an idle cluster at rest (PSS)".to_owned(),
        measured: format!("{mib:.1} MiB"),
        spread: format!("{processes} processes"),
        aim: "20 MB",
    });
    bench.ztlab(&["cluster", "delete", "idle"]);
}

async fn a_room(rows: &mut Vec<Row>) {
    let bench = Bench::new("room");
    let names: Vec<String> = (1..=30).map(|number| format!("seat-{number}")).collect();
    let shop = manifests::built_in("flat").expect("the topology of wiretap").unwrap();
    let start = Instant::now();
    join_all(names.iter().map(|name| {
        let (bench, shop) = (&bench, &shop);
        async move {
            let mut command = tokio::process::Command::from(bench.command(&bench.ztlab));
            let made = command.args(["cluster", "create", name]).output().await.unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let handle = handle(bench, name).await;
            manifests::apply(&handle, shop, &no_progress()).await.unwrap();
            manifests::wait_ready(&handle, "shop", &no_progress()).await.unwrap();
        }
    }))
    .await;
    let started = start.elapsed();
    let run = async |words: [&'static str; 2]| {
        let all = names.iter().map(|name| {
            let bench = &bench;
            async move {
                let mut command = tokio::process::Command::from(bench.command(&bench.ztlab));
                let done = command.args(words).arg(name).output().await.unwrap();
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            }
        });
        join_all(all).await;
    };
    run(["cluster", "snapshot"]).await;
    let start = Instant::now();
    run(["cluster", "restore"]).await;
    join_all(names.iter().map(async |name| {
        let handle = handle(&bench, name).await;
        manifests::wait_ready(&handle, "shop", &no_progress()).await.unwrap();
    }))
    .await;
    let reset = start.elapsed();
    let (mib, processes) = memory(&bench.ztlab, None);
    let once = "one run".to_owned();
    rows.push(Row {
        what: "30 clusters with the shop of `wiretap`, created to all pods Ready".to_owned(),
        measured: format!("{:.1} s", started.as_secs_f64()),
        spread: once.clone(),
        aim: "10 s",
    });
    rows.push(Row {
        what: "all 30 restored to that, to all pods Ready again".to_owned(),
        measured: format!("{:.1} s", reset.as_secs_f64()),
        spread: once,
        aim: "3 s",
    });
    rows.push(Row {
        what: "memory of all 30 (PSS)".to_owned(),
        measured: format!("{mib:.0} MiB"),
        spread: format!("{processes} processes"),
        aim: "-",
    });
    run(["cluster", "delete"]).await;
}

async fn handle(bench: &Bench, name: &str) -> ClusterHandle {
    let kubeconfig = bench.home.join("state/ztlab/clusters").join(name).join("kubeconfig");
    ClusterHandle {
        client: client(kubeconfig.to_str().unwrap()).await,
        name: name.to_owned(),
        kubeconfig,
        capabilities: Capabilities {
            stand_ins: true,
            disposable: true,
            snapshots: true,
            pod_addresses: true,
        },
        notes: Vec::new(),
    }
}

/// What others take for the same, where they are installed.
fn peers(rows: &mut Vec<Row>) {
    let mut peer = |what: &str, program: &str, args: &[&str], after: &[&str]| {
        let quiet = |args: &[&str]| {
            let mut command = Command::new(program);
            command
                .args(args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let mut times = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            if !quiet(args) {
                eprintln!("bench: {what} does not work on this machine: its row is left out");
                return;
            }
            times.push(ms(start.elapsed()));
            if !after.is_empty() {
                quiet(after);
            }
        }
        rows.push(row(format!("for comparison: {what}"), times, "-"));
    };
    peer(
        "`docker run --rm alpine true`",
        "docker",
        &["run", "--rm", "alpine", "true"],
        &[],
    );
    peer(
        "`ip netns add`",
        "ip",
        &["netns", "add", "ztlab-bench"],
        &["netns", "del", "ztlab-bench"],
    );
    peer(
        "mininet, a host and a link",
        "mn",
        &["--topo", "single,1", "--test", "none"],
        &[],
    );
    let cluster = ["--name", "ztlab-bench"];
    peer(
        "`kind create cluster`",
        "kind",
        &["create", "cluster", cluster[0], cluster[1], "--wait", "5m"],
        &["delete", "cluster", cluster[0], cluster[1]],
    );
}

/// Whether a part was asked for: `cargo bench --bench cluster -- policy`; without a name, all.
fn wanted(part: &str) -> bool {
    let mut names = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    names.peek().is_none() || names.any(|name| name == part)
}

async fn one_cluster(bench: &Bench, rows: &mut Vec<Row>) {
    let client = client(&bench.kubeconfig(CLUSTER)).await;
    if Command::new("kubectl").args(["version", "--client"]).output().is_ok() {
        if wanted("hundred") {
            hundred_pods(bench, &client, rows).await;
        }
        if wanted("thousand") {
            thousand_pods(bench, &client, rows).await;
        }
        if wanted("policy") {
            let standing = ready(&client, "standing", 100);
            apply(bench, &deployment("standing", 100));
            standing.await;
            policy_change(bench, &client, rows).await;
            gone(&client, "standing").await;
        }
    } else {
        eprintln!("bench: no kubectl on this machine: its rows are left out");
    }
    if wanted("http") {
        http(bench, &client, rows).await;
    }
}

fn main() {
    line::helper();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut rows = Vec::new();
    if wanted("idle") {
        idle(&mut rows);
    }
    if ["hundred", "thousand", "policy", "http"].into_iter().any(wanted) {
        let bench = Bench::new(CLUSTER);
        bench.ztlab(&["cluster", "create", CLUSTER]);
        runtime.block_on(one_cluster(&bench, &mut rows));
        bench.ztlab(&["cluster", "delete", CLUSTER]);
    }
    if wanted("room") {
        runtime.block_on(a_room(&mut rows));
    }
    if wanted("peers") {
        peers(&mut rows);
    }
    print(&rows);
}
