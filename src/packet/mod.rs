//! Packets: decoders, TCP reassembly, and what leaks. Pure: no I/O, no clock, no async.
//!
//! Bytes enter as [`Frame`]s (from a capture file or a live capture) and leave as [`Message`]s: what one party said
//! to another, readable, with the secrets in it marked as [`Leak`]s. Everything here reads bytes that strangers
//! chose, so every decoder is total (any input gives a value, never a panic) and everything that grows has a limit.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod buffer;
mod conversation;
#[cfg(test)]
mod conversation_tests;
mod dissect;
mod dns;
mod exchange;
pub mod filter;
mod flow;
mod frame;
mod fuzz;
mod http;
mod http2;
mod jwt;
mod layers;
mod leak;
mod merge;
mod message;
pub mod pcapfile;
mod point;
mod postgres;
mod probed;
mod raw;
mod reading;
mod segment;
mod sink;
mod stream;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;
mod tls;
#[cfg(test)]
mod wireshark;
#[cfg(test)]
mod wireshark_tests;

/// The header that carries the id of a probe of ztlab's own; a message says which probe it belongs to.
pub const PROBE_HEADER: &str = "x-ztlab-probe";

/// Source ports of ztlab's own probes, so that a capture tells them from what the applications say even where the protocol
/// has no header to say it in. They lie above the ports that Linux gives out by itself (`ip_local_port_range`, 32768 to 60999
/// in every new network namespace).
pub const PROBE_PORTS: std::ops::RangeInclusive<u16> = 64_512..=65_535;

pub use conversation::{Fact, Flow, FlowVerdict};
pub use dissect::Dissector;
pub use frame::{Frame, Limits, LinkType, Stats};
#[doc(hidden)]
pub use fuzz::{fuzz_capture, fuzz_datagrams, fuzz_frames, fuzz_secrets, fuzz_talk};
pub use layers::{
    Arp, FieldValue, Fragment, Icmp, Ip, Layers, Link, Net, Quote, Tcp, TcpOption, Trouble, Troubles, Udp, Upper,
    Vlans, decode, field_names,
};
pub use leak::{Leak, LeakKind, Place, UnknownLeakKind};
pub use merge::Merge;
pub use message::{Detail, Message, Peer, Protocol, Role, Sighting, Transport, Who, WhoKind};
pub use point::{CapturePoint, PlaceKind, ProxySide};
pub use probed::Probed;
pub use reading::{Reading, Step};
pub use text::escape;
pub use tls::{Certificate, TlsAlert, TlsEnd, TlsFacts};
