//! Packets: decoders, TCP reassembly, and what leaks. Pure: no I/O, no clock, no async.
//!
//! Bytes enter as [`Frame`]s (from a capture file or a live capture) and leave as [`Message`]s: what one party said
//! to another, readable, with the secrets in it marked as [`Leak`]s. Everything here reads bytes that strangers
//! chose, so every decoder is total (any input gives a value, never a panic) and everything that grows has a limit.

mod dissect;
mod leak;
mod message;
mod text;

pub use dissect::{Dissector, Frame, Limits, LinkType, Stats};
pub use leak::{Leak, LeakKind, UnknownLeakKind};
pub use message::{CapturePoint, Detail, Message, Peer, Protocol, Role, Transport, Who, WhoKind};
pub use text::escape;
