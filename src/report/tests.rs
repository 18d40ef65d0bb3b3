//! A report of a made-up run, in every form.

use super::{Measured, Progress, Report, html, junit, markdown};

fn document() -> serde_json::Value {
    serde_json::json!({
        "format": "ztlab.dev/progress/v1", "ztlab": "0.1.0",
        "lab": { "id": "wiretap", "title": "Inspecting service communication", "hash": "ab", "source": "built in" },
        "ground": "the embedded cluster", "began": "2026-11-30T06:00:00Z", "spent_seconds": 1500,
        "score": { "earned": 27, "possible": 100 }, "complete": false,
        "steps": [
            { "id": "listen", "title": "Listen", "state": "passed", "points": 30, "earned": 27, "hints": 1, "solved": false,
              "checks": [
                { "name": "you captured a payment", "weight": 1, "passed": true, "expected": "a card number in http",
                  "found": "the capture holds it", "evidence": ["packet 4, orders-api → payments-api: POST /charge"] },
                { "name": "you found the card number", "weight": 2, "passed": true, "expected": "x", "found": "answered rightly" } ] },
            { "id": "token", "title": "Find the token", "state": "open", "points": 20, "earned": 0, "hints": 0, "solved": false,
              "checks": [{ "name": "you found the token", "weight": 1, "passed": false, "why": "Whoever has the token may charge cards." }] },
            { "id": "gaps", "title": "Name the gaps", "state": "locked", "points": 50, "earned": 0, "hints": 0, "solved": false,
              "checks": [{ "name": "what is missing", "weight": 1, "passed": false, "answer": "a" }] },
        ],
        "events": [
            { "at": "2026-11-30T06:00:01Z", "event": "deployed", "epoch": 0 },
            { "at": "2026-11-30T06:02:00Z", "event": "looted", "epoch": 0,
              "loot": { "kind": "card-number", "value": "•••", "from": "orders-api", "to": "payments-api" } },
            { "at": "2026-11-30T06:03:00Z", "event": "judged", "epoch": 0, "step": "listen", "check": "you captured a payment" },
            { "at": "2026-11-30T06:04:00Z", "event": "hint-opened", "step": "listen", "hint": 2 },
            { "at": "2026-11-30T06:05:00Z", "event": "reset" },
            { "at": "2026-11-30T06:06:00Z", "event": "something-new" },
        ],
    })
}

fn report() -> Report {
    let before = crate::posture::tests::flat();
    let mut after = before.clone();
    for cell in after.cells.iter_mut().filter(|cell| cell.declared == Some(false)) {
        cell.reach = crate::posture::Reach::TimedOut;
    }
    Report {
        progress: Progress::of(document()).unwrap(),
        before: Some(Measured::from(before)),
        after: Some(Measured::from(after)),
        notes: vec!["the lab is stopped: the posture after is the last one that was measured".into()],
    }
}

#[test]
fn a_report_in_every_form() {
    insta::assert_snapshot!("markdown", markdown::markdown(&report()));
    insta::assert_snapshot!("html", html::html(&report()));
    insta::assert_snapshot!("junit", junit::junit(&report()));
    let json = serde_json::to_string(&report()).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report());
}

#[test]
fn a_step_that_its_ground_cannot_do_is_told_and_counts_for_nothing() {
    let mut document = document();
    document["steps"][1]["state"] = "impossible".into();
    document["steps"][1]["impossible"] = "its network lets <no> pod in".into();
    document["events"][1] = serde_json::json!({ "at": "2026-11-30T06:00:01Z", "event": "measured",
        "lacking": { "pod-addresses": "its network lets no pod in" } });
    let report = Report {
        progress: Progress::of(document).unwrap(),
        ..report()
    };
    let told = markdown::markdown(&report);
    for words in [
        "1 of 2",
        "not possible on its ground",
        "Not possible on this ground: its network lets ",
        "found to lack pod-addresses",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    let told = html::html(&report);
    assert!(
        told.contains("not possible on this ground: its network lets &lt;no&gt; pod in"),
        "{told}"
    );
    assert_eq!(told.matches("<details").count(), told.matches("</details>").count());
    let told = junit::junit(&report);
    assert!(
        told.contains("<skipped message=\"its network lets &lt;no&gt; pod in\"/>"),
        "{told}"
    );
}

#[test]
fn a_run_without_posture_has_a_report() {
    let bare = Report {
        before: None,
        after: None,
        ..report()
    };
    assert!(bare.changes().is_empty());
    assert!(markdown::markdown(&bare).contains("| Posture before | not measured |"));
    assert!(html::html(&bare).contains("not measured"));
    assert_eq!((bare.progress.resets(), bare.progress.hints()), (1, 1));
}

#[test]
fn other_documents_are_refused() {
    for text in ["", "[]", "{}", "{\"format\": \"ztlab.dev/progress/v1\"}"] {
        assert!(Progress::read(text).is_err(), "{text}");
    }
    let mut other = document();
    other["format"] = "ztlab.dev/progress/v9".into();
    assert!(Progress::of(other).unwrap_err().to_string().contains("v9"));
}

/// A progress file is whatever somebody handed in.
#[test]
fn what_is_handed_in_never_becomes_markup() {
    let evil = "]]></testcase><script>alert(1)</script>\"'&\u{1b}[2J\u{202e}\u{ffff}`[x](javascript:y)";
    let mut hostile = report();
    let progress = &mut hostile.progress;
    progress.lab.title = evil.into();
    progress.lab.id = evil.into();
    progress.began = evil.into();
    progress.ground = evil.into();
    for step in &mut progress.steps {
        (step.id, step.title) = (evil.into(), evil.into());
        for check in &mut step.checks {
            check.name = evil.into();
            check.why = evil.into();
            check.evidence = vec![evil.into()];
            check.answer = Some(evil.into());
        }
    }
    for event in &mut progress.events {
        event.at = evil.into();
        event.event["why"] = evil.into();
        event.event["check"] = evil.into();
        event.event["event"] = "failed".into();
    }
    hostile.notes = vec![evil.into()];
    for face in [
        markdown::markdown(&hostile),
        html::html(&hostile),
        junit::junit(&hostile),
    ] {
        assert!(
            !face.contains("<script") && !face.contains('\u{1b}') && !face.contains('\u{202e}'),
            "{face}"
        );
    }
    // In HTML and XML brackets are text.
    assert!(!markdown::markdown(&hostile).contains("](javascript"));
    assert!(!junit::junit(&hostile).contains('\u{ffff}'));
}
