//! Reporting problems where they stand.

use crate::lab::{
    Problem,
    raw::{self, Spanned},
};

/// The most problems that are reported.
const MOST: usize = 50;

/// Collects problems.
pub struct Places<'a> {
    text: &'a str,
    pub problems: Vec<Problem>,
}

/// A problem just reported, to which more can be said.
pub struct Report<'a>(&'a mut Problem);

impl<'a> Places<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            problems: Vec::new(),
        }
    }

    /// Reports a problem at a value.
    pub fn report<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) -> Report<'_> {
        let problem = raw::problem(self.text, at.at, message.into(), None, None);
        self.problems.push(problem);
        let last = self.problems.len() - 1;
        Report(&mut self.problems[last])
    }

    /// Reports a problem of a file beside the lab.
    pub fn beside(&mut self, file: &str, message: String) {
        self.problems.push(raw::problem(
            self.text,
            raw::Place::NONE,
            format!("{}: {message}", crate::text::one_line(file)),
            None,
            None,
        ));
    }

    /// The problems in the file's order, the first few of them.
    pub fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.truncate(MOST);
        self.problems
    }
}

impl Report<'_> {
    /// What was expected there.
    pub fn expected(self, expected: impl Into<String>) -> Self {
        self.0.expected = Some(expected.into());
        self
    }

    /// What to do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Nothing more to say.
    pub fn done(self) {}
}
