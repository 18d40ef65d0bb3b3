//! The Markdown of lab files as styled lines: paragraphs, headings, lists, code, quotes, emphasis.
//!
//! Source: CommonMark 0.31. What a terminal cannot show (images, raw HTML) is shown as its text, never interpreted.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use ratatui::{
    style::{Modifier, Style},
    text::{Line, Span},
};

use super::{
    theme::Theme,
    wrap::{Run, chop, wrap},
};
use crate::text;

/// The lines of `source` at `width` columns.
pub fn render(source: &str, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let mut renderer = Renderer {
        theme,
        width: width.max(10),
        lines: Vec::new(),
        runs: Vec::new(),
        styles: Vec::new(),
        lists: Vec::new(),
        item: None,
        quote: 0,
        code: None,
    };
    for event in Parser::new_ext(source, Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES) {
        renderer.event(event);
    }
    renderer.finish()
}

struct Renderer {
    theme: Theme,
    width: usize,
    lines: Vec<Line<'static>>,
    runs: Vec<Run>,
    styles: Vec<Style>,
    /// The next number of each open list, or none for bullets.
    lists: Vec<Option<u64>>,
    /// The bullet of an item whose first line is not written yet.
    item: Option<String>,
    quote: usize,
    code: Option<(String, String)>,
}

impl Renderer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(part) => match &mut self.code {
                Some((_, code)) => code.push_str(&part),
                None => self.push(&part, self.style()),
            },
            Event::Code(part) => self.push(&part, self.theme.code().add_modifier(Modifier::BOLD)),
            Event::Html(part) | Event::InlineHtml(part) => self.push(&part, self.style()),
            Event::SoftBreak => self.push(" ", self.style()),
            Event::HardBreak => self.push("\n", self.style()),
            Event::Rule => {
                self.flush();
                self.blank();
                let rule = "─".repeat(self.width.min(20));
                self.lines.push(Line::styled(rule, self.theme.quiet()));
            }
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.flush();
                self.blank();
                let style = match level {
                    HeadingLevel::H1 | HeadingLevel::H2 => self.theme.title(),
                    _ => self.theme.strong(),
                };
                self.styles.push(style);
            }
            Tag::Paragraph => {
                self.flush();
                if self.item.is_none() && self.quote == 0 {
                    self.blank();
                }
            }
            Tag::BlockQuote(_) => {
                self.flush();
                self.blank();
                self.quote += 1;
            }
            Tag::List(first) => {
                self.flush();
                if self.lists.is_empty() {
                    self.blank();
                }
                self.lists.push(first);
            }
            Tag::Item => {
                self.flush();
                let bullet = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "• ".to_owned(),
                };
                self.item = Some(bullet);
            }
            Tag::CodeBlock(kind) => {
                self.flush();
                self.blank();
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some((language, String::new()));
            }
            Tag::Emphasis => self.styles.push(self.style().patch(self.theme.emphasis())),
            Tag::Strong => self.styles.push(self.style().patch(self.theme.strong())),
            Tag::Strikethrough => self.styles.push(self.style().add_modifier(Modifier::CROSSED_OUT)),
            Tag::Link { .. } => self.styles.push(self.style().add_modifier(Modifier::UNDERLINED)),
            Tag::TableRow | Tag::TableHead => self.flush(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.flush();
                self.styles.pop();
            }
            TagEnd::Paragraph | TagEnd::TableRow | TagEnd::TableHead => self.flush(),
            TagEnd::TableCell => self.push("  ", self.style()),
            TagEnd::BlockQuote(_) => {
                self.flush();
                self.quote = self.quote.saturating_sub(1);
            }
            TagEnd::Item => {
                self.flush();
                self.item = None;
            }
            TagEnd::List(_) => {
                self.flush();
                self.lists.pop();
            }
            TagEnd::CodeBlock => self.code_block(),
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link => {
                self.styles.pop();
            }
            _ => {}
        }
    }

    fn style(&self) -> Style {
        self.styles.last().copied().unwrap_or_else(|| self.theme.text())
    }

    fn push(&mut self, part: &str, style: Style) {
        self.runs.push((text::clean(part), style));
    }

    /// The indentation of text in the open lists and quotes.
    fn indent(&self) -> String {
        let mut indent = "│ ".repeat(self.quote);
        for list in &self.lists {
            indent.push_str(if list.is_some() { "   " } else { "  " });
        }
        indent
    }

    fn flush(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let rest = self.indent();
        let first = match self.item.take() {
            Some(bullet) => {
                let outer: String = rest
                    .chars()
                    .take(rest.chars().count().saturating_sub(bullet.chars().count()))
                    .collect();
                format!("{outer}{bullet}")
            }
            None => rest.clone(),
        };
        let runs = std::mem::take(&mut self.runs);
        self.lines.extend(wrap(&runs, self.width, &first, &rest));
    }

    /// An empty line between blocks.
    fn blank(&mut self) {
        if self.lines.last().is_some_and(|line| line.width() > 0) {
            self.lines.push(Line::default());
        }
    }

    /// Code keeps its lines, but for those that do not fit; a `run` block, which is for the student to type, is marked
    /// as a prompt and broken as a shell reads it.
    fn code_block(&mut self) {
        let Some((language, code)) = self.code.take() else {
            return;
        };
        let indent = self.indent();
        let run = language.trim() == "run";
        let style = self.theme.code();
        let prefix = format!("{indent}  ");
        let room = self.width.saturating_sub(text::width(&prefix) + 2).max(1);
        for line in text::clean(&code).trim_end_matches('\n').split('\n') {
            let pieces = if run {
                commands(line, room)
            } else {
                vec![line.to_owned()]
            };
            for (at, piece) in pieces.into_iter().enumerate() {
                let mark = if run && at == 0 { "$ " } else { "  " };
                for piece in chop(&[(piece, style)], room) {
                    let mut spans = vec![
                        Span::raw(prefix.clone()),
                        Span::styled(mark.to_owned(), self.theme.quiet()),
                    ];
                    spans.extend(piece.spans);
                    self.lines.push(Line::from(spans));
                }
            }
        }
        self.item = None;
        self.lines.push(Line::default());
    }

    fn finish(mut self) -> Vec<Line<'static>> {
        self.flush();
        while self.lines.last().is_some_and(|line| line.width() == 0) {
            self.lines.pop();
        }
        self.lines
    }
}

/// A command in pieces of at most `room` columns, each but the last ending in a backslash: copied, it runs as written.
fn commands(line: &str, room: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while text::width(rest) > room {
        let Some(at) = rest
            .char_indices()
            .filter(|&(at, c)| c == ' ' && text::width(&rest[..at]) + 2 <= room)
            .map(|(at, _)| at)
            .rfind(|&at| !rest[..at].trim().is_empty() && quotes_closed(&rest[..at]))
        else {
            break;
        };
        pieces.push(format!("{} \\", rest[..at].trim_end()));
        rest = rest[at..].trim_start();
        if text::width(rest) + 2 <= room {
            break;
        }
    }
    pieces.push(rest.to_owned());
    for piece in pieces.iter_mut().skip(1) {
        piece.insert_str(0, "  ");
    }
    pieces
}

/// Whether a shell would read what follows `part` outside of quotes.
fn quotes_closed(part: &str) -> bool {
    let mut quote = None;
    for c in part.chars() {
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
    }
    quote.is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(source: &str, width: usize) -> String {
        render(source, width, Theme::new(true))
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn a_lab_reads_well() {
        let source = "# Listen\n\nEvery *second* the frontend makes a **payment**.\nStart a capture on `payments-api`:\n\n\
                      ```run\nztlab capture --pod payments-api --follow\n```\n\n1. read it\n2. find\n   - the card\n   - the token\n\n\
                      > Nobody warned you.\n";
        insta::assert_snapshot!(plain(source, 40), @r"
        Listen

        Every second the frontend makes a
        payment. Start a capture on
        payments-api:

          $ ztlab capture --pod payments-api \
              --follow

        1. read it
        2. find
           • the card
           • the token

        │ Nobody warned you.
        ");
    }

    #[test]
    fn escapes_in_a_lab_do_not_reach_the_terminal() {
        let shown = plain("a \x1b[2J b\n\n```\n\x1b]0;x\x07\n```\n\n<b>raw</b>", 40);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        assert!(shown.contains("<b>raw</b>"));
    }

    #[test]
    fn emphasis_is_styled() {
        let lines = render("a **b** `c`", 40, Theme::new(false));
        let bold: Vec<String> = lines
            .iter()
            .flat_map(|line| &line.spans)
            .filter(|span| span.style.add_modifier.contains(Modifier::BOLD))
            .map(|span| span.content.to_string())
            .collect();
        assert_eq!(bold, ["b", "c"]);
    }

    proptest! {
        #[test]
        fn any_text_renders_within_its_width(source in "[ \\-*#>`\\[\\]0-9a-z.\n]{0,200}", width in 20usize..80) {
            for line in render(&source, width, Theme::new(true)) {
                // Deep nesting may leave a word less room than itself needs.
                prop_assert!(line.width() <= width.max(80), "{line}");
            }
        }
    }
}
