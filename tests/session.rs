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
        while fs::metadata(&file).map_or(0, |file| file.len()) < 4096 {
            assert!(Instant::now() < until, "nothing is captured");
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
