//! What the project claims about the first lab's speed, measured here and now: medians of several runs, each figure
//! beside what it is compared with. `make bench` runs it on the release build. Nothing here passes or fails.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Bench, REST, Row, memory, ms, print, row, time};

const RUNS: usize = 9;

fn start_and_reset(bench: &Bench, rows: &mut Vec<Row>) {
    let mut cold = Vec::new();
    let mut reset = Vec::new();
    for _ in 0..RUNS {
        let _ = bench.command(&bench.ztlab).args(["lab", "stop", "--delete"]).output();
        cold.push(ms(time(|| drop(bench.ztlab(&["lab", "start", "wiretap", "--fresh"])))));
        posture_measured(bench);
        reset.push(ms(time(|| drop(bench.ztlab(&["lab", "reset"])))));
    }
    rows.push(row(
        "`ztlab lab start wiretap`, cold, to all pods Ready",
        cold,
        "300 ms",
    ));
    rows.push(row("`ztlab lab reset`, to pristine and Ready", reset, "100 ms"));
}

/// Waits for the posture at the start, which is measured in the background once the lab is ready: a student who resets has
/// read something before.
fn posture_measured(bench: &Bench) {
    let there = |dir: &Path| {
        let labs = fs::read_dir(dir).into_iter().flatten().flatten();
        labs.map(|lab| lab.path().join("posture-start.json"))
            .any(|path| path.exists())
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !there(&bench.home.join("state/ztlab/sessions")) {
        assert!(Instant::now() < deadline, "no posture was measured");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn one_pod(bench: &Bench, rows: &mut Vec<Row>) {
    let output = bench.command(&bench.ztlab).args(["__floor", "20"]).output().unwrap();
    let floor: Vec<f64> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    if floor.is_empty() {
        eprintln!("bench: no floor measured: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    rows.push(row("floor: netns + veth + exec", floor, "-"));
    let kubeconfig = bench.kubeconfig("lab-wiretap");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let times = runtime.block_on(pod_starts(&kubeconfig, 20));
    rows.push(row("one pod, from POST to Running on the watch", times, "floor + 5 ms"));
}

async fn pod_starts(kubeconfig: &str, count: usize) -> Vec<f64> {
    use futures::{StreamExt, TryStreamExt};
    use k8s_openapi::api::core::v1::Pod;
    use kube::{
        Api, Client, Config,
        api::{DeleteParams, PostParams, WatchEvent, WatchParams},
        config::{KubeConfigOptions, Kubeconfig},
    };

    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(Client::try_from(config).unwrap(), "default");
    let mut times = Vec::new();
    for index in 0..count {
        let name = format!("bench-{index}");
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "1000"]}
            ]}
        }))
        .unwrap();
        let watch = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = pods.watch(&watch, "0").await.unwrap().boxed();
        let start = Instant::now();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        while let Some(event) = events.try_next().await.unwrap() {
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
                && pod.status.and_then(|status| status.phase).as_deref() == Some("Running")
            {
                break;
            }
        }
        times.push(ms(start.elapsed()));
        pods.delete(&name, &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
    }
    times
}

fn kubectl(bench: &Bench, rows: &mut Vec<Row>) {
    let kubeconfig = bench.kubeconfig("lab-wiretap");
    let run = |args: &[&str]| {
        let mut command = bench.command("kubectl");
        command
            .env("KUBECONFIG", &kubeconfig)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        ms(time(|| drop(command.status())))
    };
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        eprintln!("bench: no kubectl on this machine: its rows are left out");
        return;
    }
    run(&["get", "pods", "-n", "shop"]);
    let (mut get, mut version, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..21 {
        let (a, b) = (run(&["get", "pods", "-n", "shop"]), run(&["version", "--client"]));
        get.push(a);
        version.push(b);
        more.push(a - b);
    }
    rows.push(row("`kubectl get pods`", get, "-"));
    rows.push(row("`kubectl version --client`", version, "-"));
    rows.push(row("the difference, pair by pair", more, "8 ms"));
}

fn main() {
    let bench = Bench::new("lab");
    let mut rows = Vec::new();
    start_and_reset(&bench, &mut rows);
    let _ = bench.command(&bench.ztlab).args(["lab", "stop", "--delete"]).output();
    bench.ztlab(&["lab", "start", "wiretap", "--fresh"]);
    posture_measured(&bench);
    let mut measured = |when: &str, aim| {
        let (mib, processes) = memory(&bench.ztlab, None);
        rows.push(Row {
            what: format!("memory of the whole lab, an observer in every pod, {when} (PSS of all its processes)"),
            measured: format!("{mib:.1} MiB"),
            spread: format!("{processes} processes"),
            aim,
        });
    };
    measured("right after the start", "-");
    std::thread::sleep(REST);
    measured("at rest", "60 MB");
    one_pod(&bench, &mut rows);
    kubectl(&bench, &mut rows);
    print(&rows);
}
