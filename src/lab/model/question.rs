//! Questions, and what answers them.

use regex::Regex;

use super::{Workload, name_of};
use crate::packet::LeakKind;

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is asked.
    pub ask: String,
    /// What is right.
    pub answer: Answer,
}

impl Question {
    /// The options that the student marks, called `a`, `b`, … in order; none where the answer is typed.
    pub fn options(&self) -> Vec<String> {
        match &self.answer {
            Answer::Choices(choices) => choices.iter().map(|choice| choice.text.clone()).collect(),
            Answer::Predict(prediction) => {
                let pairs = prediction.pairs.iter().map(Pair::to_string);
                pairs.chain(["none of these".to_owned()]).collect()
            }
            Answer::Captured(_) | Answer::Number(_) | Answer::Text(_) | Answer::All(_) => Vec::new(),
        }
    }

    /// Whether several options may be marked.
    pub fn many(&self) -> bool {
        match &self.answer {
            Answer::Choices(choices) => choices.iter().filter(|choice| choice.right).count() > 1,
            Answer::Predict(_) => true,
            Answer::Captured(_) | Answer::Number(_) | Answer::Text(_) | Answer::All(_) => false,
        }
    }
}

/// What is right.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What was captured in this run, never a constant.
    Captured(Captured),
    /// Some of these: exactly the right ones.
    Choices(Vec<Choice>),
    /// A number.
    Number(Number),
    /// Text that one of these rules matches as a whole, spaces trimmed, case ignored.
    Text(Vec<Regex>),
    /// Text in which each of these rules finds something, case ignored.
    All(Vec<Regex>),
    /// What will be measured.
    Predict(Prediction),
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

/// The numbers that are right, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// The least.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Number {
    /// Whether an answer as typed is right; `None` where it is no number. Spaces, `_` and `,` between digits are
    /// overlooked.
    pub fn accepts(&self, given: &str) -> Option<bool> {
        let digits: String = given
            .chars()
            .filter(|c| !c.is_whitespace() && !['_', ','].contains(c))
            .collect();
        let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite())?;
        Some((self.least..=self.most).contains(&number))
    }
}

/// A prediction of a part of the posture matrix. The truth is measured, never written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// What is predicted of each pair.
    pub property: Property,
    /// The pairs; the student marks those of which the property will hold.
    pub pairs: Vec<Pair>,
    /// The topology layer that must stand before there is anything to compare with.
    pub layer: Option<String>,
}

impl Prediction {
    /// The most pairs: each is an option with a letter, and so is "none of these".
    pub const MOST: usize = 25;

    /// An answer as typed (`a, c`), as one yes or no for each pair; `None` where it is no answer. The option after the
    /// last pair says that there is no such pair.
    pub fn read(&self, given: &str) -> Option<Vec<bool>> {
        let mut marked = vec![false; self.pairs.len() + 1];
        let words = given.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
        for word in words {
            let index = (0..marked.len()).find(|index| choice_key(*index).eq_ignore_ascii_case(word))?;
            marked[index] = true;
        }
        let none = marked.pop()?;
        // Some pair, or none of them, and not both.
        (none != marked.contains(&true)).then_some(marked)
    }
}

/// What can be measured of a caller and a callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// A connection opens.
    Reachable,
    /// What is sent can be read on the way.
    Readable,
    /// The callee proves who it is.
    ServerAuthenticated,
    /// The caller must prove who it is.
    ClientAuthenticated,
    /// Policy decides by the caller's identity.
    Authorised,
}

impl Property {
    /// Every property, with its name in lab files.
    pub const ALL: &'static [(&'static str, Property)] = &[
        ("reachable", Property::Reachable),
        ("readable", Property::Readable),
        ("server-authenticated", Property::ServerAuthenticated),
        ("client-authenticated", Property::ClientAuthenticated),
        ("authorised", Property::Authorised),
    ];

    /// Its name in lab files.
    pub fn as_str(self) -> &'static str {
        name_of(Self::ALL, self)
    }
}

/// An ordered pair of workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Who calls.
    pub from: Workload,
    /// Whom.
    pub to: Workload,
    /// On which port of the Service; its only one where nothing is said.
    pub port: Option<u16>,
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let number = Number {
            least: 99.5,
            most: 1000.0,
        };
        for (given, expected) in [
            ("100", Some(true)),
            (" 1,000 ", Some(true)),
            ("1_000", Some(true)),
            ("99.5", Some(true)),
            ("99.4", Some(false)),
            ("-100", Some(false)),
            ("1e2", Some(true)),
            ("many", None),
            ("", None),
            ("NaN", None),
            ("inf", None),
        ] {
            assert_eq!(number.accepts(given), expected, "{given}");
        }
    }

    #[test]
    fn a_prediction_is_read_by_the_keys_of_its_pairs() {
        let workload = |name: &str| Workload(name.to_owned());
        let pair = |from: &str, to: &str| Pair {
            from: workload(from),
            to: workload(to),
            port: None,
        };
        let prediction = Prediction {
            property: Property::Reachable,
            pairs: vec![pair("a", "b"), pair("b", "a"), pair("m", "a")],
            layer: None,
        };
        assert_eq!(prediction.read("a, C"), Some(vec![true, false, true]));
        assert_eq!(prediction.read("d"), Some(vec![false; 3]));
        for wrong in ["e", "a, x", "", ",", "yes", "a, d"] {
            assert_eq!(prediction.read(wrong), None, "{wrong}");
        }
    }
}
