//! Capture files, written piece by piece.

use std::net::IpAddr;

use crate::{Frame, LinkType};

/// The header of a classic pcap file with nanosecond times, little-endian.
pub fn pcap_header(link: LinkType, snaplen: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(24);
    header.extend_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
    header.extend_from_slice(&2_u16.to_le_bytes());
    header.extend_from_slice(&4_u16.to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    header.extend_from_slice(&snaplen.to_le_bytes());
    header.extend_from_slice(&link.0.to_le_bytes());
    header
}

/// Appends a packet to a file that [`pcap_header`] began.
pub fn pcap_record(ts_ns: u64, orig_len: u32, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&((ts_ns / 1_000_000_000) as u32).to_le_bytes());
    out.extend_from_slice(&((ts_ns % 1_000_000_000) as u32).to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out.extend_from_slice(&orig_len.to_le_bytes());
    out.extend_from_slice(data);
}

/// Appends a block of pcapng: type, length, body padded to four bytes, length again.
fn block(kind: u32, body: &[u8], out: &mut Vec<u8>) {
    let padded = body.len().next_multiple_of(4);
    let length = (padded as u32 + 12).to_le_bytes();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&length);
    out.extend_from_slice(body);
    out.resize(out.len() + padded - body.len(), 0);
    out.extend_from_slice(&length);
}

/// Bytes of one option or name; its length field has two bytes.
const LONGEST: usize = 65_000;

/// Appends an option, or a record of names: code, length, value padded to four bytes.
fn option(code: u16, value: &[u8], out: &mut Vec<u8>) {
    let value = &value[..value.len().min(LONGEST)];
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Text, cut where a character ends.
fn text(code: u16, value: &str, out: &mut Vec<u8>) {
    let end = (0..=value.len().min(LONGEST))
        .rev()
        .find(|at| value.is_char_boundary(*at));
    option(code, &value.as_bytes()[..end.unwrap_or(0)], out);
}

const END: [u8; 4] = [0; 4];

/// The beginning of a pcapng file.
pub fn pcapng_header() -> Vec<u8> {
    let mut out = Vec::new();
    let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    section.extend_from_slice(&[1, 0, 0, 0]);
    section.extend_from_slice(&u64::MAX.to_le_bytes());
    text(4, concat!("ztlab ", env!("CARGO_PKG_VERSION")), &mut section);
    section.extend_from_slice(&END);
    block(0x0a0d_0d0a, &section, &mut out);
    out
}

/// Appends an interface with nanosecond times: its name, and what that means. They are counted from 0 in this order.
pub fn pcapng_interface(link: LinkType, snaplen: u32, name: &str, place: &str, out: &mut Vec<u8>) {
    let mut description = (link.0 as u16).to_le_bytes().to_vec();
    description.extend_from_slice(&[0, 0]);
    description.extend_from_slice(&snaplen.to_le_bytes());
    text(2, name, &mut description);
    text(3, place, &mut description);
    option(9, &[9], &mut description);
    description.extend_from_slice(&END);
    block(1, &description, out);
}

/// Appends a packet of an interface, with comments that Wireshark shows beside it.
pub fn pcapng_packet(interface: u32, packet: &Frame<'_>, comments: &[String], out: &mut Vec<u8>) {
    let mut body = interface.to_le_bytes().to_vec();
    body.extend_from_slice(&((packet.ts_ns >> 32) as u32).to_le_bytes());
    body.extend_from_slice(&(packet.ts_ns as u32).to_le_bytes());
    body.extend_from_slice(&(packet.data.len() as u32).to_le_bytes());
    body.extend_from_slice(&packet.orig_len.to_le_bytes());
    body.extend_from_slice(packet.data);
    body.resize(body.len().next_multiple_of(4), 0);
    if !comments.is_empty() {
        for comment in comments {
            text(1, comment, &mut body);
        }
        body.extend_from_slice(&END);
    }
    block(6, &body, out);
}

/// Appends names of addresses, each with the one to show first.
pub fn pcapng_names<'a>(names: impl IntoIterator<Item = (IpAddr, &'a [String])>, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    for (addr, names) in names {
        let (code, mut value) = match addr {
            IpAddr::V4(addr) => (1, addr.octets().to_vec()),
            IpAddr::V6(addr) => (2, addr.octets().to_vec()),
        };
        for name in names {
            value.extend(name.bytes().filter(|byte| *byte != 0));
            value.push(0);
        }
        option(code, &value, &mut body);
    }
    body.extend_from_slice(&END);
    block(4, &body, out);
}

/// Appends how many packets were seen at an interface and how many of them the kernel dropped (Interface Statistics Block).
pub fn pcapng_counters(interface: u32, ts_ns: u64, seen: u64, dropped: u64, out: &mut Vec<u8>) {
    let mut body = interface.to_le_bytes().to_vec();
    body.extend_from_slice(&((ts_ns >> 32) as u32).to_le_bytes());
    body.extend_from_slice(&(ts_ns as u32).to_le_bytes());
    option(4, &seen.to_le_bytes(), &mut body);
    option(5, &dropped.to_le_bytes(), &mut body);
    body.extend_from_slice(&END);
    block(5, &body, out);
}
