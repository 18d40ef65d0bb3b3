//! Checks as they are written: one optional field for each kind, of which exactly one is given.

use serde::Deserialize;

use super::{RawQuestion, Spanned, Text};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCheck {
    pub name: Text,
    pub weight: Option<Spanned<u32>>,
    pub why: Text,
    pub capture: Option<Spanned<RawCaptureCheck>>,
    pub question: Option<RawQuestion>,
    pub http: Option<RawHttp>,
    pub database: Option<RawDatabase>,
    pub tcp: Option<Spanned<RawTcp>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCaptureCheck {
    pub between: Spanned<Vec<Text>>,
    pub holds: Option<RawPattern>,
    pub lacks: Option<RawPattern>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPattern {
    pub protocol: Option<Text>,
    pub leak: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHttp {
    pub from: Text,
    pub to: Text,
    pub method: Option<Text>,
    pub expect: RawExpect,
    pub seen: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExpect {
    pub status: Spanned<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDatabase {
    pub from: Text,
    pub to: Text,
    pub statement: Option<Text>,
    pub seen: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTcp {
    pub from: Text,
    pub to: Text,
    pub port: Spanned<u16>,
    pub expect: Text,
    pub control: Option<Text>,
}
