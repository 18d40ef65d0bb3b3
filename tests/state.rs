//! The cluster's state through the real program: snapshots and restores, lives after a stop and a kill, damage, ports in use,
//! many clusters, and what is left after a kill at any moment.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use common::Home;
use serde_json::Value;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: "ztlab.dev/toolbox:1", command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "ztlab.dev/toolbox:1", command: [sleep, "1000"]}]
"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Clusters {
    home: Home,
}

impl Clusters {
    fn new(name: &str) -> Option<Self> {
        common::embedded_works().then(|| Self { home: Home::new(name) })
    }

    fn as_ordinary_user(name: &str) -> Option<Self> {
        let user = common::ordinary_user()?;
        common::embedded_works().then(|| Self {
            home: Home::for_user(name, user),
        })
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.home.ztlab(args);
        assert!(output.status.success(), "ztlab {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn fails(&self, args: &[&str]) -> String {
        let output = self.home.ztlab(args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "ztlab {args:?}: {}",
            text(&output.stdout)
        );
        text(&output.stderr)
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.ok(&args)).unwrap()
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.home.path().join("state/ztlab/clusters").join(name)
    }

    fn try_kubectl(&self, name: &str, args: &[&str]) -> Output {
        self.home
            .command("kubectl")
            .env("KUBECONFIG", self.dir(name).join("kubeconfig"))
            .args(args)
            .output()
            .unwrap()
    }

    fn kubectl(&self, name: &str, args: &[&str]) -> String {
        let output = self.try_kubectl(name, args);
        assert!(output.status.success(), "kubectl {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn apply(&self, name: &str, manifest: &str) {
        let file = self.home.path().join("manifest.yaml");
        fs::write(&file, manifest).unwrap();
        self.kubectl(name, &["apply", "-f", file.to_str().unwrap()]);
    }

    fn get(&self, name: &str, what: &[&str]) -> Value {
        let mut args = vec!["get", "-o", "json"];
        args.extend(what);
        serde_json::from_str(&self.kubectl(name, &args)).unwrap()
    }

    /// The names of the pods of `default` that are Ready.
    fn ready(&self, name: &str) -> BTreeSet<String> {
        let pods = self.get(name, &["pods"]);
        let is_ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let pods = pods["items"].as_array().unwrap().iter().filter(is_ready);
        pods.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn uids(&self, name: &str) -> BTreeSet<String> {
        let pods = self.get(name, &["pods"]);
        let pods = pods["items"].as_array().unwrap().iter();
        pods.map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned())
            .collect()
    }

    fn until(&self, what: &str, test: impl Fn() -> bool) {
        let start = Instant::now();
        while !test() {
            assert!(start.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid(&self, name: &str) -> i32 {
        let list = self.json(&["cluster", "list"]);
        let mut found = list.as_array().unwrap().iter().filter(|one| one["name"] == name);
        found.next().unwrap()["pid"].as_i64().unwrap().try_into().unwrap()
    }

    fn kill(&self, pid: i32) {
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        self.until("the killed node is gone", || {
            !PathBuf::from(format!("/proc/{pid}/exe")).exists()
        });
    }
}

impl Drop for Clusters {
    fn drop(&mut self) {
        let list = self.home.ztlab(&["cluster", "list", "--json"]);
        let list: Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
        for one in list.as_array().into_iter().flatten() {
            let _ = self
                .home
                .ztlab(&["cluster", "delete", one["name"].as_str().unwrap_or_default()]);
        }
    }
}

fn kubectl() -> bool {
    let there = std::process::Command::new("kubectl").arg("help").output().is_ok();
    there || common::lacks("kubectl")
}

fn lives(clusters: &Clusters) {
    clusters.ok(&["cluster", "create", "demo"]);
    clusters.apply("demo", WEB);
    clusters.until("three pods are Ready", || clusters.ready("demo").len() == 3);
    let (names, uids) = (clusters.ready("demo"), clusters.uids("demo"));
    let service = clusters.get("demo", &["service", "web"])["spec"]["clusterIP"].clone();
    let revision = |value: &Value| {
        value["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let made = clusters.kubectl("demo", &["create", "configmap", "last", "-o", "json"]);
    let made = revision(&serde_json::from_str(&made).unwrap());
    // What kubectl was told is there after a kill at that very moment.
    clusters.kill(clusters.pid("demo"));
    // It lets go of its lock last.
    let state = clusters.json(&["cluster", "list"])[0]["state"].clone();
    assert!(state == "stopped" || state == "stopping", "{state}");
    assert!(clusters.fails(&["cluster", "snapshot", "demo"]).contains("is stopped"));
    clusters.ok(&["cluster", "start", "demo"]);
    clusters.get("demo", &["configmap", "last"]);
    clusters.until("the same pods are Ready again", || clusters.ready("demo") == names);
    assert_eq!(clusters.uids("demo"), uids, "a restarted node keeps its pods");
    for pod in clusters.get("demo", &["pods"])["items"].as_array().unwrap() {
        let container = &pod["status"]["containerStatuses"][0];
        assert_eq!(
            (
                &container["restartCount"],
                &container["lastState"]["terminated"]["exitCode"]
            ),
            (&1.into(), &255.into())
        );
    }
    assert_eq!(clusters.get("demo", &["service", "web"])["spec"]["clusterIP"], service);
    clusters.kubectl("demo", &["label", "configmap", "last", "a=b"]);
    assert!(revision(&clusters.get("demo", &["configmap", "last"])) > made);
    // And after an orderly stop, as often as one likes; the kubeconfig goes on to hold.
    clusters.ok(&["cluster", "stop", "demo"]);
    clusters.ok(&["cluster", "start", "demo"]);
    clusters.until("the same pods are Ready a third time", || {
        clusters.ready("demo") == names
    });
    clusters.ok(&["cluster", "delete", "demo"]);
    assert!(fs::read_dir(clusters.dir("")).unwrap().next().is_none());
}

#[test]
fn a_cluster_comes_back_as_whoever_runs_the_tests() {
    if !kubectl() {
        return;
    }
    let Some(clusters) = Clusters::new("state-lives") else {
        return;
    };
    lives(&clusters);
}

#[test]
fn a_cluster_comes_back_as_an_ordinary_user() {
    if !kubectl() {
        return;
    }
    let Some(clusters) = Clusters::as_ordinary_user("state-user") else {
        return;
    };
    lives(&clusters);
}

#[test]
fn a_restore_puts_back_what_was_and_leaves_nothing_else() {
    if !kubectl() {
        return;
    }
    let Some(clusters) = Clusters::new("state-restore") else {
        return;
    };
    clusters.ok(&["cluster", "create", "demo"]);
    let error = clusters.fails(&["cluster", "restore", "demo"]);
    assert!(
        error.contains("has no snapshot") && error.contains("ztlab cluster snapshot demo"),
        "{error}"
    );
    clusters.apply("demo", WEB);
    clusters.until("three pods are Ready", || clusters.ready("demo").len() == 3);
    let before = clusters.uids("demo");
    let taken = clusters.json(&[
        "cluster",
        "snapshot",
        "demo",
        "--as",
        "start",
        "--note",
        "a shop, untouched",
    ]);
    assert_eq!(taken["snapshot"]["note"], "a shop, untouched");

    clusters.kubectl("demo", &["scale", "deployment/web", "--replicas=0"]);
    clusters.kubectl("demo", &["delete", "service", "web"]);
    clusters.kubectl("demo", &["delete", "pod", "bare"]);
    clusters.kubectl("demo", &["create", "namespace", "mine"]);
    clusters.kubectl("demo", &["create", "configmap", "mine", "-n", "mine"]);
    clusters.kubectl(
        "demo",
        &[
            "create",
            "deployment",
            "spy",
            "--image=ztlab.dev/toolbox:1",
            "--",
            "sleep",
            "1000",
        ],
    );
    clusters.kubectl("demo", &["cordon", "demo"]);
    let mut watch = clusters
        .home
        .command("kubectl")
        .env("KUBECONFIG", clusters.dir("demo").join("kubeconfig"))
        .args(["get", "service", "web", "-w", "-o", "name"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = watch.kill();
    let _ = watch.wait();

    let error = clusters.fails(&["cluster", "restore", "demo", "strat"]);
    assert!(error.contains("no snapshot \"strat\"; there is start"), "{error}");
    let done = clusters.json(&["cluster", "restore", "demo", "start"]);
    assert!(done["restored"]["created"].as_u64().unwrap() >= 2, "{done}");
    clusters.until("three fresh pods are Ready", || clusters.ready("demo").len() == 3);
    assert!(before.is_disjoint(&clusters.uids("demo")), "no pod of before");
    assert!(
        clusters
            .kubectl("demo", &["get", "deployments", "-o", "name"])
            .trim()
            .ends_with("/web")
    );
    assert!(
        !clusters
            .try_kubectl("demo", &["get", "namespace", "mine"])
            .status
            .success()
    );
    clusters.get("demo", &["service", "web"]);
    assert!(
        clusters.get("demo", &["node", "demo"])["spec"]
            .get("unschedulable")
            .is_none()
    );
    // The restored state is the one that comes back.
    clusters.kill(clusters.pid("demo"));
    clusters.ok(&["cluster", "start", "demo"]);
    clusters.until("they are Ready after a kill", || clusters.ready("demo").len() == 3);
    // Snapshots outlive the node too.
    assert_eq!(clusters.json(&["cluster", "snapshots", "demo"])[0]["name"], "start");
    clusters.ok(&["cluster", "restore", "demo"]);
    clusters.ok(&["cluster", "snapshots", "demo", "--delete", "start"]);
    assert!(
        clusters
            .fails(&["cluster", "snapshots", "demo", "--delete", "start"])
            .contains("there are none")
    );
}

/// Custom objects go with their namespace, and come back after a restart and by a restore, as any other.
#[test]
fn custom_objects_share_the_lives_of_all_others() {
    if !kubectl() {
        return;
    }
    let Some(clusters) = Clusters::new("state-custom") else {
        return;
    };
    clusters.ok(&["cluster", "create", "demo"]);
    let kubectl = |line: &str| clusters.kubectl("demo", &line.split(' ').collect::<Vec<_>>());
    let established = "wait --for=condition=Established crd/crontabs.stable.example.com --timeout=60s";
    clusters.apply("demo", include_str!("custom_resources/crontabs.yaml"));
    kubectl(established);
    kubectl("create namespace box");
    let tab = |name: &str, more: &str| {
        format!(
            "---\napiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {{name: {name}{more}}}\n\
             spec: {{cronSpec: '* * * * */5', image: first}}\n"
        )
    };
    let tabs = [tab("kept", ""), tab("inside", ", namespace: box")];
    clusters.apply("demo", &tabs.concat());
    let names = || kubectl("get crontabs -A -o name");
    let all = ["inside", "kept"].map(|name| format!("crontab.stable.example.com/{name}\n"));
    assert_eq!(names(), all.concat());

    kubectl("delete namespace box");
    assert_eq!(names(), all[1]);

    let uid = || kubectl("get crontab kept -o jsonpath={.metadata.uid}");
    let first = uid();
    clusters.kill(clusters.pid("demo"));
    clusters.ok(&["cluster", "start", "demo"]);
    assert_eq!(uid(), first, "a restart keeps it");
    clusters.ok(&["cluster", "stop", "demo"]);
    clusters.ok(&["cluster", "start", "demo"]);
    assert_eq!(uid(), first, "and another one");

    clusters.ok(&["cluster", "snapshot", "demo"]);
    kubectl("patch crontab kept --type=merge -p {\"spec\":{\"image\":\"second\"}}");
    clusters.ok(&["cluster", "restore", "demo"]);
    assert_eq!(kubectl("get crontab kept -o jsonpath={.spec.image}"), "first");
    kubectl("delete crd crontabs.stable.example.com");
    clusters.ok(&["cluster", "restore", "demo"]);
    kubectl(established);
    clusters.until("the restored kind is served with its object", || {
        let shown = clusters.try_kubectl("demo", &["get", "crontab", "kept", "-o", "jsonpath={.spec.image}"]);
        text(&shown.stdout) == "first"
    });
}

#[test]
fn only_administrators_take_and_restore_snapshots() {
    if !kubectl() {
        return;
    }
    let Some(clusters) = Clusters::new("state-rights") else {
        return;
    };
    clusters.ok(&["cluster", "create", "demo"]);
    // Even a role that may do everything is not an administrator of the node.
    clusters.kubectl(
        "demo",
        &[
            "create",
            "clusterrolebinding",
            "all",
            "--clusterrole=cluster-admin",
            "--serviceaccount=default:default",
        ],
    );
    let path = "/ztlab.dev/v1/snapshots";
    assert!(clusters.kubectl("demo", &["get", "--raw", path]).contains("snapshots"));
    let user = "--as=system:serviceaccount:default:default";
    let refused = clusters.try_kubectl("demo", &["get", "--raw", path, user]);
    assert!(
        text(&refused.stderr).contains("Forbidden") || text(&refused.stderr).contains("forbidden"),
        "{refused:?}"
    );
}

#[test]
fn damage_is_told_and_what_can_be_read_comes_back() {
    if !kubectl() {
        return;
    }
    let Some(clusters) = Clusters::new("state-damage") else {
        return;
    };
    clusters.ok(&["cluster", "create", "demo"]);
    clusters.apply("demo", WEB);
    clusters.ok(&["cluster", "stop", "demo"]);
    let file = clusters.dir("demo").join("store/state");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 40].fill(0);
    fs::write(&file, bytes).unwrap();
    let started = clusters.json(&["cluster", "start", "demo"]);
    let note = started["notes"][0].as_str().unwrap();
    assert!(note.contains("was damaged") && note.contains("state.damaged"), "{note}");
    assert!(clusters.dir("demo").join("store/state.damaged").is_file());
    clusters.kubectl("demo", &["get", "pods,services,deployments"]);
    clusters.ok(&["cluster", "stop", "demo"]);
    assert_eq!(
        clusters.json(&["cluster", "start", "demo"])["notes"],
        serde_json::json!([])
    );
}

#[test]
fn a_port_that_is_taken_is_told_and_another_one_used() {
    let Some(clusters) = Clusters::new("state-port") else {
        return;
    };
    let made = clusters.json(&["cluster", "create", "demo"]);
    assert_eq!(made["notes"], serde_json::json!([]));
    clusters.ok(&["cluster", "stop", "demo"]);
    let config = clusters.dir("demo").join("node.json");
    let port = serde_json::from_slice::<Value>(&fs::read(&config).unwrap()).unwrap()["port"]
        .as_u64()
        .unwrap();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
    let started = clusters.json(&["cluster", "start", "demo"]);
    assert!(
        started["notes"][0]
            .as_str()
            .unwrap()
            .contains(&format!("port {port} is taken")),
        "{started}"
    );
    let kubeconfig = fs::read_to_string(clusters.dir("demo").join("kubeconfig")).unwrap();
    assert!(!kubeconfig.contains(&format!(":{port}\"")));
    clusters.ok(&["cluster", "snapshot", "demo"]);
}

#[test]
fn a_directory_of_another_version_is_refused_in_words() {
    let Some(clusters) = Clusters::new("state-version") else {
        return;
    };
    clusters.ok(&["cluster", "create", "demo"]);
    clusters.ok(&["cluster", "stop", "demo"]);
    let config = clusters.dir("demo").join("node.json");
    let good = fs::read_to_string(&config).unwrap();
    for (text, said) in [
        (
            good.replace("\"version\": 1", "\"version\": 9"),
            "a newer version of ztlab (format 9",
        ),
        (good.replace("\"version\": 1,", ""), "an older version of ztlab"),
        (good[..good.len() / 2].to_owned(), "node.json is damaged"),
        (good.replace("10.244.0.0/16", "10.244.0.0/31"), "node.json is damaged"),
    ] {
        fs::write(&config, text).unwrap();
        let error = clusters.fails(&["cluster", "start", "demo"]);
        assert!(
            error.contains(said) && error.contains("ztlab cluster delete demo"),
            "{error}"
        );
        assert_eq!(clusters.json(&["cluster", "list"])[0]["state"], "unusable");
    }
    clusters.ok(&["cluster", "delete", "demo"]);
}

#[test]
fn many_clusters_have_ranges_of_their_own_and_are_reset_alone() {
    const MANY: usize = 12;
    if !kubectl() {
        return;
    }
    let Some(clusters) = Clusters::new("state-many") else {
        return;
    };
    let names: Vec<String> = (0..MANY).map(|n| format!("seat-{n}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let clusters = &clusters;
            scope.spawn(move || clusters.ok(&["cluster", "create", name]));
        }
    });
    let list = clusters.json(&["cluster", "list"]);
    let column = |of: &dyn Fn(&Value) -> Value| -> BTreeSet<String> {
        list.as_array().unwrap().iter().map(|one| of(one).to_string()).collect()
    };
    for distinct in [
        column(&|one| one["name"].clone()),
        column(&|one| one["server"].clone()),
        column(&|one| one["pid"].clone()),
        column(&|one| one["ranges"]["pods"].clone()),
        column(&|one| one["ranges"]["services"].clone()),
    ] {
        assert_eq!(distinct.len(), MANY, "{distinct:?}");
    }
    for one in list.as_array().unwrap() {
        let name = one["name"].as_str().unwrap();
        let api = clusters.get(name, &["service", "kubernetes"])["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .to_owned();
        let range = one["ranges"]["services"].as_str().unwrap();
        assert_eq!(format!("{api}/16"), range.replace(".0/16", ".1/16"), "{name}");
    }
    // One is put back; another keeps what was done to it.
    for name in ["seat-3", "seat-4"] {
        clusters.ok(&["cluster", "snapshot", name]);
        clusters.kubectl(name, &["create", "configmap", "mine"]);
    }
    clusters.ok(&["cluster", "restore", "seat-3"]);
    assert!(
        !clusters
            .try_kubectl("seat-3", &["get", "configmap", "mine"])
            .status
            .success()
    );
    clusters.get("seat-4", &["configmap", "mine"]);
}

/// A sequence of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_behind_and_the_next_start_works() {
    const KILLS: usize = 100;
    /// A slow machine does fewer.
    const LONGEST: Duration = Duration::from_secs(150);
    if !kubectl() {
        return;
    }
    let Some(clusters) = Clusters::new("state-kills") else {
        return;
    };
    let mut numbers = Numbers(0x5eed_0000_0000_0001);
    let start = Instant::now();
    let mut done = 0;
    for round in 0..KILLS {
        if start.elapsed() > LONGEST && round >= 20 {
            break;
        }
        let words: &[&str] = match round % 4 {
            0 => &["cluster", "create", "demo"],
            1 => &["apply"],
            2 => &["cluster", "restore", "demo"],
            _ => &["cluster", "delete", "demo"],
        };
        // Each but a creation begins with a cluster that runs and has a snapshot.
        if round % 4 != 0 {
            clusters.ok(&["cluster", "snapshot", "demo"]);
        }
        let pause = Duration::from_millis(2 + numbers.next(300));
        let mut command = if words == ["apply"] {
            let file = clusters.home.path().join("kills.yaml");
            fs::write(&file, WEB).unwrap();
            let mut command = clusters.home.command("kubectl");
            command.env("KUBECONFIG", clusters.dir("demo").join("kubeconfig"));
            command.args(["apply", "-f"]).arg(file);
            command
        } else {
            let mut command = clusters.home.command(clusters.home.binary());
            command.args(words);
            command
        };
        let mut front = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(pause);
        // Every process of this home: the front end and the node, in whatever state they are.
        for pid in clusters.home.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = front.wait();
        // A node that the front end had just begun to start shows as nobody's for a moment, between its clone and its exec: what the
        // cluster's lock says is looked at too.
        clusters.until("no process is left", || {
            let left = clusters.home.processes();
            for pid in left.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            let list = clusters.json(&["cluster", "list"]);
            let settled = |one: &Value| one["state"] == "stopped" || one["state"] == "unusable";
            left.is_empty() && list.as_array().unwrap().iter().all(settled)
        });
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(clusters.home.path().to_str().unwrap()), "{mounts}");
        // Whatever is there is whole: it starts; where nothing is, it is made.
        let list = clusters.json(&["cluster", "list"]);
        let what = format!("round {round}: {words:?} killed after {pause:?}; then {list}");
        match list.as_array().unwrap().as_slice() {
            [] => drop(clusters.ok(&["cluster", "create", "demo"])),
            [one] => {
                assert_eq!(one["state"], "stopped", "{what}");
                let started = clusters.json(&["cluster", "start", "demo"]);
                assert_eq!(started["notes"], serde_json::json!([]), "{what}");
            }
            _ => panic!("{what}"),
        }
        clusters.kubectl("demo", &["get", "namespaces,pods,services"]);
        if round % 4 == 3 {
            clusters.ok(&["cluster", "delete", "demo"]);
            let left: Vec<_> = fs::read_dir(clusters.dir(""))
                .unwrap()
                .flatten()
                .map(|e| e.file_name())
                .collect();
            assert!(left.is_empty(), "{what}: {left:?}");
        }
        done = round + 1;
    }
    eprintln!("{done} kills in {:?}", start.elapsed());
}
