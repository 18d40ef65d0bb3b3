use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::score::Points;

/// The flat topology, and manifests that are a list of workloads.
pub(super) struct Flat;

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
        policies: workloads.contains(&"policy"),
        placed: BTreeSet::new(),
    }
}

impl Manifests for Flat {
    fn layer(&self, name: &str) -> Option<Layer> {
        let layer = Layer {
            placed: BTreeSet::from([Placed {
                kind: "Namespace".to_owned(),
                name: "shop".to_owned(),
                namespace: None,
            }]),
            ..layer(&["frontend", "orders-api", "payments-api", "ledger", "mallory"])
        };
        (name == "flat").then_some(layer)
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

pub(super) fn read(text: &str) -> Result<Lab, LabError> {
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
pub(super) const GOOD: &str = r#"apiVersion: ztlab.dev/v1
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

#[test]
fn a_refused_handshake_of_the_students_is_looked_for_in_a_log() {
    let http = r#"{ from: mallory, to: "http://payments-api/charge", method: POST, expect: { status: 200 }, seen: by-student }"#;
    let with = |other: &str| {
        assert!(GOOD.contains(http));
        read(&GOOD.replace(http, other))
    };
    let refused = |to: &str, expect: &str, rest: &str| {
        with(&format!(
            "{{ from: mallory, to: \"{to}\", expect: {{ {expect} }}, {rest}seen: by-student }}"
        ))
    };
    let (to, expect, control) = (
        "https://payments-api:80/",
        "outcome: tls-refused, reason: { contains: issuer }",
        "control: orders-api, ",
    );
    let lab = refused(to, expect, control).unwrap();
    let CheckKind::Http(http) = &lab.steps[1].checks[0].kind else {
        panic!("{:?}", lab.steps[1].checks[0]);
    };
    assert_eq!(http.expect.outcome, Some(Reach::TlsRefused));
    assert!(http.expect.reason.as_ref().unwrap().meets("unknown issuer"));
    for (to, expect, rest, words) in [
        (to, expect, "", "nothing shows that the callee is alive"),
        (
            "http://payments-api/",
            expect,
            control,
            "a call in clear is refused in no handshake",
        ),
        (to, expect, "method: POST, control: orders-api, ", "asks for nothing"),
        (to, expect, "control: { client: self-made }, ", "not what was shown"),
        (
            to,
            expect,
            "tls: { client: self-made }, control: orders-api, ",
            "the student makes this call",
        ),
        (
            to,
            "outcome: tls-refused, caller: { contains: a }",
            control,
            "has proved nothing",
        ),
        (
            to,
            "outcome: tls-refused, status: 200",
            control,
            "a call that is not answered has no status",
        ),
        (
            to,
            "outcome: refused",
            control,
            "answers, and of handshakes that were refused",
        ),
        (
            to,
            "status: 200, reason: { contains: a }",
            "",
            "why a handshake was refused",
        ),
        (to, "status: 200", control, "the student makes this call"),
    ] {
        let error = refused(to, expect, rest).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
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
    (
        "points: 60",
        "points: many",
        11,
        15,
        &["found `many`", "expected: a whole number, 0 to 100"],
    ),
    ("points: 60", "points: \"60\"", 11, 15, &["without quotes"]),
    (
        "topology: [flat]",
        "topology: flat",
        7,
        13,
        &["expected: a list", "`[flat]`"],
    ),
    (
        "port: 5432",
        "port: 70000",
        41,
        51,
        &["70000 is out of range", "1 to 65535"],
    ),
    (
        "port: 5432",
        "port: 5433",
        41,
        51,
        &["no port 5433", "expected: `5432`"],
    ),
    (
        "metadata: {",
        "metadata: { prerequisites: Kubernetes, ",
        3,
        28,
        &["expected: a list"],
    ),
    (
        "  topology",
        "  clusters: [one, two]\n  topology",
        7,
        13,
        &["2 clusters", "not possible yet"],
    ),
    (
        "  topology",
        "  needs: { hostTools: [/usr/bin/openssl] }\n  topology",
        7,
        24,
        &["no program's name", "as `openssl`"],
    ),
    (
        "  topology",
        "  needs: { capabilities: [fly] }\n  topology",
        7,
        27,
        &["called `fly`", "`capture`, `stand-ins` or `snapshots`"],
    ),
    (
        "  topology",
        "  edges: [ { from: mallory, to: ledger, port: 5432, path: charge } ]\n  topology",
        7,
        59,
        &["`charge` is no path"],
    ),
    (
        "  topology",
        "  edges: [ { from: mallory, to: ledger, port: 5432, method: post } ]\n  topology",
        7,
        61,
        &["no HTTP method"],
    ),
    ("points: 60", "points: 61", 9, 5, &["sum to 101", "expected: 100"]),
    (
        "      instructions: Listen.\n",
        "",
        9,
        7,
        &["`instructions` is missing", "What to do"],
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
    let mut text = GOOD.to_owned();
    for (good, bad) in [
        ("difficulty: beginner", "difficulty: easy, colour: red"),
        ("  objectives: [see]\n", ""),
        ("points: 60", "points: many"),
        ("      instructions: Listen.\n", ""),
        ("fails: held", "fails: hold"),
        ("needs: [one]", "needs: [oen]"),
        ("port: 5432", "port: 70000"),
        ("in: mallory", "in: malory"),
        ("      title: Two", "      titel: Two\n      points: 1"),
    ] {
        assert!(text.contains(good), "{good}");
        text = text.replacen(good, bad, 1);
    }
    let error = read(&text).unwrap_err();
    let told: Vec<&str> = error.problems.iter().map(|problem| problem.message.as_str()).collect();
    let expected = [
        "there is no value of this field called `easy`",
        "unknown field `colour`",
        "the field `objectives` is missing",
        "the field `instructions` is missing",
        "found `many`",
        "there is no check of this step called `hold`",
        "unknown field `titel`",
        "there is no step called `oen`",
        "the field `points` stands here twice",
        "70000 is out of range",
        "there is no workload in the topology called `malory`",
    ];
    // In the file's order, each once, and nothing that only follows from another.
    assert_eq!(told, expected, "{error}");
    assert!(
        error
            .problems
            .iter()
            .all(|problem| problem.line > 0 && !problem.source.is_empty())
    );
}

#[test]
fn what_is_given_as_a_number_and_meant_as_a_text_is_that_text() {
    for title in ["1.10", "0x10", "007", "true", "1e3"] {
        let lab = read(&GOOD.replacen("title: A small lab", &format!("title: {title}"), 1)).unwrap();
        assert_eq!(lab.title, title);
    }
}

#[test]
fn manifests_beside_the_lab_add_workloads() {
    let text = GOOD
        .replacen("topology: [flat]", "topology: [flat, ./extra]", 1)
        .replacen("in: mallory", "in: spoof", 1);
    let files = [
        ("extra/b.yaml", "spoof"),
        ("extra/a.yaml", "other"),
        ("later.yaml", "third"),
    ];
    let lab = read_beside(&text, &files).unwrap();
    assert_eq!(lab.topology, ["flat", "./extra/a.yaml", "./extra/b.yaml"]);
    assert_eq!(lab.files["extra/b.yaml"], "spoof");
    let broken = read_beside(&text, &[("extra/b.yaml", "spoof"), ("c.yaml", "broken")]).unwrap_err();
    assert!(
        broken.to_string().contains("c.yaml: this is no manifest: it is broken"),
        "{broken}"
    );
}

#[test]
fn no_path_leads_out_of_the_labs_directory() {
    for path in [
        "../x.yaml",
        "/etc/passwd",
        "./../x.yaml",
        "a/../../x.yaml",
        "./a//b.yaml",
        "./.",
        "a/./b.yaml",
        "..\\\\x/y",
    ] {
        let text = GOOD.replacen("topology: [flat]", &format!("topology: [flat, \"{path}\"]"), 1);
        let error = read_beside(&text, &[("x.yaml", "spoof")]).unwrap_err().to_string();
        assert!(error.contains("leads out of the lab's directory"), "{path}: {error}");
    }
    let text = GOOD.replacen("topology: [flat]", "topology: [flat, ./extar.yaml]", 1);
    let error = read_beside(&text, &[("extra.yaml", "spoof")]).unwrap_err().to_string();
    assert!(error.contains("did you mean `extra.yaml`?"), "{error}");
}

#[test]
fn every_kind_of_answer_is_read() {
    let with = |answer: &str| {
        let text = GOOD.replacen(
            "{ from: capture, leak: card-number } }\n      hints",
            &format!("{answer} }}\n      hints"),
            1,
        );
        assert!(text != GOOD);
        let text = text.replacen("check: asked, from: capture", "check: asked, value: a", 1);
        read(&text).map(|lab| lab.steps[0].checks[1].kind.clone())
    };
    let answer = |text: &str| match with(text).unwrap_or_else(|error| panic!("{text}: {error}")) {
        CheckKind::Question(question) => question,
        other => panic!("{other:?}"),
    };
    let number = |text: &str| match answer(text).answer {
        Answer::Number(number) => (number.least, number.most),
        other => panic!("{other:?}"),
    };
    assert_eq!(number("{ number: { is: 16 } }"), (16.0, 16.0));
    assert_eq!(number("{ number: { is: 16, tolerance: 0.5 } }"), (15.5, 16.5));
    assert_eq!(number("{ number: { min: 1, max: 3 } }"), (1.0, 3.0));
    assert_eq!(number("{ number: { min: 1 } }"), (1.0, f64::MAX));
    for wrong in [
        "{ number: {} }",
        "{ number: { is: .nan } }",
        "{ number: { is: .inf } }",
        "{ number: { min: 3, max: 1 } }",
        "{ number: { is: 1, max: 2 } }",
        "{ number: { is: 1 }, matches: [a] }",
        "{ matches: [] }",
        "{ matches: [\"(\"] }",
        "{ number: { is: 1 }, leak: card-number }",
        "{ predict: { property: reachable, pairs: [] } }",
        "{ predict: { property: visible, pairs: [ { from: mallory, to: ledger } ] } }",
        "{ predict: { property: reachable, layer: moon, pairs: [ { from: mallory, to: ledger } ] } }",
        "{ predict: { property: reachable, pairs: [ { from: mallory, to: ledger }, { from: mallory, to: ledger } ] } }",
        "{ predict: { property: reachable, pairs: [ { from: mallory, to: ledger, port: 80 } ] } }",
    ] {
        assert!(with(wrong).is_err(), "{wrong}");
    }
    let Answer::All(rules) = answer("{ all: [identity, encrypt] }").answer else {
        panic!()
    };
    assert!(rules.iter().all(|rule| rule.is_match("Encryption and an IDENTITY")));
    let Answer::Text(rules) = answer("{ matches: [labels?] }").answer else {
        panic!()
    };
    assert!(rules[0].is_match("Label") && !rules[0].is_match("a label"));
    let predict = "{ predict: { property: reachable, layer: flat, pairs: [ { from: mallory, to: ledger, port: 5432 }, \
                   { from: ledger, to: mallory } ] } }";
    let question = answer(predict);
    assert_eq!(
        question.options(),
        ["mallory -> ledger:5432", "ledger -> mallory", "none of these"]
    );
    assert!(question.many());
}

#[test]
fn what_a_lab_needs_is_read() {
    let text = GOOD
        .replacen("metadata: {", "metadata: { prerequisites: [wiretap, some TLS], ", 1)
        .replacen(
            "  topology",
            "  clusters: [main]\n  needs: { capabilities: [capture, snapshots], hostTools: [openssl] }\n  topology",
            1,
        );
    let lab = read(&text).unwrap();
    assert_eq!(
        lab.prerequisites,
        [
            Prerequisite::Lab(LabId("wiretap".to_owned())),
            Prerequisite::Words("some TLS".to_owned())
        ]
    );
    assert_eq!(
        (lab.clusters, lab.host_tools),
        (vec!["main".to_owned()], vec!["openssl".to_owned()])
    );
    assert_eq!(lab.capabilities, [Capability::Capture, Capability::Snapshots]);
}

#[test]
fn a_solution_waits_for_what_comes_by_itself() {
    let wait = |fields: &str| {
        let text = GOOD.replacen(
            "      solution:\n        - exec",
            &format!("      solution:\n        - waitFor: {{ {fields} }}\n        - exec"),
            1,
        );
        read(&text).map(|lab| lab.steps[1].solution[0].clone())
    };
    for (fields, check, seconds) in [("check: refused", 1, 60), ("check: called, seconds: 9", 0, 9)] {
        let action = wait(fields).unwrap();
        assert!(
            matches!(&action, Action::Until { check: one, within } if *one == check && within.as_secs() == seconds),
            "{action:?}"
        );
    }
    for (fields, words) in [
        ("check: nosuch", "no check of this step called `nosuch`"),
        ("check: called, seconds: 61", "61 is out of range"),
        ("check: called, ready: ledger", "not clear what is waited for"),
    ] {
        let told = wait(fields).unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
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
