//! IP packets put together from their fragments (RFC 791 §3.2, RFC 8200 §4.5).
//!
//! A fragment that was seen before is ignored. One that overlaps others in part makes its whole packet be given up,
//! as Linux does for both versions (RFC 5722 demands it for IPv6): two readers of such a packet could read it
//! differently.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use super::{Ip, Upper};
use crate::{Limits, Stats};

/// Nanoseconds after which a packet is given up: 30 seconds, as Linux's `ipfrag_time`.
const PATIENCE_NS: u64 = 30_000_000_000;
/// Bytes an IP packet may have behind its header.
const LARGEST: usize = 65_535;

/// Which frame brought bytes of something that was put together, and where they stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Where they begin in the whole.
    pub start: usize,
    /// Number of the frame.
    pub frame: u64,
    /// Where they begin in the frame.
    pub at: usize,
}

/// A packet put together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub src: IpAddr,
    pub dst: IpAddr,
    protocol: u8,
    bytes: Vec<u8>,
    /// In order.
    pub origins: Vec<Origin>,
}

impl Whole {
    /// Its transport header and payload, with places counted from the start of the IP payload.
    pub(crate) fn upper(&self) -> Upper<'_> {
        super::upper(self.protocol, &self.bytes, 0, 0, &mut super::Troubles::default())
    }
}

/// Fragments of the same packet have these in common. IPv6 leaves the protocol out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: Option<u8>,
}

#[derive(Debug)]
struct Partial {
    since_ns: u64,
    pieces: BTreeMap<usize, (Vec<u8>, Origin)>,
    held: usize,
    /// Length of the whole, once the last fragment was seen.
    end: Option<usize>,
    /// Protocol that the first fragment names.
    protocol: Option<u8>,
    /// Overlapping or cut: whatever else comes of it is dropped.
    dead: bool,
}

/// Packets of which some fragments were seen.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    packets: HashMap<Key, Partial>,
    held: usize,
}

/// What a piece is remembered for beside its bytes.
const PIECE: usize = 96;

impl Fragments {
    /// Bytes held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes a fragment; gives the packet that it completes.
    pub(crate) fn add(&mut self, ip: &Ip<'_>, frame: (u64, u64), limits: &Limits, stats: &mut Stats) -> Option<Whole> {
        let fragment = ip.fragment?;
        stats.fragments += 1;
        self.forget(frame.1, limits, stats);
        let key = Key {
            src: ip.src,
            dst: ip.dst,
            id: fragment.id,
            protocol: ip.src.is_ipv4().then_some(ip.protocol),
        };
        let partial = self.packets.entry(key).or_insert_with(|| Partial {
            since_ns: frame.1,
            pieces: BTreeMap::new(),
            held: 0,
            end: None,
            protocol: None,
            dead: false,
        });
        if fragment.offset == 0 {
            partial.protocol.get_or_insert(ip.protocol);
        }
        let before = partial.held;
        match partial.place(ip, fragment.offset, fragment.more, frame.0) {
            Placed::New => {}
            Placed::Again => stats.retransmissions += 1,
            Placed::Dropped => {
                stats.fragments_dropped += partial.pieces.len() as u64 + 1;
                partial.pieces.clear();
                partial.held = 0;
                partial.dead = true;
            }
        }
        self.held = self.held + partial.held - before;
        if !partial.complete() {
            return None;
        }
        let partial = self.packets.remove(&key)?;
        self.held -= partial.held;
        stats.reassembled += 1;
        Some(partial.whole(key))
    }

    /// Gives up what waits too long, or is too much.
    fn forget(&mut self, now_ns: u64, limits: &Limits, stats: &mut Stats) {
        let too_many = self.packets.len() >= limits.fragmented || self.held > limits.fragment_bytes;
        let stale = |partial: &Partial| now_ns.saturating_sub(partial.since_ns) > PATIENCE_NS;
        if !too_many && !self.packets.values().any(stale) {
            return;
        }
        let mut since: Vec<(u64, Key)> = self.packets.iter().map(|(key, one)| (one.since_ns, *key)).collect();
        since.sort_unstable();
        let mut spare = if too_many { (since.len() / 8).max(1) } else { 0 };
        for (_, key) in since {
            if spare == 0 && !self.packets.get(&key).is_some_and(stale) {
                continue;
            }
            spare = spare.saturating_sub(1);
            if let Some(partial) = self.packets.remove(&key) {
                self.held -= partial.held;
                stats.fragments_dropped += partial.pieces.len() as u64;
            }
        }
    }
}

enum Placed {
    New,
    Again,
    Dropped,
}

impl Partial {
    fn place(&mut self, ip: &Ip<'_>, offset: usize, more: bool, frame: u64) -> Placed {
        let (start, end) = (offset, offset + ip.payload.len());
        // RFC 791: every fragment but the last has a multiple of eight bytes.
        let odd = more && !ip.payload.len().is_multiple_of(8);
        let beyond = self.end.is_some_and(|known| end > known || (!more && end != known));
        if self.dead || ip.missing > 0 || ip.payload.is_empty() || odd || beyond || end > LARGEST {
            return Placed::Dropped;
        }
        let before = self.pieces.range(..end).next_back();
        if let Some((at, (bytes, _))) = before.filter(|(at, (bytes, _))| *at + bytes.len() > start) {
            let contained = *at <= start && end <= at + bytes.len();
            let same = contained && bytes[start - at..end - at] == *ip.payload;
            return if same { Placed::Again } else { Placed::Dropped };
        }
        if !more {
            if self.pieces.range(end..).next().is_some() {
                return Placed::Dropped;
            }
            self.end = Some(end);
        }
        let origin = Origin {
            start,
            frame,
            at: ip.payload_at,
        };
        self.held += ip.payload.len() + PIECE;
        self.pieces.insert(start, (ip.payload.to_vec(), origin));
        Placed::New
    }

    fn complete(&self) -> bool {
        let mut next = 0;
        let contiguous = self.pieces.iter().all(|(at, (bytes, _))| {
            let fits = *at == next;
            next = at + bytes.len();
            fits
        });
        contiguous && self.end == Some(next)
    }

    fn whole(self, key: Key) -> Whole {
        let mut bytes = Vec::with_capacity(self.end.unwrap_or_default());
        let mut origins = Vec::with_capacity(self.pieces.len());
        for (piece, origin) in self.pieces.into_values() {
            bytes.extend_from_slice(&piece);
            origins.push(origin);
        }
        Whole {
            src: key.src,
            dst: key.dst,
            protocol: self.protocol.or(key.protocol).unwrap_or_default(),
            bytes,
            origins,
        }
    }
}
