//! What is measured of the network as a whole: cells and levels of the posture, predictions of it, and the verdicts of
//! conversations.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use super::{PASSED, failed, unclear};
use crate::{
    check::{Evidence, judge},
    evidence::{CaptureEvidence, Phase, ProbeOutcome},
    lab::{self, Check, Lab},
    packet::{CapturePoint, Fact, Flow, FlowVerdict, Peer, Protocol, Transport, Who, WhoKind},
    posture::{self, Answer, Matrix},
    verdict::{Finding, Verdict},
};

const LAB: &str = r#"apiVersion: ztlab.dev/v1
kind: Lab
metadata: { name: measured, title: T, level: 0, minutes: 5, difficulty: beginner }
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
        - { name: level one, why: w, posture: { level: 1 } }
        - { name: open, why: w, posture: { from: mallory, to: ledger, reachable: true } }
        - { name: cut, why: w, posture: { from: mallory, to: ledger, reachable: false } }
        - { name: dark, why: w, posture: { from: orders-api, to: payments-api, port: 80, reachable: true, readable: false } }
        - { name: mutual, why: w, posture: { from: orders-api, to: payments-api, clientAuthenticated: true } }
        - { name: one-sided, why: w, posture: { from: orders-api, to: payments-api, clientAuthenticated: false } }
        - { name: server, why: w, posture: { from: orders-api, to: payments-api, serverAuthenticated: true } }
        - { name: authorised, why: w, posture: { from: orders-api, to: payments-api, authorised: true } }
        - { name: nobody, why: w, posture: { from: ledger, to: mallory, reachable: false } }
        - name: prediction
          why: w
          question:
            ask: q
            answer:
              predict:
                property: reachable
                pairs:
                  - { from: orders-api, to: payments-api }
                  - { from: mallory, to: ledger }
                  - { from: ledger, to: frontend }
        - { name: in the clear, why: w, capture: { between: [orders-api, payments-api], verdict: readable } }
        - { name: encrypted, why: w, capture: { between: [orders-api, payments-api], verdict: encrypted } }
        - { name: mutual flow, why: w, capture: { between: [orders-api, payments-api], verdict: encrypted-mutual } }
        - { name: refused flow, why: w, capture: { between: [orders-api, payments-api], verdict: refused } }
"#;

static READ: LazyLock<Lab> = LazyLock::new(|| {
    let layer = lab::Layer {
        workloads: ["frontend", "orders-api", "payments-api", "ledger", "mallory"]
            .map(str::to_owned)
            .into(),
        ..lab::Layer::default()
    };
    lab::parse("lab.yaml", LAB, lab::Surroundings::of(&layer)).unwrap_or_else(|error| panic!("{error}"))
});

fn says(name: &str, evidence: &Evidence) -> (Verdict, Finding) {
    let check: &Check = READ.steps[0].check(name).unwrap().1;
    let judgement = judge(check, evidence);
    assert!(!judgement.expected.is_empty() && !judgement.found.is_empty());
    (judgement.verdict, judgement.finding)
}

/// The flat shop, with this made of its cell from one workload to another.
fn shop(from: &str, to: &str, change: impl Fn(&mut posture::Cell)) -> Matrix {
    let mut matrix = posture::tests::flat();
    let cell = matrix
        .cells
        .iter_mut()
        .find(|cell| cell.from.is(from) && cell.to.is(to));
    change(cell.unwrap());
    matrix
}

fn answer(answer: Answer) -> posture::Finding {
    posture::Finding::new(answer, "as the test has it")
}

#[test]
fn a_cell_is_judged_property_by_property() {
    use Answer::{No, Undetermined, Yes};
    let reach = |found| shop("mallory", "ledger", |cell| cell.reachable = answer(found));
    let pay = |change: fn(&mut posture::Cell)| shop("orders-api", "payments-api", change);
    for (name, matrix, expected) in [
        ("open", reach(Yes), PASSED),
        ("open", reach(No), failed(Finding::Refused)),
        ("open", reach(Undetermined), unclear(Finding::NotMeasured)),
        ("cut", reach(No), PASSED),
        ("cut", reach(Yes), failed(Finding::Allowed)),
        ("cut", reach(Undetermined), unclear(Finding::NotMeasured)),
        ("dark", pay(|cell| cell.readable = answer(No)), PASSED),
        (
            "dark",
            pay(|cell| cell.readable = answer(Yes)),
            failed(Finding::Readable),
        ),
        (
            "dark",
            pay(|cell| cell.readable = answer(Undetermined)),
            unclear(Finding::NotMeasured),
        ),
        // What fails counts more than what is not known.
        (
            "dark",
            pay(|cell| {
                cell.reachable = answer(Undetermined);
                cell.readable = answer(Yes);
            }),
            failed(Finding::Readable),
        ),
        ("mutual", pay(|cell| cell.client_authenticated = answer(Yes)), PASSED),
        (
            "mutual",
            pay(|cell| cell.client_authenticated = answer(No)),
            failed(Finding::NotAsked),
        ),
        (
            "one-sided",
            pay(|cell| cell.client_authenticated = answer(Yes)),
            failed(Finding::Mutual),
        ),
        ("server", pay(|cell| cell.server_authenticated = answer(Yes)), PASSED),
        (
            "server",
            pay(|cell| cell.server_authenticated = answer(No)),
            failed(Finding::OtherLevel),
        ),
        (
            "authorised",
            pay(|cell| cell.authorised_by_identity = answer(Yes)),
            PASSED,
        ),
        (
            "authorised",
            pay(|cell| cell.authorised_by_identity = answer(No)),
            failed(Finding::OtherLevel),
        ),
        // mallory has no port: there is no such cell.
        ("nobody", reach(Yes), unclear(Finding::NoWorkload)),
    ] {
        assert_eq!(says(name, &Evidence::Posture(Arc::new(matrix))), expected, "{name}");
    }
}

/// The shop in which every call that is not declared comes to this.
fn undeclared(found: posture::Reach) -> Matrix {
    let mut matrix = posture::tests::flat();
    for cell in matrix.cells.iter_mut().filter(|cell| cell.declared == Some(false)) {
        cell.reach = found;
    }
    matrix
}

#[test]
fn a_level_that_is_not_measured_is_not_one_that_is_missed() {
    let nothing_declared = Matrix {
        declared_by: posture::DeclaredBy::Nobody,
        cells: Vec::new(),
        ..posture::tests::flat()
    };
    for (matrix, expected) in [
        (posture::tests::flat(), failed(Finding::OtherLevel)),
        (undeclared(posture::Reach::TimedOut), PASSED),
        (undeclared(posture::Reach::Undetermined), unclear(Finding::NotMeasured)),
        (nothing_declared, unclear(Finding::NotMeasured)),
    ] {
        let told = matrix.level();
        assert_eq!(
            says("level one", &Evidence::Posture(Arc::new(matrix))),
            expected,
            "{told:?}"
        );
    }
}

#[test]
fn a_prediction_is_compared_with_what_was_measured() {
    let measured = |found| {
        Some(Ok(Arc::new(shop("mallory", "ledger", |cell| {
            cell.reachable = answer(found)
        }))))
    };
    let failing = || Some(Err("the cluster does not answer".to_owned()));
    for (given, posture, expected) in [
        (Some("a, b, c"), measured(Answer::Yes), PASSED),
        (Some("a, c"), measured(Answer::No), PASSED),
        (Some("a, c"), measured(Answer::Yes), failed(Finding::WrongAnswer)),
        (Some("a, b, c"), measured(Answer::No), failed(Finding::WrongAnswer)),
        (
            Some("a, b, c"),
            measured(Answer::Undetermined),
            unclear(Finding::NotMeasured),
        ),
        // One that is wrong is wrong, whatever else is not known.
        (
            Some("b, c"),
            measured(Answer::Undetermined),
            failed(Finding::WrongAnswer),
        ),
        (Some("x"), measured(Answer::Yes), failed(Finding::WrongAnswer)),
        (Some("a"), failing(), unclear(Finding::NotMeasured)),
        (Some("a"), None, unclear(Finding::NotMeasured)),
        (None, measured(Answer::Yes), unclear(Finding::NotAnswered)),
    ] {
        let evidence = Evidence::Answer {
            given: given.map(str::to_owned),
            loot: Arc::default(),
            posture,
        };
        assert_eq!(says("prediction", &evidence), expected, "{given:?}");
    }
}

fn peer(name: &str, port: u16) -> Peer {
    let who = Who {
        kind: WhoKind::Pod,
        namespace: Some("shop".to_owned()),
        name: format!("{name}-123"),
        workload: Some(name.to_owned()),
    };
    Peer::named(([10, 0, 0, 1], port).into(), Arc::new(who))
}

fn flow(verdict: FlowVerdict, encrypted: bool) -> Flow {
    Flow {
        id: 1,
        transport: Transport::Tcp,
        client: peer("orders-api", 40_000),
        server: peer("payments-api", 443),
        protocol: if encrypted { Protocol::Tls } else { Protocol::Http },
        first_ns: 1,
        last_ns: 2,
        packets: [3, 3],
        bytes: [300, 300],
        missing_bytes: 0,
        leaks: BTreeMap::new(),
        encrypted,
        tls: None,
        verdict,
        evidence: vec![Fact {
            says: "what was seen".into(),
            frame: Some(14),
        }],
        still_shows: Vec::new(),
        ifindex: None,
        point: None,
        also: Vec::new(),
    }
}

fn captured(flows: Vec<Flow>, dropped: u64, probes: Option<(ProbeOutcome, ProbeOutcome)>) -> Evidence {
    Evidence::Flow {
        seen: Arc::new(CaptureEvidence {
            points: vec![CapturePoint::pod("shop", "payments-api-123")],
            flows,
            dropped,
            ..CaptureEvidence::default()
        }),
        probes: probes.map(|(with, without)| Box::new((super::result(with), super::result(without)))),
    }
}

#[test]
fn conversations_are_judged_by_the_worst_of_them() {
    use FlowVerdict::{EncryptedMutual, EncryptedOneSided, Readable, Refused, Undetermined};
    let one = |verdict, encrypted| captured(vec![flow(verdict, encrypted)], 0, None);
    let both = || captured(vec![flow(EncryptedMutual, true), flow(Readable, false)], 0, None);
    let silent = || Evidence::Flow {
        seen: Arc::default(),
        probes: None,
    };
    let kept_out = ProbeOutcome::TlsRefused {
        alert: Some("certificate_required".to_owned()),
        phase: Phase::Receive,
    };
    let let_in = || super::answered(200, "", "");
    for (name, evidence, expected) in [
        ("in the clear", one(Readable, false), PASSED),
        ("in the clear", one(EncryptedMutual, true), failed(Finding::Mutual)),
        ("encrypted", one(Readable, false), failed(Finding::Readable)),
        ("encrypted", one(EncryptedOneSided, true), PASSED),
        ("encrypted", one(EncryptedMutual, true), PASSED),
        ("encrypted", one(Undetermined, true), PASSED),
        ("encrypted", one(Undetermined, false), unclear(Finding::NotMeasured)),
        ("encrypted", one(Refused, true), failed(Finding::Refused)),
        ("encrypted", both(), failed(Finding::Readable)),
        ("mutual flow", one(EncryptedMutual, true), PASSED),
        ("mutual flow", one(EncryptedOneSided, true), failed(Finding::Encrypted)),
        // TLS 1.3 hides who proved what; probes with a certificate and without one tell.
        ("mutual flow", one(Undetermined, true), unclear(Finding::Encrypted)),
        (
            "mutual flow",
            captured(vec![flow(Undetermined, true)], 0, Some((let_in(), kept_out))),
            PASSED,
        ),
        (
            "mutual flow",
            captured(vec![flow(Undetermined, true)], 0, Some((let_in(), let_in()))),
            failed(Finding::Encrypted),
        ),
        ("refused flow", one(Refused, true), PASSED),
        ("refused flow", one(EncryptedMutual, true), failed(Finding::Mutual)),
        // What was dropped may have been what must not be; what was read was read.
        (
            "encrypted",
            captured(vec![flow(EncryptedMutual, true)], 1, None),
            unclear(Finding::NotMeasured),
        ),
        ("in the clear", captured(vec![flow(Readable, false)], 1, None), PASSED),
        ("encrypted", captured(Vec::new(), 0, None), unclear(Finding::NoTraffic)),
        ("encrypted", silent(), unclear(Finding::NoCapture)),
    ] {
        assert_eq!(says(name, &evidence), expected, "{name}: {evidence:?}");
    }
}
