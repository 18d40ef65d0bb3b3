//! Bytes of strangers made safe for a terminal.

use std::{fmt::Write as _, ops::Range};

use super::{
    Place,
    buffer::{Collected, Mark},
};

/// A stretch of text and the captured bytes it shows.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Offset in the text.
    start: usize,
    /// Bytes of text.
    len: usize,
    mark: Mark,
    /// Bytes in the frame.
    raw: usize,
    /// Whether the text is those bytes as they are, so that each has a place of its own.
    plain: bool,
}

/// Adds a run, or makes the last one longer where it goes on.
fn note(runs: &mut Vec<Run>, run: Run) {
    if run.len == 0 {
        return;
    }
    match runs.last_mut() {
        Some(last)
            if last.plain
                && run.plain
                && last.start + last.len == run.start
                && last.mark.ahead(last.raw).same_place(run.mark) =>
        {
            last.len += run.len;
            last.raw += run.raw;
        }
        _ => runs.push(run),
    }
}

/// Places told of one secret.
const PLACES: usize = 16;

/// The text of a message under construction; knows where each of its bytes was captured.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    limit: usize,
    pub truncated: bool,
    /// Where each run of text was captured, byte for byte; where a byte is shown escaped, a new run begins behind it.
    runs: Vec<Run>,
}

impl Text {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            limit,
            truncated: false,
            runs: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Makes room for bytes that are to be appended.
    pub(super) fn expect(&mut self, count: usize) {
        self.text.reserve(count.min(self.room_left()));
        // A head has a few lines, each of which is a run.
        self.runs.reserve(8);
    }

    /// Appends words of our own.
    pub(super) fn say(&mut self, words: &str) -> &mut Self {
        if self.room() {
            self.text.push_str(words);
        }
        self
    }

    /// Appends words of our own on a line of their own.
    pub(super) fn line(&mut self, words: &str) -> &mut Self {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.say("\n");
        }
        self.say(words)
    }

    /// Appends captured bytes, made safe; gives where they stand in the text.
    pub(super) fn bytes(&mut self, from: &Collected, range: Range<usize>) -> Range<usize> {
        let start = self.text.len();
        let range = range.start.min(from.bytes.len())..range.end.min(from.bytes.len());
        let bytes = &from.bytes[range.clone()];
        if self.room() {
            self.show(
                bytes,
                from.runs(range.clone()).map(|(at, mark)| (at - range.start, mark)),
            );
        }
        self.cut();
        start.min(self.text.len())..self.text.len()
    }

    /// Appends bytes and notes where each part of the text was captured; `marks` tells from which byte on they come
    /// from where.
    fn show(&mut self, bytes: &[u8], marks: impl Iterator<Item = (usize, Mark)>) {
        let Self { text, runs, .. } = self;
        text.reserve(bytes.len());
        let mut marks = marks.peekable();
        let mut current = (0, Mark::default());
        let (mut shown, mut taken) = (text.len(), 0);
        escape_with(bytes, text, &mut |len, raw| {
            let (unit_end, text_end) = (taken + raw, shown + len);
            while taken < unit_end {
                while let Some(next) = marks.next_if(|next| next.0 <= taken) {
                    current = next;
                }
                let until = marks.peek().map_or(unit_end, |next| next.0.min(unit_end));
                let mark = current.1.ahead(taken - current.0);
                let step = until - taken;
                // Bytes shown as they are can be parted between frames; of an escaped one, the first byte counts.
                let width = if len == raw { step } else { text_end - shown };
                note(
                    runs,
                    Run {
                        start: shown,
                        len: width,
                        mark,
                        raw: step,
                        plain: len == raw,
                    },
                );
                taken = until;
                shown += width;
            }
        });
    }

    /// Appends text that was worked out from captured bytes (decompressed, decoded): it comes from all of them.
    pub(super) fn derived(&mut self, bytes: &[u8], from: &Collected) -> Range<usize> {
        let start = self.text.len();
        if self.room() {
            escape(bytes, &mut self.text);
            let len = self.text.len() - start;
            for (mark, part) in from.parts(0..from.bytes.len()) {
                self.runs.push(Run {
                    start,
                    len,
                    mark,
                    raw: part.len(),
                    plain: false,
                });
            }
        }
        self.cut();
        start.min(self.text.len())..self.text.len()
    }

    /// Where what stands in a range of the text was captured.
    pub(super) fn places(&self, range: Range<usize>) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for run in &self.runs {
            let (from, to) = (range.start.max(run.start), range.end.min(run.start + run.len));
            // Frames are counted from 1: words of our own have none.
            if from >= to || places.len() >= PLACES || run.mark.frame == 0 {
                continue;
            }
            let (start, end) = if run.plain {
                (run.mark.at + (from - run.start), run.mark.at + (to - run.start))
            } else {
                (run.mark.at, run.mark.at + run.raw)
            };
            match places.last_mut() {
                Some(last) if last.frame == run.mark.frame && last.end == start => last.end = end,
                _ => places.push(Place {
                    frame: run.mark.frame,
                    start,
                    end,
                }),
            }
        }
        places
    }

    pub(super) fn into_string(mut self) -> (String, bool) {
        while self.text.ends_with('\n') {
            self.text.pop();
        }
        (self.text, self.truncated)
    }

    /// Bytes that may still be appended.
    pub(super) fn room_left(&self) -> usize {
        self.limit.saturating_sub(self.text.len())
    }

    fn room(&mut self) -> bool {
        if self.text.len() >= self.limit {
            self.truncated = true;
        }
        !self.truncated
    }

    fn cut(&mut self) {
        if self.text.len() > self.limit {
            let cut = (0..=self.limit)
                .rev()
                .find(|at| self.text.is_char_boundary(*at))
                .unwrap_or(0);
            self.text.truncate(cut);
            self.truncated = true;
        }
    }
}

/// Appends bytes to text that is safe for a terminal: control characters, characters that hide or reorder others, and
/// bytes that are not UTF-8 are escaped; line ends become `\n`.
pub fn escape(bytes: &[u8], out: &mut String) {
    escape_with(bytes, out, &mut |_, _| {});
}

/// [`escape`], telling of every stretch how many bytes of text it became, and of how many bytes. Where both are the
/// same, the text is the bytes as they were.
fn escape_with(bytes: &[u8], out: &mut String, told: &mut dyn FnMut(usize, usize)) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (text, behind) = plain(rest);
        if !text.is_empty() {
            out.push_str(text);
            told(text.len(), text.len());
            rest = behind;
            continue;
        }
        if rest.starts_with(b"\r\n") {
            told(0, 1);
            rest = &rest[1..];
            continue;
        }
        // No character has more than four bytes (RFC 3629 §3).
        let Some(chunk) = rest[..rest.len().min(4)].utf8_chunks().next() else {
            return;
        };
        let Some(char) = chunk.valid().chars().next() else {
            for byte in chunk.invalid() {
                let _ = write!(out, "\\x{byte:02x}");
                told(4, 1);
            }
            rest = &rest[chunk.invalid().len().max(1)..];
            continue;
        };
        let (before, after) = (out.len(), &rest[char.len_utf8()..]);
        match char {
            '\t' => out.push_str("  "),
            _ if unsafe_to_show(char) => out.extend(char.escape_default()),
            _ => out.push(char),
        }
        told(out.len() - before, char.len_utf8());
        rest = after;
    }
}

/// Bytes looked at together.
const BLOCK: usize = 32;

/// The printable ASCII and line ends that bytes begin with, and what is behind.
fn plain(bytes: &[u8]) -> (&str, &[u8]) {
    let is = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    // Without a way out within a block, the compiler looks at all of it at once.
    let blocks = bytes
        .chunks_exact(BLOCK)
        .take_while(|block| block.iter().fold(true, |all, byte| all & is(byte)))
        .count();
    let more = bytes[blocks * BLOCK..].iter().take_while(|byte| is(byte)).count();
    let (plain, behind) = bytes.split_at(blocks * BLOCK + more);
    (std::str::from_utf8(plain).unwrap_or_default(), behind)
}

/// [`escape`] on one line, cut to what fits a summary.
pub(super) fn one_line(bytes: &[u8]) -> String {
    line_of(bytes, 200)
}

/// [`escape`] on one line, cut to what a fact may hold.
pub(super) fn one_long_line(bytes: &[u8]) -> String {
    line_of(bytes, 4096)
}

fn line_of(bytes: &[u8], columns: usize) -> String {
    let mut out = String::with_capacity(bytes.len().min(columns));
    escape(&bytes[..bytes.len().min(columns * 4)], &mut out);
    out.truncate(out.trim_end().len());
    if out.contains('\n') {
        out = out.replace('\n', "\\n");
    }
    // What has no more bytes has no more characters.
    if out.len() > columns
        && let Some((cut, _)) = out.char_indices().nth(columns)
    {
        out.truncate(cut);
        out.push('…');
    }
    out
}

/// Control characters (Unicode category Cc), and the format characters that hide or reorder what follows
/// (bidirectional controls, zero-width characters, the byte-order mark, tags), Unicode Technical Report 36 §2.
fn unsafe_to_show(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_drive_a_terminal() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], "GET / HTTP/1.1\nHost: a\n"),
            (b"\x1b[2J", "\\u{1b}[2J"),
            (b"a\rb", "a\\rb"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("caf\u{e9} \u{202e}x".as_bytes(), "caf\u{e9} \\u{202e}x"),
            (b"\xc2\x9b31m", "\\u{9b}31m"),
        ] {
            let mut out = String::new();
            escape(bytes, &mut out);
            assert_eq!(out, expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn text_is_the_same_wherever_blocks_begin(bytes in proptest::collection::vec(
            proptest::prop_oneof![8 => b'a'..=b'z', 1 => proptest::prelude::Just(b'\n'), 1 => proptest::prelude::any::<u8>()], 0..200))
        {
            let mut whole = String::new();
            let mut told = (0, 0);
            escape_with(&bytes, &mut whole, &mut |text, raw| told = (told.0 + text, told.1 + raw));
            proptest::prop_assert_eq!(told, (whole.len(), bytes.len()));
            // Byte by byte, where bytes stand alone.
            if bytes.is_ascii() && !bytes.contains(&b'\r') {
                let mut single = String::new();
                bytes.iter().for_each(|byte| escape(&[*byte], &mut single));
                proptest::prop_assert_eq!(single, whole);
            }
        }
    }

    #[test]
    fn text_knows_where_it_was_captured() {
        let mark = |frame: u64, at: usize| Mark { frame, ts_ns: 0, at };
        let mut bytes = Collected::default();
        // The two bytes of é come in two frames.
        bytes.push(b"A: x\r\nB: caf\xc3", 100, mark(1, 40));
        bytes.push(b"\xa9\x00z", 100, mark(2, 40));
        let mut text = Text::new(1000);
        text.say("> ");
        text.bytes(&bytes, 0..bytes.bytes.len());
        assert_eq!(text.as_str(), "> A: x\nB: caf\u{e9}\\u{0}z");
        let place = |frame, start, end| Place { frame, start, end };
        for (part, places) in [
            ("A: x", vec![place(1, 40, 44)]),
            ("B: caf", vec![place(1, 46, 52)]),
            ("caf\u{e9}", vec![place(1, 49, 53), place(2, 40, 41)]),
            ("\\u{0}", vec![place(2, 41, 42)]),
            ("z", vec![place(2, 42, 43)]),
            ("> ", vec![]),
        ] {
            let start = text.as_str().find(part).unwrap();
            assert_eq!(text.places(start..start + part.len()), places, "{part}");
        }
    }
}
