//! Questions as they are written.

use serde::Deserialize;

use super::{Spanned, Text};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawQuestion {
    pub ask: Text,
    pub answer: Spanned<RawAnswer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAnswer {
    pub from: Option<Text>,
    pub leak: Option<Text>,
    pub part: Option<Text>,
    pub between: Option<Spanned<Vec<Text>>>,
    pub choices: Option<Spanned<Vec<RawChoice>>>,
    pub matches: Option<Spanned<Vec<Text>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawChoice {
    pub text: Text,
    #[serde(default)]
    pub right: bool,
}
