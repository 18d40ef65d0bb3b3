//! Lab files that mean harm: each is refused, with a message that a terminal can show.

use super::{
    tests::{GOOD, read},
    *,
};

fn refused(text: &str) -> String {
    let error = read(text).expect_err(&text.chars().take(200).collect::<String>());
    let told = error.to_string();
    assert!(!error.problems.is_empty());
    assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
    assert!(told.len() < 100_000, "{} bytes of error", told.len());
    told
}

#[test]
fn alias_bombs() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    assert!(refused(&format!("{bomb}{GOOD}")).contains("unfolds"));
    // Merge keys unfold too.
    let mut merges = String::from("m0: &m0 { k0: v, k1: v }\n");
    for level in 1..20 {
        let last = level - 1;
        merges.push_str(&format!(
            "m{level}: &m{level} {{ a{level}: *m{last}, b{level}: *m{last}, <<: *m{last} }}\n"
        ));
    }
    refused(&format!("{merges}{GOOD}"));
    // An alias of what contains it.
    refused("a: &a [ *a ]\n");
    refused(&GOOD.replacen("objectives: [see]", "objectives: &o [see, *o]", 1));
}

#[test]
fn deep_nesting() {
    for (open, close) in [("[", "]"), ("{ a: ", " }")] {
        refused(&format!("metadata: {}{}", open.repeat(5000), close.repeat(5000)));
    }
    let block: String = (0..3000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth.min(80))))
        .collect();
    refused(&block);
    refused(&format!("metadata:\n{}", "- ".repeat(20_000)));
    refused(&"? ".repeat(20_000));
}

#[test]
fn large_files() {
    assert!(refused(&" ".repeat(MAX_FILE + 1)).contains("bytes"));
    // As large as may be, and of nothing but one kind of thing.
    for (unit, behind) in [
        ("- x\n", ""),
        ("k: v\n", ""),
        ("#\n", ""),
        ("'", ""),
        ("&a ", ""),
        ("!", ""),
        ("\t", "x"),
        ("a: b: ", ""),
    ] {
        refused(&format!("{}{behind}", unit.repeat(MAX_FILE / unit.len() - 1)));
    }
    let steps = "    - { id: a, title: a, points: 0, instructions: a, checks: [] }\n".repeat(2000);
    refused(&GOOD.replacen("  steps:\n", &format!("  steps:\n{steps}"), 1));
}

#[test]
fn huge_numbers() {
    for number in [
        "99999999999999999999",
        "-1",
        "1e400",
        "-.inf",
        ".nan",
        "340282366920938463463374607431768211456",
        "0xffffffffffffffffffffffffffffffff",
        "4294967296",
        "256",
    ] {
        for field in [
            "level: 0",
            "minutes: 5",
            "points: 60",
            "weight: 2",
            "cost: 5",
            "port: 5432",
            "status: 200",
        ] {
            let name = field.split(':').next().unwrap();
            if (name, number) == ("minutes", "256") || (name, number) == ("status", "256") {
                continue;
            }
            let told = refused(&GOOD.replacen(field, &format!("{name}: {number}"), 1));
            assert!(told.contains("expected: "), "{name}: {number}: {told}");
        }
    }
    let digits = "9".repeat(10_000);
    refused(&GOOD.replacen("minutes: 5", &format!("minutes: {digits}"), 1));
}

#[test]
fn terminal_escapes_in_any_text() {
    // Clear the screen, set the title, move up, ring, reorder, hide: in each text of the lab in turn.
    for escape in [
        "\\e[2J",
        "\\e]0;x\\a",
        "\\x9b1A",
        "\\b\\b",
        "\\u202e",
        "\\u200b",
        "\\r",
        "\\0",
    ] {
        for text in [
            "A small lab",
            "see",
            "One",
            "Listen.",
            "held",
            "it matters",
            "Which?",
            "Look elsewhere.",
            "Look closer.",
            "Two",
            "Replay.",
            "small",
            "beginner",
            "shop",
            "flat",
            "card-number",
            "mallory",
            "3s",
            "POST",
            "curl",
            "blocked",
        ] {
            let at = GOOD.find(text).unwrap();
            let quoted = format!("\"{text}{escape}\"");
            let hostile = format!("{}{quoted}{}", &GOOD[..at], &GOOD[at + text.len()..]);
            refused(&hostile);
        }
    }
    // And in what only a message would show.
    refused(&GOOD.replacen("title: One", "\"ti\\e[2Jtle\": One", 1));
    refused("\x1b[2J: x\n");
    refused("a: [\x1b]0;x\x07\n");
}

#[test]
fn regular_expressions_that_grow() {
    let with = |rule: &str| {
        let text = GOOD
            .replacen(
                "{ from: capture, leak: card-number } }\n      hints",
                &format!("{{ matches: ['{rule}'] }} }}\n      hints"),
                1,
            )
            .replacen("check: asked, from: capture", "check: asked, value: a", 1);
        read(&text)
    };
    for bomb in [
        "(a{1000}){1000}",
        "((a{100}){100}){100}",
        "\\w{100000}",
        &"(".repeat(500),
        &format!("{}a{}", "(?:".repeat(200), ")*".repeat(200)),
    ] {
        assert!(
            with(bomb).unwrap_err().to_string().contains("regular expression"),
            "{bomb}"
        );
    }
    // What takes others forever takes this one a moment.
    let lab = with("(a*)*b").unwrap();
    let CheckKind::Question(Question {
        answer: Answer::Text(rules),
        ..
    }) = &lab.steps[0].checks[1].kind
    else {
        panic!("a question")
    };
    assert!(!rules[0].is_match(&"a".repeat(100_000)));
}
