//! Bytes of a stream that remember which frame brought them.

use std::{collections::VecDeque, ops::Range};

/// Where bytes were seen: in which frame, when, and where in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub frame: u64,
    pub ts_ns: u64,
    /// Offset in the frame.
    pub at: usize,
}

impl Mark {
    /// Whether both are the same byte of the same frame.
    pub(super) fn same_place(self, other: Mark) -> bool {
        self.frame == other.frame && self.at == other.at
    }

    /// The place `count` bytes further on.
    pub(super) fn ahead(self, count: usize) -> Mark {
        Mark {
            at: self.at + count,
            ..self
        }
    }
}

/// When and in which frames something was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    pub first_ns: u64,
    pub last_ns: u64,
    pub frames: Vec<u64>,
    /// The last of the frames by their numbers.
    highest: u64,
}

impl Span {
    /// Frame numbers kept; a message of more frames lists the first ones.
    const FRAMES: usize = 256;

    pub(super) fn add(&mut self, frame: u64, ts_ns: u64) {
        if self.frames.is_empty() {
            self.first_ns = ts_ns;
            self.last_ns = ts_ns;
        }
        self.first_ns = self.first_ns.min(ts_ns);
        self.last_ns = self.last_ns.max(ts_ns);
        if self.frames.len() < Self::FRAMES && (frame > self.highest || !self.frames.contains(&frame)) {
            self.frames.push(frame);
            self.highest = self.highest.max(frame);
        }
    }

    pub(super) fn merge(&mut self, other: &Span) {
        if other.frames.is_empty() {
            return;
        }
        if self.frames.is_empty() {
            self.clone_from(other);
            return;
        }
        let (first, last) = (other.first_ns, other.last_ns);
        for frame in &other.frames {
            self.add(*frame, first);
        }
        self.last_ns = self.last_ns.max(last);
    }
}

/// The unread bytes of one direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    read: usize,
    /// (offset in the stream, where it was seen) of each arrival that still has unread bytes.
    marks: VecDeque<(u64, Mark)>,
    /// Offset in the stream of the first unread byte.
    offset: u64,
}

impl Buffer {
    pub(super) fn push(&mut self, data: &[u8], mark: Mark) {
        if data.is_empty() {
            return;
        }
        if self.read > 4096 && self.read * 2 > self.bytes.len() {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.marks.push_back((self.offset + self.len() as u64, mark));
        self.bytes.extend_from_slice(data);
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held.
    pub(super) fn held(&self) -> usize {
        self.bytes.len() + self.marks.len() * size_of::<(u64, Mark)>()
    }

    /// Moves up to `count` bytes from the front into `into`, which keeps at most `keep` bytes altogether and counts
    /// the rest.
    pub(super) fn take(&mut self, count: usize, keep: usize, into: &mut Collected) {
        let mut left = count.min(self.len());
        while left > 0 {
            let (start, mark, end) = match (self.marks.front(), self.marks.get(1)) {
                (Some(&(start, mark)), Some(&(next, _))) => (start, mark, next),
                (Some(&(start, mark)), None) => (start, mark, self.offset + self.len() as u64),
                (None, _) => return,
            };
            let run = (end - self.offset) as usize;
            let step = run.min(left);
            let bytes = &self.bytes[self.read..self.read + step];
            into.push(bytes, keep, mark.ahead((self.offset - start) as usize));
            self.read += step;
            self.offset += step as u64;
            left -= step;
            if step == run {
                self.marks.pop_front();
            }
        }
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
            self.bytes.shrink_to(16 << 10);
        }
    }

    /// Moves everything.
    pub(super) fn take_all(&mut self, keep: usize, into: &mut Collected) {
        self.take(self.len(), keep, into);
    }

    /// Forgets `count` bytes from the front.
    pub(super) fn skip(&mut self, count: usize) {
        self.take(count, 0, &mut Collected::default());
    }
}

/// Bytes taken out of a stream to be shown as one message.
#[derive(Debug, Clone, Default)]
pub(super) struct Collected {
    /// The bytes kept.
    pub bytes: Vec<u8>,
    /// (offset in `bytes`, where they were seen) of each run of bytes that stand together in one frame.
    runs: Vec<(usize, Mark)>,
    pub span: Span,
    /// Bytes there were, kept or not.
    pub total: u64,
    /// Bytes that the capture never saw.
    pub missing: u64,
}

impl Collected {
    /// No bytes, but where and whether something was seen.
    pub(super) fn seen(span: Span, missing: u64) -> Self {
        Self {
            span,
            missing,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, data: &[u8], keep: usize, mark: Mark) {
        self.total += data.len() as u64;
        self.span.add(mark.frame, mark.ts_ns);
        let room = keep.saturating_sub(self.bytes.len()).min(data.len());
        if room > 0 {
            let continues = |&(start, last): &(usize, Mark)| {
                last.frame == mark.frame && last.at + (self.bytes.len() - start) == mark.at
            };
            if !self.runs.last().is_some_and(continues) {
                self.runs.push((self.bytes.len(), mark));
            }
            self.bytes.extend_from_slice(&data[..room]);
        }
    }

    /// Makes room for bytes that are to come; not more than a few pages, since they may never.
    pub(super) fn expect(&mut self, count: u64) {
        const MOST: u64 = 8 << 10;
        self.bytes.reserve(count.min(MOST) as usize);
    }

    /// Whether some of the bytes there were are not in `bytes`.
    pub(super) fn cut(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    /// Memory held.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity() + self.runs.capacity() * size_of::<(usize, Mark)>() + self.span.frames.capacity() * 8
    }

    /// Appends words of our own, which no frame carried.
    pub(super) fn say(&mut self, words: &[u8]) {
        if self.runs.last().is_none_or(|last| last.1 != Mark::default()) {
            self.runs.push((self.bytes.len(), Mark::default()));
        }
        self.bytes.extend_from_slice(words);
        self.total += words.len() as u64;
    }

    /// The bytes of a range, by where they were seen.
    pub(super) fn parts(&self, range: Range<usize>) -> impl Iterator<Item = (Mark, &[u8])> {
        let range = range.start.min(self.bytes.len())..range.end.min(self.bytes.len());
        let mut runs = self.runs(range.clone()).peekable();
        std::iter::from_fn(move || {
            let (start, mark) = runs.next()?;
            let end = runs.peek().map_or(range.end, |next| next.0);
            Some((mark, &self.bytes[start..end]))
        })
    }

    /// (offset in `bytes`, where it was seen) of each run that overlaps a range.
    pub(super) fn runs(&self, range: Range<usize>) -> impl Iterator<Item = (usize, Mark)> {
        let first = self.runs.partition_point(|run| run.0 <= range.start).saturating_sub(1);
        self.runs[first.min(self.runs.len())..]
            .iter()
            .take_while(move |run| run.0 < range.end)
            .map(move |&(start, mark)| {
                let from = start.max(range.start);
                (from, mark.ahead(from - start))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(frame: u64, at: usize) -> Mark {
        Mark {
            frame,
            ts_ns: frame * 10,
            at,
        }
    }

    #[test]
    fn bytes_remember_their_frames_and_places() {
        let mut buffer = Buffer::default();
        buffer.push(b"abc", mark(1, 54));
        buffer.push(b"def", mark(2, 54));
        buffer.push(b"ghi", mark(3, 54));
        let mut first = Collected::default();
        buffer.take(4, 100, &mut first);
        assert_eq!(first.bytes, b"abcd");
        assert_eq!(first.span.frames, [1, 2]);
        assert_eq!(
            first.runs(0..4).collect::<Vec<_>>(),
            [(0, mark(1, 54)), (3, mark(2, 54))]
        );
        assert_eq!(first.runs(1..3).collect::<Vec<_>>(), [(1, mark(1, 55))]);
        let mut second = Collected::default();
        buffer.take_all(2, &mut second);
        assert_eq!(
            (second.bytes.as_slice(), second.total, second.cut()),
            (&b"ef"[..], 5, true)
        );
        assert_eq!(second.runs(0..2).collect::<Vec<_>>(), [(0, mark(2, 55))]);
        assert_eq!(second.span.frames, [2, 3]);
        assert_eq!((second.span.first_ns, second.span.last_ns), (20, 30));
        assert!(buffer.is_empty());
    }
}
