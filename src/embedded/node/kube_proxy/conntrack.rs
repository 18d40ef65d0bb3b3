//! What the kernel remembers of UDP: a client that goes on sending from one port stays with the endpoint it was led to first,
//! also when that has gone. Where a front leads elsewhere, what leads to endpoints that are not its own any more is forgotten.
//!
//! Source: linux/netfilter/nfnetlink_conntrack.h. Attributes are in network byte order.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use crate::node::netlink::{Batch, NetlinkError, Socket, attributes};

use super::{Protocol, RuleSet, ServicePort, Way};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
/// `nfgenmsg` of IPv4.
const HEADER: [u8; 4] = [2, 0, 0, 0];
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_SOURCE: u16 = 1;
const IP_DESTINATION: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE_PORT: u16 = 2;
const PROTO_DESTINATION_PORT: u16 = 3;

/// UDP fronts that lead elsewhere than they did, with the endpoints that they lead to now.
pub(super) type Moved = BTreeMap<ServicePort, BTreeSet<SocketAddrV4>>;

/// The UDP fronts that lead elsewhere, and where to. Pure.
pub(super) fn moved(before: &RuleSet, after: &RuleSet) -> Moved {
    let endpoints = |rules: &RuleSet, front: &ServicePort| match rules.fronts.get(front) {
        Some(Way::To(backends)) => backends.endpoints.clone(),
        _ => BTreeSet::new(),
    };
    let fronts = before.fronts.keys().chain(after.fronts.keys());
    let udp = fronts.filter(|front| front.protocol == Protocol::Udp);
    udp.filter(|front| before.fronts.get(front) != after.fronts.get(front))
        .map(|front| (*front, endpoints(after, front)))
        .collect()
}

/// A connection as the kernel tracks it.
struct Tracked<'a> {
    /// Where its first packet was sent.
    to: ServicePort,
    /// Who answers.
    by: SocketAddrV4,
    original: &'a [u8],
    id: Option<&'a [u8]>,
}

/// Forgets what leads from these fronts to endpoints that are not theirs.
///
/// # Errors
/// What the kernel refused.
pub(super) fn forget(socket: &Socket, moved: &Moved) -> Result<(), NetlinkError> {
    let all = socket.dump(SUBSYSTEM << 8 | GET, &HEADER, "list tracked connections")?;
    for message in &all {
        let Some(tracked) = read(message).filter(|tracked| stale(tracked, moved)) else {
            continue;
        };
        let mut batch = Batch::default();
        batch.message(SUBSYSTEM << 8 | DELETE, 0, &HEADER, "forget a tracked connection");
        batch.nest(TUPLE_ORIGINAL, |b| nested(b, tracked.original));
        if let Some(id) = tracked.id {
            batch.bytes(ID, id);
        }
        match socket.send(&batch) {
            Err(error) if error.source.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A tuple as it was read: it is two levels deep.
fn nested(b: &mut Batch, tuple: &[u8]) {
    for (kind, inner) in attributes(tuple) {
        match kind {
            TUPLE_IP | TUPLE_PROTO => b.nest(kind, |b| {
                for (kind, value) in attributes(inner) {
                    b.bytes(kind, value);
                }
            }),
            _ => b.bytes(kind, inner),
        }
    }
}

fn stale(tracked: &Tracked<'_>, moved: &Moved) -> bool {
    moved
        .get(&tracked.to)
        .is_some_and(|endpoints| !endpoints.contains(&tracked.by))
}

fn read(message: &[u8]) -> Option<Tracked<'_>> {
    let attribute = |wanted| attribute(message.get(HEADER.len()..)?, wanted);
    let original = attribute(TUPLE_ORIGINAL)?;
    let (ip, port) = end(original, IP_DESTINATION, PROTO_DESTINATION_PORT)?;
    let (answering, its_port) = end(attribute(TUPLE_REPLY)?, IP_SOURCE, PROTO_SOURCE_PORT)?;
    Some(Tracked {
        to: ServicePort {
            ip,
            protocol: Protocol::Udp,
            port,
        },
        by: SocketAddrV4::new(answering, its_port),
        original,
        id: attribute(ID),
    })
}

/// One end of a UDP tuple; `None` for other protocols.
fn end(tuple: &[u8], ip: u16, port: u16) -> Option<(Ipv4Addr, u16)> {
    let proto = attribute(tuple, TUPLE_PROTO)?;
    if attribute(proto, PROTO_NUMBER)? != [Protocol::Udp.number()] {
        return None;
    }
    let ip: [u8; 4] = attribute(attribute(tuple, TUPLE_IP)?, ip)?.try_into().ok()?;
    let port: [u8; 2] = attribute(proto, port)?.try_into().ok()?;
    Some((Ipv4Addr::from(ip), u16::from_be_bytes(port)))
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::{super::Backends, *};

    fn front(protocol: Protocol) -> ServicePort {
        ServicePort {
            ip: Ipv4Addr::new(10, 96, 0, 7),
            protocol,
            port: 53,
        }
    }

    fn rules(endpoints: &[&str]) -> RuleSet {
        let mut rules = RuleSet::default();
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let backends = Backends {
                endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
                masquerade: false,
                affinity: None,
            };
            let way = if endpoints.is_empty() {
                Way::Refused
            } else {
                Way::To(backends)
            };
            rules.fronts.insert(front(protocol), way);
        }
        rules
    }

    #[test]
    fn udp_fronts_that_lead_elsewhere_have_moved() {
        let (one, two) = (rules(&["10.244.0.8:53"]), rules(&["10.244.0.8:53", "10.244.0.9:53"]));
        assert!(moved(&one, &one).is_empty());
        let there = |list: &[&str]| {
            Moved::from([(
                front(Protocol::Udp),
                list.iter().map(|one| one.parse().unwrap()).collect(),
            )])
        };
        assert_eq!(moved(&two, &one), there(&["10.244.0.8:53"]));
        assert_eq!(moved(&one, &rules(&[])), there(&[]));
        assert_eq!(moved(&one, &RuleSet::default()), there(&[]));
        assert_eq!(moved(&RuleSet::default(), &one), there(&["10.244.0.8:53"]));
    }

    /// A message as the kernel writes it: client 10.244.0.5:4000 to the front, answered by `by`.
    fn message(protocol: u8, by: [u8; 4]) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(value.len() + 4).unwrap();
            let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let nest = |kind: u16, parts: &[Vec<u8>]| attribute(kind | 0x8000, &parts.concat());
        let tuple = |kind, source: [u8; 4], destination: [u8; 4], ports: (u16, u16)| {
            let ip = nest(
                TUPLE_IP,
                &[attribute(IP_SOURCE, &source), attribute(IP_DESTINATION, &destination)],
            );
            let proto = [
                attribute(PROTO_NUMBER, &[protocol]),
                attribute(PROTO_SOURCE_PORT, &ports.0.to_be_bytes()),
                attribute(PROTO_DESTINATION_PORT, &ports.1.to_be_bytes()),
            ];
            nest(kind, &[ip, nest(TUPLE_PROTO, &proto)])
        };
        let original = tuple(TUPLE_ORIGINAL, [10, 244, 0, 5], [10, 96, 0, 7], (4000, 53));
        let reply = tuple(TUPLE_REPLY, by, [10, 244, 0, 5], (53, 4000));
        [HEADER.to_vec(), original, reply, attribute(ID, &[1, 2, 3, 4])].concat()
    }

    #[test]
    fn what_leads_to_endpoints_that_have_gone_is_stale() {
        let moved = moved(&rules(&["10.244.0.8:53", "10.244.0.9:53"]), &rules(&["10.244.0.8:53"]));
        for (protocol, by, expected) in [
            (17, [10, 244, 0, 8], false),
            (17, [10, 244, 0, 9], true),
            // not translated: sent when the front led nowhere
            (17, [10, 96, 0, 7], true),
            (6, [10, 244, 0, 9], false),
        ] {
            let message = message(protocol, by);
            let found = read(&message).is_some_and(|tracked| stale(&tracked, &moved));
            assert_eq!(found, expected, "{protocol} {by:?}");
        }
    }

    #[test]
    fn a_tuple_is_written_as_it_was_read() {
        let message = message(17, [10, 244, 0, 8]);
        let mut batch = Batch::default();
        batch.message(0, 0, &HEADER, "it");
        let tracked = read(&message).unwrap();
        batch.nest(TUPLE_ORIGINAL, |b| nested(b, tracked.original));
        assert!(batch.payload().starts_with(&message[..4 + 4 + tracked.original.len()]));
    }

    proptest::proptest! {
        #[test]
        fn any_message_is_read_without_a_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
