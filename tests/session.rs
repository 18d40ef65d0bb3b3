//! A session outlives what happens to its processes: the host killed, the cluster killed, the program replaced on disk.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use common::{Home, embedded_works};
use serde_json::Value;

fn json(home: &Home, args: &[&str]) -> Value {
    let output = home.ztlab(args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        panic!(
            "ztlab {args:?}: {error}\n{}\n{said}",
            String::from_utf8_lossy(&output.stdout)
        )
    })
}

fn ok(home: &Home, args: &[&str]) {
    let output = home.ztlab(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ztlab {args:?}: {said}");
}

/// The points that `lab status` tells, wherever in its answer the session stands.
fn earned(home: &Home) -> u64 {
    let status = json(home, &["lab", "status", "--json"]);
    let session = status.get("session").unwrap_or(&status);
    session["score"]["earned"]
        .as_u64()
        .unwrap_or_else(|| panic!("no score in {status:#}"))
}

/// Processes of this home whose command line holds `stage`.
fn pids(home: &Home, stage: &str) -> Vec<i32> {
    let holds = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == stage.as_bytes()))
    };
    home.processes().into_iter().filter(holds).collect()
}

fn kill(pids: &[i32]) {
    assert!(!pids.is_empty(), "nothing to kill");
    for pid in pids {
        assert!(
            Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status()
                .unwrap()
                .success()
        );
    }
}

#[test]
fn a_killed_host_loses_no_points() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("host-killed");
    ok(&home, &["lab", "start", "wiretap"]);
    ok(&home, &["lab", "solve", "listen"]);
    assert_eq!(earned(&home), 30);
    kill(&pids(&home, "__session-host"));
    assert_eq!(earned(&home), 30);
}

#[test]
fn a_host_that_nobody_can_reach_ends() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("host-unreachable");
    ok(&home, &["lab", "start", "wiretap"]);
    ok(&home, &["lab", "solve", "listen"]);
    fs::remove_dir_all(home.path().join("run")).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !pids(&home, "__session-host").is_empty() {
        assert!(Instant::now() < until, "the host lives on without its socket");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(earned(&home), 30, "the next host knows the points");
}

#[test]
fn a_killed_cluster_is_made_anew_and_takes_no_points_with_it() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("node-killed");
    ok(&home, &["lab", "start", "wiretap"]);
    ok(&home, &["lab", "solve", "listen"]);
    kill(&pids(&home, "__node"));
    ok(&home, &["lab", "start", "wiretap"]);
    assert_eq!(earned(&home), 30);
    ok(&home, &["lab", "solve", "token"]);
    assert_eq!(earned(&home), 50, "the new cluster works");
}

#[test]
fn a_host_older_than_the_program_on_disk_starts_labs() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("program-replaced");
    ok(&home, &["lab", "list"]);
    assert!(home.ztlab(&["lab", "status"]).status.code().is_some());
    ok(&home, &["lab", "start", "wiretap"]);
    ok(&home, &["lab", "stop", "--delete"]);
    let aside = home.path().join("newer");
    assert!(
        Command::new("cp")
            .arg(home.binary())
            .arg(&aside)
            .status()
            .unwrap()
            .success()
    );
    fs::rename(&aside, home.binary()).unwrap();
    ok(&home, &["lab", "start", "wiretap"]);
    assert_eq!(earned(&home), 0);
}

#[test]
fn a_second_start_finds_the_first_and_two_at_once_are_one() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("started-twice");
    let start = || {
        home.command(home.binary())
            .args(["lab", "start", "wiretap"])
            .spawn()
            .unwrap()
    };
    let (mut one, mut other) = (start(), start());
    assert!(one.wait().unwrap().success());
    assert!(other.wait().unwrap().success());
    // The host that came second goes by itself.
    for _ in 0..100 {
        if pids(&home, "__session-host").len() == 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(pids(&home, "__session-host").len(), 1);
    assert_eq!(pids(&home, "__node").len(), 1);
}

#[test]
fn a_capture_that_is_told_to_end_finishes_its_file_and_leaves_none_running() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("capture-ends");
    ok(&home, &["lab", "start", "wiretap"]);
    for signal in ["-TERM", "-HUP", "-INT"] {
        let file = home.path().join(format!("capture{signal}.pcapng"));
        let path = file.to_str().unwrap();
        let capture = home
            .command(home.binary())
            .args(["capture", "--pod", "ledger", "--follow", "-w", path])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        // Probes of the posture at the start come first, and are no payment.
        let paid = b"INSERT INTO payments".as_slice();
        let written = || fs::read(&file).unwrap_or_default();
        while !written().windows(paid.len()).any(|bytes| bytes == paid) {
            assert!(Instant::now() < until, "no payment is captured");
            std::thread::sleep(Duration::from_millis(50));
        }
        let sent = Command::new("kill").args([signal, &capture.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let said = capture.wait_with_output().unwrap();
        assert!(said.status.success(), "{signal}: {}", said.status);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(!said.contains("running already"), "{signal}: {said}");
        // The names stand at the end of the file.
        let shown = home.ztlab(&["packets", path]);
        assert!(
            shown.status.success(),
            "{signal}: {}",
            String::from_utf8_lossy(&shown.stderr)
        );
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("payments-api → ledger postgres"), "{signal}: {shown}");
    }
}

/// A lab of the student's own directory: blocked by a policy that the student writes.
const MINE: &str = "apiVersion: ztlab.dev/v1
kind: Lab
metadata: { name: mine, title: Mine, level: 0, minutes: 5, difficulty: beginner }
spec:
  objectives: [Close a door]
  namespace: shop
  topology: [flat]
  steps:
    - id: block
      title: Block mallory
      points: 100
      instructions: Write a policy.
      checks:
        - name: mallory cannot reach the ledger
          tcp: { from: mallory, to: ledger, port: 5432, expect: blocked, control: payments-api }
          why: It has no business there.
";

const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ledger, namespace: shop }
spec:
  podSelector: { matchLabels: { app: ledger } }
  ingress: [ { from: [ { podSelector: { matchLabels: { app: payments-api } } } ] } ]
";

fn write_lab(home: &Home, text: &str) {
    let dir = home.path().join("labs/mine");
    fs::create_dir_all(dir.join("work")).unwrap();
    fs::write(dir.join("lab.yaml"), text).unwrap();
    fs::write(dir.join("work/policy.yaml"), POLICY).unwrap();
}

fn kubectl(home: &Home, args: &[&str]) -> bool {
    home.ztlab(&[&["kubectl"][..], args].concat()).status.success()
}

fn work(home: &Home) -> std::path::PathBuf {
    let status = json(home, &["lab", "status", "--json"]);
    status["session"]["work"].as_str().unwrap().into()
}

#[test]
fn a_step_goes_back_to_its_start_with_cluster_and_files() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("step-reset");
    ok(&home, &["lab", "start", "wiretap"]);
    let refused = home.ztlab(&["lab", "reset", "replay"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is locked"));
    ok(&home, &["lab", "solve", "listen"]);
    let made = |name: &str| kubectl(&home, &["create", "configmap", name, "-n", "shop"]);
    let is_there = |name: &str| kubectl(&home, &["get", "configmap", name, "-n", "shop"]);
    assert!(made("after-listen"));
    ok(&home, &["lab", "reset", "token"]);
    assert!(!is_there("after-listen"), "the step was opened before it was made");
    assert_eq!(earned(&home), 30);
    assert!(made("before-replay"));
    let notes = work(&home).join("notes");
    fs::write(&notes, "before").unwrap();
    for step in ["token", "login", "replay"] {
        ok(&home, &["lab", "solve", step]);
    }
    let full = earned(&home);
    assert!(kubectl(&home, &["delete", "configmap", "before-replay", "-n", "shop"]));
    fs::write(&notes, "after").unwrap();
    ok(&home, &["lab", "reset", "replay"]);
    assert!(is_there("before-replay"));
    assert_eq!(fs::read_to_string(&notes).unwrap(), "before");
    assert_eq!(
        fs::read_to_string(work(&home).join(".ztlab-before-reset/1/notes")).unwrap(),
        "after"
    );
    assert!(earned(&home) < full && earned(&home) >= 30);
    ok(&home, &["lab", "solve", "replay"]);
    assert_eq!(earned(&home), full, "it can be worked on again");
    // The cluster's snapshots are those of steps that can still be gone back to.
    ok(&home, &["lab", "reset"]);
    assert_eq!(
        (earned(&home), is_there("before-replay"), notes.exists()),
        (0, false, false)
    );
}

#[test]
fn a_policy_is_noticed_without_asking_and_the_lab_brings_its_file() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("noticed");
    write_lab(&home, MINE);
    ok(&home, &["lab", "start", "mine"]);
    let policy = work(&home).join("policy.yaml");
    assert!(kubectl(&home, &["apply", "-f", policy.to_str().unwrap()]));
    let until = Instant::now() + Duration::from_secs(60);
    while earned(&home) != 100 {
        assert!(
            Instant::now() < until,
            "{:#}",
            json(&home, &["lab", "status", "--json"])
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // The shell opens where the files are, and reaches the cluster.
    let mut shell = home.command(home.binary());
    shell
        .env("SHELL", "/bin/sh")
        .arg("shell")
        .stdin(std::process::Stdio::piped());
    let mut shell = shell.stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), b"pwd; ls; echo $KUBECONFIG\n").unwrap();
    let said = String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].ends_with("sessions/mine/work") && lines[1] == "policy.yaml" && lines[2].ends_with("kubeconfig"),
        "{said}"
    );
}

#[test]
fn labs_and_students_do_not_mix() {
    if !embedded_works() {
        return;
    }
    let (home, other) = (Home::new("mix-one"), Home::new("mix-two"));
    write_lab(&home, MINE);
    ok(&home, &["lab", "start", "wiretap"]);
    ok(&other, &["lab", "start", "wiretap"]);
    ok(&home, &["lab", "solve", "listen"]);
    assert_eq!((earned(&home), earned(&other)), (30, 0));
    let said = |args: &[&str]| String::from_utf8(home.ztlab(args).stderr).unwrap();
    assert!(said(&["lab", "start", "nosuch"]).contains("there is no lab `nosuch`"));
    assert!(said(&["lab", "start", "mine"]).contains("the lab `wiretap` is running"));
    let first = work(&home);
    fs::write(first.join("mine.txt"), "x").unwrap();
    ok(&home, &["lab", "stop"]);
    ok(&home, &["lab", "start", "mine"]);
    assert_eq!(earned(&home), 0);
    assert_ne!(work(&home), first);
    ok(&home, &["lab", "stop", "--delete"]);
    ok(&home, &["lab", "start", "wiretap"]);
    assert_eq!(earned(&home), 30);
    assert!(first.join("mine.txt").exists());
    // A lab whose file is gone goes on as it was.
    ok(&home, &["lab", "stop"]);
    fs::remove_dir_all(home.path().join("labs")).unwrap();
    ok(&home, &["lab", "start", "mine"]);
    let status = json(&home, &["lab", "status", "--json"]);
    assert_eq!(status["session"]["lab_changed"], true);
}

#[test]
fn a_rest_frees_the_memory_and_loses_nothing() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("rest");
    ok(&home, &["lab", "start", "wiretap"]);
    ok(&home, &["lab", "solve", "listen"]);
    assert!(kubectl(&home, &["create", "configmap", "mine", "-n", "shop"]));
    ok(&home, &["lab", "pause"]);
    assert!(pids(&home, "__node").is_empty());
    assert_eq!(earned(&home), 30);
    let refused = home.ztlab(&["lab", "check"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the lab is paused"));
    kill(&pids(&home, "__session-host"));
    assert_eq!(json(&home, &["lab", "status", "--json"])["session"]["phase"], "paused");
    assert!(pids(&home, "__node").is_empty(), "looking wakes nothing");
    ok(&home, &["lab", "resume"]);
    assert!(kubectl(&home, &["get", "configmap", "mine", "-n", "shop"]));
    ok(&home, &["lab", "solve", "token"]);
    assert_eq!(earned(&home), 50);
}

#[test]
fn progress_is_exported_without_the_secrets() {
    use std::os::unix::fs::MetadataExt;
    if !embedded_works() {
        return;
    }
    let home = Home::new("export");
    let said = |args: &[&str]| String::from_utf8(home.ztlab(args).stderr).unwrap();
    assert!(said(&["lab", "export"]).contains("no lab is running"));
    assert!(said(&["lab", "export", "wiretap"]).contains("no progress"));
    ok(&home, &["lab", "start", "wiretap"]);
    ok(&home, &["lab", "solve", "listen"]);
    let status = json(&home, &["lab", "status", "--json"]);
    let card = status["session"]["steps"][0]["checks"][1]["question"]["answer"]
        .as_str()
        .unwrap()
        .to_owned();
    ok(&home, &["lab", "stop"]);
    let file = home.path().join("mine.json");
    ok(&home, &["lab", "export", "wiretap", "-o", file.to_str().unwrap()]);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(card.len() > 8 && !text.contains(&card), "{card}");
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&told["score"]["earned"], &told["steps"][0]["solved"]),
        (&30.into(), &true.into())
    );
    let events: Vec<&str> = told["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["event"].as_str())
        .collect();
    assert_eq!(
        (events[0], *events.last().unwrap()),
        ("deployed", "stopping"),
        "{events:?}"
    );
}

/// What a capture of TLS 1.3 cannot show is shown as what it is: known from a handshake of ztlab's own, and not read.
#[test]
fn identities_beside_a_capture_are_marked_and_so_are_ztlabs_own_probes() {
    if !embedded_works() {
        return;
    }
    let home = Home::new("captured-identities");
    ok(&home, &["lab", "start", "spiffe-mtls"]);
    ok(&home, &["lab", "solve", "svids"]);
    let before = earned(&home);
    let capture = home
        .command(home.binary())
        .args(["capture", "--pod", "payments-api", "--follow"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let id = "spiffe://ztlab.example/ns/shop/sa/payments-api";
    let until = Instant::now() + Duration::from_secs(90);
    let messages = loop {
        let session = json(&home, &["lab", "status", "--json"])["session"].clone();
        let messages = session["traffic"]["messages"].as_array().unwrap().clone();
        let named = |message: &Value| {
            let held = message["identities"].as_array();
            held.is_some_and(|held| held.iter().any(|held| held["spiffe_id"] == id))
        };
        if messages.iter().any(named) && messages.iter().any(|message| message["probe"] == true) {
            break messages;
        }
        assert!(Instant::now() < until, "{messages:#?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    for message in &messages {
        for held in message["identities"].as_array().into_iter().flatten() {
            assert_eq!(
                (&held["source"], &held["on_the_wire"], &message["protocol"]),
                (&"probe".into(), &false.into(), &"tls".into())
            );
            assert_eq!(message["probe"], false, "{message:#}");
            // Each end has its own, by its workload, and the capture itself holds nothing of it.
            let workload = message[held["end"].as_str().unwrap()].as_str().unwrap();
            let own = format!("spiffe://ztlab.example/ns/shop/sa/{workload}");
            assert_eq!(held["spiffe_id"], own, "{message:#}");
            assert!(!message["text"].as_str().unwrap().contains("spiffe://"), "{message:#}");
            assert!(held["at_ms"].as_u64().unwrap() > 0);
        }
    }
    let sent = Command::new("kill").args(["-INT", &capture.id().to_string()]).status();
    assert!(sent.unwrap().success());
    let said = capture.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("[ztlab's probe] "), "{said}");
    // What ztlab asked is nothing that the student did.
    assert_eq!(earned(&home), before);
}
