//! The way from frames to messages.

use serde::{Deserialize, Serialize};

use super::Message;

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
    /// IP fragments, which are counted and not put together.
    pub fragments: u64,
    /// Frames that the capture cut short.
    pub cut: u64,
    /// TCP segments that brought nothing new.
    pub retransmissions: u64,
    /// TCP segments that contradicted bytes already seen.
    pub conflicts: u64,
    /// Holes given up: bytes that the capture never saw.
    pub gaps: u64,
    /// Conversations given up to keep within the limits.
    pub evicted: u64,
    /// Messages given out.
    pub messages: u64,
}

/// Frames in, messages out.
#[derive(Debug)]
pub struct Dissector {
    limits: Limits,
    stats: Stats,
}

impl Dissector {
    /// A dissector that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            stats: Stats::default(),
        }
    }

    /// Takes the next frame; gives the messages that it completed.
    pub fn feed(&mut self, _frame: Frame<'_>) -> Vec<Message> {
        let _ = self.limits;
        self.stats.frames += 1;
        Vec::new()
    }

    /// The capture is over: gives what was begun and never completed.
    pub fn finish(&mut self) -> Vec<Message> {
        Vec::new()
    }

    /// What was seen so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

impl Default for Dissector {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}
