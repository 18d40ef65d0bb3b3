//! Breaking styled text into lines of a width, by columns and at spaces.

use ratatui::{
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthChar;

use crate::text;

/// A run of text in one style; no control characters but newlines, which break the line.
pub type Run = (String, Style);

/// Breaks `runs` into lines of at most `width` columns. The first line begins with `first`, the others with `rest`,
/// both counted in the width. Words longer than a line are broken where they must.
pub fn wrap(runs: &[Run], width: usize, first: &str, rest: &str) -> Vec<Line<'static>> {
    let mut lines = Lines {
        done: Vec::new(),
        line: Vec::new(),
        used: 0,
        width: width.max(1),
        prefix: 0,
        rest: rest.to_owned(),
    };
    lines.begin(first);
    for word in words(runs) {
        match word {
            Word::Break => lines.break_line(),
            Word::Space(style) => lines.space(style),
            Word::Text(pieces) => lines.word(pieces),
        }
    }
    lines.finish()
}

/// Cuts runs into lines of `width` columns without looking for spaces: code and packets keep their columns.
pub fn chop(runs: &[Run], width: usize) -> Vec<Line<'static>> {
    let mut lines = Lines {
        done: Vec::new(),
        line: Vec::new(),
        used: 0,
        width: width.max(1),
        prefix: 0,
        rest: String::new(),
    };
    for (part, style) in runs {
        for (at, piece) in part.split('\n').enumerate() {
            if at > 0 {
                lines.break_line();
            }
            for c in piece.chars() {
                lines.character(c, *style);
            }
        }
    }
    lines.finish()
}

enum Word {
    Break,
    Space(Style),
    Text(Vec<Run>),
}

fn words(runs: &[Run]) -> Vec<Word> {
    let mut out: Vec<Word> = Vec::new();
    for (part, style) in runs {
        for c in part.chars() {
            match c {
                '\n' => out.push(Word::Break),
                ' ' => {
                    if !matches!(out.last(), Some(Word::Space(_))) {
                        out.push(Word::Space(*style));
                    }
                }
                c => match out.last_mut() {
                    Some(Word::Text(pieces)) => match pieces.last_mut() {
                        Some((piece, s)) if s == style => piece.push(c),
                        _ => pieces.push((c.to_string(), *style)),
                    },
                    _ => out.push(Word::Text(vec![(c.to_string(), *style)])),
                },
            }
        }
    }
    out
}

struct Lines {
    done: Vec<Line<'static>>,
    line: Vec<Run>,
    used: usize,
    width: usize,
    /// Columns that the line's prefix takes.
    prefix: usize,
    rest: String,
}

impl Lines {
    fn begin(&mut self, prefix: &str) {
        if !prefix.is_empty() {
            self.line.push((prefix.to_owned(), Style::new()));
        }
        self.used = text::width(prefix);
        self.prefix = self.used;
    }

    fn break_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.done.push(into_line(line));
        let rest = self.rest.clone();
        self.begin(&rest);
    }

    fn at_start(&self) -> bool {
        self.used <= text::width(&self.rest) && self.line.len() <= 1
    }

    fn space(&mut self, style: Style) {
        if !self.at_start() && self.used < self.width {
            self.push(" ", style);
            self.used += 1;
        }
    }

    fn word(&mut self, pieces: Vec<Run>) {
        let long: usize = pieces.iter().map(|(piece, _)| text::width(piece)).sum();
        if self.used + long > self.width && !self.at_start() {
            self.break_line();
        }
        for (piece, style) in pieces {
            for c in piece.chars() {
                self.character(c, style);
            }
        }
    }

    fn character(&mut self, c: char, style: Style) {
        let w = c.width().unwrap_or(0);
        if self.used + w > self.width && !self.at_start() {
            self.break_line();
        }
        let mut buffer = [0; 4];
        self.push(c.encode_utf8(&mut buffer), style);
        self.used += w;
    }

    fn push(&mut self, piece: &str, style: Style) {
        match self.line.last_mut() {
            // The prefix stays a piece of its own, for callers that style it.
            Some((last, s)) if *s == style && self.used > self.prefix => last.push_str(piece),
            _ => self.line.push((piece.to_owned(), style)),
        }
    }

    fn finish(mut self) -> Vec<Line<'static>> {
        self.done.push(into_line(self.line));
        self.done
    }
}

fn into_line(mut runs: Vec<Run>) -> Line<'static> {
    if let Some((last, _)) = runs.last_mut() {
        let kept = last.trim_end_matches(' ').len();
        last.truncate(kept);
    }
    Line::from(
        runs.into_iter()
            .map(|(piece, style)| Span::styled(piece, style))
            .collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str, width: usize, first: &str, rest: &str) -> Vec<String> {
        wrap(&[(text.to_owned(), Style::new())], width, first, rest)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn words_stay_whole() {
        assert_eq!(plain("one two three", 7, "", ""), ["one two", "three"]);
        assert_eq!(plain("a  b\nc", 9, "", ""), ["a b", "c"]);
    }

    #[test]
    fn long_words_are_broken_and_prefixes_counted() {
        assert_eq!(plain("abcdefgh", 4, "", ""), ["abcd", "efgh"]);
        assert_eq!(plain("one two", 6, "- ", "  "), ["- one", "  two"]);
        assert_eq!(
            plain("one two", 3, "- ", "  ").concat().replace([' ', '-'], ""),
            "onetwo"
        );
    }

    #[test]
    fn a_word_of_two_styles_is_one_word() {
        let bold = Style::new().bold();
        let lines = wrap(
            &[
                ("see ab".to_owned(), Style::new()),
                ("cd".to_owned(), bold),
                (".".to_owned(), Style::new()),
            ],
            7,
            "",
            "",
        );
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["see", "abcd."]);
    }

    #[test]
    fn chopping_keeps_spaces() {
        let lines: Vec<String> = chop(&[("a  b\n  c".to_owned(), Style::new())], 3)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(lines, ["a", "b", "  c"].map(str::to_owned).to_vec());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_everything_fits(text in "[a-zé日 \n]{0,60}", width in 2usize..20) {
            let lines = plain(&text, width, "", "");
            for line in &lines {
                prop_assert!(crate::text::width(line) <= width, "{line:?}");
            }
            let strip = |s: &str| s.replace([' ', '\n'], "");
            prop_assert_eq!(strip(&lines.concat()), strip(&text));
        }
    }
}
