//! What can be asked of packets, messages and conversations.

use std::net::SocketAddr;

use super::{Subject, Value};
use crate::{Detail, FieldValue, Flow, Frame, Layers, Message, Peer, Protocol, Transport, Upper, field_names};

/// Fields of messages and conversations, and words that stand for more than one field of a header.
const NAMES: &[&str] = &[
    "frame",
    "flow",
    "from",
    "to",
    "who",
    "protocol",
    "summary",
    "text",
    "leak",
    "value",
    "verdict",
    "encrypted",
    "incomplete",
    "probe",
    "ip.addr",
    "ip.src",
    "ip.dst",
    "tcp.port",
    "udp.port",
    "port",
    "trouble",
    "http.request.method",
    "http.request.uri",
    "http.host",
    "http.response.code",
    "dns.qry.name",
    "dns.a",
    "pgsql.query",
    "tls.sni",
    "tls.version",
    "tls.cipher",
    "tls.alpn",
    "tls.alert",
    "tls.record",
    "spiffe",
];

/// Protocols of headers; those of messages have their own names.
const PROTOCOLS: &[&str] = &[
    "eth", "vlan", "arp", "ip", "ipv6", "icmp", "icmpv6", "tcp", "udp", "fragment",
];

/// Every name that a filter may use: fields, then protocols.
pub fn names() -> impl Iterator<Item = &'static str> {
    let messages = Protocol::ALL.into_iter().map(Protocol::as_str);
    NAMES
        .iter()
        .chain(field_names())
        .chain(PROTOCOLS)
        .copied()
        .chain(messages)
}

pub(super) fn known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// The known name that begins most like this one, or differs from it least.
pub(super) fn near(name: &str) -> Option<String> {
    let distance = |known: &str| {
        let same = known
            .bytes()
            .zip(name.bytes())
            .take_while(|(one, other)| one == other)
            .count();
        let ends = known
            .bytes()
            .rev()
            .zip(name.bytes().rev())
            .take_while(|(one, other)| one == other)
            .count();
        (known.len().max(name.len())).saturating_sub(same + ends)
    };
    names()
        .min_by_key(|known| distance(known))
        .filter(|known| distance(known) <= 3)
        .map(str::to_owned)
}

/// A packet by its headers.
pub(super) struct Packet<'a> {
    pub frame: &'a Frame<'a>,
    pub layers: &'a Layers<'a>,
}

impl Subject for Packet<'_> {
    fn each(&self, name: &str, give: &mut dyn FnMut(Value<'_>)) {
        match name {
            "frame" => return give(Value::Number(self.frame.number)),
            "trouble" => {
                return self
                    .layers
                    .troubles
                    .iter()
                    .for_each(|trouble| give(Value::Text(trouble.as_str())));
            }
            "ip.addr" | "from" | "to" | "who" | "ip.src" | "ip.dst" => {
                if let Some(ip) = self.layers.ip() {
                    if !matches!(name, "to" | "ip.dst") {
                        give(Value::Addr(ip.src));
                    }
                    if !matches!(name, "from" | "ip.src") {
                        give(Value::Addr(ip.dst));
                    }
                }
                return;
            }
            "port" | "tcp.port" | "udp.port" => {
                if let Some((transport, src, dst)) = self.layers.ends() {
                    ports(name, transport, [src, dst], give);
                }
                return;
            }
            _ => {}
        }
        self.layers.fields(self.frame, &mut |field, value, _| {
            if field == name {
                give(match value {
                    FieldValue::Number(number) | FieldValue::Hex(number) => Value::Number(number),
                    FieldValue::Flag(flag) => Value::Number(flag.into()),
                    FieldValue::Addr(addr) => Value::Addr(addr),
                    value => Value::Owned(value.to_string()),
                });
            }
        });
    }

    fn is(&self, protocol: &str) -> bool {
        let ip = self.layers.ip();
        match protocol {
            "eth" => matches!(self.layers.link, crate::Link::Ethernet { .. }),
            "vlan" => !self.layers.vlans.is_empty(),
            "arp" => matches!(self.layers.net, crate::Net::Arp(_)),
            "ip" => ip.is_some_and(|ip| ip.src.is_ipv4()),
            "ipv6" => ip.is_some_and(|ip| ip.src.is_ipv6()),
            "fragment" => ip.is_some_and(|ip| ip.fragment.is_some()),
            "tcp" => matches!(self.layers.upper, Upper::Tcp(_)),
            "udp" => matches!(self.layers.upper, Upper::Udp(_)),
            "icmp" => self.layers.icmp().is_some_and(|icmp| !icmp.v6),
            "icmpv6" => self.layers.icmp().is_some_and(|icmp| icmp.v6),
            _ => false,
        }
    }
}

fn ports(name: &str, transport: Transport, ends: [SocketAddr; 2], give: &mut dyn FnMut(Value<'_>)) {
    let wanted = match name {
        "tcp.port" | "tcp.srcport" | "tcp.dstport" => transport == Transport::Tcp,
        "udp.port" | "udp.srcport" | "udp.dstport" => transport == Transport::Udp,
        _ => true,
    };
    for (end, excluded) in ends.iter().zip(["dstport", "srcport"]) {
        if wanted && !name.ends_with(excluded) {
            give(Value::Number(end.port().into()));
        }
    }
}

/// Names and address of an end.
fn peer(peer: &Peer, give: &mut dyn FnMut(Value<'_>)) {
    give(Value::Addr(peer.addr.ip()));
    if let Some(who) = &peer.who {
        give(Value::Text(who.label()));
        give(Value::Text(&who.name));
    }
}

/// What the two ends of something answer to; whether the name is one of theirs.
fn ends(name: &str, transport: Transport, both: [&Peer; 2], give: &mut dyn FnMut(Value<'_>)) -> bool {
    match name {
        "from" => peer(both[0], give),
        "to" => peer(both[1], give),
        "who" => both.into_iter().for_each(|one| peer(one, give)),
        "ip.src" | "ipv6.src" => give(Value::Addr(both[0].addr.ip())),
        "ip.dst" | "ipv6.dst" => give(Value::Addr(both[1].addr.ip())),
        "ip.addr" => both.into_iter().for_each(|one| give(Value::Addr(one.addr.ip()))),
        "port" | "tcp.port" | "udp.port" | "tcp.srcport" | "tcp.dstport" | "udp.srcport" | "udp.dstport" => {
            ports(name, transport, both.map(|one| one.addr), give);
        }
        _ => return false,
    }
    true
}

fn transport_is(transport: Transport, addr: SocketAddr, protocol: &str) -> bool {
    match protocol {
        "tcp" => transport == Transport::Tcp,
        "udp" => transport == Transport::Udp,
        "ip" => addr.is_ipv4(),
        "ipv6" => addr.is_ipv6(),
        _ => false,
    }
}

impl Subject for Message {
    fn each(&self, name: &str, give: &mut dyn FnMut(Value<'_>)) {
        if ends(name, self.transport, [&self.from, &self.to], give) {
            return;
        }
        match name {
            "frame" => self.frames.iter().for_each(|frame| give(Value::Number(*frame))),
            "flow" => give(Value::Number(self.flow)),
            "protocol" => give(Value::Text(self.protocol.as_str())),
            "summary" => give(Value::Text(&self.summary)),
            "text" => give(Value::Text(&self.text)),
            "leak" => self.leaks.iter().for_each(|leak| give(Value::Text(leak.kind.as_str()))),
            "value" => self.leaks.iter().for_each(|leak| give(Value::Text(&leak.value))),
            "probe" => self.probe.iter().for_each(|probe| give(Value::Text(probe))),
            "incomplete" if self.incomplete => give(Value::Number(1)),
            _ => detail(&self.detail, name, give),
        }
    }

    fn is(&self, protocol: &str) -> bool {
        self.protocol.as_str() == protocol || transport_is(self.transport, self.from.addr, protocol)
    }
}

fn detail(detail: &Detail, name: &str, give: &mut dyn FnMut(Value<'_>)) {
    match (detail, name) {
        (Detail::HttpRequest { method, .. }, "http.request.method") => give(Value::Text(method)),
        (Detail::HttpRequest { target, .. }, "http.request.uri") => give(Value::Text(target)),
        (Detail::HttpRequest { host: Some(host), .. }, "http.host") => give(Value::Text(host)),
        (Detail::HttpResponse { status }, "http.response.code") => give(Value::Number((*status).into())),
        (Detail::Dns { name, .. }, "dns.qry.name") => give(Value::Text(name.trim_end_matches('.'))),
        (Detail::Dns { answers, .. }, "dns.a") => answers.iter().for_each(|answer| give(Value::Text(answer))),
        (Detail::PostgresQuery { sql }, "pgsql.query") => give(Value::Text(sql)),
        (Detail::Tls { record, .. }, "tls.record") => give(Value::Text(record)),
        (Detail::Tls { sni: Some(sni), .. }, "tls.sni") => give(Value::Text(sni)),
        (
            Detail::Tls {
                version: Some(version), ..
            },
            "tls.version",
        ) => give(Value::Text(version)),
        (Detail::Tls { alert: Some(alert), .. }, "tls.alert") => give(Value::Text(alert)),
        (Detail::Tls { ciphers, .. }, "tls.cipher") => ciphers.iter().for_each(|one| give(Value::Text(one))),
        (Detail::Tls { alpn, .. }, "tls.alpn") => alpn.iter().for_each(|one| give(Value::Text(one))),
        (Detail::Tls { certificates, .. }, "spiffe") => certificates
            .iter()
            .filter_map(|one| one.spiffe_id.as_deref())
            .for_each(|id| give(Value::Text(id))),
        _ => {}
    }
}

impl Subject for Flow {
    fn each(&self, name: &str, give: &mut dyn FnMut(Value<'_>)) {
        if ends(name, self.transport, [&self.client, &self.server], give) {
            return;
        }
        match name {
            "flow" => give(Value::Number(self.id)),
            "protocol" => give(Value::Text(self.protocol.as_str())),
            "verdict" => give(Value::Text(self.verdict.as_str())),
            "encrypted" if self.encrypted => give(Value::Number(1)),
            "leak" => self.leaks.keys().for_each(|kind| give(Value::Text(kind.as_str()))),
            _ => {}
        }
        let Some(tls) = &self.tls else { return };
        let mut text = |value: &Option<String>| value.iter().for_each(|value| give(Value::Text(value)));
        match name {
            "tls.sni" => text(&tls.sni),
            "tls.version" => text(&tls.version),
            "tls.cipher" => text(&tls.cipher),
            "tls.alpn" => text(&tls.alpn),
            "tls.alert" => tls.alerts.iter().for_each(|alert| text(&alert.name)),
            "spiffe" => {
                let chains = tls.client_certificates.iter().flatten().chain(&tls.server_certificates);
                chains.for_each(|one| text(&one.spiffe_id));
            }
            _ => {}
        }
    }

    fn is(&self, protocol: &str) -> bool {
        self.protocol.as_str() == protocol || transport_is(self.transport, self.client.addr, protocol)
    }
}
