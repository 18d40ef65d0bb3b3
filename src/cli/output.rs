//! What the commands print: results on standard output, progress and errors on standard error.

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

use super::error::CliError;
use crate::text;

const BOLD: &str = "\x1b[1m";
const GOOD: &str = "\x1b[32m";
const BAD: &str = "\x1b[31m";
const UNSURE: &str = "\x1b[33m";
const QUIET: &str = "\x1b[2m";
const LEAK: &str = "\x1b[1;7m";
const RESET: &str = "\x1b[0m";

/// `line` with every control character made visible, but for the styles of this module.
fn safe(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&text::clean(&rest[..at]));
        rest = &rest[at..];
        let own = [BOLD, GOOD, BAD, UNSURE, QUIET, LEAK, RESET]
            .into_iter()
            .find(|style| rest.starts_with(style));
        let taken = own.map_or(1, str::len);
        match own {
            Some(style) => out.push_str(style),
            None => out.push(text::visible('\x1b')),
        }
        rest = &rest[taken..];
    }
    out.push_str(&text::clean(rest));
    out
}

/// Where a command's results and progress go.
pub struct Output {
    json: bool,
    colour: bool,
    progress_on_terminal: bool,
    progress_shown: std::cell::Cell<bool>,
}

impl Output {
    /// Results as JSON or as text; colours only on a terminal and without `NO_COLOR` (<https://no-color.org>).
    pub fn new(json: bool) -> Output {
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Output {
            json,
            colour: !json && !no_colour && !dumb && io::stdout().is_terminal(),
            progress_on_terminal: io::stderr().is_terminal() && !dumb,
            progress_shown: std::cell::Cell::new(false),
        }
    }

    /// Whether results are JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether progress is written over itself, not a line each.
    pub fn on_terminal(&self) -> bool {
        self.progress_on_terminal
    }

    /// Prints a line of a result. What it quotes of labs and packets cannot reach the terminal as an escape sequence.
    ///
    /// # Errors
    /// [`CliError::Closed`] when nobody reads any more.
    pub fn line(&self, line: impl fmt::Display) -> Result<(), CliError> {
        self.raw(&safe(&line.to_string()))
    }

    fn raw(&self, line: &str) -> Result<(), CliError> {
        self.clear_progress();
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(CliError::from_stdout)
    }

    /// Prints `value` as JSON, indented.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn value(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::new(format!("the result does not become JSON: {error}")))?;
        self.raw(&text)
    }

    /// Prints `value` as one line of JSON, for streams.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn value_line(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value)
            .map_err(|error| CliError::new(format!("the result does not become JSON: {error}")))?;
        self.raw(&text)
    }

    /// Says on standard error what goes on: over the same line on a terminal, a line each elsewhere.
    pub fn progress(&self, message: &str) {
        let message = text::one_line(message);
        let mut err = io::stderr().lock();
        let written = if self.progress_on_terminal {
            let columns = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
            self.progress_shown.set(true);
            write!(err, "\r\x1b[K{}", text::cut(&message, columns.saturating_sub(1)))
        } else {
            writeln!(err, "{message}")
        };
        // Progress nobody can see must not fail the command.
        let _ = written.and_then(|()| err.flush());
    }

    /// Removes the progress line, so that what follows stands alone.
    pub fn clear_progress(&self) {
        if self.progress_shown.replace(false) {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
        }
    }

    /// Says something on standard error that is no result and no error.
    pub fn note(&self, message: impl fmt::Display) {
        self.clear_progress();
        let _ = writeln!(io::stderr().lock(), "{}", safe(&message.to_string()));
    }

    /// `text` in bold, where colours are on.
    pub fn bold(&self, text: &str) -> String {
        self.styled(text, BOLD)
    }

    /// `text` in the manner of a verdict or a warning, where colours are on.
    pub fn tinted(&self, text: &str, tint: Tint) -> String {
        self.styled(
            text,
            match tint {
                Tint::Good => GOOD,
                Tint::Bad => BAD,
                Tint::Unsure => UNSURE,
                Tint::Quiet => QUIET,
                Tint::Leak => LEAK,
            },
        )
    }

    fn styled(&self, text: &str, code: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("{code}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }

    /// Prints rows under headings, each column as wide as its widest cell.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn table(&self, headings: &[&str], rows: &[Vec<String>]) -> Result<(), CliError> {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| text::one_line(cell)).collect())
            .collect();
        let widths: Vec<usize> = headings
            .iter()
            .enumerate()
            .map(|(column, heading)| {
                rows.iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| text::width(cell))
                    .chain([heading.len()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let pad = |cells: Vec<&str>| -> String {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width.saturating_sub(text::width(cell)) + 3));
            }
            line.trim_end().to_owned()
        };
        self.line(self.bold(&pad(headings.to_vec())))?;
        for row in &rows {
            self.line(pad(row.iter().map(String::as_str).collect()))?;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.clear_progress();
    }
}

/// How a piece of text is meant; the text itself says it too, since colours may be off.
#[derive(Debug, Clone, Copy)]
pub enum Tint {
    /// Passed, ready.
    Good,
    /// Failed.
    Bad,
    /// Undetermined, waiting.
    Unsure,
    /// Less important.
    Quiet,
    /// Bytes that leaked.
    Leak,
}

/// The columns to fill: the terminal's; where a pager or a file reads, those of every terminal.
pub fn columns() -> usize {
    if !io::stdout().is_terminal() {
        return 80;
    }
    crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns).clamp(40, 200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_styles_pass() {
        assert_eq!(safe("a\x1b[32mok\x1b[0m"), "a\x1b[32mok\x1b[0m");
        assert_eq!(safe("\x1b[2J\x1b]0;title\x07"), "␛[2J␛]0;title␇");
        assert_eq!(safe("\x1b"), "␛");
    }
}
