//! Whole conversations beside Wireshark's reading of them.

use std::collections::{BTreeMap, BTreeSet};

use rustls::{
    crypto::ring::kx_group,
    version::{TLS12, TLS13},
};
use tls_parser::TlsCipherSuite;

use super::{
    testing::*,
    tests::{REQUEST, RESPONSE, session},
    tls::testing::{Session, talk},
    wireshark::{Capture, Values, normal, tshark},
    *,
};

/// The fields that are compared.
const FIELDS: &[&str] = &[
    "http.request.method",
    "http.request.uri",
    "http.host",
    "http.response.code",
    "tls.handshake.type",
    "tls.handshake.extensions_server_name",
    "tls.handshake.extensions_alpn_str",
    "tls.handshake.ciphersuite",
    "tls.alert_message.desc",
    "x509ce.dNSName",
    "x509ce.uniformResourceIdentifier",
    "dns.qry.name",
    "dns.qry.type",
    "dns.flags.response",
    "dns.flags.rcode",
    "dns.a",
    "pgsql.query",
    "pgsql.password",
];

/// Fields that both read differently, each with the reason. The ratchet: a field about which both agree again must
/// go, and none may be of HTTP or TLS.
const KNOWN: &[(&str, &str)] = &[];

fn number(record: &str) -> Option<u8> {
    Some(match record {
        "client-hello" => 1,
        "server-hello" | "hello-retry-request" => 2,
        "new-session-ticket" => 4,
        "certificate" => 11,
        "server-key-exchange" => 12,
        "certificate-request" => 13,
        "server-hello-done" => 14,
        "certificate-verify" => 15,
        "client-key-exchange" => 16,
        _ => return None,
    })
}

fn tls_values(detail: &Detail, put: &mut dyn FnMut(&str, String)) {
    let Detail::Tls {
        record,
        sni,
        alert,
        alpn,
        ciphers,
        certificates,
        ..
    } = detail
    else {
        return;
    };
    if let Some(number) = number(record) {
        put("tls.handshake.type", number.to_string());
    }
    if let Some(sni) = sni {
        put("tls.handshake.extensions_server_name", sni.clone());
    }
    for alpn in alpn {
        put("tls.handshake.extensions_alpn_str", alpn.clone());
    }
    for cipher in ciphers {
        let number = match cipher.as_str() {
            "TLS_EMPTY_RENEGOTIATION_INFO_SCSV" => 0xff,
            name => TlsCipherSuite::from_name(name).unwrap().id.0,
        };
        put("tls.handshake.ciphersuite", number.to_string());
    }
    if let Some(alert) = alert {
        let code = match alert.as_str() {
            "close_notify" => 0,
            "unknown_ca" => 48,
            "certificate_required" => 116,
            other => panic!("{other} is in no capture here"),
        };
        put("tls.alert_message.desc", code.to_string());
    }
    for certificate in certificates {
        for name in &certificate.names {
            put("x509ce.dNSName", name.clone());
        }
        for uri in &certificate.uris {
            put("x509ce.uniformResourceIdentifier", uri.clone());
        }
    }
}

/// What a message says, by Wireshark's names.
fn values(message: &Message, put: &mut dyn FnMut(&str, String)) {
    match &message.detail {
        Detail::HttpRequest { method, target, host } => {
            put("http.request.method", method.clone());
            put("http.request.uri", target.clone());
            if let Some(host) = host {
                put("http.host", host.clone());
            }
        }
        Detail::HttpResponse { status } => put("http.response.code", status.to_string()),
        Detail::Dns {
            name,
            kind,
            code,
            answers,
        } => {
            let kind = match kind.as_str() {
                "A" => 1,
                "AAAA" => 28,
                other => panic!("{other} is in no capture here"),
            };
            put("dns.qry.name", name.trim_end_matches('.').to_owned());
            put("dns.qry.type", kind.to_string());
            put("dns.flags.response", u8::from(code.is_some()).to_string());
            match code.as_deref() {
                Some("No Error") => put("dns.flags.rcode", "0".to_owned()),
                Some("Non-Existent Domain") => put("dns.flags.rcode", "3".to_owned()),
                _ => {}
            }
            for answer in answers {
                put("dns.a", answer.clone());
            }
        }
        Detail::PostgresQuery { sql } => put("pgsql.query", sql.replace("\\n", "\n")),
        Detail::PostgresLogin { step, .. } if step == "password" => {
            for leak in &message.leaks {
                put("pgsql.password", leak.value.clone());
            }
        }
        Detail::Tls { .. } => tls_values(&message.detail, put),
        _ => {}
    }
}

/// What is read of a capture: by the frame that completed each message.
fn read(capture: &Capture) -> BTreeMap<u64, Values> {
    let mut dissector = Dissector::default();
    let mut messages: Vec<Message> = capture.frames().flat_map(|frame| dissector.feed(frame)).collect();
    messages.extend(dissector.finish());
    let mut frames: BTreeMap<u64, Values> = BTreeMap::new();
    for message in &messages {
        let frame = message.frames.iter().copied().max().unwrap_or_default();
        let at = frames.entry(frame).or_default();
        values(message, &mut |name, value| {
            at.entry(name.to_owned()).or_default().push(normal(&value))
        });
    }
    frames
}

fn conversations() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut flat = Talk::open(80);
    flat.cut(0, REQUEST, &[50]).server(RESPONSE);
    flat.client(b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n")
        .server(b"HTTP/1.1 204 No Content\r\n\r\n")
        .close();
    let mut pipelined = Talk::open(8080);
    pipelined
        .client(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        .close();
    let mut login = Talk::open(5432);
    for (from, bytes) in session() {
        login.send(from, ACK, &bytes);
    }
    login.close();
    let retried = Session {
        groups: [vec![kx_group::X25519, kx_group::SECP384R1], vec![kx_group::SECP384R1]],
        ..Session::new(&TLS13)
    };
    let name = b"\x0cpayments-api\x04shop\x03svc\x07cluster\x05local\0\0\x01\0\x01";
    let question = [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..], name].concat();
    let answer = [
        &b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0"[..],
        name,
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\x60\x01\x02",
    ]
    .concat();
    let missing = [&b"\x12\x35\x81\x83\0\x01\0\0\0\0\0\0"[..], name].concat();
    let framed = |message: &[u8]| [&(message.len() as u16).to_be_bytes()[..], message].concat();
    let mut over_tcp = Talk::open(53);
    over_tcp.client(&framed(&question)).server(&framed(&answer)).close();
    vec![
        ("flat", flat.packets),
        ("pipelined", pipelined.packets),
        ("database", login.packets),
        ("mtls-12", talk(&Session::mutual(&TLS12)).packets),
        ("tls-12", talk(&Session::new(&TLS12)).packets),
        ("mtls-13", talk(&Session::mutual(&TLS13)).packets),
        ("tls-13-retried", talk(&retried).packets),
        (
            "refused-12",
            talk(&Session {
                shown: false,
                ..Session::mutual(&TLS12)
            })
            .packets,
        ),
        (
            "refused-13",
            talk(&Session {
                shown: false,
                ..Session::mutual(&TLS13)
            })
            .packets,
        ),
        (
            "untrusted-12",
            talk(&Session {
                trusted: false,
                ..Session::new(&TLS12)
            })
            .packets,
        ),
        (
            "names",
            vec![
                udp(CLIENT, server(53), &question),
                udp(server(53), CLIENT, &answer),
                udp(server(53), CLIENT, &missing),
            ],
        ),
        ("names-over-tcp", over_tcp.packets),
    ]
}

fn compare(captures: &[Capture]) {
    let fields: BTreeSet<&str> = FIELDS.iter().copied().collect();
    let mut wrong = Vec::new();
    let (mut differing, mut compared) = (BTreeSet::new(), BTreeSet::new());
    for capture in captures {
        let Some(theirs) = tshark(&capture.file(), &fields) else {
            return;
        };
        let ours = read(capture);
        let none = Values::new();
        for (theirs, number) in theirs.iter().zip(1..) {
            let ours = ours.get(&number).unwrap_or(&none);
            for field in FIELDS {
                let (ours, theirs) = (ours.get(*field), theirs.get(*field));
                if ours == theirs {
                    compared.extend(ours.map(|_| *field));
                } else if KNOWN.iter().any(|(known, _)| known == field) {
                    differing.insert(*field);
                } else {
                    wrong.push(format!(
                        "{} {number}: {field} {ours:?}, Wireshark {theirs:?}",
                        capture.name
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (field, _) in KNOWN {
        assert!(
            !field.starts_with("http.") && !field.starts_with("tls."),
            "{field} must not differ"
        );
        assert!(differing.contains(field), "{field} differs no more, strike it off");
    }
    let missing: Vec<&&str> = FIELDS.iter().filter(|field| !compared.contains(*field)).collect();
    assert!(missing.is_empty(), "never compared: {missing:?}");
}

#[test]
fn wireshark_hears_the_same_conversations_behind_every_link_layer() {
    let all = every_conversation(|packets| packets);
    let wrapped =
        |name, link, wrap: &dyn Fn(&[u8]) -> Vec<u8>| Capture::new(name, link, all.iter().map(|packet| wrap(packet)));
    compare(&[
        wrapped("raw", LinkType::RAW, &<[u8]>::to_vec),
        wrapped("ethernet", LinkType::ETHERNET, &|packet| ethernet(&[], 0x0800, packet)),
        wrapped("tagged", LinkType::ETHERNET, &|packet| {
            ethernet(&[(0x88a8, 7), (0x8100, 5)], 0x0800, packet)
        }),
        wrapped("cooked", LinkType::LINUX_SLL2, &|packet| sll2(0x0800, packet)),
        wrapped("cooked-1", LinkType::LINUX_SLL, &|packet| {
            [&b"\0\x04\0\x01\0\x06\x02\0\0\0\0\x0a\0\0\x08\0"[..], packet].concat()
        }),
    ]);
}

/// The packet between the same hosts in IPv6; checksums are left as they are.
fn in_ipv6(packet: &[u8]) -> Vec<u8> {
    let addr = |at: usize| {
        let mut addr = [0; 16];
        addr[..2].copy_from_slice(&[0xfd, 0]);
        addr[12..].copy_from_slice(&packet[at..at + 4]);
        addr
    };
    ipv6(packet[9], addr(12), addr(16), &packet[20..])
}

#[test]
fn wireshark_hears_the_same_conversations_in_ipv6() {
    let all = every_conversation(|packets| packets);
    compare(&[
        Capture::new("ipv6", LinkType::RAW, all.iter().map(|packet| in_ipv6(packet))),
        Capture::new(
            "ipv6-cooked",
            LinkType::LINUX_SLL2,
            all.iter().map(|packet| sll2(0x86dd, &in_ipv6(packet))),
        ),
    ]);
}

#[test]
fn wireshark_hears_the_same_conversations_in_fragments() {
    // Fragments of one packet have its number, and no other packet between the hosts has that.
    let all = every_conversation(|packets| packets);
    let numbered = (1_u16..).zip(&all).map(|(number, packet)| {
        let mut packet = packet.clone();
        packet[4..6].copy_from_slice(&number.to_be_bytes());
        packet
    });
    let pieces = numbered.flat_map(|packet| {
        if packet.len() > 20 + 64 {
            fragments(&packet, 64)
        } else {
            vec![packet]
        }
    });
    // We say which fragment brought the end of a message, Wireshark says it of the last one; what is said is the same.
    let fields: BTreeSet<&str> = FIELDS.iter().copied().collect();
    alike(&Capture::new("fragments", LinkType::RAW, pieces), &fields);
}

#[test]
fn nothing_is_heard_that_was_not_said_where_packets_are_lost_or_cut() {
    let fields: BTreeSet<&str> = FIELDS.iter().copied().collect();
    let all = every_conversation(|packets| packets);
    let lossy = |every: usize| -> Capture {
        let kept = all.iter().enumerate().filter(|(at, _)| at % every != every - 1);
        Capture::new("lossy", LinkType::RAW, kept.map(|(_, packet)| packet.clone()))
    };
    let cut = |length: usize| -> Capture {
        let mut capture = Capture::new("cut", LinkType::RAW, all.iter().cloned());
        capture.frames.iter_mut().for_each(|(frame, _)| frame.truncate(length));
        capture
    };
    // What Wireshark hears of all of it; of what is left, both hear less, and not the same.
    let whole = Capture::new("whole", LinkType::RAW, all.iter().cloned());
    let Some(theirs) = tshark(&whole.file(), &fields) else {
        return;
    };
    let mut heard: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for (field, values) in theirs.iter().flatten() {
        heard.entry(field).or_default().extend(values);
    }
    for capture in [lossy(7), lossy(11), lossy(5), cut(300), cut(90)] {
        let ours = read(&capture);
        for (field, value) in ours
            .values()
            .flatten()
            .flat_map(|(field, values)| values.iter().map(move |one| (field, one)))
        {
            let heard = heard.get(field).is_some_and(|values| values.contains(value));
            assert!(heard, "{} of {}: {field} {value:?}", capture.name, capture.frames.len());
        }
        assert!(
            ours.len() > 10,
            "{} of {}: nothing was read",
            capture.name,
            capture.frames.len()
        );
    }
}

/// The packets of all conversations, each between hosts of its own.
fn every_conversation(change: impl Fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    conversations()
        .into_iter()
        .zip(1..)
        .flat_map(|((_, packets), host)| change(packets).into_iter().map(move |packet| on_host(packet, host)))
        .collect()
}

/// The packet between other hosts, so that conversations in one capture are apart. Checksums are left wrong, as
/// offloading leaves them; nobody looks.
fn on_host(mut packet: Vec<u8>, host: u8) -> Vec<u8> {
    packet[14] = host;
    packet[18] = host;
    packet
}

/// Neighbours of one direction change places, and every fifth packet comes twice.
fn disorder(mut packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for at in (4..packets.len().saturating_sub(4)).step_by(3) {
        let data = |packet: &[u8]| packet.len() > 40 && packet[9] == 6;
        let neighbours = packets[at][12..16] == packets[at + 1][12..16];
        if neighbours && data(&packets[at]) && data(&packets[at + 1]) {
            packets.swap(at, at + 1);
        }
    }
    let again = |(index, packet): (usize, Vec<u8>)| vec![packet; if index % 5 == 4 { 2 } else { 1 }];
    packets.into_iter().enumerate().flat_map(again).collect()
}

#[test]
fn wireshark_hears_the_same_out_of_order_and_again() {
    // A repeated datagram is said twice by both; only what is said on connections is compared.
    let fields: BTreeSet<&str> = FIELDS
        .iter()
        .copied()
        .filter(|field| !field.starts_with("dns"))
        .collect();
    let capture = Capture::new("disorder", LinkType::RAW, every_conversation(disorder));
    alike(&capture, &fields);
}

/// Whether all of it together says the same, wherever it is said.
fn alike(capture: &Capture, fields: &BTreeSet<&str>) {
    let Some(theirs) = tshark(&capture.file(), fields) else {
        return;
    };
    let ours = read(capture);
    // In which frame a message is whole may differ, where a frame fills a hole or comes again; what is said may not.
    let all = |frames: &mut dyn Iterator<Item = &Values>| -> BTreeMap<String, BTreeSet<String>> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (field, values) in frames.flatten().filter(|(field, _)| fields.contains(field.as_str())) {
            all.entry(field.clone()).or_default().extend(values.iter().cloned());
        }
        all
    };
    let (ours, theirs) = (all(&mut ours.values()), all(&mut theirs.iter()));
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), fields.len());
}
