//! Every lab that ships is proven by machine: untouched 0, wrong attempts fail what they name, solved full, reset 0. And
//! whoever writes a lab has the tools for it.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, process::Output};

use common::{Home, embedded_works, ordinary_user};
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command printed, once it ended with this status.
fn ended(output: &Output, code: i32) -> String {
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{out}\n{}", text(&output.stderr));
    out
}

fn json(output: &Output, code: i32) -> Value {
    serde_json::from_str(&ended(output, code)).unwrap()
}

/// The whole proof of labs, of all that ship where none is named, through the program as an instructor runs it.
fn verify(home: &Home, labs: &[&str]) {
    let value = json(&home.ztlab(&[&["lab", "verify", "--json"], labs].concat()), 0);
    let proofs = match value.get("proofs") {
        Some(Value::Array(proofs)) => proofs.clone(),
        _ => vec![value],
    };
    assert!(proofs.iter().any(|proof| proof["lab"] == "wiretap"));
    for proof in proofs {
        let lines = proof["lines"].as_array().unwrap();
        assert!(
            lines.len() > 10 && lines.iter().all(|line| line["ok"] == true),
            "{proof}"
        );
        // Its steps `token` and `login` need each other not: both orders were taken.
        if proof["lab"] == "wiretap" {
            let other = lines
                .iter()
                .any(|line| line["what"] == "solved as listen, login, token, replay, gaps");
            assert!(other, "{proof}");
        }
        for timing in proof["timings"].as_array().unwrap() {
            assert!(timing["times"].as_u64() > Some(0), "{timing}");
        }
    }
}

/// Held by whoever proves labs: on a busy machine a proof finds no answer where there would be one.
static PROVING: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn every_lab_that_ships_is_proven() {
    let _one_at_a_time = PROVING.lock();
    if embedded_works() {
        verify(&Home::new("verify"), &[]);
    }
}

#[test]
fn a_proof_that_a_signal_ends_leaves_nothing() {
    use std::{
        io::{BufRead, BufReader},
        process::Stdio,
    };
    let _one_at_a_time = PROVING.lock();
    if !embedded_works() {
        return;
    }
    let home = Home::new("verify-ended");
    // While the cluster is being made, and once it is there.
    for (signal, told, code) in [("INT", "written", 130), ("TERM", "untouched", 143)] {
        let mut proof = home
            .command(home.binary())
            .args(["lab", "verify", "wiretap"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(proof.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(told)), "{told}");
        let pid = proof.id().to_string();
        let sent = std::process::Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        assert_eq!(proof.wait().unwrap().code(), Some(code), "{rest:?}");
        assert_eq!(home.processes(), [0_i32; 0], "{rest:?}");
        let state = home.path().join("state/ztlab");
        let left = |dir: &std::path::Path| fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name());
        assert_eq!(left(&state.join("clusters")).count(), 0, "{rest:?}");
        let proofs = left(&state).filter(|name| name.to_string_lossy().starts_with("verify-"));
        assert_eq!(proofs.count(), 0, "{rest:?}");
    }
}

#[test]
fn labs_are_proven_for_an_ordinary_user() {
    let _one_at_a_time = PROVING.lock();
    if embedded_works()
        && let Some(user) = ordinary_user()
    {
        // One that captures, and one that makes certificates: what differs for a user is the cluster, not the labs.
        verify(&Home::for_user("verify-user", user), &["wiretap", "manual-mtls"]);
    }
}

#[test]
fn a_new_lab_is_right_and_proven_as_it_is() {
    let home = Home::new("new-lab");
    let made = home.ztlab(&[
        "lab",
        "new",
        "fresh",
        "--title",
        "A \"fresh\" lab: with quotes",
        "--level",
        "1",
    ]);
    ended(&made, 0);
    let linted = json(&home.ztlab(&["lab", "lint", "labs/fresh", "--json"]), 0);
    assert_eq!(
        (&linted["errors"], &linted["warnings"]),
        (&Value::from(0), &Value::from(0))
    );
    // Nothing is overwritten.
    ended(&home.ztlab(&["lab", "new", "fresh"]), 2);
    if embedded_works() {
        let proof = json(&home.ztlab(&["lab", "verify", "fresh", "--json"]), 0);
        assert_eq!(proof["ok"], true);
    }
}

#[test]
fn lint_tells_everything_at_once_and_where() {
    let home = Home::new("lint");
    ended(&home.ztlab(&["lab", "new", "broken"]), 0);
    let path = home.path().join("labs/broken/lab.yaml");
    let good = fs::read_to_string(&path).unwrap();
    let bad = good
        .replacen("difficulty: beginner", "dificulty: beginner", 1)
        .replacen("in: visitor", "in: vistor", 1)
        .replacen("points: 40", "points: forty", 1);
    fs::write(&path, &bad).unwrap();
    let linted = home.ztlab(&["lab", "lint", "labs"]);
    let told = ended(&linted, 1);
    for words in [
        "labs/broken/lab.yaml:",
        "unknown field `dificulty`",
        "hint: did you mean `difficulty`?",
        "no workload in the topology called `vistor`",
        "found `forty`",
        "expected: a whole number, 0 to 100",
        "^^^^^",
        "3 errors, 0 warnings",
    ] {
        assert!(told.contains(words), "`{words}` is not in\n{told}");
    }
    let value = json(&home.ztlab(&["lab", "lint", "labs/broken", "--json"]), 1);
    let problem = &value["files"][0]["problems"][0];
    for field in [
        "severity", "rule", "line", "column", "width", "message", "expected", "hint", "source",
    ] {
        assert!(problem.get(field).is_some(), "{field} is not in {problem}");
    }
    // YAML that is none.
    fs::write(&path, format!("{good}  steps: [\n")).unwrap();
    assert!(ended(&home.ztlab(&["lab", "lint", "labs/broken/lab.yaml"]), 1).contains('^'));
    // A hundred megabytes are not read to find that they are too many.
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    assert!(ended(&home.ztlab(&["lab", "lint", "labs/broken"]), 1).contains("larger than"));
    ended(&home.ztlab(&["lab", "lint", "nowhere"]), 2);
    // What ships has no mistakes, and no warnings.
    let elsewhere = home
        .command(home.binary())
        .args(["lab", "lint", "--json"])
        .current_dir("/")
        .output()
        .unwrap();
    let shipped = json(&elsewhere, 0);
    assert_eq!(shipped["warnings"], 0, "{shipped}");
}

#[test]
fn the_schema_is_one_that_editors_read() {
    let home = Home::new("schema");
    let schema = json(&home.ztlab(&["lab", "schema"]), 0);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    let findings = &schema["$defs"]["When"]["properties"]["found"]["enum"];
    assert!(
        findings.as_array().unwrap().contains(&"no-traffic".into()),
        "{findings}"
    );
}

#[test]
fn labs_of_a_named_directory_are_taken_only_when_it_is_trusted() {
    let home = Home::new("trust");
    ended(&home.ztlab(&["lab", "new", "theirs", "--dir", "their-labs"]), 0);
    let ids = |output: &Output| -> Vec<String> {
        let labs = json(output, 0);
        labs.as_array()
            .unwrap()
            .iter()
            .map(|lab| lab["id"].as_str().unwrap().to_owned())
            .collect()
    };
    // Nobody can be asked: an error that says what to do.
    for args in [
        &["lab", "list", "--labs", "their-labs"][..],
        &["lab", "start", "theirs", "--labs", "their-labs"],
        &["lab", "verify", "--labs", "their-labs"],
        &["lab", "trust", "their-labs"],
    ] {
        let refused = home.ztlab(args);
        ended(&refused, 2);
        let told = text(&refused.stderr);
        assert!(told.contains("ztlab lab trust their-labs"), "{args:?}: {told}");
    }
    assert!(!home.path().join("state/ztlab/trusted-labs.json").exists());
    let trusted = home.ztlab(&["lab", "trust", "their-labs", "--yes"]);
    ended(&trusted, 0);
    let told = text(&trusted.stderr);
    for words in [
        "theirs",
        "apply manifests into the lab's cluster",
        "cannot run anything on this machine",
    ] {
        assert!(told.contains(words), "{told}");
    }
    assert!(ids(&home.ztlab(&["lab", "list", "--labs", "their-labs", "--json"])).contains(&"theirs".to_owned()));
    // Trusted once, its labs are there beside the others.
    assert!(ids(&home.ztlab(&["lab", "list", "--json"])).contains(&"theirs".to_owned()));
    // Something else in its place is asked about again, and is not taken meanwhile.
    let path = home.path().join("their-labs/theirs/visitor.yaml");
    let changed = fs::read_to_string(&path).unwrap() + "---\n";
    fs::write(&path, changed).unwrap();
    let refused = home.ztlab(&["lab", "list", "--labs", "their-labs"]);
    ended(&refused, 2);
    assert!(text(&refused.stderr).contains("have changed since you trusted them"));
    assert!(!ids(&home.ztlab(&["lab", "list", "--json"])).contains(&"theirs".to_owned()));
    let listed = json(&home.ztlab(&["lab", "trust", "--list", "--json"]), 0);
    assert_eq!(listed[0]["state"], "changed");
    ended(&home.ztlab(&["lab", "trust", "--remove", "their-labs"]), 0);
    ended(&home.ztlab(&["lab", "trust", "--remove", "their-labs"]), 2);
}

#[test]
fn a_lab_says_which_program_is_missing_before_it_starts() {
    let home = Home::new("host-tools");
    ended(&home.ztlab(&["lab", "new", "tools"]), 0);
    let path = home.path().join("labs/tools/lab.yaml");
    let text_with = fs::read_to_string(&path).unwrap().replacen(
        "  edges:",
        "  needs: { hostTools: [no-such-program] }\n  edges:",
        1,
    );
    fs::write(&path, text_with).unwrap();
    let refused = home.ztlab(&["lab", "start", "tools"]);
    ended(&refused, 2);
    let told = text(&refused.stderr);
    assert!(told.contains("needs `no-such-program`, not found in PATH"), "{told}");
    assert!(told.contains("hint: install"), "{told}");
}

/// The whole way of an ordinary user with labs in a Git repository: cloned, trusted once, pulled, and taken.
#[test]
fn labs_of_a_checkout_stay_trusted_over_a_pull() {
    let home = match ordinary_user() {
        Some(user) => Home::for_user("checkout", user),
        None => Home::new("checkout"),
    };
    let git = |dir: &str, args: &[&str]| {
        let output = home
            .command("git")
            .args([
                "-c",
                "user.name=author",
                "-c",
                "user.email=author@example.org",
                "-C",
                dir,
            ])
            .args(args)
            .output()
            .unwrap();
        ended(&output, 0)
    };
    ended(&home.ztlab(&["lab", "new", "one", "--dir", "upstream/labs"]), 0);
    git("upstream", &["init", "--quiet"]);
    git("upstream", &["add", "."]);
    git("upstream", &["commit", "--quiet", "-m", "one"]);
    git(".", &["clone", "--quiet", "upstream", "theirs"]);
    ended(&home.ztlab(&["lab", "list", "--labs", "theirs"]), 2);
    let told = ended(&home.ztlab(&["lab", "trust", "theirs", "--yes"]), 0);
    assert!(told.contains("as long as it is a checkout of"), "{told}");
    let remembered = fs::metadata(home.path().join("state/ztlab/trusted-labs.json")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&remembered) & 0o777, 0o600);
    // More labs come with a pull, and nobody is asked again.
    ended(&home.ztlab(&["lab", "new", "two", "--dir", "upstream/labs"]), 0);
    git("upstream", &["add", "."]);
    git("upstream", &["commit", "--quiet", "-m", "two"]);
    git("theirs", &["pull", "--quiet"]);
    let listed = json(&home.ztlab(&["lab", "list", "--labs", "theirs", "--json"]), 0);
    let sources = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|lab| lab["source"].as_str().unwrap());
    assert_eq!(
        sources.filter(|source| source.contains("/theirs/labs/")).count(),
        2,
        "{listed}"
    );
    // A checkout of something else in the same place is.
    git(
        "theirs",
        &["remote", "set-url", "origin", "https://example.org/other.git"],
    );
    let refused = home.ztlab(&["lab", "list", "--labs", "theirs"]);
    ended(&refused, 2);
    assert!(text(&refused.stderr).contains("have changed since you trusted them"));
    git(
        "theirs",
        &[
            "remote",
            "set-url",
            "origin",
            home.path().join("upstream").to_str().unwrap(),
        ],
    );
    if embedded_works() {
        let proof = json(&home.ztlab(&["lab", "verify", "two", "--labs", "theirs", "--json"]), 0);
        assert_eq!((&proof["lab"], &proof["ok"]), (&Value::from("two"), &Value::from(true)));
    }
}

/// A solution cannot apply what is in `work/`, so it has copies: they must be the files that the student has.
#[test]
fn what_a_solution_applies_is_what_the_student_is_given() {
    let labs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("labs");
    let mut compared = 0;
    for lab in fs::read_dir(labs).unwrap() {
        let lab = lab.unwrap().path();
        let Ok(given) = fs::read_dir(lab.join("work")) else {
            continue;
        };
        for file in given {
            let file = file.unwrap();
            if let Ok(copy) = fs::read_to_string(lab.join("solution").join(file.file_name())) {
                assert_eq!(
                    copy,
                    fs::read_to_string(file.path()).unwrap(),
                    "{}",
                    file.path().display()
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 7, "only {compared} files were compared");
}
