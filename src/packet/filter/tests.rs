//! Filters over a capture made for them.

use proptest::prelude::*;
use rustls::version::TLS12;

use super::*;
use crate::{
    Dissector, LinkType, decode,
    testing::*,
    tls::testing::{Session, turns},
};

fn capture() -> Vec<Vec<u8>> {
    let mut shop = Talk::open(80);
    shop.client(b"GET /pay HTTP/1.1\r\nHost: payments-api\r\nCookie: sid=1\r\n\r\n")
        .server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        .close();
    let mut encrypted = Talk::open(443);
    for (from, bytes) in turns(&Session::mutual(&TLS12)) {
        encrypted.send(from, ACK, &bytes);
    }
    encrypted.close();
    let mut packets = [shop.packets, encrypted.packets].concat();
    packets.push(udp(CLIENT, server(9), b"hello"));
    packets
}

/// How many packets, messages and conversations a filter lets through.
fn count(filter: &str) -> (usize, usize, usize) {
    let filter = Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
    let packets = capture();
    let mut dissector = Dissector::default();
    let mut messages = feed(&mut dissector, &packets);
    messages.extend(dissector.finish());
    let chosen = packets.iter().zip(1..).filter(|(data, number)| {
        let frame = Frame {
            number: *number,
            ts_ns: 0,
            link: LinkType::RAW,
            orig_len: data.len() as u32,
            data,
        };
        filter.packet(&frame, &decode(&frame))
    });
    (
        chosen.count(),
        messages.iter().filter(|message| filter.message(message)).count(),
        dissector.flows().iter().filter(|flow| filter.flow(flow)).count(),
    )
}

#[test]
fn fields_are_compared() {
    let all = count("");
    assert_eq!(all.2, 3);
    for (filter, expected) in [
        ("udp", (1, 1, 1)),
        ("tcp.port == 80", (8, 2, 1)),
        ("http", (0, 2, 1)),
        ("protocol == HTTP and from == 10.244.0.10", (0, 1, 1)),
        ("http.response.code >= 400", (0, 1, 0)),
        ("http.request.uri contains PAY", (0, 1, 0)),
        ("leak == cookie", (0, 1, 1)),
        ("leak", (0, 1, 1)),
        ("verdict == encrypted-mutual && tls.version == 1.2", (0, 0, 1)),
        ("encrypted or udp", (1, 1, 2)),
        ("spiffe contains \"sa/orders-api\"", (0, 1, 1)),
        ("tls.sni == payments-api.shop", (0, 1, 1)),
        ("tcp.flags.syn == 1", (4, 0, 0)),
        ("frame == 1", (1, 0, 0)),
        ("ip.addr == 10.244.0.0/24", all),
        ("ip.addr == 10.1.0.0/16", (0, 0, 0)),
        ("ip.dst != 10.244.0.20 and udp", (0, 0, 0)),
        ("not (ip.addr == 10.244.0.0/24)", (0, 0, 0)),
        ("!udp", (all.0 - 1, all.1 - 1, 2)),
        ("ip.ttl < 65", (all.0, 0, 0)),
        ("ip.id == 0x0001", (all.0, 0, 0)),
        ("udp and tcp or udp", (1, 1, 1)),
    ] {
        assert_eq!(count(filter), expected, "{filter}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (filter, told) in [
        (
            "htpp",
            "filter, character 1: there is no field \"htpp\", did you mean http?",
        ),
        (
            "tcp.prot == 80",
            "filter, character 1: there is no field \"tcp.prot\", did you mean tcp.port?",
        ),
        (
            "udp and zzzzzzzz",
            "filter, character 9: there is no field \"zzzzzzzz\"",
        ),
        ("udp and", "filter, character 8: expected a field, found the end"),
        ("(udp", "filter, character 5: expected `)`, found the end"),
        (
            "udp tcp",
            "filter, character 5: expected `and`, `or` or the end, found \"tcp\"",
        ),
        ("tcp.port ==", "filter, character 12: expected a value, found the end"),
        (
            "tcp.port = 80",
            "filter, character 10: expected a field, a value or an operator, found '='",
        ),
        (
            "text contains \"x",
            "filter, character 15: expected a closing quotation mark, found the end",
        ),
        ("== 3", "filter, character 1: expected a field, found an operator"),
    ] {
        assert_eq!(Filter::parse(filter).unwrap_err().to_string(), told);
    }
    assert_eq!(Filter::parse(&"!".repeat(1000)).unwrap_err(), FilterError::Deep(64));
    assert!(Filter::parse(&format!("{}udp{}", "(".repeat(60), ")".repeat(60))).is_ok());
}

#[test]
fn every_name_can_be_asked_for() {
    for name in names() {
        assert!(Filter::parse(name).is_ok(), "{name}");
        assert!(Filter::parse(&format!("{name} == 1")).is_ok(), "{name}");
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "[a-z.=!<>&|()\"\\\\ 0-9é]{0,40}") {
        let _ = Filter::parse(&text);
    }
}
