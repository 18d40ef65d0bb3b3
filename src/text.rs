//! Text of unknown origin, made fit for a terminal: labs, packets and API objects are untrusted, and an escape
//! sequence in one of them must not reach the screen as such.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` with every control character but the newline shown as a symbol (U+2400 to U+2421), tabs as spaces, and
/// characters that reorder or hide others (bidirectional controls, zero-width ones) as U+FFFD.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push_str("    "),
            '\r' => {}
            c => out.push(visible(c)),
        }
    }
    out
}

/// [`clean`], on one line: newlines become spaces.
pub fn one_line(text: &str) -> String {
    let mut out = clean(text);
    if out.contains('\n') {
        out = out.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    }
    out.trim().to_owned()
}

/// One character that a terminal only shows, for `c`.
pub fn visible(c: char) -> char {
    match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
        c => c,
    }
}

/// Columns that `text` takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The beginning of `text` that fits `columns`, with `…` where something was left out.
pub fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else {
        return String::new();
    };
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > room {
            break;
        }
        used += w;
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_become_symbols() {
        assert_eq!(clean("a\x1b[31mb\x07\u{9b}\r\n\tc"), "a␛[31mb␇\u{fffd}\n    c");
        assert_eq!(clean("abc\u{202e}fdp.exe"), "abc\u{fffd}fdp.exe");
        assert_eq!(one_line("  two\n lines\n"), "two lines");
    }

    #[test]
    fn text_is_cut_by_columns_not_by_bytes() {
        assert_eq!(cut("héllo", 5), "héllo");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut("abc", 1), "…");
    }

    proptest! {
        #[test]
        fn nothing_that_moves_the_cursor_survives(text in any::<String>()) {
            prop_assert!(clean(&text).chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert!(one_line(&text).chars().all(|c| !c.is_control()));
        }

        #[test]
        fn what_is_cut_fits(text in "\\PC{0,40}", columns in 0usize..30) {
            prop_assert!(width(&cut(&text, columns)) <= columns.max(width("")));
        }
    }
}
