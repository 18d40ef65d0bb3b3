//! Bytes of strangers made safe for a terminal.

use std::{fmt::Write as _, ops::Range};

use super::buffer::Collected;

/// The text of a message under construction; knows which frame each of its bytes came from.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    limit: usize,
    pub truncated: bool,
    /// (offset in the text, frame) of each run of text of one frame.
    frames: Vec<(usize, u64)>,
}

impl Text {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            limit,
            truncated: false,
            frames: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends words of our own.
    pub(super) fn say(&mut self, words: &str) -> &mut Self {
        if self.room(words.len()) {
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
        let mut runs = from
            .runs(range.clone())
            .map(|(at, frame)| (at - range.start, frame))
            .peekable();
        // Runs are cut where characters end, so that a character split between frames stays whole.
        let mut at = 0;
        while at < bytes.len() {
            let Some((_, frame)) = runs.next() else { break };
            let mut end = runs.peek().map_or(bytes.len(), |next| next.0);
            while end < bytes.len() && (bytes[end] & 0xc0 == 0x80 || bytes[end] == b'\n') {
                end += 1;
            }
            if end <= at {
                continue;
            }
            if !self.room(end - at) {
                break;
            }
            if self.frames.last().is_none_or(|last| last.1 != frame) {
                self.frames.push((self.text.len(), frame));
            }
            escape(&bytes[at..end], &mut self.text);
            at = end;
        }
        self.cut();
        start.min(self.text.len())..self.text.len()
    }

    /// The frame that brought what stands at an offset of the text.
    pub(super) fn frame_at(&self, offset: usize) -> Option<u64> {
        let after = self.frames.partition_point(|run| run.0 <= offset);
        self.frames.get(after.saturating_sub(1)).map(|run| run.1)
    }

    pub(super) fn into_string(mut self) -> (String, bool) {
        while self.text.ends_with('\n') {
            self.text.pop();
        }
        (self.text, self.truncated)
    }

    fn room(&mut self, _more: usize) -> bool {
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

/// Appends `bytes` to `out` as text that cannot drive a terminal: line feeds stay (a carriage return before one
/// goes), every other control character, invisible format character and byte that is not UTF-8 is shown escaped.
pub fn escape(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\n' => out.push('\n'),
                '\r' if chars.peek() == Some(&'\n') => {}
                '\t' => out.push_str("  "),
                _ if unsafe_to_show(char) => out.extend(char.escape_default()),
                _ => out.push(char),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
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
    let mut out = String::new();
    escape(&bytes[..bytes.len().min(columns * 4)], &mut out);
    let mut out = out.trim_end().replace('\n', "\\n");
    if let Some((cut, _)) = out.char_indices().nth(columns) {
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
}
