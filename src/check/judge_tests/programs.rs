//! Files, and programs in a pod.

use super::*;

#[test]
fn files_are_judged_by_what_they_hold() {
    let there = |text: &str| Evidence::File(FileFound::There(text.to_owned()));
    for (name, evidence, expected) in [
        ("file", there("Identity is missing"), PASSED),
        ("file", there("identity: TODO"), failed(Finding::OtherText)),
        ("file", there(""), failed(Finding::OtherText)),
        ("file", Evidence::File(FileFound::Missing), unclear(Finding::NoFile)),
        (
            "file",
            Evidence::File(FileFound::Broken("a link".into())),
            failed(Finding::OtherText),
        ),
        ("fields", there("level: 1"), PASSED),
        ("fields", there("{\"level\": 1.0}"), PASSED),
        ("fields", there("level: 2"), failed(Finding::OtherText)),
        ("fields", there("levels: 1"), failed(Finding::OtherText)),
        ("fields", there("a: [b"), failed(Finding::OtherText)),
        ("fields", there("a: &a [*a, *a]"), failed(Finding::OtherText)),
        ("gone", Evidence::File(FileFound::Missing), PASSED),
        ("gone", there("x"), failed(Finding::OtherText)),
    ] {
        assert_eq!(says(name, &evidence), expected, "{name} {evidence:?}");
    }
}

#[test]
fn programs_are_judged_by_code_and_output() {
    let ran = |code: i32, output: &str| {
        Evidence::Exec(ExecFound {
            pod: "m-1".to_owned(),
            command: "env".to_owned(),
            code,
            output: output.to_owned(),
        })
    };
    for (name, evidence, expected) in [
        ("program", ran(0, "API_KEY=x"), PASSED),
        ("program", ran(1, "API_KEY=x"), failed(Finding::OtherExit)),
        ("program", ran(0, "HOME=/"), failed(Finding::OtherText)),
        ("program", ran(0, ""), failed(Finding::OtherText)),
        ("program", Evidence::NoPod("m".into()), unclear(Finding::NoWorkload)),
        ("fails", ran(7, ""), PASSED),
        ("fails", ran(0, ""), failed(Finding::OtherExit)),
    ] {
        assert_eq!(says(name, &evidence), expected, "{name} {evidence:?}");
    }
}
