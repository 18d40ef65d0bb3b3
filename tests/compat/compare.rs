//! Holds what a command showed against what it must.

use crate::table::Command;

/// What a command came to.
pub struct Shown {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Why it is not what it must be; empty when it is.
pub fn judge(command: &Command, shown: &Shown) -> Vec<String> {
    let mut wrong = Vec::new();
    if shown.code != Some(command.exit) {
        wrong.push(match shown.code {
            Some(code) => format!("it exits with {code}, not {}", command.exit),
            None => "it does not end".to_owned(),
        });
    }
    if let Some(exact) = &command.exact {
        let lines: Vec<&str> = shown.stdout.lines().map(str::trim_end).collect();
        if lines.len() != exact.len() || !lines.iter().zip(exact).all(|(line, wanted)| matches(line, wanted)) {
            wrong.push(format!("it does not show exactly\n{}", exact.join("\n")));
        }
    }
    wrong.extend(in_order(&shown.stdout, &command.parts).map(|part| format!("it does not show (in order) {part:?}")));
    wrong.extend(in_order(&shown.stderr, &command.errors).map(|part| format!("it does not tell (in order) {part:?}")));
    if command.errors.is_empty() && command.exit == 0 && !shown.stderr.trim().is_empty() {
        wrong.push("it succeeds and yet tells something on standard error".to_owned());
    }
    for absent in &command.absent {
        if shown.stdout.contains(absent) || shown.stderr.contains(absent) {
            wrong.push(format!("it shows {absent:?}"));
        }
    }
    wrong
}

/// The first part that a line does not hold, each to be found behind the one before. Runs of blanks count as one.
fn in_order(text: &str, parts: &[String]) -> Option<String> {
    let mut lines = text.lines().map(folded);
    let missing = parts.iter().find(|part| {
        let part = folded(part);
        !lines.any(|line| holds(&line, &part))
    });
    missing.cloned()
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line against a pattern in which `…` stands for anything.
fn matches(line: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(rest) = line.strip_prefix(first) else {
        return false;
    };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else {
        return rest.is_empty();
    };
    after(rest, between).is_some_and(|rest| rest.ends_with(last))
}

fn holds(line: &str, pattern: &str) -> bool {
    let pieces: Vec<&str> = pattern.split('…').collect();
    after(line, &pieces).is_some()
}

fn after<'a>(mut text: &'a str, pieces: &[&str]) -> Option<&'a str> {
    for piece in pieces {
        text = text.split_once(piece)?.1;
    }
    Some(text)
}

#[test]
fn patterns_match_as_the_table_says() {
    for (line, pattern, expected) in [
        ("a b", "a b", true),
        ("a b", "a", false),
        ("web-1-2 ok", "web-… ok", true),
        ("web-1-2 no", "web-… ok", false),
        ("xaybz", "…a…b…", true),
    ] {
        assert_eq!(matches(line, pattern), expected, "{line} {pattern}");
    }
    let parts = |parts: &[&str]| parts.iter().map(|&part| part.to_owned()).collect::<Vec<_>>();
    assert_eq!(in_order("one   two\nthree", &parts(&["one two", "th…e"])), None);
    assert_eq!(in_order("one\ntwo", &parts(&["two", "one"])), Some("one".to_owned()));
    assert_eq!(in_order("one", &parts(&["one", "one"])), Some("one".to_owned()));
}
