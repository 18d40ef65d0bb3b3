//! The report of a real run: a lab begun, a step passed, the lab stopped.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::Home;
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn good(home: &Home, args: &[&str]) -> String {
    let output = home.ztlab(args);
    let ok = output.status.success();
    assert!(ok, "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_run_is_written_down_while_it_goes_on_and_after() {
    let home = Home::new("report");
    let begun = home.ztlab(&["lab", "start", "wiretap"]);
    if !begun.status.success() {
        let said = text(&begun.stderr);
        assert!(std::env::var_os("CI").is_none(), "{said}");
        eprintln!("SKIPPED: {said}");
        return;
    }
    // The posture at the start is measured in the background, and not before the lab is there.
    let start = home.path().join("state/ztlab/sessions/wiretap/posture-start.json");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !start.is_file() {
        assert!(
            std::time::Instant::now() < end,
            "the posture at the start was not measured"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // Solving passes a step of several: the exit status tells of the lab.
    home.ztlab(&["lab", "solve", "listen"]);

    let running: Value = serde_json::from_str(&good(&home, &["report", "--json"])).unwrap();
    assert_eq!(running["progress"]["lab"]["id"], "wiretap", "{running:#}");
    assert_eq!(running["before"]["level"]["level"], 0, "{running:#}");
    assert_eq!(running["after"]["level"]["level"], 0);
    let steps = running["progress"]["steps"].as_array().unwrap();
    let listen = steps.iter().find(|step| step["id"] == "listen").unwrap();
    assert_eq!(
        (listen["state"].as_str(), listen["solved"].as_bool()),
        (Some("passed"), Some(true)),
        "{listen:#}"
    );
    let evidence = listen["checks"][0]["evidence"].as_array().unwrap();
    assert!(!evidence.is_empty(), "{listen:#}");

    let page = home.path().join("report.html");
    good(&home, &["report", "--format", "html", "-o", page.to_str().unwrap()]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.starts_with("<!doctype html>") && page.matches("<svg").count() == 2,
        "before and after are drawn"
    );
    let junit = good(&home, &["report", "--format", "junit"]);
    assert!(
        junit.starts_with("<?xml") && junit.contains("failures=") && junit.contains("wiretap.listen"),
        "{junit}"
    );

    let secrets = [
        "4111111111111111",
        "4111 1111 1111 1111",
        "tok_demo_7f3kq9x2m5",
        "ledger-demo-password",
    ];
    for shown in [page, junit, running.to_string()] {
        assert!(
            secrets.iter().all(|secret| !shown.contains(secret)),
            "a secret is in the report"
        );
    }

    good(&home, &["lab", "stop", "--delete"]);
    let stopped = good(&home, &["report", "wiretap"]);
    assert!(
        stopped.starts_with("# Report: Inspecting service communication\n"),
        "{stopped}"
    );
    assert!(
        stopped.contains("the last one that was measured") && stopped.contains("### After"),
        "{stopped}"
    );
    let handed_in = home.path().join("handed-in.json");
    good(&home, &["lab", "export", "wiretap", "-o", handed_in.to_str().unwrap()]);
    let report = good(&home, &["report", "--progress", handed_in.to_str().unwrap()]);
    assert!(
        report.contains("Inspecting service communication") && report.contains("not measured"),
        "{report}"
    );

    let none = home.ztlab(&["report"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(
        text(&none.stderr).contains("no lab is running"),
        "{}",
        text(&none.stderr)
    );
    assert_eq!(home.ztlab(&["report", "no-such-lab"]).status.code(), Some(2));
}
