//! Link, network and transport headers of one frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Frame, LinkType};

/// What one frame is, down to its transport payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    Tcp(Segment<'a>),
    Udp(Datagram<'a>),
    /// A fragment of an IP packet.
    Fragment,
    /// Sound, and neither TCP nor UDP over IP.
    Other,
    /// Headers that do not hold together.
    Malformed,
}

/// A TCP segment, RFC 9293 §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub seq: u32,
    pub ack: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    /// Payload as captured.
    pub data: &'a [u8],
    /// Payload length on the wire: more than `data` has when the capture cut the frame.
    pub len: usize,
    pub ifindex: Option<u32>,
}

/// A UDP datagram, RFC 768.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub data: &'a [u8],
    /// Payload length on the wire.
    pub len: usize,
    pub ifindex: Option<u32>,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q and 802.1ad tags.
const ETHERTYPE_VLAN: [u16; 2] = [0x8100, 0x88a8];
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
/// IPv6 extension headers followed before a packet is called malformed.
const EXTENSION_HEADERS: usize = 8;

fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn be32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

/// Reads the headers of a frame.
pub(super) fn parse<'a>(frame: &Frame<'a>) -> Parsed<'a> {
    match link(frame) {
        Some(Link::Ip { data, missing, ifindex }) => ip(data, missing, ifindex).unwrap_or(Parsed::Malformed),
        Some(Link::Other) => Parsed::Other,
        None => Parsed::Malformed,
    }
}

enum Link<'a> {
    /// An IP packet, the bytes that the capture cut off its end, and the interface it was seen on.
    Ip {
        data: &'a [u8],
        missing: usize,
        ifindex: Option<u32>,
    },
    Other,
}

fn link<'a>(frame: &Frame<'a>) -> Option<Link<'a>> {
    let data = frame.data;
    let (kind, at, ifindex) = match frame.link {
        LinkType::ETHERNET => {
            let (mut kind, mut at) = (be16(data, 12)?, 14);
            for _ in 0..2 {
                if ETHERTYPE_VLAN.contains(&kind) {
                    kind = be16(data, at + 2)?;
                    at += 4;
                }
            }
            (kind, at, None)
        }
        LinkType::LINUX_SLL => (be16(data, 14)?, 16, None),
        LinkType::LINUX_SLL2 => (be16(data, 0)?, 20, Some(be32(data, 4)?)),
        LinkType::NULL => {
            data.get(..4)?;
            (0, 4, None)
        }
        // 12 and 14 are the numbers that some systems write for raw IP (the tcpdump project's list of DLT_ values).
        LinkType::RAW | LinkType(12 | 14) => (0, 0, None),
        _ => return Some(Link::Other),
    };
    let data = data.get(at..)?;
    let ip = match kind {
        0 => matches!(data.first()? >> 4, 4 | 6),
        kind => matches!(kind, ETHERTYPE_IPV4 | ETHERTYPE_IPV6),
    };
    if !ip {
        return Some(Link::Other);
    }
    let missing = (frame.orig_len as usize).saturating_sub(frame.data.len());
    Some(Link::Ip { data, missing, ifindex })
}

fn ip(data: &[u8], missing: usize, ifindex: Option<u32>) -> Option<Parsed<'_>> {
    match data.first()? >> 4 {
        4 => ipv4(data, missing, ifindex),
        6 => ipv6(data, missing, ifindex),
        _ => None,
    }
}

/// The packet without link-layer padding, and how many of its bytes are missing.
///
/// A length of zero is what the kernel writes into packets larger than the field can say (segmentation offload).
fn within(data: &[u8], missing: usize, length: usize) -> (&[u8], usize) {
    match length {
        0 => (data, missing),
        length if length <= data.len() => (&data[..length], 0),
        length => (data, length - data.len()),
    }
}

/// RFC 791 §3.1.
fn ipv4(data: &[u8], missing: usize, ifindex: Option<u32>) -> Option<Parsed<'_>> {
    let header = usize::from(data[0] & 0x0f) * 4;
    let length = usize::from(be16(data, 2)?);
    if header < 20 || (length != 0 && length < header) {
        return None;
    }
    let address = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(be32(data, at)?)));
    let (src, dst) = (address(12)?, address(16)?);
    let fragment = be16(data, 6)?;
    let more_or_offset = 0x3fff;
    if fragment & more_or_offset != 0 {
        return Some(Parsed::Fragment);
    }
    let protocol = *data.get(9)?;
    let (packet, missing) = within(data, missing, length);
    transport(protocol, src, dst, packet.get(header..)?, missing, ifindex)
}

/// RFC 8200 §3 and §4.
fn ipv6(data: &[u8], missing: usize, ifindex: Option<u32>) -> Option<Parsed<'_>> {
    let length = usize::from(be16(data, 4)?);
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = data.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)))
    };
    let (src, dst) = (address(8)?, address(24)?);
    let (packet, missing) = within(data, missing, if length == 0 { 0 } else { length + 40 });
    let (mut next, mut at) = (*packet.get(6)?, 40);
    for _ in 0..EXTENSION_HEADERS {
        match next {
            // hop-by-hop options, routing, destination options
            0 | 43 | 60 => {
                let length = (usize::from(*packet.get(at + 1)?) + 1) * 8;
                next = *packet.get(at)?;
                at += length;
            }
            44 => {
                let more_or_offset = 0xfff9;
                if be16(packet, at + 2)? & more_or_offset != 0 {
                    return Some(Parsed::Fragment);
                }
                next = *packet.get(at)?;
                at += 8;
            }
            _ => return transport(next, src, dst, packet.get(at..)?, missing, ifindex),
        }
    }
    None
}

fn transport(
    protocol: u8,
    src: IpAddr,
    dst: IpAddr,
    data: &[u8],
    missing: usize,
    ifindex: Option<u32>,
) -> Option<Parsed<'_>> {
    if !matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
        return Some(Parsed::Other);
    }
    let src = SocketAddr::new(src, be16(data, 0)?);
    let dst = SocketAddr::new(dst, be16(data, 2)?);
    if protocol == PROTOCOL_UDP {
        let length = usize::from(be16(data, 4)?);
        if length != 0 && length < 8 {
            return None;
        }
        let (datagram, missing) = within(data, missing, length);
        let data = datagram.get(8..)?;
        return Some(Parsed::Udp(Datagram {
            src,
            dst,
            data,
            len: data.len() + missing,
            ifindex,
        }));
    }
    let header = usize::from(data.get(12)? >> 4) * 4;
    if header < 20 {
        return None;
    }
    let flags = *data.get(13)?;
    let payload = data.get(header..)?;
    Some(Parsed::Tcp(Segment {
        src,
        dst,
        seq: be32(data, 4)?,
        ack: (flags & 0x10 != 0).then(|| be32(data, 8)).flatten(),
        syn: flags & 0x02 != 0,
        fin: flags & 0x01 != 0,
        rst: flags & 0x04 != 0,
        data: payload,
        len: payload.len() + missing,
        ifindex,
    }))
}
