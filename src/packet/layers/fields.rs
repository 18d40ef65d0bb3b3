//! The values in a frame's headers, by the names that Wireshark gives them.
//!
//! Source of the names: Wireshark's display filter reference.

use std::{borrow::Cow, fmt, net::IpAddr, ops::Range};

use super::{Arp, Icmp, Ip, Layers, Link, Net, Tcp, TcpOption, UDP_HEADER, Udp, Upper, icmp, link};
use crate::Frame;

/// A value in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// A number.
    Number(u64),
    /// A number that is written in hexadecimal: a type, an identification.
    Hex(u64),
    /// A flag.
    Flag(bool),
    /// An IP address.
    Addr(IpAddr),
    /// A hardware address.
    Mac([u8; 6]),
    /// Text.
    Text(Cow<'a, str>),
}

impl fmt::Display for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldValue::Number(number) => write!(f, "{number}"),
            FieldValue::Hex(number) => write!(f, "0x{number:04x}"),
            FieldValue::Flag(flag) => write!(f, "{}", u8::from(*flag)),
            FieldValue::Addr(addr) => write!(f, "{addr}"),
            FieldValue::Mac([a, b, c, d, e, g]) => {
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            FieldValue::Text(text) => f.write_str(text),
        }
    }
}

/// Every name that [`Layers::fields`] may give.
pub const fn field_names() -> &'static [&'static str] {
    &[
        "frame.number",
        "frame.len",
        "frame.cap_len",
        "eth.dst",
        "eth.src",
        "eth.type",
        "sll.pkttype",
        "sll.hatype",
        "sll.src.eth",
        "sll.etype",
        "sll.ifindex",
        "null.family",
        "vlan.id",
        "ieee8021ad.id",
        "arp.opcode",
        "arp.src.hw_mac",
        "arp.src.proto_ipv4",
        "arp.dst.hw_mac",
        "arp.dst.proto_ipv4",
        "ip.version",
        "ip.hdr_len",
        "ip.dsfield",
        "ip.len",
        "ip.id",
        "ip.flags.df",
        "ip.flags.mf",
        "ip.frag_offset",
        "ip.ttl",
        "ip.proto",
        "ip.src",
        "ip.dst",
        "ipv6.version",
        "ipv6.tclass",
        "ipv6.plen",
        "ipv6.hlim",
        "ipv6.src",
        "ipv6.dst",
        "ipv6.fraghdr.ident",
        "ipv6.fraghdr.offset",
        "ipv6.fraghdr.more",
        "icmp.type",
        "icmp.code",
        "icmp.ident",
        "icmp.seq",
        "icmpv6.type",
        "icmpv6.code",
        "icmpv6.echo.identifier",
        "icmpv6.echo.sequence_number",
        "tcp.srcport",
        "tcp.dstport",
        "tcp.len",
        "tcp.seq_raw",
        "tcp.ack_raw",
        "tcp.hdr_len",
        "tcp.flags.fin",
        "tcp.flags.syn",
        "tcp.flags.reset",
        "tcp.flags.push",
        "tcp.flags.ack",
        "tcp.flags.urg",
        "tcp.window_size_value",
        "tcp.options.mss_val",
        "tcp.options.wscale.shift",
        "tcp.options.timestamp.tsval",
        "tcp.options.timestamp.tsecr",
        "udp.srcport",
        "udp.dstport",
        "udp.length",
    ]
}

/// Where fields are handed to: name, value, and the bytes of the frame it was read from.
pub type FieldSink<'s, 'a> = dyn FnMut(&'static str, FieldValue<'a>, Range<usize>) + 's;

impl<'a> Layers<'a> {
    /// Hands over every field of the headers, from the outermost in.
    pub fn fields(&self, frame: &Frame<'_>, give: &mut FieldSink<'_, 'a>) {
        use FieldValue::Number;
        give("frame.number", Number(frame.number), 0..0);
        give("frame.len", Number(frame.orig_len.into()), 0..frame.data.len());
        give("frame.cap_len", Number(frame.data.len() as u64), 0..frame.data.len());
        self.link_fields(give);
        match &self.net {
            Net::None => {}
            Net::Arp(arp) => arp_fields(arp, give),
            Net::Ip(ip) if ip.src.is_ipv4() => ipv4_fields(ip, give),
            Net::Ip(ip) => ipv6_fields(ip, give),
        }
        self.upper.fields(give);
    }

    fn link_fields(&self, give: &mut FieldSink<'_, 'a>) {
        use FieldValue::{Hex, Mac, Number};
        let outer = self.vlans.tags().next().map(|tag| tag.0).or(self.ether_type);
        let ether = outer.map(|kind| Hex(kind.into()));
        match self.link {
            Link::None => {}
            Link::Ethernet { dst, src } => {
                give("eth.dst", Mac(dst), 0..6);
                give("eth.src", Mac(src), 6..12);
                if let Some(ether) = ether {
                    give("eth.type", ether, 12..14);
                }
            }
            Link::Sll {
                packet_type,
                hatype,
                src,
            } => {
                give("sll.pkttype", Number(packet_type.into()), 0..2);
                give("sll.hatype", Number(hatype.into()), 2..4);
                if let Some(src) = src {
                    give("sll.src.eth", Mac(src), 6..12);
                }
                if let Some(ether) = ether {
                    give("sll.etype", ether, 14..16);
                }
            }
            Link::Sll2 {
                ifindex,
                packet_type,
                hatype,
                src,
            } => {
                if let Some(ether) = ether {
                    give("sll.etype", ether, 0..2);
                }
                give("sll.ifindex", Number(ifindex.into()), 4..8);
                give("sll.hatype", Number(hatype.into()), 8..10);
                give("sll.pkttype", Number(packet_type.into()), 10..11);
                if let Some(src) = src {
                    give("sll.src.eth", Mac(src), 12..18);
                }
            }
            Link::Null { family } => give("null.family", Number(family.into()), 0..4),
        }
        let mut at = self.link.len();
        for (kind, id) in self.vlans.tags() {
            let name = if kind == 0x88a8 { "ieee8021ad.id" } else { "vlan.id" };
            give(name, Number(id.into()), at..at + 2);
            at += link::VLAN;
        }
    }
}

impl Upper<'_> {
    pub(super) fn fields(&self, give: &mut FieldSink<'_, '_>) {
        match self {
            Upper::None => {}
            Upper::Tcp(tcp) => tcp_fields(tcp, give),
            Upper::Udp(udp) => udp_fields(udp, give),
            Upper::Icmp(icmp) => icmp_fields(icmp, give),
        }
    }
}

fn arp_fields(arp: &Arp, give: &mut FieldSink<'_, '_>) {
    use FieldValue::{Addr, Mac, Number};
    let at = arp.at;
    give("arp.opcode", Number(arp.operation.into()), at + 6..at + 8);
    if let Some((hardware, addr)) = arp.sender {
        give("arp.src.hw_mac", Mac(hardware), at + 8..at + 14);
        give("arp.src.proto_ipv4", Addr(addr.into()), at + 14..at + 18);
    }
    if let Some((hardware, addr)) = arp.target {
        give("arp.dst.hw_mac", Mac(hardware), at + 18..at + 24);
        give("arp.dst.proto_ipv4", Addr(addr.into()), at + 24..at + 28);
    }
}

fn ipv4_fields(ip: &Ip<'_>, give: &mut FieldSink<'_, '_>) {
    use FieldValue::{Addr, Flag, Hex, Number};
    let at = ip.at;
    give("ip.version", Number(4), at..at + 1);
    give("ip.hdr_len", Number(ip.header_len as u64), at..at + 1);
    give("ip.dsfield", Hex(ip.tos.into()), at + 1..at + 2);
    give("ip.len", Number(ip.length.into()), at + 2..at + 4);
    give("ip.id", Hex(ip.id.unwrap_or_default().into()), at + 4..at + 6);
    give("ip.flags.df", Flag(ip.dont_fragment), at + 6..at + 7);
    give(
        "ip.flags.mf",
        Flag(ip.fragment.is_some_and(|one| one.more)),
        at + 6..at + 7,
    );
    let offset = ip.fragment.map_or(0, |one| one.offset);
    give("ip.frag_offset", Number(offset as u64 / 8), at + 6..at + 8);
    give("ip.ttl", Number(ip.ttl.into()), at + 8..at + 9);
    give("ip.proto", Number(ip.protocol.into()), at + 9..at + 10);
    give("ip.src", Addr(ip.src), at + 12..at + 16);
    give("ip.dst", Addr(ip.dst), at + 16..at + 20);
}

fn ipv6_fields(ip: &Ip<'_>, give: &mut FieldSink<'_, '_>) {
    use FieldValue::{Addr, Flag, Hex, Number};
    let at = ip.at;
    give("ip.version", Number(6), at..at + 1);
    give("ipv6.version", Number(6), at..at + 1);
    give("ipv6.tclass", Hex(ip.tos.into()), at..at + 2);
    give("ipv6.plen", Number(ip.length.into()), at + 4..at + 6);
    give("ipv6.hlim", Number(ip.ttl.into()), at + 7..at + 8);
    give("ipv6.src", Addr(ip.src), at + 8..at + 24);
    give("ipv6.dst", Addr(ip.dst), at + 24..at + 40);
    if let Some(fragment) = ip.fragment_header {
        let place = at + ip.header_len..ip.payload_at;
        give("ipv6.fraghdr.offset", Number(fragment.offset as u64 / 8), place.clone());
        give("ipv6.fraghdr.more", Flag(fragment.more), place.clone());
        give("ipv6.fraghdr.ident", Hex(fragment.id.into()), place);
    }
}

fn tcp_fields(tcp: &Tcp<'_>, give: &mut FieldSink<'_, '_>) {
    use FieldValue::{Flag, Number};
    let at = tcp.at;
    give("tcp.srcport", Number(tcp.src_port.into()), at..at + 2);
    give("tcp.dstport", Number(tcp.dst_port.into()), at + 2..at + 4);
    give("tcp.len", Number(tcp.len as u64), at + 12..at + 13);
    give("tcp.seq_raw", Number(tcp.seq.into()), at + 4..at + 8);
    give("tcp.ack_raw", Number(tcp.ack.into()), at + 8..at + 12);
    give("tcp.hdr_len", Number(tcp.header_len as u64), at + 12..at + 13);
    for (name, flag) in [
        ("tcp.flags.fin", Tcp::FIN),
        ("tcp.flags.syn", Tcp::SYN),
        ("tcp.flags.reset", Tcp::RST),
        ("tcp.flags.push", Tcp::PSH),
        ("tcp.flags.ack", Tcp::ACK),
        ("tcp.flags.urg", Tcp::URG),
    ] {
        give(name, Flag(tcp.has(flag)), at + 13..at + 14);
    }
    give("tcp.window_size_value", Number(tcp.window.into()), at + 14..at + 16);
    let options = at + 20..at + tcp.header_len;
    for option in tcp.options() {
        match option {
            TcpOption::MaximumSegmentSize(size) => {
                give("tcp.options.mss_val", Number(size.into()), options.clone());
            }
            TcpOption::WindowScale(shift) => {
                give("tcp.options.wscale.shift", Number(shift.into()), options.clone());
            }
            TcpOption::Timestamps(value, echo) => {
                give("tcp.options.timestamp.tsval", Number(value.into()), options.clone());
                give("tcp.options.timestamp.tsecr", Number(echo.into()), options.clone());
            }
        }
    }
}

fn udp_fields(udp: &Udp<'_>, give: &mut FieldSink<'_, '_>) {
    use FieldValue::Number;
    let at = udp.at;
    give("udp.srcport", Number(udp.src_port.into()), at..at + 2);
    give("udp.dstport", Number(udp.dst_port.into()), at + 2..at + 4);
    give("udp.length", Number(udp.length.into()), at + 4..at + UDP_HEADER - 2);
}

fn icmp_fields(icmp: &Icmp<'_>, give: &mut FieldSink<'_, '_>) {
    use FieldValue::Number;
    let at = icmp.at;
    let names = if icmp.v6 {
        [
            "icmpv6.type",
            "icmpv6.code",
            "icmpv6.echo.identifier",
            "icmpv6.echo.sequence_number",
        ]
    } else {
        ["icmp.type", "icmp.code", "icmp.ident", "icmp.seq"]
    };
    give(names[0], Number(icmp.kind.into()), at..at + 1);
    give(names[1], Number(icmp.code.into()), at + 1..at + 2);
    if let Some((id, seq)) = icmp.echo() {
        give(names[2], Number(id.into()), at + 4..at + 6);
        give(names[3], Number(seq.into()), at + 6..at + icmp::HEADER);
    }
}
