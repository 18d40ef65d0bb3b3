//! What a dissector takes, what it may hold, and what it counts.

use serde::{Deserialize, Serialize};

/// What a frame begins with: the link-layer header type of the capture, by its number in pcap files.
///
/// Source: the tcpdump project's list of link-layer header types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: address family in host byte order, then IP.
    pub const NULL: LinkType = LinkType(0);
    /// Ethernet.
    pub const ETHERNET: LinkType = LinkType(1);
    /// Raw IPv4 or IPv6.
    pub const RAW: LinkType = LinkType(101);
    /// Linux "cooked" capture, version 1.
    pub const LINUX_SLL: LinkType = LinkType(113);
    /// Linux "cooked" capture, version 2: has the interface index.
    pub const LINUX_SLL2: LinkType = LinkType(276);
}

/// One captured packet.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Number within the capture, from 1.
    pub number: u64,
    /// When it was captured, in nanoseconds since the Unix epoch.
    pub ts_ns: u64,
    /// How its bytes begin.
    pub link: LinkType,
    /// Its length on the wire; more than `data` has when the capture cut it.
    pub orig_len: u32,
    /// Its bytes.
    pub data: &'a [u8],
}

/// What a dissector may hold at once. Beyond a limit the oldest is given up and counted in [`Stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Conversations remembered.
    pub flows: usize,
    /// Bytes of one direction of one connection that wait for a hole to be filled or a message to end.
    pub stream_bytes: usize,
    /// Bytes that all connections may hold together.
    pub total_bytes: usize,
    /// Pieces of one direction that may wait behind a hole.
    pub pieces: usize,
    /// Bytes of text of one message.
    pub text_bytes: usize,
    /// Leaks marked in one message.
    pub leaks: usize,
    /// Frame numbers kept in one message.
    pub frames: usize,
    /// IP packets of which fragments may wait for the rest.
    pub fragmented: usize,
    /// Bytes of IP fragments that may wait.
    pub fragment_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 4096,
            stream_bytes: 1 << 20,
            total_bytes: 64 << 20,
            pieces: 256,
            text_bytes: 64 << 10,
            leaks: 64,
            frames: 256,
            fragmented: 256,
            fragment_bytes: 4 << 20,
        }
    }
}

/// What a dissector has seen and what it had to give up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Frames fed.
    pub frames: u64,
    /// Frames that are not IP, or not TCP or UDP.
    pub other: u64,
    /// Frames whose headers do not hold together.
    pub malformed: u64,
    /// IP fragments.
    pub fragments: u64,
    /// IP packets put together from fragments.
    pub reassembled: u64,
    /// IP fragments dropped: cut, overlapping, without the rest for too long, or too many.
    pub fragments_dropped: u64,
    /// Frames that the capture cut short.
    pub cut: u64,
    /// TCP segments that brought nothing new.
    pub retransmissions: u64,
    /// TCP segments that contradicted bytes already seen, and resets far outside their connection's sequence numbers.
    pub conflicts: u64,
    /// Holes given up: places in a stream where the capture never saw the bytes.
    pub gaps: u64,
    /// Bytes of those holes.
    pub missing_bytes: u64,
    /// Conversations given up to keep within the limits.
    pub evicted: u64,
    /// Messages given out.
    pub messages: u64,
}

impl std::ops::Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            frames: self.frames + other.frames,
            other: self.other + other.other,
            malformed: self.malformed + other.malformed,
            fragments: self.fragments + other.fragments,
            reassembled: self.reassembled + other.reassembled,
            fragments_dropped: self.fragments_dropped + other.fragments_dropped,
            cut: self.cut + other.cut,
            retransmissions: self.retransmissions + other.retransmissions,
            conflicts: self.conflicts + other.conflicts,
            gaps: self.gaps + other.gaps,
            missing_bytes: self.missing_bytes + other.missing_bytes,
            evicted: self.evicted + other.evicted,
            messages: self.messages + other.messages,
        }
    }
}
