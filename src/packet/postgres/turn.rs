//! What one side says before it lets the other speak.

use super::KEEP;
use crate::{buffer::Collected, text::one_line};

/// What a direction says before it lets the other speak.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Bytes shown, line by line.
    pub(super) parts: Vec<(String, Collected)>,
    pub(super) held: usize,
    pub(super) span: Collected,
    pub(super) sql: Option<String>,
    pub(super) rows: u64,
    pub(super) tag: Option<String>,
    pub(super) error: Option<String>,
    pub(super) truncated: bool,
    pub(super) accepted: bool,
}

impl Turn {
    pub(super) fn say(&mut self, words: &str) {
        self.show(words, Collected::default());
    }

    /// Adds a line: a label and captured bytes.
    pub(super) fn show(&mut self, label: &str, bytes: Collected) {
        if self.held > KEEP {
            self.truncated = true;
            self.span.span.merge(&bytes.span);
            self.span.missing += bytes.missing;
            return;
        }
        self.truncated |= bytes.cut();
        self.held += label.len() + bytes.held() + 64;
        self.parts.push((label.to_owned(), bytes));
    }

    pub(super) fn summary(&self) -> String {
        if let Some(error) = &self.error {
            return one_line(format!("error {error}").as_bytes());
        }
        if self.accepted {
            return "login accepted".into();
        }
        if let Some(sql) = &self.sql {
            let words: Vec<&str> = sql.split_whitespace().take(64).collect();
            return one_line(words.join(" ").as_bytes());
        }
        match (&self.tag, self.rows) {
            (Some(tag), _) => one_line(tag.as_bytes()),
            (None, 0) => self
                .parts
                .first()
                .map(|(label, _)| one_line(label.as_bytes()))
                .unwrap_or_default(),
            (None, rows) => format!("{rows} rows"),
        }
    }
}
