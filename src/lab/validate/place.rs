//! Reporting problems where they stand.

use crate::lab::{
    Problem, Severity,
    raw::{self, Place, Spanned, Text},
};

/// The most problems that are reported.
const MOST: usize = 200;

/// Collects problems.
pub struct Places<'a> {
    text: &'a str,
    pub problems: Vec<Problem>,
    /// What is said of values that stand nowhere: they take the place of something whose problem was reported.
    nowhere: Problem,
}

/// A problem just reported, to which more can be said.
pub struct Report<'a>(&'a mut Problem);

impl<'a> Places<'a> {
    /// Goes on from problems that are known.
    pub fn new(text: &'a str, problems: Vec<Problem>) -> Self {
        Self {
            text,
            problems,
            nowhere: raw::problem(text, Place::NONE, String::new(), None, None),
        }
    }

    /// Reports a problem at a value.
    pub fn report<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) -> Report<'_> {
        self.report_at(at.at, message)
    }

    /// Reports a problem at a place.
    pub fn report_at(&mut self, at: Place, message: impl Into<String>) -> Report<'_> {
        if at.line == 0 {
            return Report(&mut self.nowhere);
        }
        self.problems
            .push(raw::problem(self.text, at, message.into(), None, None));
        let last = self.problems.len() - 1;
        Report(&mut self.problems[last])
    }

    /// Reports a problem of a file beside the lab.
    pub fn beside(&mut self, file: &str, message: String) -> Report<'_> {
        let message = format!("{}: {message}", crate::text::one_line(file));
        self.problems
            .push(raw::problem(self.text, Place::NONE, message, None, None));
        let last = self.problems.len() - 1;
        Report(&mut self.problems[last])
    }

    /// Where a byte of a text stands: on its own line for a text written with `|` or on one line, else where the text
    /// begins.
    pub fn inside(&self, text: &Text, offset: usize, width: usize) -> Place {
        let before = text.value.get(..offset).unwrap_or_default();
        let index = before.matches('\n').count();
        let line = text.value.lines().nth(index).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let at = text.at;
        // A block begins on the line of its `|`, or on its first line of text, as the parser has it.
        for number in [at.line + index + 1, at.line + index] {
            let Some(source) = number.checked_sub(1).and_then(|number| self.text.lines().nth(number)) else {
                continue;
            };
            if line.trim().is_empty() || source.trim() != line.trim() {
                continue;
            }
            let indent = |text: &str| text.chars().take_while(|c| c.is_whitespace()).count();
            return Place {
                line: number,
                column: (indent(source) + column + 1).saturating_sub(indent(line)),
                width,
            };
        }
        at
    }

    /// The problems in the file's order, the first few of them.
    pub fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.truncate(MOST);
        self.problems
    }
}

impl Report<'_> {
    /// What was expected there. As in all that is said of a file, what it quotes cannot move a cursor.
    pub fn expected(self, expected: impl Into<String>) -> Self {
        self.0.expected = Some(crate::text::one_line(&expected.into()));
        self
    }

    /// What to do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(crate::text::one_line(&hint.into()));
        self
    }

    /// The rule it is against, in a word.
    pub fn rule(self, rule: &'static str) -> Self {
        self.0.rule = rule;
        self
    }

    /// It is only worth a look.
    pub fn warning(self) -> Self {
        self.0.severity = Severity::Warning;
        self
    }

    /// Nothing more to say.
    pub fn done(self) {}
}
