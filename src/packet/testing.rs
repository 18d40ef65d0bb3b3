//! Captures made by hand, for tests.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Dissector, Frame, LinkType, Message};

pub(crate) const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 244, 0, 10), 40000);

pub(crate) fn server(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 244, 0, 20), port)
}

pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const FIN: u8 = 1;
pub(crate) const ACK: u8 = 16;

/// The Internet checksum, RFC 1071.
fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub(crate) fn ipv4(protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![
        0x45,
        0,
        (length >> 8) as u8,
        length as u8,
        0,
        1,
        0x40,
        0,
        64,
        protocol,
        0,
        0,
    ];
    packet.extend_from_slice(&src.octets());
    packet.extend_from_slice(&dst.octets());
    let sum = checksum(&[&packet]).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend_from_slice(payload);
    packet
}

pub(crate) fn tcp(src: SocketAddrV4, dst: SocketAddrV4, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend_from_slice(&src.port().to_be_bytes());
    segment.extend_from_slice(&dst.port().to_be_bytes());
    segment.extend_from_slice(&seq.to_be_bytes());
    segment.extend_from_slice(&ack.to_be_bytes());
    segment.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    let length = (segment.len() as u16).to_be_bytes();
    let sum = checksum(&[&src.ip().octets(), &dst.ip().octets(), &[0, 6], &length, &segment]).to_be_bytes();
    segment[16..18].copy_from_slice(&sum);
    ipv4(6, *src.ip(), *dst.ip(), &segment)
}

pub(crate) fn udp(src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend_from_slice(&src.port().to_be_bytes());
    datagram.extend_from_slice(&dst.port().to_be_bytes());
    datagram.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    ipv4(17, *src.ip(), *dst.ip(), &datagram)
}

/// An IPv4 packet cut into fragments of so many payload bytes.
pub(crate) fn fragments(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let payload = &packet[20..];
    let mut at = 0;
    let mut out = Vec::new();
    for piece in payload.chunks(size) {
        let more = at + piece.len() < payload.len();
        let mut fragment = packet[..20].to_vec();
        fragment[2..4].copy_from_slice(&((20 + piece.len()) as u16).to_be_bytes());
        let offset = (at / 8) as u16 | if more { 0x2000 } else { 0 };
        fragment[6..8].copy_from_slice(&offset.to_be_bytes());
        fragment[10..12].copy_from_slice(&[0, 0]);
        let sum = checksum(&[&fragment]).to_be_bytes();
        fragment[10..12].copy_from_slice(&sum);
        fragment.extend_from_slice(piece);
        out.push(fragment);
        at += piece.len();
    }
    out
}

pub(crate) const CLIENT6: [u8; 16] = *b"\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a";
pub(crate) const SERVER6: [u8; 16] = *b"\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x14";

/// An IPv6 packet whose payload begins with this next header.
pub(crate) fn ipv6(next: u8, src: [u8; 16], dst: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[next, 64]);
    packet.extend_from_slice(&src);
    packet.extend_from_slice(&dst);
    packet.extend_from_slice(payload);
    packet
}

/// A transport payload over IPv6, its checksum (RFC 8200 §8.1) put in at an offset.
pub(crate) fn over_ipv6(next: u8, checksum_at: usize, payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    payload[checksum_at..checksum_at + 2].copy_from_slice(&[0, 0]);
    let length = (payload.len() as u32).to_be_bytes();
    let sum = checksum(&[&CLIENT6, &SERVER6, &length, &[0, 0, 0, next], &payload]).to_be_bytes();
    payload[checksum_at..checksum_at + 2].copy_from_slice(&sum);
    ipv6(next, CLIENT6, SERVER6, &payload)
}

/// An ICMP message: type, code, the four bytes behind the checksum, and what follows.
pub(crate) fn icmp(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&rest);
    message.extend_from_slice(payload);
    let sum = checksum(&[&message]).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// An Ethernet frame, with VLAN tags of these types and identifiers.
pub(crate) fn ethernet(tags: &[(u16, u16)], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 20, 2, 0, 0, 0, 0, 10];
    for (kind, id) in tags {
        frame.extend_from_slice(&kind.to_be_bytes());
        frame.extend_from_slice(&id.to_be_bytes());
    }
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A Linux "cooked" frame, version 2, seen on interface 7.
pub(crate) fn sll2(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = kind.to_be_bytes().to_vec();
    frame.extend_from_slice(b"\0\0\0\0\0\x07\0\x01\x04\x06\x02\0\0\0\0\x0a\0\0");
    frame.extend_from_slice(payload);
    frame
}

/// One TCP connection, written packet by packet (raw IP).
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    pub packets: Vec<Vec<u8>>,
    ends: [SocketAddrV4; 2],
    seq: [u32; 2],
}

impl Talk {
    /// A connection to a port, its handshake done.
    pub(crate) fn open(port: u16) -> Self {
        // The sequence numbers wrap early in the connection: RFC 9293 §3.4.
        let mut talk = Self::midway(port, [0xffff_fff0, 77]);
        talk.send(0, SYN, &[]);
        talk.send(1, SYN | ACK, &[]);
        talk.send(0, ACK, &[]);
        talk
    }

    /// A connection whose opening was not captured.
    pub(crate) fn midway(port: u16, seq: [u32; 2]) -> Self {
        Self {
            packets: Vec::new(),
            ends: [CLIENT, server(port)],
            seq,
        }
    }

    pub(crate) fn send(&mut self, from: usize, flags: u8, payload: &[u8]) -> &mut Self {
        let ack = if flags & ACK != 0 { self.seq[1 - from] } else { 0 };
        self.packets.push(tcp(
            self.ends[from],
            self.ends[1 - from],
            self.seq[from],
            ack,
            flags,
            payload,
        ));
        self.seq[from] = self.seq[from]
            .wrapping_add(payload.len() as u32)
            .wrapping_add(u32::from(flags & (SYN | FIN) != 0));
        self
    }

    pub(crate) fn client(&mut self, payload: &[u8]) -> &mut Self {
        self.send(0, ACK, payload)
    }

    pub(crate) fn server(&mut self, payload: &[u8]) -> &mut Self {
        self.send(1, ACK, payload)
    }

    /// Sends bytes in pieces of these sizes, over and over; the other side acknowledges at the end.
    pub(crate) fn cut(&mut self, from: usize, payload: &[u8], sizes: &[usize]) -> &mut Self {
        let mut rest = payload;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let size = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
            self.send(from, ACK, &rest[..size]);
            rest = &rest[size..];
        }
        self.send(1 - from, ACK, &[])
    }

    pub(crate) fn close(&mut self) -> &mut Self {
        self.send(0, ACK | FIN, &[]).send(1, ACK | FIN, &[]).send(0, ACK, &[])
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        dissect(&self.packets)
    }
}

/// Everything that raw IP packets say, one second apart.
pub(crate) fn dissect<P: AsRef<[u8]>>(packets: &[P]) -> Vec<Message> {
    let mut dissector = Dissector::default();
    let mut out = feed(&mut dissector, packets);
    out.extend(dissector.finish());
    out
}

pub(crate) fn feed<P: AsRef<[u8]>>(dissector: &mut Dissector, packets: &[P]) -> Vec<Message> {
    let mut out = Vec::new();
    for packet in packets {
        let number = dissector.stats().frames + 1;
        let data = packet.as_ref();
        let frame = Frame {
            number,
            ts_ns: number * 1_000_000_000,
            link: LinkType::RAW,
            orig_len: data.len() as u32,
            data,
        };
        out.extend(dissector.feed(frame));
    }
    out
}

/// A typed PostgreSQL message.
pub(crate) fn pg(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    message
}

/// A PostgreSQL startup packet.
pub(crate) fn pg_startup(user: &str, database: &str) -> Vec<u8> {
    let body = format!("\0\x03\0\0user\0{user}\0database\0{database}\0\0");
    let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
    message.extend_from_slice(body.as_bytes());
    message
}
