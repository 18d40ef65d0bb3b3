//! How conversations are judged.

use rustls::version::{TLS12, TLS13};

use super::{
    testing::*,
    tls::testing::{CLIENT_ID, Session, talk},
    *,
};

fn flow(talk: &Talk) -> Flow {
    let mut dissector = Dissector::default();
    let mut messages = feed(&mut dissector, &talk.packets);
    let before = dissector.flows();
    messages.extend(dissector.finish());
    let flows = dissector.flows();
    assert_eq!((flows.len(), before.len()), (1, 1));
    assert_eq!(flows[0].id, messages.first().map_or(1, |message| message.flow));
    flows[0].clone()
}

fn says(flow: &Flow, words: &str) -> bool {
    flow.evidence.iter().any(|fact| fact.says.contains(words))
}

fn said(turns: &[(usize, &[u8])]) -> Talk {
    let mut talk = Talk::open(80);
    for (from, bytes) in turns {
        talk.send(*from, ACK, bytes);
    }
    talk.close();
    talk
}

#[test]
fn what_can_be_read_is_readable() {
    let request: &[u8] = b"GET / HTTP/1.1\r\nCookie: sid=1\r\n\r\n";
    let read = flow(&said(&[(0, request), (1, b"HTTP/1.1 204 No Content\r\n\r\n")]));
    assert_eq!(
        (read.verdict, read.encrypted, read.protocol),
        (FlowVerdict::Readable, false, Protocol::Http)
    );
    assert_eq!(read.evidence[0].frame, Some(4));
    assert!(says(&read, "http in clear: GET /") && says(&read, "a secret could be read"));
    assert_eq!(read.leaks.get(&LeakKind::Cookie), Some(&1));
    assert_eq!((read.bytes[0], read.packets), (request.len() as u64, [5, 3]));
    let text = flow(&said(&[(1, b"220 welcome\r\n"), (0, b"HELO me\r\n")]));
    assert_eq!((text.verdict, text.client.addr), (FlowVerdict::Readable, CLIENT.into()));
    let noise: Vec<u8> = (0..200_u8).map(|byte| byte.wrapping_mul(97) | 0x80).collect();
    let noise = flow(&said(&[(0, &noise)]));
    assert_eq!(noise.verdict, FlowVerdict::Undetermined);
    assert!(says(&noise, "no decoder knows"));
}

#[test]
fn tls_12_shows_who_proved_what() {
    let mutual = flow(&talk(&Session::mutual(&TLS12)));
    assert_eq!((mutual.verdict, mutual.encrypted), (FlowVerdict::EncryptedMutual, true));
    assert!(
        says(&mutual, CLIENT_ID) && says(&mutual, "TLS 1.2 with TLS_ECDHE"),
        "{:?}",
        mutual.evidence
    );
    let shows = mutual.still_shows.join("\n");
    assert!(
        shows.contains("payments-api.shop") && shows.contains(CLIENT_ID) && shows.contains("sizes: "),
        "{shows}"
    );
    let one = flow(&talk(&Session::new(&TLS12)));
    assert_eq!(one.verdict, FlowVerdict::EncryptedOneSided);
    assert!(says(&one, "did not ask"));
    for (session, who) in [
        (
            Session {
                shown: false,
                ..Session::mutual(&TLS12)
            },
            "the server refused the handshake: certificate_required",
        ),
        (
            Session {
                trusted: false,
                ..Session::new(&TLS12)
            },
            "the client refused the handshake: unknown_ca",
        ),
    ] {
        let refused = flow(&talk(&session));
        assert_eq!(refused.verdict, FlowVerdict::Refused);
        assert!(says(&refused, who), "{:?}", refused.evidence);
    }
}

#[test]
fn tls_13_needs_other_evidence() {
    let mutual = flow(&talk(&Session::mutual(&TLS13)));
    let one = flow(&talk(&Session::new(&TLS13)));
    for flow in [&mutual, &one] {
        assert_eq!((flow.verdict, flow.encrypted), (FlowVerdict::Undetermined, true));
        assert!(
            says(flow, "encrypts the certificates") && !says(flow, "probably a refusal"),
            "{:?}",
            flow.evidence
        );
        assert!(flow.still_shows.iter().any(|shown| shown.contains("payments-api.shop")));
        assert!(!flow.still_shows.iter().any(|shown| shown.contains("certificate:")));
    }
    let refused = flow(&talk(&Session {
        shown: false,
        ..Session::mutual(&TLS13)
    }));
    assert!(says(&refused, "probably a refusal"), "{:?}", refused.evidence);
    assert_eq!(refused.verdict, FlowVerdict::Undetermined);
    for (with, without, verdict) in [
        (Some(true), Some(false), FlowVerdict::EncryptedMutual),
        (Some(true), Some(true), FlowVerdict::EncryptedOneSided),
        (None, Some(true), FlowVerdict::EncryptedOneSided),
        (Some(false), Some(false), FlowVerdict::Undetermined),
        (Some(true), None, FlowVerdict::Undetermined),
    ] {
        let probed = Probed {
            with_certificate: with,
            without_certificate: without,
        };
        assert_eq!(mutual.with_probes(probed).0, verdict, "{probed:?}");
    }
    // No probe makes readable traffic anything else.
    let read = flow(&said(&[(0, b"GET / HTTP/1.1\r\n\r\n")]));
    let probed = Probed {
        with_certificate: Some(true),
        without_certificate: Some(false),
    };
    assert_eq!(read.with_probes(probed).0, FlowVerdict::Readable);
}

#[test]
fn encryption_agreed_upon_in_clear_is_encryption() {
    let mut talk = Talk::open(5432);
    talk.client(&[0, 0, 0, 8, 4, 210, 22, 47]).server(b"S");
    for (from, bytes) in tls::testing::turns(&Session::mutual(&TLS12)) {
        talk.send(from, ACK, &bytes);
    }
    let postgres = flow(talk.close());
    assert_eq!(
        (postgres.verdict, postgres.protocol),
        (FlowVerdict::EncryptedMutual, Protocol::Tls)
    );
    // Refused encryption leaves it readable.
    let mut talk = Talk::open(5432);
    talk.client(&[0, 0, 0, 8, 4, 210, 22, 47])
        .server(b"N")
        .client(&pg_startup("shop", "ledger"));
    assert_eq!(flow(talk.close()).verdict, FlowVerdict::Readable);
    // A tunnel's request is readable, what goes through it is TLS.
    let mut talk = Talk::open(3128);
    talk.client(b"CONNECT a:443 HTTP/1.1\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\n\r\n");
    for (from, bytes) in tls::testing::turns(&Session::new(&TLS12)) {
        talk.send(from, ACK, &bytes);
    }
    let tunnel = flow(talk.close());
    assert_eq!(
        (tunnel.verdict, tunnel.protocol),
        (FlowVerdict::Readable, Protocol::Tls)
    );
}

#[test]
fn connections_that_come_to_nothing_are_judged() {
    let mut refused = Talk::midway(80, [1, 2]);
    refused.send(0, SYN, &[]).send(1, RST | ACK, &[]);
    let mut silence = Talk::midway(80, [1, 2]);
    silence.send(0, SYN, &[]);
    let mut empty = Talk::open(80);
    empty.close();
    let mut forbidden = Talk::midway(80, [1, 2]);
    forbidden.send(0, SYN, &[]);
    let error = icmp(3, 13, [0; 4], &forbidden.packets[0][..28]);
    forbidden.packets.push(ipv4(1, *server(80).ip(), *CLIENT.ip(), &error));
    let mut broken = Talk::open(443);
    for (from, bytes) in tls::testing::turns(&Session::new(&TLS12)).into_iter().take(2) {
        broken.send(from, ACK, &bytes);
    }
    broken.send(1, RST | ACK, &[]);
    for (talk, verdict, words) in [
        (refused, FlowVerdict::Refused, "the server refused the connection"),
        (silence, FlowVerdict::Undetermined, "nobody answered"),
        (empty, FlowVerdict::Undetermined, "nothing was said"),
        (forbidden, FlowVerdict::Refused, "administratively prohibited"),
        (broken, FlowVerdict::Refused, "broke the handshake off"),
    ] {
        let flow = flow(&talk);
        assert_eq!(flow.verdict, verdict, "{words}");
        assert!(says(&flow, words), "{:?}", flow.evidence);
    }
}

#[test]
fn who_asked_is_told_even_where_the_opening_was_not_seen() {
    let mut answered = Talk::open(80);
    answered
        .client(b"GET / HTTP/1.1\r\n\r\n")
        .server(b"HTTP/1.1 204 No Content\r\n\r\n");
    // Only the answer to the SYN; then nothing of the handshake at all.
    for skipped in [1, 3] {
        let mut talk = answered.clone();
        talk.packets.drain(..skipped);
        assert_eq!(flow(&talk).client.addr, CLIENT.into(), "{skipped}");
    }
    let mut answers_first = answered.clone();
    answers_first.packets.drain(..3);
    answers_first.packets.swap(0, 1);
    assert_eq!(flow(&answers_first).client.addr, CLIENT.into());
}

#[test]
fn what_changed_is_told_once() {
    let mut dissector = Dissector::default();
    let mut talk = Talk::open(80);
    talk.client(b"GET / HTTP/1.1\r\n\r\n");
    feed(&mut dissector, &talk.packets);
    let told = |dissector: &mut Dissector| -> Vec<(u64, FlowVerdict)> {
        let changed = dissector.changed();
        changed.iter().map(|flow| (flow.id, flow.verdict)).collect()
    };
    assert_eq!(told(&mut dissector), [(1, FlowVerdict::Readable)]);
    assert!(told(&mut dissector).is_empty());
    let other = std::net::SocketAddrV4::new(*CLIENT.ip(), 1024);
    feed(&mut dissector, &[udp(other, server(9), b"hello")]);
    assert_eq!(told(&mut dissector), [(2, FlowVerdict::Readable)]);
    let before = talk.packets.len();
    talk.close();
    feed(&mut dissector, &talk.packets[before..]);
    assert_eq!(told(&mut dissector), [(1, FlowVerdict::Readable)]);
    dissector.finish();
    assert_eq!(told(&mut dissector).len(), 2);
    assert!(told(&mut dissector).is_empty());
}

#[test]
fn as_many_conversations_are_remembered_as_the_limit_says() {
    let limits = Limits {
        flows: 10,
        ..Limits::default()
    };
    let mut dissector = Dissector::new(limits);
    for port in 0..100 {
        let from = std::net::SocketAddrV4::new(*CLIENT.ip(), 1024 + port);
        feed(&mut dissector, &[udp(from, server(9), b"hello")]);
    }
    assert!(dissector.flows().len() <= 20);
    dissector.finish();
    assert_eq!(dissector.flows().len(), 10);
    assert!(
        dissector
            .flows()
            .iter()
            .all(|flow| flow.verdict == FlowVerdict::Readable)
    );
}
