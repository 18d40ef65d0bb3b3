//! Packets: decoders, TCP reassembly, and what leaks. Pure: no I/O, no clock, no async.
//!
//! Bytes enter as [`Frame`]s (from a capture file or a live capture) and leave as [`Message`]s: what one party said
//! to another, readable, with the secrets in it marked as [`Leak`]s. Everything here reads bytes that strangers
//! chose, so every decoder is total (any input gives a value, never a panic) and everything that grows has a limit.

mod buffer;
mod dissect;
mod dns;
mod flow;
mod fuzz;
mod http;
mod leak;
mod message;
mod net;
pub mod pcapfile;
mod postgres;
mod sink;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;
mod tls;

pub use dissect::{Dissector, Frame, Limits, LinkType, Stats};
#[doc(hidden)]
pub use fuzz::{fuzz_capture, fuzz_frames};
pub use leak::{Leak, LeakKind, UnknownLeakKind};
pub use message::{CapturePoint, Detail, Message, Peer, Protocol, Role, Transport, Who, WhoKind};
pub use text::escape;
