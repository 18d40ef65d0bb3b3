//! A lab file as it is written, with the place of everything.

mod action;
mod check;
mod question;
mod read;
mod spanned;

use serde::Deserialize;

pub use self::{
    action::*,
    check::*,
    question::*,
    read::*,
    spanned::{Place, Spanned},
};

/// A text and its place.
pub type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLab {
    #[serde(rename = "apiVersion")]
    pub api_version: Text,
    pub kind: Text,
    pub metadata: RawMetadata,
    pub spec: RawSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMetadata {
    pub name: Text,
    pub title: Text,
    pub level: Spanned<u8>,
    pub minutes: Spanned<u32>,
    pub difficulty: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSpec {
    pub objectives: Vec<Text>,
    pub namespace: Text,
    pub topology: Spanned<Vec<Text>>,
    #[serde(default)]
    pub needs: RawNeeds,
    #[serde(default)]
    pub edges: Vec<RawEdge>,
    pub steps: Spanned<Vec<RawStep>>,
    pub recap: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNeeds {
    #[serde(default)]
    pub capabilities: Vec<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEdge {
    pub from: Text,
    pub to: Text,
    pub port: Spanned<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawStep {
    pub id: Text,
    pub title: Text,
    pub points: Spanned<u32>,
    #[serde(default)]
    pub needs: Vec<Text>,
    pub vantage: Option<Text>,
    pub instructions: Text,
    pub checks: Spanned<Vec<Spanned<RawCheck>>>,
    #[serde(default)]
    pub hints: Vec<Spanned<RawHint>>,
    pub teaches: Option<Text>,
    #[serde(default)]
    pub solution: Vec<Spanned<RawAction>>,
    #[serde(default)]
    pub wrong: Vec<RawAttempt>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHint {
    pub when: Option<RawWhen>,
    pub cost: Option<Spanned<u32>>,
    pub text: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWhen {
    pub check: Text,
    pub found: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAttempt {
    #[serde(rename = "do")]
    pub actions: Vec<Spanned<RawAction>>,
    pub fails: Text,
    pub scores: Option<Spanned<u32>>,
}
