//! One direction of a TCP connection, put in order.
//!
//! Bytes are given on as soon as they are contiguous. A hole is given up when the receiver acknowledges what is
//! behind it (it got the bytes, so it is the capture that missed them and they will not come again), or when too
//! much waits behind it; what comes for it later is counted and dropped.
//!
//! Where segments overlap, the copy that was seen first wins, as it does in Linux and BSD for bytes in order: a
//! sender that later says something else for the same sequence numbers is counted as a conflict, as long as the
//! first copy still waits and can be compared. Which copy the receiver took nobody outside it can know.

use std::collections::BTreeMap;

use super::{Limits, Stats, buffer::Mark, segment::Segment};

/// What comes out of a direction, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Data {
        bytes: &'a [u8],
        mark: Mark,
    },
    /// So many bytes were sent that the capture never saw.
    Gap(u64),
    /// The sender said that nothing follows (FIN).
    End,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    mark: Mark,
}

/// The reassembly of one direction.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// Offset of the next byte to give on. Its low 32 bits are the sequence number.
    next: Option<u64>,
    /// Sequence number of the SYN, where it was seen.
    pub isn: Option<u32>,
    pieces: BTreeMap<u64, Piece>,
    waiting: usize,
    fin: Option<u64>,
    pub ended: bool,
    /// Whether any payload was seen.
    pub spoke: bool,
}

/// Offsets start high enough that a sequence number before the first one seen is no underflow.
const BASE: u64 = 1 << 40;
/// An acknowledgement further ahead than any window allows (RFC 7323 §2.3: 1 GiB) is not believed.
const FURTHEST: u64 = 1 << 30;

/// How far from where a stream stands a reset may be and still be believed. A receiver takes it only within its
/// window (RFC 9293 §3.5.3); one far off is a forgery that ended nothing. Generous, for what a capture may have lost.
const RESET_WINDOW: u64 = 16 << 20;

impl Half {
    /// Whether a reset with this sequence number ends the connection.
    pub(super) fn believes_reset(&self, seq: u32) -> bool {
        self.next
            .is_none_or(|next| self.offset(seq).abs_diff(next) <= RESET_WINDOW)
    }

    /// Offset of a sequence number, nearest to where the stream stands.
    fn offset(&self, seq: u32) -> u64 {
        match self.next {
            None => BASE + u64::from(seq),
            Some(next) => {
                let delta = seq.wrapping_sub(next as u32) as i32;
                next.saturating_add_signed(i64::from(delta))
            }
        }
    }

    pub(super) fn held(&self) -> usize {
        self.waiting + self.pieces.len() * 64
    }

    /// The opening of this direction.
    pub(super) fn syn(&mut self, seq: u32) {
        self.isn = Some(seq);
        if self.next.is_none() {
            self.next = Some(BASE + u64::from(seq) + 1);
        }
    }

    /// Takes a segment of this direction.
    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        limits: &Limits,
        stats: &mut Stats,
        give: &mut dyn FnMut(Event<'_>),
    ) {
        if self.ended {
            stats.retransmissions += u64::from(segment.len > 0);
            return;
        }
        // A SYN takes the first sequence number; data may ride on it (RFC 9293 §3.4).
        let seq = segment.seq.wrapping_add(u32::from(segment.syn));
        let start = self.offset(seq);
        let next = *self.next.get_or_insert(start);
        let end = start + segment.len as u64;
        if segment.fin {
            self.fin.get_or_insert(end);
        }
        if segment.len > 0 {
            self.spoke = true;
            if end <= next {
                stats.retransmissions += 1;
            } else if start <= next && self.pieces.is_empty() {
                let bytes = segment.data.get((next - start) as usize..).unwrap_or_default();
                self.next = Some(next + bytes.len() as u64);
                for (mark, bytes) in segment.source.split((next - start) as usize, bytes) {
                    give(Event::Data { bytes, mark });
                }
            } else {
                self.place(start, segment, stats);
            }
        }
        self.drain(give);
        while self.pieces.len() > limits.pieces || self.waiting > limits.stream_bytes {
            self.give_up(stats, give);
        }
    }

    /// The receiver acknowledged everything before `ack`.
    pub(super) fn acknowledged(&mut self, ack: u32, stats: &mut Stats, give: &mut dyn FnMut(Event<'_>)) {
        let Some(mut next) = self.next else {
            self.next = Some(BASE + u64::from(ack));
            return;
        };
        if self.ended {
            return;
        }
        let mut until = self.offset(ack);
        if let Some(fin) = self.fin {
            until = until.min(fin);
        }
        if until <= next || until - next > FURTHEST {
            return;
        }
        while next < until {
            let hole = self
                .pieces
                .first_key_value()
                .map_or(until, |(offset, _)| *offset)
                .min(until);
            missed(hole - next, stats, give);
            self.next = Some(hole);
            self.drain(give);
            next = self.next.unwrap_or(until);
        }
        self.drain(give);
    }

    /// The connection is over: gives everything that still waits.
    pub(super) fn flush(&mut self, stats: &mut Stats, give: &mut dyn FnMut(Event<'_>)) {
        while !self.pieces.is_empty() {
            self.give_up(stats, give);
        }
    }

    /// Keeps those bytes that are new; bytes already there win over later ones that differ.
    fn place(&mut self, start: u64, segment: &Segment<'_>, stats: &mut Stats) {
        let Some(next) = self.next else { return };
        let data = segment.data;
        let end = start + data.len() as u64;
        let mut at = start.max(next);
        let slice = |from: u64, to: u64| &data[(from - start) as usize..(to - start) as usize];
        let mut fresh: Vec<(u64, u64)> = Vec::new();
        let from = self.pieces.range(..=at).next_back().map_or(at, |(offset, _)| *offset);
        for (&offset, piece) in self.pieces.range(from..end.max(from)) {
            let piece_end = offset + piece.bytes.len() as u64;
            if piece_end <= at {
                continue;
            }
            if at < offset {
                fresh.push((at, offset));
            }
            let (low, high) = (at.max(offset), piece_end.min(end));
            if low < high && piece.bytes[(low - offset) as usize..(high - offset) as usize] != *slice(low, high) {
                stats.conflicts += 1;
            }
            at = at.max(piece_end);
        }
        if at < end {
            fresh.push((at, end));
        }
        if fresh.is_empty() {
            stats.retransmissions += 1;
        }
        for (from, to) in fresh {
            let mut at = from;
            for (mark, bytes) in segment.source.split((from - start) as usize, slice(from, to)) {
                self.waiting += bytes.len();
                let bytes = bytes.to_vec();
                let length = bytes.len() as u64;
                self.pieces.insert(at, Piece { bytes, mark });
                at += length;
            }
        }
    }

    /// Gives everything that is contiguous.
    fn drain(&mut self, give: &mut dyn FnMut(Event<'_>)) {
        let Some(mut next) = self.next else { return };
        while let Some(piece) = self.pieces.first_entry().filter(|piece| *piece.key() == next) {
            let piece = piece.remove();
            self.waiting -= piece.bytes.len();
            next += piece.bytes.len() as u64;
            give(Event::Data {
                bytes: &piece.bytes,
                mark: piece.mark,
            });
        }
        self.next = Some(next);
        if !self.ended && self.fin.is_some_and(|fin| fin <= next) {
            self.ended = true;
            self.pieces.clear();
            self.waiting = 0;
            give(Event::End);
        }
    }

    /// Skips the first hole.
    fn give_up(&mut self, stats: &mut Stats, give: &mut dyn FnMut(Event<'_>)) {
        let (Some(next), Some((&first, _))) = (self.next, self.pieces.first_key_value()) else {
            return;
        };
        missed(first - next, stats, give);
        self.next = Some(first);
        self.drain(give);
    }
}

fn missed(count: u64, stats: &mut Stats, give: &mut dyn FnMut(Event<'_>)) {
    stats.gaps += 1;
    stats.missing_bytes += count;
    give(Event::Gap(count));
}
