//! Actions of solutions and wrong attempts as they are written.

use serde::Deserialize;

use super::{Spanned, Text};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAction {
    pub capture: Option<Spanned<RawCaptureAction>>,
    pub answer: Option<Spanned<RawAnswerAction>>,
    pub exec: Option<RawExec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCaptureAction {
    pub pod: Text,
    pub filter: Option<Text>,
    #[serde(rename = "for")]
    pub duration: Option<Text>,
    pub until: Option<RawUntil>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUntil {
    pub leak: Text,
    pub between: Option<Spanned<Vec<Text>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAnswerAction {
    pub check: Text,
    pub from: Option<Text>,
    pub value: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExec {
    #[serde(rename = "in")]
    pub workload: Text,
    pub run: Spanned<Vec<Text>>,
}
