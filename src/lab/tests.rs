use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::score::Points;

/// The flat topology, and manifests that are a list of workloads.
struct Flat;

fn layer(workloads: &[&str]) -> Layer {
    let ports = |port: u16| BTreeSet::from([port]);
    let services = [
        ("frontend", 80),
        ("orders-api", 80),
        ("payments-api", 80),
        ("ledger", 5432),
    ];
    let services = services.iter().filter(|(name, _)| workloads.contains(name));
    Layer {
        workloads: workloads.iter().map(|name| (*name).to_owned()).collect(),
        services: services
            .map(|(name, port)| ((*name).to_owned(), ports(*port)))
            .collect(),
        policies: false,
    }
}

impl Manifests for Flat {
    fn layer(&self, name: &str) -> Option<Layer> {
        (name == "flat").then(|| layer(&["frontend", "orders-api", "payments-api", "ledger", "mallory"]))
    }

    fn read(&self, _: &str, text: &str) -> Result<Layer, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words == ["broken"] {
            Err("it is broken".to_owned())
        } else {
            Ok(layer(&words))
        }
    }
}

fn read(text: &str) -> Result<Lab, LabError> {
    parse("lab.yaml", text, Surroundings::of(&Flat))
}

fn read_beside(text: &str, files: &[(&str, &str)]) -> Result<Lab, LabError> {
    let files = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    parse(
        "lab.yaml",
        text,
        Surroundings {
            manifests: &Flat,
            files: &files,
        },
    )
}

/// A small lab that is right; the tests break it.
const GOOD: &str = r#"apiVersion: ztlab.dev/v1
kind: Lab
metadata: { name: small, title: A small lab, level: 0, minutes: 5, difficulty: beginner }
spec:
  objectives: [see]
  namespace: shop
  topology: [flat]
  steps:
    - id: one
      title: One
      points: 60
      instructions: Listen.
      checks:
        - name: held
          weight: 1
          why: it matters
          capture: { between: [orders-api, payments-api], holds: { protocol: http, leak: card-number } }
        - name: asked
          weight: 2
          why: it matters
          question: { ask: Which?, answer: { from: capture, leak: card-number } }
      hints:
        - { when: { check: held, found: no-traffic }, text: Look elsewhere. }
        - { cost: 5, text: Look closer. }
      solution:
        - capture: { pod: payments-api, until: { leak: card-number } }
        - answer: { check: asked, from: capture }
      wrong:
        - { do: [ { capture: { pod: mallory, for: 3s } } ], fails: held }
    - id: two
      title: Two
      needs: [one]
      points: 40
      instructions: Replay.
      checks:
        - name: called
          why: it matters
          http: { from: mallory, to: "http://payments-api/charge", method: POST, expect: { status: 200 }, seen: by-student }
        - name: refused
          why: it matters
          tcp: { from: mallory, to: ledger, port: 5432, expect: blocked, control: payments-api }
      solution:
        - exec: { in: mallory, run: [curl, "${leak.bearer-token}", "http://payments-api/charge"] }
"#;

#[test]
fn a_good_lab_is_read() {
    let lab = read(GOOD).unwrap();
    assert_eq!(lab.id.as_str(), "small");
    assert_eq!(lab.points(), Points(100));
    assert_eq!(lab.steps[1].needs, [0]);
    assert!(matches!(lab.steps[0].checks[0].kind, CheckKind::Capture(_)));
    assert!(matches!(lab.steps[1].checks[1].kind, CheckKind::Tcp(_)));
    assert_eq!(lab.steps[0].hints[1].opens, Opens::Asked(Points(5)));
}

/// What each mistake must be told as: the text to replace, by what, where, and what the message must hold.
const MISTAKES: &[(&str, &str, usize, usize, &[&str])] = &[
    (
        "      title: One",
        "      titel: One",
        10,
        7,
        &["unknown field `titel`", "did you mean `title`?"],
    ),
    ("points: 60", "points: many", 11, 15, &["expected: "]),
    ("points: 60", "points: 61", 9, 5, &["sum to 101", "expected: 100"]),
    (
        "      instructions: Listen.\n",
        "",
        27,
        7,
        &["`instructions` is missing"],
    ),
    ("    - id: two", "    - id: one", 30, 11, &["a second step", "line 9"]),
    (
        "needs: [one]",
        "needs: [oen]",
        32,
        15,
        &["no step called `oen`", "did you mean `one`?"],
    ),
    ("needs: [one]", "needs: [two]", 32, 15, &["can never be opened"]),
    (
        "do: [ { capture: { pod: mallory, for: 3s } } ], fails: held",
        "do: [], fails: hold",
        29,
        28,
        &["no check of this step called `hold`", "did you mean `held`?"],
    ),
    (
        "difficulty: beginner",
        "difficulty: easy",
        3,
        80,
        &["`easy`", "`beginner`, `intermediate` or `advanced`"],
    ),
    (
        "protocol: http,",
        "protocol: htpt,",
        17,
        78,
        &["no protocol called `htpt`", "did you mean `http`?"],
    ),
    (
        "leak: card-number } }\n        - name: asked",
        "leak: card } }\n        - name: asked",
        17,
        90,
        &["no kind of leak called `card`"],
    ),
    (
        "in: mallory",
        "in: malory",
        43,
        23,
        &["no workload in the topology called `malory`", "did you mean `mallory`?"],
    ),
    ("topology: [flat]", "topology: [falt]", 7, 14, &["no topology `falt`"]),
    (
        ", control: payments-api",
        "",
        41,
        65,
        &["nothing shows that the callee is alive", "control"],
    ),
    ("${leak.bearer-token}", "${leak.token}", 43, 44, &["stands for nothing"]),
    ("for: 3s", "for: 3h", 29, 51, &["no duration"]),
    ("title: A small lab", "title: \"A \\e[31mred lab\"", 3, 33, &["U+001B"]),
    ("cost: 5, text", "text", 24, 11, &["not clear when this hint opens"]),
    (
        "apiVersion: ztlab.dev/v1",
        "apiVersion: ztlab.dev/v9",
        1,
        13,
        &["expected: `ztlab.dev/v1`"],
    ),
    ("level: 0", "level: 7", 3, 53, &["7 is out of range", "0 to 4"]),
    (
        "      title: One",
        "      title: One\n      title: Eins",
        11,
        7,
        &["twice"],
    ),
];

#[test]
fn every_mistake_is_told_where_it_stands() {
    let mut amiss = Vec::new();
    for (good, bad, line, column, told) in MISTAKES {
        assert!(GOOD.contains(good), "{good}");
        let error = read(&GOOD.replacen(good, bad, 1)).expect_err(bad);
        let text = error.to_string();
        for words in told.iter().filter(|words| !text.contains(**words)) {
            amiss.push(format!("`{words}` is not in\n{text}"));
        }
        if !error
            .problems
            .iter()
            .any(|problem| (problem.line, problem.column) == (*line, *column))
        {
            amiss.push(format!("expected {line}:{column} in\n{text}"));
        }
        if !text.contains('^') || text.contains('\x1b') {
            amiss.push(format!("no caret, or an escape, in\n{text:?}"));
        }
    }
    assert!(amiss.is_empty(), "{}", amiss.join("\n\n"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = GOOD
        .replacen("in: mallory", "in: malory", 1)
        .replacen("needs: [one]", "needs: [oen]", 1);
    assert_eq!(read(&text).unwrap_err().problems.len(), 2);
}

#[test]
fn a_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    bomb.push_str(GOOD);
    assert!(read(&bomb).is_err());
    let deep = format!("{}: {}{}", "metadata", "[".repeat(5000), "]".repeat(5000));
    assert!(read(&deep).is_err());
    assert!(
        read(&" ".repeat(MAX_FILE + 1))
            .unwrap_err()
            .to_string()
            .contains("bytes")
    );
}

#[test]
fn the_message_draws_the_place() {
    let error = read(&GOOD.replacen("topology: [flat]", "topology: [falt]", 1)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(
            "lab.yaml:7:14: there is no topology `falt`\n   |\n 7 |   topology: [falt]\n   |              ^^^^\n"
        ),
        "{text}"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn a_lab_with_any_change_is_read_without_panic(at in 0..GOOD.len(), with in any::<String>(), skip in 0_usize..40) {
        let end = (at + skip).min(GOOD.len());
        let bytes = [&GOOD.as_bytes()[..at], with.as_bytes(), &GOOD.as_bytes()[end..]].concat();
        if let Err(error) = read(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(!error.problems.is_empty());
            prop_assert!(!error.to_string().chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
