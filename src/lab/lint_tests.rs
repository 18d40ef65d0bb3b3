use super::{
    tests::{Flat, GOOD},
    *,
};

fn linted(text: &str, files: &[(&str, &str)]) -> Vec<Problem> {
    let files = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    let among = Surroundings {
        manifests: &Flat,
        files: &files,
    };
    let with = Lint {
        lab: &|id| id == "wiretap",
        file: &|path| path == "notes.md",
        directory: Some("small"),
    };
    lint("lab.yaml", text, among, with).1
}

fn rules(problems: &[Problem]) -> Vec<(&'static str, usize)> {
    problems.iter().map(|problem| (problem.rule, problem.line)).collect()
}

/// The small lab with what a lab that ships has.
fn whole() -> String {
    GOOD.replacen(
        "fails: held }\n",
        "fails: held }\n        - { do: [ { answer: { check: asked, value: no } } ], fails: asked }\n",
        1,
    ) + "      wrong:\n        - { do: [], fails: called }\n        - { do: [], fails: refused }\n"
}

#[test]
fn a_whole_lab_has_no_problems() {
    let problems = linted(&whole(), &[]);
    assert!(problems.is_empty(), "{}", LabError::new("lab.yaml", problems));
}

/// A change, and the rule that it breaks, with the line.
const BROKEN: &[(&str, &str, &str, usize)] = &[
    ("name: small", "name: other", "other-name", 3),
    ("namespace: shop", "namespace: bank", "no-namespace", 6),
    (
        "metadata: {",
        "metadata: { prerequisites: [wiretap, wire], ",
        "unknown-lab",
        3,
    ),
    (
        "      solution:\n        - exec: { in: mallory, run: [curl, \"${leak.bearer-token}\", \"http://payments-api/charge\"] }\n",
        "",
        "no-solution",
        31,
    ),
    ("        - { do: [], fails: refused }\n", "", "few-attempts", 31),
    ("cost: 5", "cost: 61", "dear-hint", 24),
    ("control: payments-api", "control: mallory", "no-control", 40),
    (
        "points: 40",
        "points: 40\n      capabilities: [pod-addresses]",
        "not-measurable",
        35,
    ),
    (
        "      solution:\n        - exec",
        "      solution:\n        - apply: { yaml: \"{ ipBlock: { cidr: '${address/mallory}/32' } }\" }\n        - exec",
        "pod-by-address",
        44,
    ),
    (
        "capture: { between: [orders-api, payments-api], holds",
        "capture: { between: [orders-api, payments-api], lacks",
        "no-control",
        14,
    ),
    (
        "capture: { between: [orders-api, payments-api], holds: { protocol: http, leak: card-number } }",
        "tcp: { from: mallory, to: ledger, port: 5432, expect: allowed }",
        "true-untouched",
        14,
    ),
    (
        "capture: { between: [orders-api, payments-api], holds: { protocol: http, leak: card-number } }",
        "http: { from: mallory, to: \"http://orders-api/orders\", expect: { status: 200 } }",
        "true-untouched",
        14,
    ),
    (
        "instructions: Listen.",
        "instructions: \"See [here](nothing.md).\"",
        "dead-link",
        12,
    ),
    (
        "instructions: Listen.",
        "instructions: \"See [here](../notes.md).\"",
        "dead-link",
        12,
    ),
    (
        "instructions: Listen.",
        "instructions: \"See [here](#there).\"",
        "dead-link",
        12,
    ),
    (
        "instructions: Listen.",
        "instructions: \"See [here](http://).\"",
        "dead-link",
        12,
    ),
    (
        "instructions: Listen.",
        "instructions: \"See [here](ftp://example.org/a).\"",
        "dead-link",
        12,
    ),
    (
        "instructions: Listen.",
        "instructions: |\n        Listen, and see\n        what is [there](nothing.md).",
        "dead-link",
        14,
    ),
    (
        "instructions: Listen.",
        "instructions: |\n        ```run\n        ls",
        "fence",
        13,
    ),
    (
        "instructions: Listen.",
        "instructions: |\n        ```run\n        # nothing\n        ```",
        "fence",
        13,
    ),
    (
        "instructions: Listen.",
        "instructions: |\n        ```Run\n        ls\n        ```",
        "fence",
        13,
    ),
    (
        "instructions: Listen.",
        "instructions: |\n        ```run\n        cat > a.yaml <<EOF\n        kind: Pod\n        EOF\n        ```",
        "prompt",
        13,
    ),
    (
        "instructions: Listen.",
        "instructions: |\n        ```run\n        ls | openssl x509\n        ```",
        "host-tool",
        13,
    ),
];

#[test]
fn every_rule_finds_what_breaks_it() {
    let whole = whole();
    let mut amiss = Vec::new();
    for (good, bad, rule, line) in BROKEN {
        assert!(whole.contains(good), "{good}");
        let problems = linted(&whole.replacen(good, bad, 1), &[]);
        if !rules(&problems).contains(&(rule, *line)) {
            let told = LabError::new("lab.yaml", problems);
            amiss.push(format!("{rule} at {line} is not in\n{told}"));
        }
    }
    assert!(amiss.is_empty(), "{}", amiss.join("\n\n"));
}

#[test]
fn what_is_right_is_not_complained_about() {
    let whole = whole();
    for (good, right) in [
        ("metadata: {", "metadata: { prerequisites: [wiretap, Some TLS], "),
        (
            "  topology",
            "  edges: [ { from: orders-api, to: payments-api, port: 80 } ]\n  needs: { hostTools: [openssl] }\n  topology",
        ),
        (
            "instructions: Listen.",
            "instructions: \"See [here](notes.md), [there](https://example.org/a#b) and <https://example.org>.\"",
        ),
        (
            "instructions: Listen.",
            "instructions: |\n        # The place\n        See [above](#the-place).\n        ```run\n        ls\n        ```",
        ),
        (
            "instructions: Listen.",
            "instructions: |\n        ```yaml\n        a: b\n        ```",
        ),
    ] {
        assert!(whole.contains(good), "{good}");
        let problems = linted(&whole.replacen(good, right, 1), &[]);
        assert!(problems.is_empty(), "{}", LabError::new("lab.yaml", problems));
    }
    // With a policy in force, being let through is something.
    let text = whole
        .replacen("topology: [flat]", "topology: [flat, ./policy.yaml]", 1)
        .replacen(
            "capture: { between: [orders-api, payments-api], holds: { protocol: http, leak: card-number } }",
            "tcp: { from: mallory, to: ledger, port: 5432, expect: allowed }",
            1,
        )
        .replacen("found: no-traffic", "found: refused", 1);
    let problems = linted(&text, &[("policy.yaml", "policy")]);
    assert!(problems.is_empty(), "{}", LabError::new("lab.yaml", problems));
    // And in a step that opens later, it may be the control of something else.
    let later = whole.replacen("expect: blocked, control: payments-api", "expect: allowed", 1);
    let problems = linted(&later, &[]);
    assert!(problems.is_empty(), "{}", LabError::new("lab.yaml", problems));
}

#[test]
fn a_file_that_nothing_uses_is_worth_a_look() {
    let problems = linted(&whole(), &[("left.yaml", "spoof")]);
    assert_eq!(rules(&problems), [("unused-file", 0)]);
    assert_eq!(problems[0].severity, Severity::Warning);
}

#[test]
fn what_only_follows_from_another_mistake_is_not_told() {
    // Without a shape there is no solution to count, and no sum of points to be wrong.
    let text = whole()
        .replacen("      points: 60\n", "", 1)
        .replacen("  namespace: shop\n", "", 1);
    let problems = linted(&text, &[]);
    assert_eq!(rules(&problems), [("missing-field", 5), ("missing-field", 8)]);
}

#[test]
fn a_step_may_need_what_can_be_measured_with_the_calls_that_the_lab_declares() {
    let text = whole()
        .replacen(
            "  topology",
            "  edges: [ { from: orders-api, to: payments-api, port: 80 }, { from: mallory, to: ledger, port: 5432 } ]\n  topology",
            1,
        )
        .replacen("points: 40", "points: 40\n      capabilities: [pod-addresses]", 1);
    let problems = linted(&text, &[]);
    assert!(problems.is_empty(), "{}", LabError::new("lab.yaml", problems));
    let lab = super::tests::read(&text).unwrap();
    assert_eq!(lab.steps[1].capabilities, [Capability::PodAddresses]);
    assert_eq!(lab.step_capabilities(), [Capability::PodAddresses]);
    let (edge, stranger) = call_and_stranger(&lab.edges).unwrap();
    assert_eq!((edge.to.as_str(), stranger.as_str()), ("payments-api", "mallory"));
    // Everybody who is named calls the same one: nobody is left to be kept out.
    let all: Vec<Edge> = lab
        .edges
        .iter()
        .filter(|edge| edge.to.as_str() == "ledger")
        .cloned()
        .collect();
    assert_eq!(call_and_stranger(&all), None);
}
