//! What a frame, or a packet put together from fragments, brings to a conversation.

use std::net::{IpAddr, SocketAddr};

use super::{
    buffer::Mark,
    layers::{Ip, Origin, Tcp, Udp},
};

/// Where the bytes of a payload come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source<'a> {
    /// The frame that brought, or completed, the packet.
    pub frame: u64,
    pub ts_ns: u64,
    /// Where the payload begins in the frame; with origins, in what they put together.
    pub at: usize,
    /// The frames of a packet that came in fragments; empty for one that came whole.
    pub origins: &'a [Origin],
}

impl<'a> Source<'a> {
    /// Parts of the payload, `bytes` from `start` on, by the frames that brought them.
    pub(super) fn split<'b>(
        &self,
        start: usize,
        bytes: &'b [u8],
    ) -> impl Iterator<Item = (Mark, &'b [u8])> + use<'a, 'b> {
        let Source {
            frame,
            ts_ns,
            at,
            origins,
        } = *self;
        let start = at + start;
        let end = start + bytes.len();
        let whole = origins.is_empty().then_some((
            Mark {
                frame,
                ts_ns,
                at: start,
            },
            bytes,
        ));
        let pieces = origins.iter().enumerate().filter_map(move |(index, origin)| {
            let until = origins.get(index + 1).map_or(usize::MAX, |next| next.start);
            let (from, to) = (start.max(origin.start), end.min(until));
            let mark = Mark {
                frame: origin.frame,
                ts_ns,
                at: origin.at + (from.max(origin.start) - origin.start),
            };
            (from < to).then(|| (mark, &bytes[from - start..to - start]))
        });
        whole.into_iter().chain(pieces)
    }
}

/// A TCP segment.
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
    pub source: Source<'a>,
}

/// A UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub data: &'a [u8],
    /// Payload length on the wire.
    pub len: usize,
    pub ifindex: Option<u32>,
    pub source: Source<'a>,
}

impl<'a> Segment<'a> {
    pub(super) fn new(ends: (IpAddr, IpAddr), tcp: &Tcp<'a>, ifindex: Option<u32>, source: Source<'a>) -> Self {
        Self {
            src: SocketAddr::new(ends.0, tcp.src_port),
            dst: SocketAddr::new(ends.1, tcp.dst_port),
            seq: tcp.seq,
            ack: tcp.has(Tcp::ACK).then_some(tcp.ack),
            syn: tcp.has(Tcp::SYN),
            fin: tcp.has(Tcp::FIN),
            rst: tcp.has(Tcp::RST),
            data: tcp.payload,
            len: tcp.len,
            ifindex,
            source: Source {
                at: tcp.at + tcp.header_len,
                ..source
            },
        }
    }
}

impl<'a> Datagram<'a> {
    pub(super) fn new(ends: (IpAddr, IpAddr), udp: &Udp<'a>, ifindex: Option<u32>, source: Source<'a>) -> Self {
        Self {
            src: SocketAddr::new(ends.0, udp.src_port),
            dst: SocketAddr::new(ends.1, udp.dst_port),
            data: udp.payload,
            len: udp.len,
            ifindex,
            source: Source {
                at: udp.at + 8,
                ..source
            },
        }
    }
}

/// Sender and receiver of an IP packet.
pub(super) fn ends(ip: &Ip<'_>) -> (IpAddr, IpAddr) {
    (ip.src, ip.dst)
}
