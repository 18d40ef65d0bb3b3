//! From made-up probes and conversations to cells.

use std::collections::BTreeMap;

use super::{
    callers::Proved,
    inventory::{Inventory, Place, Port, Workload},
    judge::{Asked, Attempt, Control, Heard, Look, Seen, alive, cells},
    model::{Answer, Cell, CredentialKind, Evidence, EvidenceKind, Finding, Mark, Name, Purpose, Reach},
    rotation::Rotation,
};
use crate::{
    evidence::{CertificateFacts, Phase, ProbeId, ProbeOutcome, ProbeResult, TlsSeen},
    packet::{Fact, Flow, FlowVerdict, LeakKind, Peer, Protocol, Transport},
};

const NOW: i64 = 1_790_000_000;

fn name(text: &str) -> Name {
    Name::new("shop", text)
}

fn result(pod: &str, outcome: ProbeOutcome, tls: Option<TlsSeen>) -> ProbeResult {
    ProbeResult {
        id: ProbeId("00c0ffee".into()),
        namespace: "shop".into(),
        pod: pod.into(),
        target: "tcp 10.0.0.2:8080".into(),
        outcome,
        resolved: Vec::new(),
        peer: None,
        local: None,
        tls: tls.map(Box::new),
        started_ns: 1,
        took_us: 1,
    }
}

fn timed_out() -> ProbeOutcome {
    ProbeOutcome::TimedOut { phase: Phase::Connect }
}

fn attempt(from: &str, outcome: ProbeOutcome) -> Attempt {
    Attempt {
        from: name(from),
        to: name("api"),
        port: 80,
        pod: Some("api-1".into()),
        probe: result(&format!("{from}-1"), outcome, None),
    }
}

fn control(after: bool, outcome: ProbeOutcome) -> Control {
    Control {
        of: name("api"),
        pod: "api-1".into(),
        port: 80,
        after,
        probe: result("api-1", outcome, None),
    }
}

fn look(from: &str, asked: Asked, outcome: ProbeOutcome, tls: Option<TlsSeen>) -> Look {
    Look {
        from: name(from),
        asked,
        of: name("api"),
        port: 80,
        probe: result(&format!("{from}-1"), outcome, tls),
    }
}

fn answered(status: u16) -> ProbeOutcome {
    ProbeOutcome::Answered {
        status,
        headers: Vec::new(),
        body: String::new(),
        truncated: false,
    }
}

fn handshake(asked_for_client: bool, lives: i64) -> TlsSeen {
    TlsSeen {
        version: Some("1.3".into()),
        certificates: vec![CertificateFacts {
            subject: "CN=api".into(),
            issuer: "CN=shop CA".into(),
            dns: vec!["api".into()],
            not_before: NOW - 1000,
            not_after: NOW - 1000 + lives,
            key: "ab".into(),
            ..CertificateFacts::default()
        }],
        asked_for_client,
        ..TlsSeen::default()
    }
}

fn flow(verdict: FlowVerdict, encrypted: bool) -> Flow {
    Flow {
        id: 1,
        transport: Transport::Tcp,
        client: Peer::unnamed("10.0.0.1:40000".parse().unwrap()),
        server: Peer::unnamed("10.0.0.2:8080".parse().unwrap()),
        protocol: Protocol::Http,
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
            says: "HTTP in clear: POST /charge".into(),
            frame: Some(14),
        }],
        still_shows: Vec::new(),
        ifindex: None,
        point: None,
        also: Vec::new(),
    }
}

fn heard(from: &str, flow: Flow) -> Heard {
    Heard {
        from: name(from),
        to: name("api"),
        port: 80,
        namespace: "shop".into(),
        pod: "api-1".into(),
        flow,
    }
}

/// `web` and `mallory`, which have no port, and `api`, which has one.
fn inventory() -> Inventory {
    let workload = |text: &str, ports: Vec<Port>| {
        let mut workload = Workload::new(name(text), "Deployment");
        workload.ports = ports;
        workload.pods = vec![Place {
            name: format!("{text}-1"),
            ip: Some("10.0.0.2".into()),
            running: true,
        }];
        workload
    };
    let port = Port {
        port: 80,
        target: 8080,
        service: Some(("api".into(), Some("10.96.0.1".into()))),
        purpose: Purpose::Application,
    };
    Inventory {
        workloads: vec![
            workload("api", vec![port]),
            workload("mallory", vec![]),
            workload("web", vec![]),
        ],
        declared: [(name("web"), name("api"), 80)].into(),
        ..Inventory::default()
    }
}

/// Everybody reaches the port, which answers itself before and after.
fn open() -> Seen {
    Seen {
        attempts: vec![
            attempt("web", ProbeOutcome::Connected),
            attempt("mallory", ProbeOutcome::Connected),
        ],
        controls: vec![
            control(false, ProbeOutcome::Connected),
            control(true, ProbeOutcome::Connected),
        ],
        now_s: NOW,
        ..Seen::default()
    }
}

fn of(seen: &Seen, from: &str) -> Cell {
    let cells = cells(&inventory(), seen, true);
    assert_eq!(cells.len(), 2);
    cells.into_iter().find(|cell| cell.from.is(from)).unwrap()
}

#[test]
fn what_opens_is_allowed_and_declared_calls_are_marked() {
    let cell = of(&open(), "mallory");
    assert_eq!((cell.reach, cell.declared), (Reach::Allowed, Some(false)));
    assert_eq!(cell.reachable.evidence[0].pod, "mallory-1");
    assert_eq!(of(&open(), "web").declared, Some(true));
    assert_eq!(cells(&inventory(), &open(), false)[0].declared, None);
}

#[test]
fn a_refusal_counts_only_where_the_callee_lived_throughout() {
    let dead = || ProbeOutcome::Refused;
    let lives = || ProbeOutcome::Connected;
    let unrun = || ProbeOutcome::NotRun { reason: "gone".into() };
    // The attempt of mallory, the one of web, the controls before and after, and what follows for mallory.
    let cases = [
        (timed_out(), lives(), lives(), lives(), Reach::TimedOut),
        (dead(), lives(), lives(), lives(), Reach::Refused),
        // Nobody reaches it, but it answers itself: a network that refuses everybody.
        (timed_out(), timed_out(), lives(), lives(), Reach::TimedOut),
        // Dead all the time, or only at the end.
        (dead(), dead(), dead(), dead(), Reach::Undetermined),
        (dead(), lives(), lives(), dead(), Reach::Undetermined),
        // Came to life too late to tell.
        (dead(), dead(), dead(), lives(), Reach::Undetermined),
        // Nobody can look from its own pod, but another reached it.
        (timed_out(), lives(), unrun(), unrun(), Reach::TimedOut),
        (timed_out(), timed_out(), unrun(), unrun(), Reach::Undetermined),
        // The probe itself did not run.
        (unrun(), lives(), lives(), lives(), Reach::Undetermined),
    ];
    for (number, (mallory, web, before, after, expected)) in cases.into_iter().enumerate() {
        let seen = Seen {
            attempts: vec![attempt("web", web), attempt("mallory", mallory)],
            controls: vec![control(false, before), control(true, after)],
            ..open()
        };
        let cell = of(&seen, "mallory");
        assert_eq!(cell.reach, expected, "case {number}: {cell:?}");
        assert_eq!(cell.reachable.answer, expected.answer());
        if expected != Reach::Undetermined {
            assert_eq!((cell.readable.answer, cell.mark()), (Answer::No, Mark::Refused));
            assert!(
                cell.reachable
                    .evidence
                    .iter()
                    .any(|line| line.kind.as_str() == "control")
            );
        }
    }
}

#[test]
fn where_all_is_slow_no_answer_shows_nothing() {
    let mut seen = open();
    seen.attempts = vec![attempt("web", ProbeOutcome::Connected), attempt("mallory", timed_out())];
    assert_eq!(of(&seen, "mallory").reach, Reach::TimedOut);
    seen.attempts[0].probe.took_us = 900_000;
    assert_eq!(of(&seen, "mallory").reach, Reach::Undetermined);
    // What is refused was answered, however slowly.
    seen.attempts[1] = attempt("mallory", ProbeOutcome::Refused);
    assert_eq!(of(&seen, "mallory").reach, Reach::Refused);
}

#[test]
fn one_way_in_is_enough_and_the_services_address_alone_shows_no_refusal() {
    let service = |outcome| Attempt {
        pod: None,
        ..attempt("mallory", outcome)
    };
    let mut seen = open();
    seen.attempts = vec![attempt("mallory", timed_out()), service(ProbeOutcome::Connected)];
    assert_eq!(of(&seen, "mallory").reach, Reach::Allowed);
    seen.attempts = vec![service(timed_out())];
    assert_eq!(of(&seen, "mallory").reach, Reach::Undetermined);
    assert!(of(&seen, "web").reachable.because.contains("nothing was tried"));
}

#[test]
fn pods_that_do_not_run_or_cannot_be_looked_from_leave_cells_undetermined() {
    let mut seen = open();
    seen.attempts.clear();
    seen.blind.insert("mallory-1".into(), "it is being deleted".into());
    assert!(of(&seen, "mallory").reachable.because.contains("being deleted"));
    let mut inventory = inventory();
    inventory.workloads[0].pods.clear();
    let cell = cells(&inventory, &seen, true).remove(0);
    assert_eq!(
        (cell.reach, cell.reachable.because.as_str()),
        (Reach::Undetermined, "no pod of api is running")
    );
    assert_eq!(
        alive(
            &seen,
            &inventory.workloads[0],
            &Port {
                port: 80,
                target: 8080,
                service: None,
                purpose: Purpose::Application,
            }
        )
        .answer,
        Answer::No
    );
}

#[test]
fn the_applications_own_words_come_first() {
    let mut seen = open();
    let mut said = flow(FlowVerdict::Readable, false);
    said.leaks = [(LeakKind::BearerToken, 2), (LeakKind::CardNumber, 1)].into();
    seen.heard = vec![heard("web", said)];
    let cell = of(&seen, "web");
    assert_eq!(
        (cell.mark(), cell.readable.evidence[0].id.as_str()),
        (Mark::Readable, "14")
    );
    let shown = cell.credentials.client.unwrap();
    assert_eq!(
        (shown.kind, shown.identity.contains("card")),
        (CredentialKind::SharedSecret, false)
    );
    // What one caller says in clear, the port serves in clear to others.
    let other = of(&seen, "mallory");
    assert_eq!(
        (other.readable.answer, other.client_authenticated.answer),
        (Answer::Yes, Answer::No)
    );
    assert!(other.readable.because.contains("web"));
}

#[test]
fn a_port_that_serves_http_in_clear_is_readable_and_one_that_answers_400_may_not_be() {
    let mut seen = open();
    assert_eq!(of(&seen, "mallory").mark(), Mark::Open);
    seen.looks = vec![look("api", Asked::Http, answered(400), None)];
    assert_eq!(of(&seen, "mallory").mark(), Mark::Open);
    seen.looks = vec![look("api", Asked::Http, answered(404), None)];
    assert_eq!(of(&seen, "mallory").mark(), Mark::Readable);
    let none = ProbeOutcome::TlsFailed {
        reason: "the server offers no TLS".into(),
    };
    seen.looks = vec![look("api", Asked::Postgres, none, None)];
    assert_eq!(of(&seen, "mallory").mark(), Mark::Readable);
}

#[test]
fn a_client_without_a_certificate_decides_about_mutual_tls() {
    let refused = || ProbeOutcome::TlsRefused {
        alert: Some("certificate_required".into()),
        phase: Phase::Receive,
    };
    let own = FlowVerdict::Undetermined;
    let cases = [
        (Some((refused(), true)), own, Mark::Mutual, Answer::Yes),
        // Refused for another reason than its missing certificate.
        (Some((refused(), false)), own, Mark::Encrypted, Answer::Undetermined),
        (Some((ProbeOutcome::TlsOpen, true)), own, Mark::Encrypted, Answer::No),
        // The application shows a certificate, and the server lets in whoever has none.
        (
            Some((ProbeOutcome::TlsOpen, true)),
            FlowVerdict::EncryptedMutual,
            Mark::Encrypted,
            Answer::No,
        ),
        (
            Some((ProbeOutcome::TlsSilent, true)),
            own,
            Mark::Encrypted,
            Answer::Undetermined,
        ),
        (
            None,
            FlowVerdict::EncryptedMutual,
            Mark::Encrypted,
            Answer::Undetermined,
        ),
        (None, FlowVerdict::EncryptedOneSided, Mark::Encrypted, Answer::No),
    ];
    for (number, (tried, verdict, mark, client)) in cases.into_iter().enumerate() {
        let mut seen = open();
        seen.heard = vec![heard("web", flow(verdict, true))];
        seen.looks = tried
            .into_iter()
            .map(|(outcome, asked)| look("web", Asked::Tls, outcome, Some(handshake(asked, 86_400))))
            .collect();
        let cell = of(&seen, "web");
        assert_eq!(
            (cell.mark(), cell.client_authenticated.answer),
            (mark, client),
            "case {number}: {cell:?}"
        );
        assert_eq!(cell.readable.answer, Answer::No, "case {number}");
    }
}

#[test]
fn a_servers_certificate_is_a_credential_with_a_lifetime() {
    let mut seen = open();
    let mut look_at = |tls: TlsSeen| {
        seen.looks = vec![look("api", Asked::Tls, ProbeOutcome::TlsOpen, Some(tls))];
        of(&seen, "mallory")
    };
    let cell = look_at(handshake(true, 86_400));
    let shown = cell.credentials.server.unwrap();
    assert_eq!((shown.kind, shown.identity.as_str()), (CredentialKind::X509, "api"));
    assert_eq!(shown.lifetime().unwrap().as_secs(), 86_400);
    assert_eq!(cell.server_authenticated.answer, Answer::Yes);
    let expired = look_at(handshake(true, 10));
    assert_eq!(expired.server_authenticated.answer, Answer::No);
    assert!(expired.server_authenticated.because.contains("expired"));
    let mut svid = handshake(true, 3600);
    svid.certificates[0].uris = vec!["spiffe://shop.example/ns/shop/sa/api".into()];
    let shown = look_at(svid.clone()).credentials.server.unwrap();
    assert_eq!(
        (shown.kind, shown.trust_domain()),
        (CredentialKind::X509Svid, Some("shop.example"))
    );
    // Two URIs make no SVID (X509-SVID §2).
    svid.certificates[0].uris.push("spiffe://shop.example/other".into());
    assert_eq!(look_at(svid).credentials.server.unwrap().kind, CredentialKind::X509);
}

#[test]
fn a_clients_svid_is_known_by_the_callees_log_and_its_own_port() {
    let id = "spiffe://shop.example/ns/shop/sa/web";
    let mut svid = handshake(true, 60);
    svid.certificates[0].uris = vec!["spiffe://shop.example/ns/shop/sa/api".into()];
    let mut seen = open();
    seen.looks = vec![look("api", Asked::Tls, ProbeOutcome::TlsOpen, Some(svid.clone()))];
    assert_eq!(of(&seen, "web").credentials.client, None);
    // The callee's log names the caller, whose certificate nobody else saw.
    let line = Evidence {
        kind: EvidenceKind::Log,
        id: String::new(),
        namespace: "shop".into(),
        pod: "api-1".into(),
        at_ns: 0,
        says: "a line".into(),
    };
    seen.proved = vec![Proved {
        from: name("web"),
        to: name("api"),
        id: id.into(),
        shown: None,
        before: None,
        evidence: line.clone(),
    }];
    let cell = of(&seen, "web");
    let told = cell.credentials.client.unwrap();
    assert_eq!(
        (told.identity.as_str(), told.lifetime(), told.rotated),
        (id, None, Answer::Undetermined)
    );
    assert!(cell.client_authenticated.evidence.contains(&line));
    assert_eq!(of(&seen, "mallory").credentials.client, None);
    // A callee that takes other certificates too is not believed.
    let api = seen.looks[0].clone();
    seen.looks[0] = look("api", Asked::Tls, ProbeOutcome::TlsOpen, Some(handshake(true, 60)));
    assert_eq!(of(&seen, "web").credentials.client, None);
    seen.looks[0] = api;
    // The caller shows the same one at a port of its own, where it was watched.
    svid.certificates[0].uris = vec![id.into()];
    let own = Look {
        of: name("web"),
        ..look("web", Asked::Tls, ProbeOutcome::TlsOpen, Some(svid.clone()))
    };
    seen.looks.push(own);
    let watched = |of: &str, answer| Rotation {
        of: name(of),
        port: 80,
        finding: Finding::new(answer, "so it was"),
    };
    seen.rotations = vec![watched("web", Answer::Yes), watched("api", Answer::No)];
    let credentials = of(&seen, "web").credentials;
    let (server, client) = (credentials.server.unwrap(), credentials.client.unwrap());
    assert_eq!(
        (client.rotated, client.lifetime().unwrap().as_secs()),
        (Answer::Yes, 60)
    );
    assert_eq!((server.rotated, server.because.as_str()), (Answer::No, "so it was"));
    // Another one is not what it proved.
    svid.certificates[0].uris = vec!["spiffe://shop.example/other".into()];
    seen.looks.last_mut().unwrap().probe = result("web-1", ProbeOutcome::TlsOpen, Some(svid));
    assert_eq!(of(&seen, "web").credentials.client.unwrap().lifetime(), None);
}
