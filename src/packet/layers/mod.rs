//! Link, network and transport headers of one frame.
//!
//! [`decode`] reads any bytes, allocates nothing and never fails: it gives as many layers as hold together, and says
//! in [`Troubles`] what was cut or wrong. Every layer knows its place in the frame, so that a view can show the bytes
//! behind a value.
//!
//! The headers are read here and not by a parser crate. `etherparse`, the maintained one that allocates nothing, was
//! tried: its lax mode, the one that reads what a capture cut short, read past the end of a damaged chain of IPv6
//! extension headers (version 0.21, found by the comparison with Wireshark over changed bytes), and it does not know
//! SLL2, BSD loopback or raw IP. What is needed of these headers fits a few hundred lines of safe code.

mod fields;
mod fragments;
mod icmp;
mod ip;
mod link;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

pub use fields::{FieldValue, field_names};
pub(super) use fragments::{Fragments, Origin, Whole};
pub use icmp::{Icmp, Quote};
pub use link::{Link, Vlans};
use serde::{Deserialize, Serialize};

use super::{Frame, Transport};

/// Something that is cut or wrong in a frame's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The capture kept fewer bytes than were on the wire.
    Cut,
    /// The link layer's header is cut or of a kind that is not known.
    Link,
    /// A VLAN tag is cut.
    Vlan,
    /// An ARP packet is cut or contradicts itself.
    Arp,
    /// The IP header is cut, or its version or length cannot be.
    IpHeader,
    /// The IP header claims more bytes than were on the wire.
    IpLength,
    /// The IPv4 header's checksum is not that of its bytes.
    IpChecksum,
    /// An extension header of IP is cut or out of place.
    IpExtension,
    /// The header of TCP, UDP or ICMP is cut, or its length cannot be.
    Transport,
    /// The UDP header claims more bytes than IP carries.
    UdpLength,
}

impl Trouble {
    /// Every kind.
    pub const ALL: [Trouble; 10] = [
        Trouble::Cut,
        Trouble::Link,
        Trouble::Vlan,
        Trouble::Arp,
        Trouble::IpHeader,
        Trouble::IpLength,
        Trouble::IpChecksum,
        Trouble::IpExtension,
        Trouble::Transport,
        Trouble::UdpLength,
    ];

    /// What is wrong, in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Trouble::Cut => "the capture cut this packet short",
            Trouble::Link => "the link layer's header is cut or not known",
            Trouble::Vlan => "a VLAN tag is cut",
            Trouble::Arp => "the ARP packet does not hold together",
            Trouble::IpHeader => "the IP header does not hold together",
            Trouble::IpLength => "the IP header claims more bytes than there were",
            Trouble::IpChecksum => "the IPv4 header's checksum is wrong",
            Trouble::IpExtension => "an IP extension header is cut or out of place",
            Trouble::Transport => "the transport header does not hold together",
            Trouble::UdpLength => "the UDP header claims more bytes than IP carries",
        }
    }
}

/// A set of [`Trouble`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Troubles(u16);

impl Troubles {
    /// Adds one.
    pub fn add(&mut self, trouble: Trouble) {
        self.0 |= 1 << trouble as u16;
    }

    /// Whether it holds this one.
    pub const fn has(self, trouble: Trouble) -> bool {
        self.0 & 1 << trouble as u16 != 0
    }

    /// Whether nothing is wrong.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Trouble> {
        Trouble::ALL.into_iter().filter(move |trouble| self.has(*trouble))
    }
}

/// What a frame is, layer by layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers<'a> {
    /// The link layer.
    pub link: Link,
    /// IEEE 802.1Q and 802.1ad tags, the outer first.
    pub vlans: Vlans,
    /// EtherType of what the link layer carries, after all tags, where it says.
    pub ether_type: Option<u16>,
    /// The network layer.
    pub net: Net<'a>,
    /// The transport layer; [`Upper::None`] in a fragment and where a header does not hold.
    pub upper: Upper<'a>,
    /// What is cut or wrong.
    pub troubles: Troubles,
}

/// The network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net<'a> {
    /// None that is known, or its header does not hold.
    None,
    /// ARP.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip<'a>),
}

/// An ARP packet for IPv4 over Ethernet, RFC 826.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// The sender's hardware and IPv4 address, where they have the lengths of Ethernet and IPv4.
    pub sender: Option<([u8; 6], std::net::Ipv4Addr)>,
    /// The target's.
    pub target: Option<([u8; 6], std::net::Ipv4Addr)>,
    /// Where it stands in the frame.
    pub at: usize,
    /// Its length.
    pub len: usize,
}

/// An IP header, RFC 791 and RFC 8200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip<'a> {
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// The length field as it stands: of all for IPv4, of what follows the first 40 bytes for IPv6. Zero where the
    /// kernel left it to the network card (segmentation offload).
    pub length: u16,
    /// Protocol number of the payload, behind all extension headers.
    pub protocol: u8,
    /// IPv4's identification.
    pub id: Option<u16>,
    /// IPv4's "do not fragment".
    pub dont_fragment: bool,
    /// Where this is a piece of a packet.
    pub fragment: Option<Fragment>,
    /// IPv6's fragment header; one that is all of its packet makes no fragment (RFC 6946).
    pub fragment_header: Option<Fragment>,
    /// Where the header begins in the frame.
    pub at: usize,
    /// Length of the header with its options, without extension headers.
    pub header_len: usize,
    /// Where the payload begins in the frame.
    pub payload_at: usize,
    /// The payload as captured, without padding of the link layer.
    pub payload: &'a [u8],
    /// Bytes of the payload that were on the wire and not captured.
    pub missing: usize,
}

/// Which piece of a packet a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Names the packet among those of the same addresses.
    pub id: u32,
    /// Where its bytes stand in the packet's payload.
    pub offset: usize,
    /// Whether more follow.
    pub more: bool,
}

/// The transport layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upper<'a> {
    /// None, one that is not decoded, or its header does not hold.
    None,
    /// TCP.
    Tcp(Tcp<'a>),
    /// UDP.
    Udp(Udp<'a>),
    /// ICMP, for IPv4 or IPv6.
    Icmp(Icmp<'a>),
}

/// A TCP segment, RFC 9293 §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number as it stands; it counts only with [`Tcp::ACK`].
    pub ack: u32,
    /// The flags, FIN in the lowest bit.
    pub flags: u8,
    /// Window, not scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// The options' bytes.
    pub options: &'a [u8],
    /// Where the header begins in the frame.
    pub at: usize,
    /// Length of the header.
    pub header_len: usize,
    /// Payload as captured.
    pub payload: &'a [u8],
    /// Payload length on the wire: more than `payload` has when the capture cut the frame.
    pub len: usize,
}

impl Tcp<'_> {
    /// The sender has nothing more to say.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Ends a connection at once.
    pub const RST: u8 = 0x04;
    /// Hand this to the application.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;

    /// Whether all these flags are set.
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The options that are known; reading ends where one is damaged.
    pub fn options(&self) -> impl Iterator<Item = TcpOption> {
        let mut rest = self.options;
        std::iter::from_fn(move || {
            loop {
                let kind = *rest.first()?;
                if kind == 1 {
                    rest = &rest[1..];
                    continue;
                }
                let length = usize::from(*rest.get(1)?);
                let option = rest.get(..length).filter(|_| kind != 0 && length >= 2)?;
                rest = &rest[length..];
                match (kind, length) {
                    (2, 4) => return Some(TcpOption::MaximumSegmentSize(be16(option, 2)?)),
                    (3, 3) => return Some(TcpOption::WindowScale(option[2])),
                    (8, 10) => return Some(TcpOption::Timestamps(be32(option, 2)?, be32(option, 6)?)),
                    _ => {}
                }
            }
        })
    }
}

/// An option of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpOption {
    /// The largest segment the sender takes, RFC 9293 §3.7.1.
    MaximumSegmentSize(u16),
    /// How far windows are shifted, RFC 7323 §2.
    WindowScale(u8),
    /// The sender's clock, and the last value heard of the other's, RFC 7323 §3.
    Timestamps(u32, u32),
}

/// A UDP datagram, RFC 768.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp<'a> {
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// The length field as it stands.
    pub length: u16,
    /// Where the header begins in the frame.
    pub at: usize,
    /// Payload as captured.
    pub payload: &'a [u8],
    /// Payload length on the wire.
    pub len: usize,
}

/// Length of a TCP header without options.
const TCP_HEADER: usize = 20;
/// Length of a UDP header.
const UDP_HEADER: usize = 8;

impl<'a> Layers<'a> {
    /// The IP header, where there is one.
    pub const fn ip(&self) -> Option<&Ip<'a>> {
        match &self.net {
            Net::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    /// The transport and its two ends, sender first.
    pub fn ends(&self) -> Option<(Transport, SocketAddr, SocketAddr)> {
        let ip = self.ip()?;
        let (transport, src, dst) = match &self.upper {
            Upper::Tcp(tcp) => (Transport::Tcp, tcp.src_port, tcp.dst_port),
            Upper::Udp(udp) => (Transport::Udp, udp.src_port, udp.dst_port),
            _ => return None,
        };
        Some((transport, SocketAddr::new(ip.src, src), SocketAddr::new(ip.dst, dst)))
    }

    /// The innermost payload, its place in the frame; empty where nothing is left.
    pub fn payload(&self) -> (&'a [u8], Range<usize>) {
        let (bytes, at) = match (&self.upper, &self.net) {
            (Upper::Tcp(tcp), _) => (tcp.payload, tcp.at + tcp.header_len),
            (Upper::Udp(udp), _) => (udp.payload, udp.at + UDP_HEADER),
            (Upper::Icmp(icmp), _) => (icmp.payload, icmp.at + icmp::HEADER),
            (Upper::None, Net::Ip(ip)) => (ip.payload, ip.payload_at),
            _ => (&[][..], 0),
        };
        (bytes, at..at + bytes.len())
    }
}

/// Reads the headers of a frame, as far as they hold.
pub fn decode<'a>(frame: &Frame<'a>) -> Layers<'a> {
    let mut troubles = Troubles::default();
    if frame.orig_len as usize > frame.data.len() {
        troubles.add(Trouble::Cut);
    }
    let mut layers = Layers {
        link: Link::None,
        vlans: Vlans::default(),
        ether_type: None,
        net: Net::None,
        upper: Upper::None,
        troubles,
    };
    link::decode(frame, &mut layers);
    layers
}

/// Reads the transport header of an IP payload that begins at `at`; `missing` bytes of it were not captured.
///
/// For payloads put together from fragments, `at` is 0.
fn upper<'a>(protocol: u8, payload: &'a [u8], at: usize, missing: usize, troubles: &mut Troubles) -> Upper<'a> {
    let read = match protocol {
        6 => tcp(payload, at, missing),
        17 => udp(payload, at, missing, troubles),
        1 => icmp::decode(payload, at, icmp::Version::V4),
        58 => icmp::decode(payload, at, icmp::Version::V6),
        _ => return Upper::None,
    };
    read.unwrap_or_else(|| {
        troubles.add(Trouble::Transport);
        Upper::None
    })
}

fn tcp(bytes: &[u8], at: usize, missing: usize) -> Option<Upper<'_>> {
    let header_len = usize::from(bytes.get(12)? >> 4) * 4;
    let header = bytes.get(..header_len).filter(|header| header.len() >= TCP_HEADER)?;
    let payload = &bytes[header_len..];
    Some(Upper::Tcp(Tcp {
        src_port: be16(header, 0)?,
        dst_port: be16(header, 2)?,
        seq: be32(header, 4)?,
        ack: be32(header, 8)?,
        flags: header[13],
        window: be16(header, 14)?,
        urgent: be16(header, 18)?,
        options: &header[TCP_HEADER..],
        at,
        header_len,
        payload,
        len: payload.len() + missing,
    }))
}

fn udp<'a>(bytes: &'a [u8], at: usize, missing: usize, troubles: &mut Troubles) -> Option<Upper<'a>> {
    let header = bytes.get(..UDP_HEADER)?;
    let length = be16(header, 4)?;
    let on_wire = bytes.len() + missing;
    // Zero is what the kernel writes into datagrams larger than the field can say (segmentation offload).
    let claimed = match usize::from(length) {
        0 => on_wire,
        length if length < UDP_HEADER => return None,
        length => length,
    };
    if claimed > on_wire {
        troubles.add(Trouble::UdpLength);
    }
    let claimed = claimed.min(on_wire);
    let payload = &bytes[UDP_HEADER..claimed.min(bytes.len())];
    Some(Upper::Udp(Udp {
        src_port: be16(header, 0)?,
        dst_port: be16(header, 2)?,
        length,
        at,
        payload,
        len: claimed - UDP_HEADER,
    }))
}

fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn be32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}
