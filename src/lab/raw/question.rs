//! Questions as they are written.

use schemars_derive::JsonSchema;
use serde::Deserialize;

use super::{Spanned, Text, names};
use crate::{
    lab::model::{Part, Property},
    packet::LeakKind,
};

/// A question that the student answers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Question")]
pub struct RawQuestion {
    /// What is asked.
    pub ask: Text,
    /// What is right.
    pub answer: Spanned<RawAnswer>,
}

/// What is right: exactly one of `from`, `choices`, `number`, `matches`, `all` and `predict`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Answer",
    extend("oneOf" = [
        { "required": ["from", "leak"] }, { "required": ["choices"] }, { "required": ["number"] },
        { "required": ["matches"] }, { "required": ["all"] }, { "required": ["predict"] },
    ])
)]
pub struct RawAnswer {
    /// Always `capture`: the answer is compared with what the student's own captures show.
    #[schemars(extend("const" = "capture"))]
    pub from: Option<Text>,
    /// Which captured secret is the answer; with `from: capture`.
    #[schemars(extend("enum" = LeakKind::ALL.map(LeakKind::as_str)))]
    pub leak: Option<Text>,
    /// Which part of the secret. The secret itself where nothing is said, or whose it is.
    #[schemars(extend("enum" = names(Part::ALL)))]
    pub part: Option<Text>,
    /// Two workloads, in either order: only what was captured between them counts.
    pub between: Option<Spanned<Vec<Text>>>,
    /// Options to choose among, at most 26. Where several are right, the student names all of them.
    pub choices: Option<Spanned<Vec<RawChoice>>>,
    /// A number.
    pub number: Option<Spanned<RawNumber>>,
    /// Regular expressions of which one must match the whole answer; case is ignored.
    pub matches: Option<Spanned<Vec<Text>>>,
    /// Regular expressions of which each must be found in the answer; case is ignored.
    pub all: Option<Spanned<Vec<Text>>>,
    /// A prediction of the posture, compared with what is measured.
    pub predict: Option<Spanned<RawPredict>>,
}

/// One option of a question.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Choice")]
pub struct RawChoice {
    /// What it says, on one line.
    pub text: Text,
    /// Whether it belongs to the right answer.
    #[serde(default)]
    pub right: bool,
}

/// A number as an answer: one with a tolerance, or a range.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Number")]
pub struct RawNumber {
    /// The right number.
    pub is: Option<Spanned<f64>>,
    /// How far from `is` an answer may be. 0 where nothing is said.
    pub tolerance: Option<Spanned<f64>>,
    /// The least right number.
    pub min: Option<Spanned<f64>>,
    /// The largest right number.
    pub max: Option<Spanned<f64>>,
}

/// A prediction: the student marks the pairs of which the property will hold. What does hold is measured, and is never
/// in a lab file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Predict")]
pub struct RawPredict {
    /// What is predicted of each pair.
    #[schemars(extend("enum" = names(Property::ALL)))]
    pub property: Text,
    /// The pairs, 1 to 25 of them.
    pub pairs: Spanned<Vec<RawPair>>,
    /// The topology layer that must stand before anything is measured. Without it: what stands when the check runs.
    pub layer: Option<Text>,
}

/// An ordered pair of workloads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pair")]
pub struct RawPair {
    /// The workload that calls.
    pub from: Text,
    /// The workload that is called.
    pub to: Text,
    /// The port of its Service. Without it: its only one.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<Spanned<u16>>,
}
