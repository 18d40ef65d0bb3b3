//! Whole captures through the dissector.

use proptest::{collection::vec, prelude::*};

use super::{testing::*, *};

pub(super) const REQUEST: &[u8] =
    b"POST /charge HTTP/1.1\r\nHost: payments-api\r\nAuthorization: Bearer not-a-real-token\r\n\
x-ztlab-probe: p1\r\nContent-Length: 30\r\n\r\n{\"card\":\"4111 1111 1111 1111\"}";
pub(super) const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6;x=y\r\n{\"ok\":\r\n5\r\ntrue}\r\n0\r\nT: 1\r\n\r\n";

type Seen = (
    Protocol,
    Role,
    String,
    String,
    Detail,
    Vec<(LeakKind, String, usize, usize)>,
);

/// What a reader sees of a message, without the frames it came in.
fn seen(messages: &[Message]) -> Vec<Seen> {
    messages
        .iter()
        .map(|message| {
            let leaks = message
                .leaks
                .iter()
                .map(|leak| (leak.kind, leak.value.clone(), leak.start, leak.end))
                .collect();
            let Message {
                protocol,
                role,
                summary,
                text,
                detail,
                ..
            } = message.clone();
            (protocol, role, summary, text, detail, leaks)
        })
        .collect()
}

fn summaries(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.summary.as_str()).collect()
}

#[test]
fn a_payment_is_read_with_its_secrets() {
    let mut talk = Talk::open(80);
    let messages = talk.client(REQUEST).server(RESPONSE).close().messages();
    assert_eq!(summaries(&messages), ["POST /charge (30 bytes)", "200 OK (11 bytes)"]);
    let [request, response] = &messages[..] else {
        panic!("two messages")
    };
    assert_eq!((request.protocol, request.role), (Protocol::Http, Role::Request));
    assert_eq!(request.from.addr, CLIENT.into());
    assert_eq!(request.probe.as_deref(), Some("p1"));
    assert_eq!(request.frames, [4]);
    assert_eq!(request.ts_ns, 4_000_000_000);
    let leaks: Vec<_> = request
        .leaks
        .iter()
        .map(|leak| (leak.kind, leak.value.as_str(), leak.frame))
        .collect();
    assert_eq!(
        leaks,
        [
            (LeakKind::BearerToken, "not-a-real-token", 4),
            (LeakKind::CardNumber, "4111111111111111", 4)
        ]
    );
    assert_eq!(
        &request.text[request.leaks[0].start..request.leaks[0].end],
        "not-a-real-token"
    );
    assert_eq!(
        &request.text[request.leaks[1].start..request.leaks[1].end],
        "4111 1111 1111 1111"
    );
    assert_eq!(response.in_reply_to, Some(request.seq));
    assert_eq!(response.probe.as_deref(), Some("p1"));
    assert!(
        response.text.ends_with("{\"ok\":true}\nt (trailer): 1"),
        "{}",
        response.text
    );
    assert_eq!(response.detail, Detail::HttpResponse { status: 200 });
}

#[test]
fn leaks_name_the_frame_that_carried_them() {
    let mut talk = Talk::open(80);
    let messages = talk.cut(0, REQUEST, &[40]).messages();
    assert_eq!(messages.len(), 1);
    for leak in &messages[0].leaks {
        let raw = REQUEST.windows(4).position(|window| match leak.kind {
            LeakKind::BearerToken => window == b"not-",
            _ => window == b"4111",
        });
        assert_eq!(leak.frame, 4 + raw.unwrap() as u64 / 40, "{:?}", leak.kind);
    }
    assert_eq!(messages[0].frames, [4, 5, 6, 7]);
}

#[test]
fn pipelined_requests_and_interim_responses_find_each_other() {
    let mut talk = Talk::open(8080);
    let messages = talk
        .client(b"GET /1 HTTP/1.1\r\n\r\nHEAD /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n")
        .server(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
        .server(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nHTTP/1.0 404 Not Found\r\n\r\nuntil the end")
        .close()
        .messages();
    let replies: Vec<_> = messages
        .iter()
        .map(|message| (message.summary.as_str(), message.in_reply_to))
        .collect();
    assert_eq!(
        replies,
        [
            ("GET /1", None),
            ("HEAD /2", None),
            ("GET /3", None),
            ("103 Early Hints", None),
            ("200 OK (1 bytes)", Some(1)),
            ("200 OK", Some(2)),
            ("404 Not Found (13 bytes)", Some(3)),
        ]
    );
    assert!(messages.iter().all(|message| !message.incomplete));
}

#[test]
fn segments_out_of_order_repeated_and_overlapping_say_the_same() {
    let straight = Talk::open(80).client(REQUEST).server(RESPONSE).close().messages();
    let mut talk = Talk::open(80);
    talk.cut(0, REQUEST, &[17]).server(RESPONSE).close();
    let pieces = 3..3 + REQUEST.len().div_ceil(17);
    let mut shuffled = talk.packets.clone();
    shuffled[pieces.clone()].reverse();
    assert_eq!(seen(&dissect(&shuffled)), seen(&straight));
    let mut repeated = Vec::new();
    for packet in &talk.packets {
        repeated.push(packet.clone());
        repeated.push(packet.clone());
    }
    let mut dissector = Dissector::default();
    let mut out = feed(&mut dissector, &repeated);
    out.extend(dissector.finish());
    assert_eq!(seen(&out), seen(&straight));
    assert_eq!(dissector.stats().retransmissions, pieces.len() as u64 + 1);
    // The same bytes again in segments of another size, which overlap the first ones.
    let mut overlapping = Talk::open(80);
    overlapping.cut(0, &REQUEST[..60], &[20]);
    overlapping.packets.truncate(6);
    overlapping.packets.remove(4);
    overlapping.packets.push(tcp(
        CLIENT,
        server(80),
        0xffff_fff1_u32.wrapping_add(10),
        78,
        ACK,
        &REQUEST[10..],
    ));
    overlapping.packets.push(tcp(
        server(80),
        CLIENT,
        78,
        0xffff_fff1_u32.wrapping_add(REQUEST.len() as u32),
        ACK,
        RESPONSE,
    ));
    assert_eq!(seen(&dissect(&overlapping.packets)), seen(&straight));
}

#[test]
fn bytes_that_contradict_earlier_ones_are_counted_and_lose() {
    let mut talk = Talk::open(80);
    let first = 0xffff_fff1_u32;
    talk.packets.push(tcp(
        CLIENT,
        server(80),
        first.wrapping_add(4),
        78,
        ACK,
        b"/one HTTP/1.1\r\n\r\n",
    ));
    talk.packets.push(tcp(
        CLIENT,
        server(80),
        first.wrapping_add(4),
        78,
        ACK,
        b"/two HTTP/1.1\r\n\r\n",
    ));
    talk.packets.push(tcp(CLIENT, server(80), first, 78, ACK, b"GET "));
    let mut dissector = Dissector::default();
    let out = feed(&mut dissector, &talk.packets);
    assert_eq!(summaries(&out), ["GET /one"]);
    assert_eq!(dissector.stats().conflicts, 1);
}

#[test]
fn a_lost_segment_is_said_and_does_not_hide_what_follows() {
    let mut talk = Talk::open(80);
    talk.cut(0, REQUEST, &[REQUEST.len() - 10, 10]).server(RESPONSE);
    talk.client(b"GET /next HTTP/1.1\r\n\r\n").server(RESPONSE).close();
    talk.packets.remove(4);
    let messages = talk.messages();
    assert_eq!(
        summaries(&messages),
        [
            "POST /charge (30 bytes)",
            "200 OK (11 bytes)",
            "GET /next",
            "200 OK (11 bytes)"
        ]
    );
    assert!(messages[0].incomplete && messages[0].text.contains("10 bytes of this body were not captured"));
    assert!(!messages[2].incomplete);
    // And where the head itself is lost.
    let mut talk = Talk::open(80);
    talk.cut(0, REQUEST, &[20, 20, 500]).server(RESPONSE);
    talk.client(b"GET /next HTTP/1.1\r\n\r\n").server(RESPONSE).close();
    talk.packets.remove(4);
    assert_eq!(summaries(&talk.messages())[1..], ["GET /next", "200 OK (11 bytes)"]);
}

#[test]
fn frames_cut_by_the_snapshot_length_leave_a_marked_hole() {
    let mut talk = Talk::open(80);
    talk.client(REQUEST).server(RESPONSE).close();
    let mut dissector = Dissector::default();
    let mut out = Vec::new();
    for (index, packet) in talk.packets.iter().enumerate() {
        let data = &packet[..packet.len().min(40 + REQUEST.len() - 5)];
        let (number, orig_len) = (index as u64 + 1, packet.len() as u32);
        out.extend(dissector.feed(Frame {
            number,
            ts_ns: number,
            link: LinkType::RAW,
            orig_len,
            data,
        }));
    }
    assert_eq!(summaries(&out)[0], "POST /charge (30 bytes)");
    assert!(out[0].incomplete);
    assert_eq!((dissector.stats().cut, dissector.stats().gaps), (1, 1));
}

#[test]
fn a_connection_met_under_way_is_read_from_the_next_message_on() {
    let mut talk = Talk::midway(80, [1000, 2000]);
    talk.client(b"...the end of something").server(b"...else");
    talk.client(REQUEST).server(RESPONSE);
    let messages = talk.messages();
    assert!(
        messages
            .iter()
            .any(|message| message.summary == "POST /charge (30 bytes)"),
        "{:?}",
        summaries(&messages)
    );
    assert!(messages.iter().any(|message| message.summary == "200 OK (11 bytes)"));
}

#[test]
fn connections_that_come_to_nothing_are_told() {
    let mut refused = Talk::midway(80, [1, 2]);
    refused.send(0, SYN, &[]).send(1, RST | ACK, &[]);
    let mut reset = Talk::open(80);
    reset.client(b"GET / HTTP/1.1\r\n\r\n").send(1, RST | ACK, &[]);
    let mut empty = Talk::open(80);
    empty.close();
    let mut silence = Talk::midway(80, [1, 2]);
    silence.send(0, SYN, &[]);
    for (talk, event, from) in [
        (refused, "refused", server(80)),
        (reset, "reset", server(80)),
        (empty, "opened", CLIENT),
        (silence, "unanswered", CLIENT),
    ] {
        let messages = talk.messages();
        let last = messages.last().unwrap();
        assert_eq!(last.detail, Detail::Connection { event: event.into() });
        assert_eq!(last.from.addr, from.into(), "{event}");
    }
}

/// A session of a PostgreSQL client: login in clear, a query, an extended query.
pub(super) fn session() -> [(usize, Vec<u8>); 8] {
    let login = [
        pg(b'R', &0_u32.to_be_bytes()),
        pg(b'S', b"server_version\x0015\0"),
        pg(b'K', &[0; 8]),
        pg(b'Z', b"I"),
    ];
    let rows = [
        pg(b'T', b"\0\x02id\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0card\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
        pg(b'D', b"\0\x02\0\0\0\x011\0\0\0\x104111111111111111"),
        pg(b'D', b"\0\x02\0\0\0\x012\xff\xff\xff\xff"),
        pg(b'C', b"SELECT 2\0"),
        pg(b'Z', b"I"),
    ];
    let extended = [
        pg(b'P', b"\0insert into payments values ($1)\0\0\0"),
        pg(b'B', b"\0\0\0\0\0\x01\0\0\0\x035 \xe2\0\0"),
        pg(b'E', b"\0\0\0\0\0"),
        pg(b'S', b""),
    ];
    [
        (0, pg_startup("shop", "ledger")),
        (1, pg(b'R', &3_u32.to_be_bytes())),
        (0, pg(b'p', b"not-a-real-password\0")),
        (1, login.concat()),
        (0, pg(b'Q', b"select id, card\n from payments\0")),
        (1, rows.concat()),
        (0, extended.concat()),
        (
            1,
            [
                pg(b'1', b""),
                pg(b'2', b""),
                pg(b'E', b"SERROR\0C23505\0Mduplicate key\0\0"),
                pg(b'Z', b"I"),
            ]
            .concat(),
        ),
    ]
}

#[test]
fn a_database_session_is_read_with_its_login() {
    let mut talk = Talk::open(5432);
    for (from, bytes) in session() {
        talk.send(from, ACK, &bytes);
    }
    let messages = talk.close().messages();
    assert_eq!(
        summaries(&messages),
        [
            "opens a session as shop on database ledger",
            "asks for the password, cleartext",
            "sends the password in clear",
            "login accepted",
            "select id, card from payments",
            "SELECT 2",
            "insert into payments values ($1)",
            "error 23505: duplicate key",
        ]
    );
    let leak = &messages[2].leaks[0];
    assert_eq!(
        (leak.kind, leak.value.as_str(), leak.account.as_deref(), leak.frame),
        (LeakKind::DatabaseLogin, "not-a-real-password", Some("shop"), 6)
    );
    assert_eq!(&messages[2].text[leak.start..leak.end], "not-a-real-password");
    assert!(
        messages[5]
            .text
            .contains("columns: id | card\n  1 | 4111111111111111\n  2 | NULL\nSELECT 2")
    );
    assert_eq!(messages[5].leaks[0].kind, LeakKind::CardNumber);
    assert_eq!(
        messages[5].detail,
        Detail::PostgresResult {
            rows: 2,
            tag: Some("SELECT 2".into()),
            error: None
        }
    );
    assert!(messages[6].text.contains("$1 = 5 \\xe2"), "{}", messages[6].text);
    for pair in [(1, 0), (3, 2), (5, 4), (7, 6)] {
        assert_eq!(messages[pair.0].in_reply_to, Some(messages[pair.1].seq), "{pair:?}");
    }
}

#[test]
fn hashed_logins_are_named_and_leak_nothing() {
    for (asked, answer, method) in [
        (b"\0\0\0\x05salt".to_vec(), b"md5abcdef\0".to_vec(), "md5"),
        (
            b"\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec(),
            b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=nonce".to_vec(),
            "scram-sha-256",
        ),
    ] {
        let mut talk = Talk::open(5432);
        talk.client(&pg_startup("shop", "ledger"))
            .server(&pg(b'R', &asked))
            .client(&pg(b'p', &answer));
        let messages = talk.messages();
        let Detail::PostgresLogin { step, method: used, .. } = &messages[2].detail else {
            panic!("a login")
        };
        assert_eq!((step.as_str(), used.as_deref()), ("password", Some(method)));
        assert!(messages.iter().all(|message| message.leaks.is_empty()));
    }
}

#[test]
fn a_refused_login_and_a_session_met_under_way_are_read() {
    let mut talk = Talk::open(5432);
    talk.client(&pg_startup("shop", "ledger"))
        .server(&pg(b'R', &3_u32.to_be_bytes()))
        .client(&pg(b'p', b"wrong\0"))
        .server(&pg(b'E', b"SFATAL\0C28P01\0Mpassword authentication failed\0\0"));
    assert_eq!(
        summaries(&talk.messages())[3],
        "error 28P01: password authentication failed"
    );
    let mut talk = Talk::midway(5432, [5, 6]);
    talk.client(&pg(b'Q', b"select 1\0"))
        .server(&[pg(b'C', b"SELECT 1\0"), pg(b'Z', b"I")].concat());
    assert_eq!(summaries(&talk.messages()), ["select 1", "SELECT 1"]);
}

#[test]
fn an_encrypted_database_session_shows_nothing() {
    let mut talk = Talk::open(5432);
    talk.client(&[0, 0, 0, 8, 4, 210, 22, 47])
        .server(b"S")
        .client(b"\x16\x03\x01\0\x04\x01\0\0\0")
        .server(b"\x17\x03\x03\0\x03abc");
    let messages = talk.messages();
    assert_eq!(
        summaries(&messages),
        [
            "asks for encryption",
            "agrees to encryption",
            "TLS ClientHello that does not hold together",
            "encrypted (3 bytes)"
        ]
    );
    assert_eq!(messages[3].protocol, Protocol::Tls);
}

#[test]
fn dns_questions_find_their_answers() {
    let name = b"\x0cpayments-api\x04shop\x03svc\x07cluster\x05local\0\0\x01\0\x01";
    let question = [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..], name].concat();
    let answer = [
        &b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0"[..],
        name,
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\x60\x01\x02",
    ]
    .concat();
    let missing = [&b"\x12\x35\x81\x83\0\x01\0\0\0\0\0\0"[..], name].concat();
    let packets = [
        udp(CLIENT, server(53), &question),
        udp(server(53), CLIENT, &answer),
        udp(server(53), CLIENT, &missing),
        udp(server(53), CLIENT, b"garbage"),
    ];
    let messages = dissect(&packets);
    assert_eq!(
        summaries(&messages),
        [
            "A payments-api.shop.svc.cluster.local. ?",
            "A payments-api.shop.svc.cluster.local. = 10.96.1.2",
            "A payments-api.shop.svc.cluster.local.: Non-Existent Domain",
            "7 bytes"
        ]
    );
    assert_eq!(messages[1].in_reply_to, Some(1));
    // A name that points to itself, and one that points behind the end.
    for pointer in [b"\xc0\x0c", b"\xc0\xff"] {
        let looping = [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..], pointer, b"\0\x01\0\x01"].concat();
        assert_eq!(summaries(&dissect(&[udp(CLIENT, server(53), &looping)])), ["18 bytes"]);
    }
    let mut talk = Talk::open(53);
    let framed = |message: &[u8]| [&(message.len() as u16).to_be_bytes()[..], message].concat();
    let over_tcp = talk.client(&framed(&question)).server(&framed(&answer)).messages();
    assert_eq!(summaries(&over_tcp), summaries(&messages[..2]));
}

#[test]
fn link_layers_lead_to_the_same_packet() {
    let packet = udp(CLIENT, server(9), b"hello");
    let sll2 = [&b"\x08\0\0\0\0\0\0\x07\0\x01\x04\x06\0\0\0\0\0\0\0\0"[..], &packet].concat();
    let sll = [&b"\0\x04\0\x01\0\x06\0\0\0\0\0\0\0\0\x08\0"[..], &packet].concat();
    let ethernet = [&[0; 12][..], b"\x08\0", &packet, &[0; 7]].concat();
    let vlan = [&[0; 12][..], b"\x81\0\0\x05\x08\0", &packet].concat();
    let null = [&b"\x02\0\0\0"[..], &packet].concat();
    for (link, data, ifindex) in [
        (LinkType::RAW, packet, None),
        (LinkType::LINUX_SLL2, sll2, Some(7)),
        (LinkType::LINUX_SLL, sll, None),
        (LinkType::ETHERNET, ethernet, None),
        (LinkType::ETHERNET, vlan, None),
        (LinkType::NULL, null, None),
    ] {
        let frame = Frame {
            number: 1,
            ts_ns: 1,
            link,
            orig_len: data.len() as u32,
            data: &data,
        };
        let messages = Dissector::default().feed(frame);
        assert_eq!(messages.len(), 1, "{link:?}");
        assert_eq!(
            (messages[0].text.as_str(), messages[0].ifindex),
            ("hello", ifindex),
            "{link:?}"
        );
    }
}

#[test]
fn ipv6_is_read_behind_its_extension_headers() {
    let mut packet = vec![0x60, 0, 0, 0, 0, 21, 0, 64];
    packet.extend_from_slice(&[0xfd; 32]);
    packet.extend_from_slice(b"\x11\0\0\0\0\0\0\0");
    packet.extend_from_slice(b"\0\x09\0\x0a\0\x0d\0\0hello");
    assert_eq!(dissect(&[packet])[0].text, "hello");
}

#[test]
fn limits_hold() {
    let limits = Limits {
        flows: 16,
        total_bytes: 64 << 10,
        stream_bytes: 8 << 10,
        pieces: 8,
        ..Limits::default()
    };
    let mut dissector = Dissector::new(limits);
    for port in 0..2000_u16 {
        let from = std::net::SocketAddrV4::new(*CLIENT.ip(), 1024 + port);
        let syn = tcp(from, server(80), 0, 0, SYN, &[]);
        let beyond_a_hole = tcp(from, server(80), 1000, 0, ACK, &[b'a'; 1000]);
        feed(&mut dissector, &[syn, beyond_a_hole]);
        assert!(dissector.held() <= limits.total_bytes);
    }
    assert!(dissector.stats().evicted >= 1900);
    // Ever more pieces behind a hole, and a head that never ends.
    let mut dissector = Dissector::new(limits);
    let mut talk = Talk::open(80);
    feed(&mut dissector, &talk.packets);
    talk.packets.clear();
    talk.client(b"x");
    talk.packets.clear();
    for _ in 0..1000 {
        talk.client(&[b'a'; 500]).send(0, ACK, b"b");
        talk.packets.truncate(1);
        feed(&mut dissector, &talk.packets);
        talk.packets.clear();
        assert!(dissector.held() <= 200 << 10);
    }
    let mut dissector = Dissector::default();
    let mut talk = Talk::open(80);
    talk.client(b"GET / HTTP/1.1\r\n");
    for _ in 0..3000 {
        talk.client(&[b'a'; 1000]);
    }
    feed(&mut dissector, &talk.packets);
    assert!(dissector.held() < 1 << 20, "{}", dissector.held());
}

#[test]
fn capture_files_are_read_in_pieces_of_any_size() {
    use pcapfile::{PcapReader, pcap_header, pcap_record};
    let packet = udp(CLIENT, server(9), b"hello");
    let mut pcap = pcap_header(LinkType::RAW, 65535);
    pcap_record(1_000_000_007, 999, &packet, &mut pcap);
    pcap_record(2_000_000_007, 999, &packet, &mut pcap);
    let mut ng =
        b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0".to_vec();
    ng.extend_from_slice(b"\x01\0\0\0\x20\0\0\0\x65\0\0\0\0\0\0\0\x09\0\x01\0\x09\0\0\0\0\0\0\0\x20\0\0\0");
    let padded = packet.len().next_multiple_of(4);
    for ts in [1_000_000_007_u64, 2_000_000_007] {
        let length = (32 + padded as u32).to_le_bytes();
        ng.extend_from_slice(&6_u32.to_le_bytes());
        ng.extend_from_slice(&length);
        ng.extend_from_slice(&[0; 4]);
        ng.extend_from_slice(&((ts >> 32) as u32).to_le_bytes());
        ng.extend_from_slice(&(ts as u32).to_le_bytes());
        ng.extend_from_slice(&(packet.len() as u32).to_le_bytes());
        ng.extend_from_slice(&999_u32.to_le_bytes());
        ng.extend_from_slice(&packet);
        ng.resize(ng.len() + padded - packet.len(), 0);
        ng.extend_from_slice(&length);
    }
    for file in [pcap, ng] {
        for size in [1, 3, 7, 64, 4096] {
            let mut reader = PcapReader::default();
            let mut times = Vec::new();
            for piece in file.chunks(size) {
                reader.push(piece);
                while let Some(record) = reader.next_record().unwrap() {
                    assert_eq!(
                        (record.data, record.orig_len, record.link),
                        (&packet[..], 999, LinkType::RAW)
                    );
                    times.push(record.ts_ns);
                }
            }
            assert_eq!(times, [1_000_000_007, 2_000_000_007]);
            assert_eq!(reader.finish(), Ok(()));
        }
    }
    let mut reader = PcapReader::default();
    reader.push(b"hello, I am no capture");
    assert!(matches!(reader.next_record(), Err(pcapfile::PcapError::Magic(_))));
}

/// A capture file of the conversations of these tests.
fn capture_file(talks: &[Talk]) -> Vec<u8> {
    let mut file = pcapfile::pcap_header(LinkType::RAW, 65535);
    let mut ts = 1_700_000_000_000_000_000;
    for packet in talks.iter().flat_map(|talk| &talk.packets) {
        ts += 1_000_000;
        pcapfile::pcap_record(ts, packet.len() as u32, packet, &mut file);
    }
    file
}

/// The conversations that the fuzz corpus starts from.
fn corpus() -> [(&'static str, Talk); 3] {
    let mut payment = Talk::open(80);
    payment.cut(0, REQUEST, &[50]).server(RESPONSE).close();
    let mut login = Talk::open(5432);
    for (from, bytes) in session() {
        login.send(from, ACK, &bytes);
    }
    login.close();
    let mut hello = Talk::open(443);
    hello
        .client(b"\x16\x03\x01\0\x04\x01\0\0\0")
        .server(b"\x17\x03\x03\0\x03abc");
    [("payment", payment), ("login", login), ("hello", hello)]
}

#[test]
fn the_fuzz_corpus_is_read() {
    for (name, talk) in corpus() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fuzz/corpus/capture/{name}.pcap"));
        let made = capture_file(std::slice::from_ref(&talk));
        if std::env::var_os("ZTLAB_WRITE_CORPUS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let file = std::fs::read(&path).unwrap();
        assert!(file == made, "{name}: write it again with ZTLAB_WRITE_CORPUS=1");
        assert_eq!(seen(&fuzz_capture(&file)), seen(&talk.messages()));
    }
}

/// Turns as the fuzz targets of single protocols take them: who speaks, how many bytes, the bytes.
fn steered(turns: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (from, bytes) in turns {
        for piece in bytes.chunks(255) {
            out.extend_from_slice(&[*from as u8, piece.len() as u8]);
            out.extend_from_slice(piece);
        }
    }
    out
}

#[test]
fn the_seeds_of_the_fuzz_targets_are_read() {
    let name = b"\x0cpayments-api\x04shop\x03svc\x07cluster\x05local\0\0\x01\0\x01";
    let question = [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..], name].concat();
    let answer = [
        &b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0"[..],
        name,
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\x60\x01\x02",
    ]
    .concat();
    let http = steered(&[(0, REQUEST.to_vec()), (1, RESPONSE.to_vec())]);
    let postgres = steered(&session());
    let dns = steered(&[(0, question), (1, answer)]);
    assert_eq!(fuzz_talk(80, true, &http).len(), 2);
    assert_eq!(fuzz_talk(5432, true, &postgres).len(), 8);
    assert_eq!(fuzz_datagrams(53, &dns).len(), 2);
    for (target, seed) in [("http", http), ("postgres", postgres), ("dns", dns)] {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(target);
        let path = dir.join("seed");
        if std::env::var_os("ZTLAB_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &seed).unwrap();
        }
        let file = std::fs::read(&path).unwrap();
        assert!(file == seed, "{target}: write it again with ZTLAB_WRITE_CORPUS=1");
    }
}

/// Bytes that a decoder may take seriously for a while.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..200),
        Just(REQUEST.to_vec()),
        Just(RESPONSE.to_vec()),
        Just(session().iter().flat_map(|(_, bytes)| bytes.clone()).collect()),
        Just(pg_startup("shop", "ledger")),
        (0_u8..8, any::<u16>(), vec(any::<u8>(), 0..60)).prop_map(|(kind, length, body)| {
            [&[kind + 18, 3, 3][..], &(length % 64).to_be_bytes(), &body].concat()
        }),
        vec(any::<u8>(), 0..40)
            .prop_map(|tail| [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &tail[..]].concat()),
    ]
}

/// An answer in chunks, with a field behind them.
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n10\r\n4111111111111111\r\n0\r\nSet-Cookie: c=d\r\n\r\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_frame_is_survived(link in prop_oneof![Just(0_u32), Just(1), Just(101), Just(113), Just(276), any::<u32>()],
                             frames in vec(vec(any::<u8>(), 0..120), 0..20)) {
        fuzz_frames(link, &frames);
    }

    #[test]
    fn any_conversation_is_survived_and_bounded(
        port in prop_oneof![Just(80_u16), Just(443), Just(5432), Just(53)],
        turns in vec((0_usize..2, plausible(), 0_u32..40, 0_u8..32), 0..24),
    ) {
        let mut dissector = Dissector::default();
        let mut talk = Talk::open(port);
        for (from, bytes, skip, flags) in &turns {
            talk.send(*from, ACK | (flags & 3), bytes);
            if *skip < 4 {
                talk.packets.pop();
            }
        }
        let mut messages = feed(&mut dissector, &talk.packets);
        prop_assert!(dissector.held() < 8 << 20);
        messages.extend(dissector.tick(u64::MAX));
        messages.extend(dissector.finish());
        prop_assert_eq!(dissector.held(), 0);
        for message in &messages {
            prop_assert!(!message.text.chars().any(|char| char.is_control() && char != '\n'));
            prop_assert!(!message.summary.chars().any(char::is_control));
            prop_assert!(!message.frames.is_empty());
            for leak in &message.leaks {
                prop_assert!(message.text.get(leak.start..leak.end).is_some());
            }
        }
        let json = serde_json::to_string(&messages).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<Message>>(&json).unwrap(), messages);
    }

    #[test]
    fn how_bytes_are_cut_makes_no_difference(sizes in vec(1_usize..50, 1..12), shuffle in any::<bool>()) {
        // Reversed, single bytes would be more pieces than may wait behind a hole.
        let sizes: Vec<usize> = sizes.iter().map(|size| if shuffle { size + 3 } else { *size }).collect();
        for turns in [
            session().to_vec(),
            vec![(0, REQUEST.to_vec()), (1, RESPONSE.to_vec()), (0, [REQUEST, REQUEST].concat()), (1, [RESPONSE, RESPONSE].concat())],
            vec![
                (0, [b"\r\n", REQUEST].concat()),
                (1, [CHUNKED, CHUNKED].concat()),
                (0, b"CONNECT ledger:5432 HTTP/1.1\r\nHost: ledger\r\n\r\n".to_vec()),
                (1, b"HTTP/1.1 200 OK\r\n\r\n220 ready\r\n".to_vec()),
                (0, b"HELO 4111111111111111\r\n".to_vec()),
                (1, b"ok\r\n".to_vec()),
            ],
            vec![(0, REQUEST.to_vec()), (1, b"HTTP/1.0 200 OK\r\nSet-Cookie: a=b\r\n\r\npassword=x1\n".to_vec())],
            vec![(0, REQUEST.to_vec()), (1, [b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabcHTTP", RESPONSE].concat())],
            vec![(1, b"220 ready\r\n".to_vec()), (0, b"caf\xc3\xa9 4111111111111111\r\n".to_vec()), (1, b"ok\xe2\x82\xac".to_vec())],
            vec![(0, b"\x16\x03\x01\0\x04\x01\0\0\0".to_vec()), (1, b"\x17\x03\x03\0\x03abc\x17\x03\x03\0\x03abc".to_vec())],
        ] {
            let port = if turns.len() == 8 { 5432 } else { 80 };
            let mut whole = Talk::open(port);
            let mut cut = Talk::open(port);
            for (from, bytes) in &turns {
                whole.send(*from, ACK, bytes);
                let start = cut.packets.len();
                cut.cut(*from, bytes, &sizes);
                if shuffle {
                    let end = cut.packets.len() - 1;
                    cut.packets[start..end].reverse();
                }
            }
            prop_assert_eq!(seen(&whole.close().messages()), seen(&cut.close().messages()));
        }
    }

    #[test]
    fn any_file_is_survived(start in 0_usize..4, bytes in vec(any::<u8>(), 0..300)) {
        let magic: [&[u8]; 4] = [b"", b"\xd4\xc3\xb2\xa1", b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a", b"\xa1\xb2\x3c\x4d"];
        fuzz_capture(&[magic[start], &bytes].concat());
    }
}
