//! ICMP (RFC 792) and ICMPv6 (RFC 4443, RFC 4861).

use std::net::SocketAddr;

use super::{Net, Upper, be16, ip};
use crate::Transport;

/// Bytes of the header that every ICMP message has.
pub(super) const HEADER: usize = 8;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// An ICMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmp<'a> {
    /// Whether it is ICMPv6.
    pub v6: bool,
    /// Its type.
    pub kind: u8,
    /// Its code within the type.
    pub code: u8,
    /// Bytes 4 to 8: identifier and sequence number of an echo, the next hop's MTU.
    pub rest: [u8; 4],
    /// Where the header begins in the frame.
    pub at: usize,
    /// What follows the first eight bytes, as captured.
    pub payload: &'a [u8],
}

/// The packet that an ICMP error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// TCP or UDP.
    pub transport: Transport,
    /// Who sent it: whoever receives the error.
    pub src: SocketAddr,
    /// Where it was going.
    pub dst: SocketAddr,
}

pub(super) fn decode(bytes: &[u8], at: usize, version: Version) -> Option<Upper<'_>> {
    let header = bytes.first_chunk::<HEADER>()?;
    Some(Upper::Icmp(Icmp {
        v6: version == Version::V6,
        kind: header[0],
        code: header[1],
        rest: [header[4], header[5], header[6], header[7]],
        at,
        payload: &bytes[HEADER..],
    }))
}

impl Icmp<'_> {
    /// Whether it reports that a packet did not arrive; it then quotes that packet.
    pub const fn is_error(&self) -> bool {
        match self.v6 {
            false => matches!(self.kind, 3 | 4 | 5 | 11 | 12),
            true => self.kind < 128 && self.kind > 0,
        }
    }

    /// The packet an error is about, as far as it is quoted.
    pub fn quote(&self) -> Option<Quote> {
        if !self.is_error() {
            return None;
        }
        let (src, dst, protocol, payload) = ip::quoted(self.payload)?;
        let transport = match protocol {
            6 => Transport::Tcp,
            17 => Transport::Udp,
            _ => return None,
        };
        Some(Quote {
            transport,
            src: SocketAddr::new(src, be16(payload, 0)?),
            dst: SocketAddr::new(dst, be16(payload, 2)?),
        })
    }

    /// Identifier and sequence number of an echo request or its reply.
    pub fn echo(&self) -> Option<(u16, u16)> {
        let echo = match self.v6 {
            false => matches!(self.kind, 0 | 8),
            true => matches!(self.kind, 128 | 129),
        };
        echo.then(|| {
            (
                u16::from_be_bytes([self.rest[0], self.rest[1]]),
                u16::from_be_bytes([self.rest[2], self.rest[3]]),
            )
        })
    }

    /// What it says, in words; the IANA registries of ICMP and ICMPv6 types.
    pub const fn name(&self) -> &'static str {
        match (self.v6, self.kind, self.code) {
            (false, 0, _) | (true, 129, _) => "echo reply",
            (false, 8, _) | (true, 128, _) => "echo request",
            (false, 3, 0) => "network unreachable",
            (false, 3, 1) => "host unreachable",
            (false, 3, 2) => "protocol unreachable",
            (false, 3, 3) | (true, 1, 4) => "port unreachable",
            (false, 3, 4) => "fragmentation needed",
            (false, 3, 9 | 10 | 13) | (true, 1, 1) => "administratively prohibited",
            (false, 3, _) => "destination unreachable",
            (false, 4, _) => "source quench",
            (false, 5, _) | (true, 137, _) => "redirect",
            (false, 9, _) | (true, 134, _) => "router advertisement",
            (false, 10, _) | (true, 133, _) => "router solicitation",
            (false, 11, _) | (true, 3, _) => "time exceeded",
            (false, 12, _) | (true, 4, _) => "parameter problem",
            (false, 13, _) => "timestamp request",
            (false, 14, _) => "timestamp reply",
            (true, 1, 0) => "no route to destination",
            (true, 1, 3) => "address unreachable",
            (true, 1, 5) => "source address failed policy",
            (true, 1, 6) => "route to destination rejected",
            (true, 1, _) => "destination unreachable",
            (true, 2, _) => "packet too big",
            (true, 130, _) => "multicast listener query",
            (true, 131, _) => "multicast listener report",
            (true, 132, _) => "multicast listener done",
            (true, 135, _) => "neighbour solicitation",
            (true, 136, _) => "neighbour advertisement",
            (true, 143, _) => "multicast listener report",
            _ => "a type that is not known",
        }
    }
}

impl<'a> super::Layers<'a> {
    /// The ICMP message, where there is one.
    pub const fn icmp(&self) -> Option<&Icmp<'a>> {
        match (&self.upper, &self.net) {
            (Upper::Icmp(icmp), Net::Ip(_)) => Some(icmp),
            _ => None,
        }
    }
}
