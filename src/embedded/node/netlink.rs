//! Netlink: laying out messages and speaking to the kernel, for the pod network and for nftables.
//!
//! Source: RFC 3549; linux/netlink.h. All integers of a header are in the machine's byte order.

use std::{io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
    netlink::{NETFILTER, SOCK_DIAG, SocketAddrNetlink},
    sockopt,
};

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
const ACK: u16 = 4;
/// `NLM_F_EXCL`: refuse what exists.
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`: make what does not exist.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_REPLACE`: change what exists.
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_APPEND`: at the end of the list.
pub(crate) const APPEND: u16 = 0x800;
/// `NLM_F_DUMP`.
const DUMP: u16 = 0x300;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_F_NET_BYTEORDER`.
const NETWORK_ORDER: u16 = 0x4000;
const HEADER: usize = 16;

/// An end that a batch once had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    bytes: usize,
    answers: usize,
    sequence: u32,
}

/// Messages to send together, each with its own answer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    start: usize,
    nests: Vec<usize>,
    /// Sequence number and description of every message that the kernel acknowledges.
    expected: Vec<(u32, String)>,
    sequence: u32,
}

impl Batch {
    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many answers it gets.
    pub(crate) fn answers(&self) -> usize {
        self.expected.len()
    }

    /// The message at hand without its header.
    #[cfg(test)]
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[self.start + HEADER..]
    }

    /// Where it ends now, to come back to.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes.len(),
            answers: self.expected.len(),
            sequence: self.sequence,
        }
    }

    /// Takes back every message that was begun after `mark`.
    pub(crate) fn back_to(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.expected.truncate(mark.answers);
        self.sequence = mark.sequence;
        self.start = mark.bytes;
    }

    /// Begins a message that the kernel acknowledges; `what` names it in errors.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, fixed: &[u8], what: impl Into<String>) {
        let sequence = self.begin(kind, flags | ACK, fixed);
        self.expected.push((sequence, what.into()));
    }

    /// Begins a message without an answer (the bounds of an nftables transaction).
    pub(crate) fn silent(&mut self, kind: u16, flags: u16, fixed: &[u8]) {
        self.begin(kind, flags, fixed);
    }

    fn begin(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> u32 {
        self.finish();
        self.start = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        self.pad();
        self.finish();
        self.sequence
    }

    /// Writes the length of the message at hand, which only grows.
    fn finish(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.start).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(self.start..self.start + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute of bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        // an attribute's length has 16 bits; whoever lays out larger ones splits them before
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self.finish();
    }

    /// An attribute of text with its final zero byte.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// An attribute of 32 bits in the machine's byte order.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// An attribute of 32 bits in network byte order, as nftables has them.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute of attributes.
    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes(kind | NESTED, &[]);
        self.nests.push(at);
        inner(self);
        self.nests.pop();
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(at..at + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.finish();
    }

    /// A nested attribute that begins with a fixed part (a veth's peer: an `ifinfomsg`).
    pub(crate) fn nest_after(&mut self, kind: u16, fixed: &[u8], inner: impl FnOnce(&mut Self)) {
        self.nest(kind, |batch| {
            batch.bytes.extend_from_slice(fixed);
            batch.pad();
            inner(batch);
        });
    }
}

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct NetlinkError {
    /// The message, in words.
    pub what: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl NetlinkError {
    pub(crate) fn new(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let what = what.into();
        move |error| Self {
            what,
            source: error.into(),
        }
    }
}

/// A netlink socket; it speaks to the network namespace it was made in, whichever its thread is in later.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// A socket to rtnetlink: links, addresses, routes, neighbours.
    pub(crate) fn route() -> Result<Self, NetlinkError> {
        Self::open(None)
    }

    /// A socket to nfnetlink: nftables.
    pub(crate) fn netfilter() -> Result<Self, NetlinkError> {
        Self::open(Some(NETFILTER))
    }

    /// A socket to sock_diag: the sockets of a network namespace.
    pub(crate) fn diagnostics() -> Result<Self, NetlinkError> {
        Self::open(Some(SOCK_DIAG))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> Result<Self, NetlinkError> {
        let open = || -> rustix::io::Result<OwnedFd> {
            let socket =
                rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
            rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
            // as large as this user may: wmem_max bounds a batch, and answers to a large one must all fit
            let _ = sockopt::set_socket_send_buffer_size(&socket, 4 << 20);
            let _ = sockopt::set_socket_recv_buffer_size(&socket, 4 << 20);
            Ok(socket)
        };
        open().map(Self).map_err(NetlinkError::new("open a netlink socket"))
    }

    /// Sends a batch and waits for all of its answers.
    ///
    /// # Errors
    /// The first message that was refused.
    pub(crate) fn send(&self, batch: &Batch) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        rustix::net::sendto(&self.0, &batch.bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).map_err(
            NetlinkError::new(format!("send {} bytes of netlink", batch.bytes.len())),
        )?;
        let mut waiting = batch.expected.len();
        let mut refused: Option<(u32, rustix::io::Errno)> = None;
        let mut buffer = vec![0_u8; 64 << 10];
        while waiting > 0 {
            let length = match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(NetlinkError::new("read the kernel's answer")(error)),
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, sequence, payload, tail)) = next_message(rest) {
                rest = tail;
                if kind != ERROR {
                    continue;
                }
                let errno = word(payload, 0).map_or(0, u32::cast_signed);
                if errno != 0 && refused.is_none_or(|(first, _)| sequence < first) {
                    refused = Some((sequence, rustix::io::Errno::from_raw_os_error(-errno)));
                }
                // a transaction that is refused as a whole is answered at its bounds
                if batch.expected.iter().any(|(expected, _)| *expected == sequence) {
                    waiting -= 1;
                } else if errno != 0 {
                    waiting = 0;
                }
            }
        }
        match refused {
            None => Ok(()),
            Some((sequence, error)) => {
                self.drain();
                let what = batch.expected.iter().find(|(expected, _)| *expected == sequence);
                let what = what.map_or("the transaction", |(_, what)| what.as_str());
                Err(NetlinkError::new(what)(error))
            }
        }
    }

    /// Asks for everything of a kind; `what` names it in errors. Gives the payload of every message.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn dump(&self, kind: u16, fixed: &[u8], what: &str) -> Result<Vec<Vec<u8>>, NetlinkError> {
        let mut batch = Batch::default();
        batch.silent(kind, DUMP, fixed);
        rustix::net::sendto(&self.0, &batch.bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))
            .map_err(NetlinkError::new(what))?;
        let mut found = Vec::new();
        let mut buffer = vec![0_u8; 64 << 10];
        loop {
            let length = match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(NetlinkError::new(what)(error)),
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, _, payload, tail)) = next_message(rest) {
                rest = tail;
                match kind {
                    DONE => return Ok(found),
                    ERROR => {
                        let errno = word(payload, 0).map_or(0, u32::cast_signed);
                        return Err(NetlinkError::new(what)(rustix::io::Errno::from_raw_os_error(-errno)));
                    }
                    _ => found.push(payload.to_vec()),
                }
            }
        }
    }

    /// Asks for one thing; `what` names it in errors. Gives the payload of the answer.
    ///
    /// # Errors
    /// What the kernel refused; `NotFound` where it answers with nothing.
    pub(crate) fn ask(&self, kind: u16, fixed: &[u8], what: &str) -> Result<Vec<u8>, NetlinkError> {
        let mut batch = Batch::default();
        let asked = batch.begin(kind, 0, fixed);
        rustix::net::sendto(&self.0, &batch.bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))
            .map_err(NetlinkError::new(what))?;
        let mut buffer = vec![0_u8; 8 << 10];
        loop {
            let length = match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(NetlinkError::new(what)(error)),
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, sequence, payload, tail)) = next_message(rest) {
                rest = tail;
                match kind {
                    _ if sequence != asked => {}
                    ERROR => {
                        let errno = word(payload, 0).map_or(0, u32::cast_signed);
                        let errno = if errno == 0 {
                            rustix::io::Errno::NOENT
                        } else {
                            rustix::io::Errno::from_raw_os_error(-errno)
                        };
                        return Err(NetlinkError::new(what)(errno));
                    }
                    _ => return Ok(payload.to_vec()),
                }
            }
        }
    }

    /// Bounds a batch as a machine does on which an ordinary user may have so many bytes (`net.core.wmem_max`).
    pub(crate) fn bound_batch(&self, bytes: usize) {
        let _ = sockopt::set_socket_send_buffer_size(&self.0, bytes);
    }

    /// The most bytes that one batch may have: what the send buffer holds, which is twice what was asked for (socket(7)).
    pub(crate) fn largest_batch(&self) -> usize {
        sockopt::socket_send_buffer_size(&self.0).unwrap_or(128 << 10)
    }

    /// Forgets answers that are still queued.
    fn drain(&self) {
        let mut buffer = [0_u8; 4096];
        while rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT).is_ok() {}
    }

    /// The socket itself, for ioctls in its network namespace.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

/// The first message of `bytes` as (type, sequence number, payload), and what follows it.
fn next_message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = word(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = word(bytes, 8)?;
    let payload = bytes.get(HEADER..length)?;
    let tail = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, payload, tail))
}

/// The attributes of `bytes` as (type without its flags, value).
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !(NESTED | NETWORK_ORDER), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_what_was_added() {
        let mut batch = Batch::default();
        batch.message(16, CREATE, &[0; 16], "link");
        batch.text(3, "eth0");
        batch.nest(18, |b| {
            b.text(1, "veth");
            b.nest(2, |b| b.u32(1, 7));
        });
        batch.message(20, 0, &[0; 8], "address");
        let (kind, sequence, payload, tail) = next_message(&batch.bytes).unwrap();
        assert_eq!((kind, sequence), (16, 1));
        // ifinfomsg 16, "eth0\0" 4+5+3, nest 4 + ("veth\0" 12) + (nest 4 + 8)
        assert_eq!(payload.len(), 16 + 12 + 4 + 12 + 12);
        let (kind, sequence, payload, tail) = next_message(tail).unwrap();
        assert_eq!((kind, sequence, payload.len(), tail.len()), (20, 2, 8, 0));
    }

    #[test]
    fn attributes_are_those_that_were_written() {
        let mut batch = Batch::default();
        batch.message(16, CREATE, &[], "it");
        batch.text(3, "eth0");
        batch.nest(18, |b| b.u32(1, 7));
        let (_, _, payload, _) = next_message(&batch.bytes).unwrap();
        let seven = 7_u32.to_ne_bytes();
        let inner: Vec<u8> = [&8_u16.to_ne_bytes()[..], &1_u16.to_ne_bytes(), &seven].concat();
        let found: Vec<_> = attributes(payload).collect();
        assert_eq!(found, [(3, &b"eth0\0"[..]), (18, &inner[..])]);
        let nested: Vec<_> = attributes(found[1].1).collect();
        assert_eq!(nested, [(1, &seven[..])]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes: Vec<u8>) {
            proptest::prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
