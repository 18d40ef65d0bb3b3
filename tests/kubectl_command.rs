//! `ztlab kubectl …`: the machine's kubectl, and the built-in one where there is none.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::Write,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Output, Stdio},
};

use common::{Home, embedded_works, lacks, ordinary_user};

const NOTE: &str = "note: there is no kubectl in PATH; this is ztlab's built-in one";

const OBJECTS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: map}
data: {a: '1'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: tools, image: 'ztlab.dev/toolbox:1', command: [sh, -c, 'echo first; echo second; sleep 1000']}
      - {name: hello, image: 'nginxdemos/hello:0.4'}
";

/// A cluster, and a directory of programs with kubectl and one without.
struct Bench {
    home: Home,
}

impl Bench {
    fn start(name: &str) -> Option<Self> {
        if !embedded_works() {
            return None;
        }
        let home = match ordinary_user() {
            Some(user) => Home::for_user(name, user),
            None => Home::new(name),
        };
        let made = home.ztlab(&["cluster", "create", "one"]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        std::fs::create_dir(home.path().join("none")).unwrap();
        Some(Self { home })
    }

    fn run(&self, path: Option<PathBuf>, line: &[&str], input: &str) -> Output {
        let mut command = self.home.command(self.home.binary());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        command
            .arg("kubectl")
            .args(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads nothing may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn built_in(&self, line: &str, input: &str) -> Output {
        let words: Vec<&str> = line.split(' ').collect();
        let output = self.run(Some(self.home.path().join("none")), &words, input);
        assert!(text(&output.stderr).starts_with(NOTE), "{}", text(&output.stderr));
        output
    }

    #[track_caller]
    fn shows(&self, line: &str, input: &str) -> String {
        let output = self.built_in(line, input);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What it says of a command that must fail.
    #[track_caller]
    fn refuses(&self, line: &str) -> String {
        let output = self.built_in(line, "");
        assert_eq!(output.status.code(), Some(1), "{line}: {}", text(&output.stdout));
        text(&output.stderr)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.home.ztlab(&["cluster", "delete", "one"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_machines_kubectl_is_run_as_it_is() {
    let Some(bench) = Bench::start("kubectl-machine") else {
        return;
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| dir.join("kubectl").is_file()) {
        lacks("kubectl");
        return;
    }
    let output = bench.run(None, &["get", "ns", "default", "-o", "name"], "");
    assert_eq!(text(&output.stdout), "namespace/default\n", "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    let output = bench.run(None, &["--cluster", "one", "apply", "-f", "-"], OBJECTS);
    assert_eq!(
        text(&output.stdout),
        "configmap/map created\ndeployment.apps/web created\n"
    );
    let output = bench.run(
        None,
        &["wait", "--for=condition=Available", "deploy/web", "--timeout=60s"],
        "",
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = bench.run(
        None,
        &["exec", "deploy/web", "-c", "tools", "--", "sh", "-c", "exit 7"],
        "",
    );
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let output = bench.run(None, &["--cluster", "two", "get", "pods"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("no cluster `two`"),
        "{}",
        text(&output.stderr)
    );
}

/// A program of that name that says what it was given: nothing is lost or changed on the way.
#[test]
fn arguments_environment_and_exit_status_are_kept() {
    let Some(bench) = Bench::start("kubectl-echo") else {
        return;
    };
    let dir = bench.home.path().join("echo");
    std::fs::create_dir(&dir).unwrap();
    let script =
        "#!/bin/sh\nfor word in \"$@\"; do echo \"[$word]\"; done\ncat\n[ -f \"$KUBECONFIG\" ] || exit 9\nexit 42\n";
    std::fs::write(dir.join("script"), script).unwrap();
    let mode = std::process::Command::new("chmod")
        .arg("755")
        .arg(dir.join("script"))
        .status();
    assert!(mode.unwrap().success());
    symlink(dir.join("script"), dir.join("kubectl")).unwrap();
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let output = bench.run(
        Some(path.into()),
        &["-n", "a b", "--json", "x", "--", "-y", "--help"],
        "in",
    );
    assert_eq!(
        text(&output.stdout),
        "[-n]\n[a b]\n[--json]\n[x]\n[--]\n[-y]\n[--help]\nin"
    );
    assert_eq!(output.status.code(), Some(42));
}

#[test]
fn without_kubectl_a_built_in_one_does_what_labs_need() {
    let Some(bench) = Bench::start("kubectl-built-in") else {
        return;
    };
    assert_eq!(
        bench.shows("apply -f -", OBJECTS),
        "configmap/map created\ndeployment.apps/web created\n"
    );
    assert_eq!(
        bench.shows("apply -f -", OBJECTS),
        "configmap/map unchanged\ndeployment.apps/web unchanged\n"
    );
    let changed = OBJECTS.replace("a: '1'", "a: '2'");
    assert_eq!(
        bench.shows("apply -f -", &changed),
        "configmap/map configured\ndeployment.apps/web unchanged\n"
    );
    let typo = changed.replace("replicas: 1", "replica: 1");
    let refused = bench.built_in("apply -f -", &typo);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("unknown field"),
        "{}",
        text(&refused.stderr)
    );

    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !bench.shows("get deploy web", "").contains("1/1") {
        assert!(std::time::Instant::now() < end, "{}", bench.shows("get pods", ""));
    }
    assert_eq!(
        bench.shows("get cm/map deploy/web -o name", ""),
        "configmap/map\ndeployment.apps/web\n"
    );
    let map: serde_json::Value = serde_yaml::from_str(&bench.shows("get cm map -o yaml", "")).unwrap();
    assert_eq!((&map["kind"], &map["data"]["a"]), (&"ConfigMap".into(), &"2".into()));
    let map: serde_json::Value = serde_json::from_str(&bench.shows("get cm map -o json", "")).unwrap();
    assert_eq!(
        (map["kind"].as_str(), map["data"]["a"].as_str()),
        (Some("ConfigMap"), Some("2"))
    );
    assert_eq!(map["metadata"]["managedFields"], serde_json::Value::Null);
    assert!(bench.shows("get pods -A -o wide", "").contains("NOMINATED NODE"));
    let all = bench.shows("get all", "");
    assert!(
        all.contains("pod/web-") && all.contains("deployment.apps/web") && all.contains("service/kubernetes"),
        "{all}"
    );
    assert!(
        bench
            .refuses("get pod nobody")
            .contains("Error from server (NotFound): pods \"nobody\" not found")
    );
    assert!(
        bench
            .refuses("get nonsense")
            .contains("error: the server doesn't have a resource type \"nonsense\"")
    );
    assert!(bench.refuses("drain one").contains("unrecognized subcommand 'drain'"));
    assert!(text(&bench.built_in("get jobs", "").stderr).contains("No resources found in default namespace."));
    the_same_as_the_machines(&bench);

    assert_eq!(bench.shows("label cm map tier=back", ""), "configmap/map labeled\n");
    assert!(
        bench
            .refuses("label cm map tier=front")
            .contains("already has a value (back)")
    );
    assert_eq!(
        bench.shows("label cm map tier=front --overwrite", ""),
        "configmap/map labeled\n"
    );
    assert_eq!(bench.shows("get cm -l tier=front -o name", ""), "configmap/map\n");
    assert_eq!(bench.shows("label cm map tier-", ""), "configmap/map unlabeled\n");

    assert_eq!(bench.shows("logs deploy/web -c tools", ""), "first\nsecond\n");
    assert_eq!(bench.shows("logs deploy/web --tail=1", ""), "second\n");
    assert_eq!(
        bench.shows("exec -i deploy/web -- cat", "through and back"),
        "through and back"
    );
    let output = bench.run(
        Some(bench.home.path().join("none")),
        &["exec", "deploy/web", "--", "sh", "-c", "echo out; echo err >&2; exit 3"],
        "",
    );
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(3), "out\n")
    );
    let told = text(&output.stderr);
    assert!(
        told.contains("err\n") && told.ends_with("command terminated with exit code 3\n"),
        "{told}"
    );

    assert_eq!(bench.shows("delete cm map", ""), "configmap \"map\" deleted\n");
    assert!(bench.refuses("delete cm map").contains("NotFound"));
    assert_eq!(bench.shows("delete cm map --ignore-not-found", ""), "");
    assert_eq!(
        bench.shows("delete deploy/web", ""),
        "deployment.apps \"web\" deleted\n"
    );
    assert!(bench.refuses("get deploy web").contains("NotFound"));
}

/// The built-in one's tables are those of the real one, but for ages.
fn the_same_as_the_machines(bench: &Bench) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| dir.join("kubectl").is_file()) {
        return;
    }
    let words = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines().map(|line| {
            let words = line.split_whitespace().map(str::to_owned);
            words
                .filter(|word| !word.ends_with('s') || !word.starts_with(|c: char| c.is_ascii_digit()))
                .collect()
        });
        lines.collect()
    };
    for line in ["get ns", "get svc -A", "get deploy", "get cm,svc", "get deploy -o wide"] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let real = bench.run(None, &arguments, "");
        assert_eq!(words(&bench.shows(line, "")), words(&text(&real.stdout)), "{line}");
    }
}
