//! IP headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Fragment, Ip, Layers, Net, Trouble, be16, be32, upper};
use crate::Frame;

/// Extension headers followed before a packet is called damaged.
const EXTENSION_HEADERS: usize = 16;
/// Protocol number of the authentication header, RFC 4302.
const AUTH: u8 = 51;
const IPV6_HEADER: usize = 40;

/// Bytes behind the IP header that belong to the packet: captured, and on the wire but not captured.
///
/// `claimed` is what the header says (`None` where it says nothing), `captured` what the frame has.
fn extent(claimed: Option<usize>, captured: usize, frame: &Frame<'_>, layers: &mut Layers<'_>) -> (usize, usize) {
    let cut = (frame.orig_len as usize).saturating_sub(frame.data.len());
    let on_wire = captured + cut;
    let claimed = claimed.unwrap_or(on_wire);
    if claimed > on_wire {
        layers.troubles.add(Trouble::IpLength);
    }
    let length = claimed.min(on_wire);
    (length.min(captured), length.saturating_sub(captured))
}

/// RFC 791 §3.1. `at` is where the header begins in the frame.
pub(super) fn v4<'a>(frame: &Frame<'a>, at: usize, layers: &mut Layers<'a>) -> Option<()> {
    let data = frame.data.get(at..)?;
    let header_len = usize::from(data.first()? & 0x0f) * 4;
    let header = data
        .get(..header_len)
        .filter(|header| header.len() >= 20 && header[0] >> 4 == 4)?;
    let length = be16(header, 2)?;
    // Zero is what the kernel writes into packets larger than the field can say (segmentation offload).
    let claimed = match usize::from(length) {
        0 => None,
        length => Some(length.checked_sub(header_len)?),
    };
    if checksum(header) != 0xffff {
        layers.troubles.add(Trouble::IpChecksum);
    }
    let behind = &data[header_len..];
    let (captured, missing) = extent(claimed, behind.len(), frame, layers);
    let (id, piece) = (be16(header, 4)?, be16(header, 6)?);
    let (offset, more) = (usize::from(piece & 0x1fff) * 8, piece & 0x2000 != 0);
    let address = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(be32(header, at)?)));
    let mut ip = Ip {
        src: address(12)?,
        dst: address(16)?,
        ttl: header[8],
        tos: header[1],
        length,
        protocol: header[9],
        id: Some(id),
        dont_fragment: piece & 0x4000 != 0,
        fragment: (offset > 0 || more).then_some(Fragment {
            id: id.into(),
            offset,
            more,
        }),
        fragment_header: None,
        at,
        header_len,
        payload_at: at + header_len,
        payload: &behind[..captured],
        missing,
    };
    if ip.protocol == AUTH && ip.fragment.is_none() && !skip(&mut ip, layers) {
        layers.net = Net::Ip(ip);
        return Some(());
    }
    finish(ip, layers);
    Some(())
}

/// RFC 8200 §3 and §4.
pub(super) fn v6<'a>(frame: &Frame<'a>, at: usize, layers: &mut Layers<'a>) -> Option<()> {
    let data = frame.data.get(at..)?;
    let header = data.get(..IPV6_HEADER).filter(|header| header[0] >> 4 == 6)?;
    let length = be16(header, 4)?;
    let claimed = Some(usize::from(length)).filter(|length| *length > 0 || data.len() == IPV6_HEADER);
    let behind = &data[IPV6_HEADER..];
    let (captured, missing) = extent(claimed, behind.len(), frame, layers);
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = header.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)))
    };
    let mut ip = Ip {
        src: address(8)?,
        dst: address(24)?,
        ttl: header[7],
        tos: header[0] << 4 | header[1] >> 4,
        length,
        protocol: header[6],
        id: None,
        dont_fragment: false,
        fragment: None,
        fragment_header: None,
        at,
        header_len: IPV6_HEADER,
        payload_at: at + IPV6_HEADER,
        payload: &behind[..captured],
        missing,
    };
    for _ in 0..EXTENSION_HEADERS {
        let extension = matches!(ip.protocol, 0 | 43 | 44 | 60 | AUTH);
        if ip.fragment.is_some() || !extension {
            finish(ip, layers);
            return Some(());
        }
        if !skip(&mut ip, layers) {
            layers.net = Net::Ip(ip);
            return Some(());
        }
    }
    layers.troubles.add(Trouble::IpExtension);
    layers.net = Net::Ip(ip);
    Some(())
}

/// Takes the extension header that the payload begins with; false where it is cut.
fn skip(ip: &mut Ip<'_>, layers: &mut Layers<'_>) -> bool {
    let bytes = ip.payload;
    let read = || {
        let (next, second) = (*bytes.first()?, *bytes.get(1)?);
        let length = match ip.protocol {
            44 => 8,
            // RFC 4302 §2.2: in units of four bytes, less two.
            AUTH => (usize::from(second) + 2) * 4,
            _ => (usize::from(second) + 1) * 8,
        };
        let piece = if ip.protocol == 44 {
            let (offset, id) = (be16(bytes, 2)?, be32(bytes, 4)?);
            Some(Fragment {
                id,
                offset: usize::from(offset & 0xfff8),
                more: offset & 1 != 0,
            })
        } else {
            None
        };
        Some((next, piece, length, bytes.get(length..)?))
    };
    let Some((next, piece, length, rest)) = read() else {
        layers.troubles.add(Trouble::IpExtension);
        return false;
    };
    ip.fragment_header = ip.fragment_header.or(piece);
    ip.fragment = ip.fragment.or(piece.filter(|piece| piece.offset > 0 || piece.more));
    ip.protocol = next;
    ip.payload = rest;
    ip.payload_at += length;
    true
}

fn finish<'a>(ip: Ip<'a>, layers: &mut Layers<'a>) {
    layers.net = Net::Ip(ip);
    if ip.fragment.is_none() {
        layers.upper = upper(ip.protocol, ip.payload, ip.payload_at, ip.missing, &mut layers.troubles);
    }
}

/// The sum of RFC 1071 over a header; all ones where its checksum is right.
fn checksum(header: &[u8]) -> u32 {
    let sum: u32 = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// Sender, receiver and payload of a packet that another one quotes: its end is cut, and its length is not to be held
/// against it.
pub(super) fn quoted(data: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let frame = Frame {
        number: 0,
        ts_ns: 0,
        link: crate::LinkType::RAW,
        orig_len: u32::MAX,
        data,
    };
    let layers = super::decode(&frame);
    let Net::Ip(ip) = layers.net else { return None };
    Some((ip.src, ip.dst, ip.protocol, ip.payload))
}
