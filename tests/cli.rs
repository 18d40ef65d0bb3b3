//! The program as a user and a script meet it: what it prints where, and the status it ends with.

#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    process::{Command, Output, Stdio},
};

/// A home of its own, so that no test meets another's session or the developer's.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ztlab"));
        command
            .args(args)
            .env("HOME", self.0.path())
            .env("XDG_STATE_HOME", self.0.path().join("state"))
            .env("XDG_RUNTIME_DIR", self.0.path().join("run"))
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_goes_to_standard_output_and_is_no_error() {
    let home = Home::new();
    for args in [
        &["--help"][..],
        &["lab", "--help"],
        &["lab", "start", "--help"],
        &["capture", "-h"],
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(stdout(&output).contains("Usage:"), "{args:?}");
    }
    assert!(stdout(&home.run(&["--help"])).contains("ztlab lab start wiretap"));
}

#[test]
fn internal_stages_are_not_in_the_help() {
    let help = stdout(&Home::new().run(&["--help"]));
    assert!(!help.contains("__"), "{help}");
}

#[test]
fn what_cannot_be_understood_is_status_2() {
    let home = Home::new();
    for args in [
        &["nonsense"][..],
        &["lab"],
        &["lab", "start"],
        &["capture", "--pod", "x", "--for", "soon"],
        &["capture"],
        &["capture", "--between", "x"],
        &["capture", "--pod", "x", "--all"],
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn without_a_terminal_the_headless_commands_are_named() {
    let output = Home::new().run(&[]);
    assert_eq!(output.status.code(), Some(2));
    let err = stderr(&output);
    assert!(
        err.starts_with("error: the terminal interface needs a terminal"),
        "{err}"
    );
    assert!(err.contains("hint: ") && err.contains("ztlab lab start"), "{err}");
}

#[test]
fn images_are_listed_as_text_and_as_json() {
    let home = Home::new();
    let output = home.run(&["images"]);
    assert_eq!(output.status.code(), Some(0));
    let images: serde_json::Value = serde_json::from_str(&stdout(&home.run(&["images", "--json"]))).unwrap();
    let images = images.as_array().unwrap();
    assert!(!images.is_empty());
    for image in images {
        let name = image["name"].as_str().unwrap();
        assert!(stdout(&output).contains(name), "{name}");
        assert!(!image["images"].as_array().unwrap().is_empty(), "{name}");
        assert!(!image["supports"].as_array().unwrap().is_empty(), "{name}");
    }
}

#[test]
fn topologies_are_printed_as_they_are_applied() {
    let home = Home::new();
    let listed = stdout(&home.run(&["manifests"]));
    for layer in ["flat", "microsegmented", "mtls", "spiffe"] {
        assert!(listed.contains(layer), "{listed}");
    }
    let plain = stdout(&home.run(&["manifests", "mtls"]));
    assert!(
        plain.contains("kind: Deployment") && !plain.contains("PRIVATE KEY"),
        "{plain}"
    );
    let made = stdout(&home.run(&["manifests", "mtls", "--certificates"]));
    assert_eq!(
        made.matches("BEGIN PRIVATE KEY").count(),
        4,
        "one for each service and none of the authority"
    );
    let (secrets, rest) = made.split_once("# manifests/mtls/").unwrap();
    assert!(secrets.contains("\"shop-ca\"") && rest.contains("kind: Deployment"));
    for (args, says) in [
        (&["manifests", "moon"][..], "there is no topology `moon`"),
        (&["manifests", "flat", "--certificates"], "need no certificates"),
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn doctor_tries_and_its_status_is_its_verdict() {
    let home = Home::new();
    let output = home.run(&["doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let runs = found["embedded"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!runs)), "{found:#}");
    let needs = found["needs"].as_array().unwrap();
    let outcome = |need: &str| {
        needs
            .iter()
            .find(|finding| finding["need"] == need)
            .map(|finding| finding["outcome"].as_str().unwrap().to_owned())
            .unwrap()
    };
    if runs {
        assert_eq!(outcome("user-namespace"), "works");
        assert_eq!(outcome("veth"), "works");
        // what holds, and a reason where it could be more
        let limits = &found["limits"];
        let counted = outcome("control-groups") == "works";
        assert_eq!(
            limits["memory"],
            if counted { "container" } else { "process" },
            "{limits}"
        );
        let most = limits["memory"] == "container" && limits["cpu"] == "container";
        assert_eq!(limits["why_not_more"].is_null(), most, "{limits}");
    } else {
        assert!(needs.iter().any(|finding| finding["outcome"] == "missing"));
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "this machine cannot run the cluster: {found:#}"
        );
        eprintln!("doctor says that this machine cannot run the embedded cluster; tests that need it are skipped");
    }
}

#[test]
fn doctor_explains_a_machine_without_user_namespaces() {
    // A user namespace whose own limit of further ones is 0 is such a machine; making one takes unshare(1).
    let home = Home::new();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" doctor";
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            script,
            env!("CARGO_BIN_EXE_ztlab"),
        ])
        .env("HOME", home.0.path())
        .env("XDG_STATE_HOME", home.0.path().join("state"))
        .env("XDG_RUNTIME_DIR", home.0.path().join("run"));
    let Ok(output) = command.output() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "unshare(1) is missing");
        eprintln!("SKIPPED: unshare(1) is missing");
        return;
    };
    let out = stdout(&output);
    if !out.contains("user namespace") {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "no user namespace: {}",
            stderr(&output)
        );
        eprintln!("SKIPPED: no user namespace to try it in: {}", stderr(&output));
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(
        out.contains("✗ missing") && out.contains("user.max_user_namespaces"),
        "{out}"
    );
    assert!(out.contains("· not tried"), "{out}");
}

#[test]
fn without_a_lab_the_commands_of_a_lab_say_so() {
    let home = Home::new();
    for args in [
        &["lab", "check"][..],
        &["lab", "solve"],
        &["lab", "reset"],
        &["lab", "stop"],
        &["lab", "hint", "listen"],
        &["lab", "answer", "listen", "x", "y"],
        &["lab", "status"],
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let err = stderr(&output);
        assert!(
            err.contains("error: no lab is running") && err.contains("hint: "),
            "{args:?}: {err}"
        );
    }
    let output = home.run(&["lab", "status", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let status: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(status["session"], serde_json::Value::Null);
}

#[test]
fn errors_are_json_where_results_are() {
    let output = Home::new().run(&["lab", "check", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let error: serde_json::Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!(error["error"], "no lab is running");
    assert!(error["hint"].as_str().unwrap().contains("ztlab lab start"));
}

#[test]
fn there_are_no_clusters_at_first() {
    let home = Home::new();
    let output = home.run(&["cluster", "list", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).trim(), "[]");
    for args in [
        &["cluster", "kubeconfig", "nope"][..],
        &["cluster", "delete", "nope"],
        &["cluster", "stop", "nope"],
        &["cluster", "start", "nope"],
        &["cluster", "create", "Not A Name"],
        &["capture", "--pod", "x"],
        &["capture", "--between", "x", "y"],
        &["capture", "--all", "--namespace", "x"],
        &["shell"],
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let err = stderr(&output);
        assert!(
            err.starts_with("error: ") && err.contains("\nhint: "),
            "{args:?}: {err}"
        );
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = home.run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(stdout(&output).contains("ztlab"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for args in [&["images"][..], &["completions", "bash"], &["--help"]] {
        let mut child = Home::new()
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {err}");
        assert!(err.is_empty(), "{args:?}: {err}");
    }
}

#[test]
fn nothing_is_coloured_where_no_terminal_is() {
    let home = Home::new();
    for args in [&["images"][..], &["doctor"], &["lab", "--help"], &["nonsense"]] {
        let output = home.run(args);
        assert!(!output.stdout.contains(&0x1b), "{args:?}");
        assert!(!output.stderr.contains(&0x1b), "{args:?}");
    }
}

#[test]
fn names_with_escapes_are_shown_not_obeyed() {
    let output = Home::new().run(&["cluster", "kubeconfig", "\x1b[2Jevil"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!output.stderr.contains(&0x1b), "{}", stderr(&output));
    std::io::stderr().flush().unwrap();
}

/// A capture file of the repository, and one thing to see of it.
fn packets(capture: &str, args: &[&str]) -> Output {
    let file = format!("{}/fuzz/corpus/capture/{capture}.pcap", env!("CARGO_MANIFEST_DIR"));
    Home::new().run(&[&["packets", file.as_str()][..], args].concat())
}

#[test]
fn a_capture_file_is_read_in_every_view() {
    for (capture, args, shows) in [
        (
            "payment",
            &[][..],
            &[
                "POST /charge (30 bytes)",
                "200 OK (11 bytes)",
                "card-number",
                "»4111111111111111«",
            ][..],
        ),
        (
            "payment",
            &["--view", "leaks"],
            &["! bearer-token »not-a-real-token«", "packet 5, bytes "],
        ),
        (
            "payment",
            &["--view", "conversations"],
            &["readable", "http in clear: POST /charge", "2 secrets could be read"],
        ),
        (
            "payment",
            &["--view", "packets", "--hex", "--filter", "tcp.flags.syn == 1"],
            &["40000 → 10.244.0.20:80 TCP SYN 0 bytes", "0000  45 00"],
        ),
        (
            "login",
            &["--filter", "leak == database-login"],
            &["sends the password in clear"],
        ),
        ("login", &["--follow", "1"], &["user = shop", "columns: id | card"]),
        (
            "hello",
            &["--view", "handshakes"],
            &["conversation 1: ", "TLS ClientHello"],
        ),
    ] {
        let output = packets(capture, args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        for shown in shows {
            assert!(
                stdout(&output).contains(shown),
                "{args:?}: {shown} in {}",
                stdout(&output)
            );
        }
    }
    let syn = stdout(&packets(
        "payment",
        &["--view", "packets", "--filter", "tcp.flags.syn == 1"],
    ));
    assert_eq!(syn.lines().count(), 2, "{syn}");
    for view in ["dialogue", "packets", "conversations", "leaks"] {
        let output = packets("payment", &["--json", "--view", view]);
        for line in stdout(&output).lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{view}: {error}: {line}"));
        }
        assert!(!stdout(&output).is_empty(), "{view}");
    }
}

#[test]
fn what_is_no_capture_and_no_filter_is_told() {
    let home = Home::new();
    let path = home.0.path().join("notes.txt");
    std::fs::write(&path, "these are no packets").unwrap();
    let file = path.display().to_string();
    for (args, told) in [
        (&["packets", file.as_str()][..], "not a capture file"),
        (&["packets", "/no/such/file"], "cannot read /no/such/file"),
        (&["packets", file.as_str(), "--filter", "htpp"], "did you mean http?"),
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            stderr(&output).contains(told) && stderr(&output).contains("hint:"),
            "{}",
            stderr(&output)
        );
    }
}
