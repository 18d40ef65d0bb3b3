//! Bytes of strangers made safe for a terminal.

use std::fmt::Write as _;

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

/// [`escape`] on one line: line feeds are escaped too.
pub(super) fn escape_line(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    escape(bytes, &mut out);
    if out.contains('\n') {
        out.replace('\n', "\\n")
    } else {
        out
    }
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
