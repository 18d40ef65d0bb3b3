//! Questions, and what answers them.

use regex::Regex;

use super::Workload;
use crate::packet::LeakKind;

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is asked.
    pub ask: String,
    /// What is right.
    pub answer: Answer,
}

/// What is right.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What was captured in this run, never a constant.
    Captured(Captured),
    /// Some of these: exactly the right ones.
    Choices(Vec<Choice>),
    /// Text that one of these rules matches, spaces trimmed, case ignored.
    Text(Vec<Regex>),
}

/// Something secret that the student's captures showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// What kind.
    pub leak: LeakKind,
    /// Which part of it.
    pub part: Part,
    /// Only between these two, in either direction.
    pub between: Option<(Workload, Workload)>,
}

/// A part of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The secret itself.
    Value,
    /// Whose it is: the user of a login.
    Account,
}

impl Part {
    /// Every part, with its name in lab files.
    pub const ALL: &'static [(&'static str, Part)] = &[("value", Part::Value), ("account", Part::Account)];
}

/// One option of a question; the options are called `a`, `b`, … in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its text.
    pub text: String,
    /// Whether it belongs to the answer.
    pub right: bool,
}

/// The key of the option at `index`: `a`, `b`, …
pub fn choice_key(index: usize) -> String {
    let letter = u8::try_from(index).ok().filter(|index| *index < 26).unwrap_or(25);
    char::from(b'a' + letter).to_string()
}
