//! What a capture is asked for and what it tells.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::packet::LinkType;

/// What to capture, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureRequest {
    /// Namespace of the pod to listen in.
    pub namespace: String,
    /// The pod to listen in.
    pub pod: String,
    /// A BPF filter in libpcap's language (pcap-filter(7)); `None` takes everything.
    #[serde(default)]
    pub filter: Option<String>,
    /// End by itself after this long; `None` goes on until the stream is dropped.
    #[serde(default)]
    pub duration: Option<Duration>,
    /// End by itself after this many packets.
    #[serde(default)]
    pub packets: Option<u64>,
    /// Bytes kept of each packet. A packet may be 64 KiB long where the kernel puts segments together.
    pub snaplen: u32,
    /// Bytes of the ring in the pod in which packets wait to be read; what finds no room in it is dropped and counted.
    pub ring: u32,
}

impl CaptureRequest {
    /// Bytes of the ring unless something else is asked: a burst of some 50,000 small packets.
    pub const RING: u32 = 16 << 20;

    /// Bytes of a packet that are kept unless something else is asked: all of any IP packet.
    pub const SNAPLEN: u32 = 262_144;

    /// Everything in this pod, until stopped.
    pub fn pod(namespace: impl Into<String>, pod: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            pod: pod.into(),
            filter: None,
            duration: None,
            packets: None,
            snaplen: Self::SNAPLEN,
            ring: Self::RING,
        }
    }
}

/// A network interface of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its index, which SLL2 frames carry.
    pub index: u32,
    /// Its name (`eth0`, `lo`).
    pub name: String,
}

/// One packet as captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When, in nanoseconds since the Unix epoch.
    pub ts_ns: u64,
    /// Its length on the wire.
    pub orig_len: u32,
    /// Its bytes, up to the snapshot length.
    pub data: Bytes,
}

/// Why a capture ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum EndReason {
    /// As long, or as many packets, as asked for.
    Complete,
    /// The observer ended by itself: its pod is gone, or it failed.
    Lost {
        /// What it said.
        detail: String,
    },
}

/// What happens in a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureEvent {
    /// libpcap listens: whatever crosses the network from here on is seen.
    Started {
        /// How frames begin.
        link: LinkType,
        /// The pod's interfaces.
        interfaces: Vec<Interface>,
    },
    /// One packet.
    Packet(Packet),
    /// Packets that the kernel dropped before they could be read, altogether so far.
    Dropped(u64),
    /// It is over; nothing follows.
    Ended(EndReason),
}
