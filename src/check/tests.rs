//! The same evidence, the same judgement: one line a case.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use super::*;
use crate::{
    evidence::{CaptureEvidence, Phase, ProbeId, ProbeOutcome, ProbeResult},
    lab::{self, Check, Lab},
    packet::{CapturePoint, Detail, LeakKind, Message, Peer, Protocol, Role, Transport, Who, WhoKind},
    verdict::{Finding, Verdict},
};

const LAB: &str = r#"apiVersion: ztlab.dev/v1
kind: Lab
metadata: { name: small, title: T, level: 0, minutes: 5, difficulty: beginner }
spec:
  objectives: [see]
  namespace: shop
  topology: [flat]
  steps:
    - id: one
      title: One
      points: 100
      instructions: Do.
      checks:
        - { name: holds, why: w, capture: { between: [a, b], holds: { protocol: http, leak: card-number } } }
        - { name: lacks, why: w, capture: { between: [a, b], lacks: { protocol: http } } }
        - { name: card, why: w, question: { ask: q, answer: { from: capture, leak: card-number } } }
        - { name: user, why: w, question: { ask: q, answer: { from: capture, leak: database-login, part: account } } }
        - { name: pick, why: w, question: { ask: q, answer: { choices: [ { text: x, right: true }, { text: y }, { text: z, right: true } ] } } }
        - { name: words, why: w, question: { ask: q, answer: { matches: ["mutual tls", "mtls"] } } }
        - { name: http, why: w, http: { from: m, to: "http://b/charge", method: POST, expect: { status: 200 }, seen: by-student } }
        - { name: db, why: w, database: { from: m, to: b, statement: "select" } }
        - { name: tcp, why: w, tcp: { from: m, to: b, port: 80, expect: blocked, control: a } }
"#;

/// Read once: a property asks for it hundreds of times.
static READ: LazyLock<Lab> = LazyLock::new(|| {
    let layer = lab::Layer {
        workloads: ["a", "b", "m"].map(str::to_owned).into(),
        ..lab::Layer::default()
    };
    lab::parse("lab.yaml", LAB, lab::Surroundings::of(&layer)).unwrap()
});

fn check(name: &str) -> Check {
    READ.steps[0].check(name).unwrap().1.clone()
}

fn says(name: &str, evidence: &Evidence) -> (Verdict, Finding) {
    let judgement = judge(&check(name), evidence);
    assert!(!judgement.expected.is_empty() && !judgement.found.is_empty());
    (judgement.verdict, judgement.finding)
}

fn peer(name: &str) -> Peer {
    let who = Who {
        kind: WhoKind::Pod,
        namespace: Some("shop".to_owned()),
        name: format!("{name}-123"),
        workload: Some(name.to_owned()),
    };
    Peer::named(SocketAddr::from(([10, 0, 0, 1], 80)), Arc::new(who))
}

fn message(from: &str, to: &str, protocol: Protocol) -> Message {
    Message {
        seq: 1,
        ts_ns: 1,
        end_ts_ns: 1,
        flow: 1,
        from: peer(from),
        to: peer(to),
        transport: Transport::Tcp,
        protocol,
        role: Role::Request,
        in_reply_to: None,
        summary: "POST /charge".to_owned(),
        text: String::new(),
        truncated: false,
        incomplete: false,
        detail: Detail::Other,
        probe: None,
        frames: vec![4],
        leaks: Vec::new(),
        ifindex: None,
        point: None,
        also: Vec::new(),
    }
}

fn loot(kind: LeakKind, from: &str, to: &str, value: &str) -> Loot {
    Loot {
        kind,
        value: value.to_owned(),
        account: Some("paul".to_owned()),
        from: from.to_owned(),
        to: to.to_owned(),
        protocol: Protocol::Http,
        frame: 4,
        captured_in: "b-123".to_owned(),
        message: "POST /charge".to_owned(),
    }
}

fn seen(points: usize, dropped: u64, messages: Vec<Message>, loot: Vec<Loot>) -> Evidence {
    let point = CapturePoint::pod("shop", "b-123");
    Evidence::Capture {
        seen: Arc::new(CaptureEvidence {
            points: vec![point; points],
            dropped,
            messages,
            ..CaptureEvidence::default()
        }),
        loot: loot.into(),
    }
}

#[test]
fn what_a_capture_must_hold() {
    use Protocol::{Http, Tls};
    let card = |from, to| vec![loot(LeakKind::CardNumber, from, to, "4111")];
    let says = |evidence| says("holds", &evidence);
    assert_eq!(
        says(seen(0, 0, vec![], vec![])),
        (Verdict::Undetermined, Finding::NoCapture)
    );
    assert_eq!(says(seen(1, 0, vec![], vec![])), (Verdict::Failed, Finding::NoTraffic));
    assert_eq!(
        says(seen(1, 0, vec![message("m", "b", Http)], vec![])),
        (Verdict::Failed, Finding::NoTraffic)
    );
    assert_eq!(
        says(seen(1, 0, vec![message("a", "b", Tls)], vec![])),
        (Verdict::Failed, Finding::NotHeld)
    );
    assert_eq!(
        says(seen(1, 0, vec![], card("m", "b"))),
        (Verdict::Failed, Finding::NoTraffic)
    );
    assert_eq!(
        says(seen(1, 0, vec![], card("b", "a"))),
        (Verdict::Passed, Finding::Expected)
    );
    assert_eq!(
        says(seen(0, 0, vec![], card("a", "b"))),
        (Verdict::Passed, Finding::Expected)
    );
}

#[test]
fn an_absence_needs_a_positive_control() {
    use Protocol::{Http, Tls};
    let says = |evidence| says("lacks", &evidence);
    assert_eq!(
        says(seen(0, 0, vec![], vec![])),
        (Verdict::Undetermined, Finding::NoCapture)
    );
    assert_eq!(
        says(seen(1, 0, vec![], vec![])),
        (Verdict::Undetermined, Finding::NoTraffic)
    );
    assert_eq!(
        says(seen(1, 0, vec![message("a", "b", Tls)], vec![])),
        (Verdict::Passed, Finding::Expected)
    );
    assert_eq!(
        says(seen(1, 3, vec![message("a", "b", Tls)], vec![])),
        (Verdict::Undetermined, Finding::NotMeasured)
    );
    assert_eq!(
        says(seen(1, 0, vec![message("b", "a", Http)], vec![])),
        (Verdict::Failed, Finding::Held)
    );
}

fn answer(given: Option<&str>, loot: Vec<Loot>) -> Evidence {
    Evidence::Answer {
        given: given.map(str::to_owned),
        loot: loot.into(),
        posture: None,
    }
}

#[test]
fn answers_are_compared_with_what_was_captured() {
    let card = || vec![loot(LeakKind::CardNumber, "a", "b", "4111111111111111")];
    let login = || vec![loot(LeakKind::DatabaseLogin, "b", "a", "secret")];
    type Case = (&'static str, Option<&'static str>, Vec<Loot>, Verdict, Finding);
    let cases: &[Case] = &[
        ("card", None, card(), Verdict::Undetermined, Finding::NotAnswered),
        ("card", Some(" "), card(), Verdict::Undetermined, Finding::NotAnswered),
        (
            "card",
            Some("4111111111111111"),
            vec![],
            Verdict::Undetermined,
            Finding::NothingToCompare,
        ),
        (
            "card",
            Some("4111 1111-1111 1111"),
            card(),
            Verdict::Passed,
            Finding::Expected,
        ),
        (
            "card",
            Some("4111 1111 1111 1112"),
            card(),
            Verdict::Failed,
            Finding::WrongAnswer,
        ),
        (
            "user",
            Some("paul"),
            card(),
            Verdict::Undetermined,
            Finding::NothingToCompare,
        ),
        ("user", Some("paul "), login(), Verdict::Passed, Finding::Expected),
        ("user", Some("secret"), login(), Verdict::Failed, Finding::WrongAnswer),
        ("pick", Some("c, A"), vec![], Verdict::Passed, Finding::Expected),
        ("pick", Some("a"), vec![], Verdict::Failed, Finding::WrongAnswer),
        ("pick", Some("a,b,c"), vec![], Verdict::Failed, Finding::WrongAnswer),
        ("pick", Some("x"), vec![], Verdict::Failed, Finding::WrongAnswer),
        ("words", Some("Mutual TLS"), vec![], Verdict::Passed, Finding::Expected),
        (
            "words",
            Some("not mutual tls"),
            vec![],
            Verdict::Failed,
            Finding::WrongAnswer,
        ),
    ];
    for (name, given, loot, verdict, finding) in cases {
        assert_eq!(
            says(name, &answer(*given, loot.clone())),
            (*verdict, *finding),
            "{name} {given:?}"
        );
    }
}

#[test]
fn what_is_expected_gives_nothing_away() {
    let captured = vec![loot(LeakKind::CardNumber, "a", "b", "4111111111111111")];
    for name in ["card", "user", "pick", "words"] {
        let judgement = judge(&check(name), &answer(Some("wrong"), captured.clone()));
        let told = format!("{} {} {:?}", judgement.expected, judgement.found, judgement.evidence);
        assert!(
            !told.contains("4111") && !told.contains("mtls") && !told.contains("a, c"),
            "{told}"
        );
    }
}

fn call(ip: &str, method: &str, path: &str, status: u16, probe: Option<&str>) -> Call {
    let line = serde_json::json!({
        "ts": "2026-01-01T00:00:00Z", "level": "access", "service": "b", "caller_ip": ip, "caller_port": 1,
        "caller": "none", "method": method, "path": path, "status": status, "probe": probe, "user_agent": null,
    });
    Call::read(&line.to_string()).unwrap()
}

fn calls(calls: Vec<Call>) -> Evidence {
    Evidence::Calls(Calls {
        from: vec!["10.0.0.9".to_owned()],
        callees: 1,
        calls,
        ..Calls::default()
    })
}

#[test]
fn a_call_counts_when_the_student_made_it() {
    let says = |made: Vec<Call>| says("http", &calls(made));
    let mine = |method, path, status| call("10.0.0.9", method, path, status, None);
    assert_eq!(says(vec![]), (Verdict::Undetermined, Finding::NoCall));
    assert_eq!(
        says(vec![mine("POST", "/charge", 401)]),
        (Verdict::Failed, Finding::WrongStatus)
    );
    assert_eq!(
        says(vec![mine("GET", "/payments", 200)]),
        (Verdict::Failed, Finding::NoCall)
    );
    assert_eq!(
        says(vec![mine("GET", "/charge", 200)]),
        (Verdict::Failed, Finding::NoCall)
    );
    assert_eq!(
        says(vec![call("10.0.0.9", "POST", "/charge", 200, Some("abc"))]),
        (Verdict::Undetermined, Finding::NoCall),
        "a probe is not the student"
    );
    assert_eq!(
        says(vec![call("10.0.0.2", "POST", "/charge", 200, None)]),
        (Verdict::Undetermined, Finding::NoCall),
        "another pod is not mallory"
    );
    assert_eq!(
        says(vec![mine("POST", "/charge", 200), mine("POST", "/charge", 401)]),
        (Verdict::Passed, Finding::Expected)
    );
}

#[test]
fn a_login_counts_when_it_was_let_in_and_asked() {
    let says = |made: Vec<Call>| says("db", &calls(made));
    let mine = |method, path, status| call("10.0.0.9", method, path, status, None);
    assert_eq!(
        says(vec![mine("login", "shop", 401)]),
        (Verdict::Failed, Finding::WrongStatus)
    );
    assert_eq!(
        says(vec![mine("login", "shop", 200)]),
        (Verdict::Failed, Finding::NoCall)
    );
    let asked = vec![
        mine("login", "shop", 200),
        mine("query", "  SELECT\n * FROM payments", 200),
    ];
    assert_eq!(says(asked), (Verdict::Passed, Finding::Expected));
    let selected = vec![mine("login", "shop", 200), mine("query", "selection", 200)];
    assert_eq!(says(selected), (Verdict::Failed, Finding::NoCall));
}

#[test]
fn workloads_that_are_not_there_show_nothing() {
    for (from, callees) in [(vec![], 1), (vec!["10.0.0.9".to_owned()], 0)] {
        let evidence = Evidence::Calls(Calls {
            from,
            callees,
            ..Calls::default()
        });
        assert_eq!(says("http", &evidence), (Verdict::Undetermined, Finding::NoWorkload));
        assert_eq!(says("db", &evidence), (Verdict::Undetermined, Finding::NoWorkload));
    }
    let unavailable = Evidence::Unavailable("the API is away".to_owned());
    for name in ["holds", "card", "http", "db", "tcp"] {
        assert_eq!(says(name, &unavailable), (Verdict::Undetermined, Finding::NotMeasured));
    }
}

fn probed(probe: ProbeOutcome, control: ProbeOutcome) -> Evidence {
    let result = |outcome| ProbeResult {
        id: ProbeId("1".to_owned()),
        namespace: "shop".to_owned(),
        pod: "m-123".to_owned(),
        target: "tcp b:80".to_owned(),
        outcome,
        resolved: Vec::new(),
        peer: None,
        local: None,
        tls: None,
        started_ns: 0,
        took_us: 0,
    };
    Evidence::Probes(Box::new(Probes {
        probe: result(probe),
        control: Some(result(control)),
        expected: Vec::new(),
    }))
}

#[test]
fn a_dead_service_does_not_pass_for_a_blocked_one() {
    let timeout = || ProbeOutcome::TimedOut { phase: Phase::Connect };
    let not_run = ProbeOutcome::NotRun {
        reason: "no observer".to_owned(),
    };
    let says = |probe, control| says("tcp", &probed(probe, control));
    assert_eq!(
        says(timeout(), ProbeOutcome::Connected),
        (Verdict::Passed, Finding::Expected)
    );
    assert_eq!(
        says(ProbeOutcome::Refused, ProbeOutcome::Connected),
        (Verdict::Passed, Finding::Expected)
    );
    assert_eq!(says(timeout(), timeout()), (Verdict::Undetermined, Finding::NoControl));
    assert_eq!(
        says(not_run, ProbeOutcome::Connected),
        (Verdict::Undetermined, Finding::NotMeasured)
    );
    assert_eq!(
        says(ProbeOutcome::Connected, ProbeOutcome::Connected),
        (Verdict::Failed, Finding::Allowed)
    );
    assert_eq!(
        says(ProbeOutcome::NoSuchHost, ProbeOutcome::Connected),
        (Verdict::Failed, Finding::Unresolved)
    );
}

proptest::proptest! {
    #[test]
    fn any_log_line_is_read_without_panic(line: String) {
        let _ = Call::read(&line);
    }

    #[test]
    fn any_answer_is_judged_without_panic(given: String) {
        for name in ["card", "user", "pick", "words"] {
            let _ = says(name, &answer(Some(&given), vec![loot(LeakKind::CardNumber, "a", "b", "4111")]));
        }
    }
}
