//! What two points saw, put together.

use std::net::SocketAddrV4;

use super::*;
use crate::{Dissector, FlowVerdict, Frame, LinkType, Who, testing::*};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 96, 0, 7), 80);
const HOLD: u64 = 1_000_000;

/// What a point saw of a connection: the packets as they stood there, each so much later than the one before.
struct Seen {
    messages: Vec<Message>,
    flows: Vec<Flow>,
}

fn who(kind: WhoKind, name: &str) -> Arc<Who> {
    Arc::new(Who {
        kind,
        namespace: Some("shop".to_owned()),
        name: name.to_owned(),
        workload: None,
    })
}

fn name(peer: &mut Peer) {
    let addr = peer.addr.ip();
    peer.who = if addr == *SERVICE.ip() {
        Some(who(WhoKind::Service, "payments-api"))
    } else if addr == *CLIENT.ip() {
        Some(who(WhoKind::Pod, "orders-api-1"))
    } else {
        Some(who(WhoKind::Pod, "payments-api-1"))
    };
}

/// The packets with the Service's address in place of the server's.
fn before_dnat(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let server = server(8080).ip().octets();
    let change = |packet: &Vec<u8>| {
        let mut packet = packet.clone();
        for (addr, port) in [(12, 20), (16, 22)] {
            if packet[addr..addr + 4] == server {
                packet[addr..addr + 4].copy_from_slice(&SERVICE.ip().octets());
                packet[port..port + 2].copy_from_slice(&SERVICE.port().to_be_bytes());
            }
        }
        packet
    };
    packets.iter().map(change).collect()
}

fn seen(pod: &str, packets: &[Vec<u8>], from_ns: u64) -> Seen {
    let mut dissector = Dissector::default();
    let mut messages = Vec::new();
    for (number, data) in (1..).zip(packets) {
        messages.extend(dissector.feed(Frame {
            number,
            ts_ns: from_ns + number * 10,
            link: LinkType::RAW,
            orig_len: data.len() as u32,
            data,
        }));
    }
    messages.extend(dissector.finish());
    let mut flows = dissector.flows();
    let point = Some(CapturePoint::pod("shop", pod).on("eth0"));
    for message in &mut messages {
        message.point.clone_from(&point);
        name(&mut message.from);
        name(&mut message.to);
    }
    for flow in &mut flows {
        flow.point.clone_from(&point);
        name(&mut flow.client);
        name(&mut flow.server);
    }
    Seen { messages, flows }
}

fn talk() -> Talk {
    let mut talk = Talk::open(8080);
    for _ in 0..2 {
        talk.client(b"GET / HTTP/1.1\r\nCookie: sid=1\r\n\r\n")
            .server(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    talk.close();
    talk
}

fn merged(points: &[(usize, Seen)]) -> (Vec<Message>, Vec<Flow>) {
    let mut merge = Merge::new(HOLD);
    for (point, seen) in points {
        seen.messages
            .iter()
            .for_each(|one| merge.message(*point, one.clone(), one.ts_ns));
        seen.flows
            .iter()
            .for_each(|one| merge.flow(*point, one.clone(), one.last_ns));
    }
    assert!(merge.ready(0).0.is_empty());
    let (mut messages, mut flows) = merge.ready(5 * HOLD);
    let (late, more) = merge.finish();
    messages.extend(late);
    flows.extend(more);
    (messages, flows)
}

#[test]
fn what_client_and_server_saw_is_one_conversation_with_both_names() {
    let packets = talk().packets;
    for order in [[0, 1], [1, 0]] {
        let client = seen("orders-api-1", &before_dnat(&packets), 0);
        let server = seen("payments-api-1", &packets, 3);
        let mut points = [Some((0, client)), Some((1, server))];
        let points: Vec<_> = order.iter().filter_map(|at| points[*at].take()).collect();
        let (messages, flows) = merged(&points);
        let routes: Vec<String> = messages.iter().map(Message::route).collect();
        let (there, back) = (
            "orders-api-1 → payments-api (svc) → payments-api-1 (pod)",
            "payments-api-1 (pod) → payments-api (svc) → orders-api-1",
        );
        assert_eq!(routes, [there, back, there, back]);
        for (message, seq) in messages.iter().zip(1..) {
            assert_eq!((message.seq, message.flow, message.also.len()), (seq, 1, 1));
            let pods = [&message.point, &message.also[0].point].map(|point| point.as_ref().unwrap().pod.as_str());
            assert_eq!(pods, ["orders-api-1", "payments-api-1"]);
            assert!(message.also[0].ts_ns.abs_diff(message.ts_ns) == 3);
            assert!(message.from.is("payments-api-1") || message.to.is("payments-api-1"));
            assert_eq!(message.in_reply_to, (seq % 2 == 0).then_some(seq - 1));
        }
        assert_eq!(messages[0].leaks[0].to.became.as_ref().unwrap().addr, server_addr());
        // The first point tells before the other has; the last word has both.
        let flow = flows.last().unwrap();
        assert!(flows.iter().all(|flow| flow.id == 1));
        assert_eq!((flow.verdict, flow.also.len()), (FlowVerdict::Readable, 1));
        assert_eq!(flow.server.names(), "payments-api (svc) → payments-api-1 (pod)");
    }
}

fn server_addr() -> std::net::SocketAddr {
    server(8080).into()
}

#[test]
fn the_same_without_a_service_is_one_message_too() {
    let packets = talk().packets;
    let client = seen("orders-api-1", &packets, 0);
    let server = seen("payments-api-1", &packets, 3);
    let (messages, _) = merged(&[(0, client), (1, server)]);
    assert_eq!(messages.len(), 4);
    for message in &messages {
        assert!(message.also.len() == 1 && message.from.became.is_none() && message.to.became.is_none());
    }
}

#[test]
fn what_comes_too_late_or_reads_otherwise_is_told_by_itself() {
    let packets = talk().packets;
    let late = merged(&[
        (0, seen("orders-api-1", &packets, 0)),
        (1, seen("payments-api-1", &packets, 2 * HOLD)),
    ]);
    assert_eq!(late.0.len(), 8);
    assert!(late.0.iter().all(|message| message.also.is_empty()));
    assert!(late.0.windows(2).all(|pair| pair[0].ts_ns <= pair[1].ts_ns), "by time");
    // The server's capture misses the first answer.
    let mut holed = packets.clone();
    holed.remove(4);
    let other = merged(&[
        (0, seen("orders-api-1", &packets, 0)),
        (1, seen("payments-api-1", &holed, 3)),
    ]);
    let alone = other.0.iter().filter(|message| message.also.is_empty()).count();
    assert!(alone > 0, "{:?}", other.0);
    assert!(other.0.iter().any(|message| message.also.len() == 1));
}

#[test]
fn the_same_point_twice_is_no_twin_and_neither_is_another_connection() {
    let packets = talk().packets;
    let again = merged(&[
        (0, seen("orders-api-1", &packets, 0)),
        (0, seen("orders-api-1", &packets, 3)),
    ]);
    assert!(again.0.iter().all(|message| message.also.is_empty()));
    // A proxy says the same from other ports to another server.
    let onward: Vec<Vec<u8>> = packets
        .iter()
        .map(|packet| {
            let mut packet = packet.clone();
            for at in [12, 16] {
                packet[at + 3] ^= 0x40;
            }
            packet
        })
        .collect();
    let proxied = merged(&[
        (0, seen("orders-api-1", &packets, 0)),
        (1, seen("payments-api-1", &onward, 3)),
    ]);
    assert_eq!(proxied.0.len(), 8);
    assert!(proxied.0.iter().all(|message| message.also.is_empty()));
    let flows: std::collections::BTreeSet<u64> = proxied.0.iter().map(|message| message.flow).collect();
    assert_eq!(flows.len(), 2);
}

#[test]
fn what_waits_is_bounded() {
    let one = seen("orders-api-1", &talk().packets, 0).messages.remove(0);
    let mut merge = Merge::new(HOLD);
    for number in 0..2 * WAITING as u64 {
        let message = Message {
            seq: number,
            flow: number,
            ts_ns: number,
            summary: number.to_string(),
            ..one.clone()
        };
        merge.message(0, message, 0);
    }
    assert_eq!(merge.waiting.len(), WAITING);
    assert!(merge.flows.map.len() <= REMEMBERED && merge.seqs.map.len() <= REMEMBERED);
    let (given, _) = merge.ready(0);
    assert_eq!(given.len(), WAITING);
    assert_eq!(merge.finish().0.len(), WAITING);
    assert!(merge.prints.is_empty());
}

#[test]
fn points_that_judge_otherwise_are_told() {
    let packets = talk().packets;
    let client = seen("orders-api-1", &packets, 0);
    let mut server = seen("payments-api-1", &packets, 3);
    server.flows[0].verdict = FlowVerdict::Refused;
    let (_, flows) = merged(&[(0, client), (1, server)]);
    let flow = flows.last().unwrap();
    assert_eq!((flow.verdict, flow.also.len()), (FlowVerdict::Readable, 0));
    let last = flow.evidence.last().unwrap();
    assert_eq!(
        last.says,
        "payments-api-1 (eth0, on the wire) shows it otherwise: refused"
    );
}
