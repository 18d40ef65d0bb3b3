//! A lab file as it is written, with the place of everything.

use serde::Deserialize;
use serde_yaml::{Error, Spanned};

use super::{
    MAX_FILE,
    error::{LabError, Problem, did_you_mean, one_of},
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAttempt {
    #[serde(rename = "do")]
    pub actions: Vec<Spanned<RawAction>>,
    pub fails: Text,
    pub scores: Option<Spanned<u32>>,
}

/// Reads the file's text.
///
/// # Errors
/// When it is too large, no YAML, or not shaped as a lab.
pub fn read(file: &str, text: &str) -> Result<RawLab, LabError> {
    if text.len() > MAX_FILE {
        let message = format!("the file has {} bytes", text.len());
        let expected = Some(format!("at most {MAX_FILE} bytes"));
        return Err(LabError::one(file, problem(text, 0, 0, 1, message, expected, None)));
    }
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: 24,
            max_nodes: 20_000,
            max_events: 50_000,
            max_aliases: 100,
            max_anchors: 100,
            max_documents: 1,
            flow_nesting_limit: 24,
            max_total_scalar_bytes: MAX_FILE,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 100,
        },
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options).map_err(|error| shape_error(file, text, &error))
}

fn shape_error(file: &str, text: &str, error: &Error) -> LabError {
    let error = error.without_snippet();
    let place = error.location();
    let (line, column) = place.map_or((0, 0), |at| (number(at.line()), number(at.column())));
    let width = place.map_or(1, |at| number(at.span().len()));
    let (message, expected, hint) = explain(error);
    LabError::one(file, problem(text, line, column, width, message, expected, hint))
}

fn explain(error: &Error) -> (String, Option<String>, Option<String>) {
    let suggestion = |word: &str, known: &[&'static str]| {
        did_you_mean(word, known.iter().copied()).map(|name| format!("did you mean `{name}`?"))
    };
    match error {
        Error::SerdeUnknownField { field, expected, .. } => (
            format!("unknown field `{}`", crate::text::one_line(field)),
            Some(one_of(expected.iter().copied())),
            suggestion(field, expected),
        ),
        Error::SerdeUnknownVariant { variant, expected, .. } => (
            format!("unknown value `{}`", crate::text::one_line(variant)),
            Some(one_of(expected.iter().copied())),
            suggestion(variant, expected),
        ),
        Error::SerdeMissingField { field, .. } => (
            format!("the field `{field}` is missing"),
            Some(format!("`{field}: …` here")),
            None,
        ),
        Error::SerdeInvalidType {
            unexpected, expected, ..
        }
        | Error::SerdeInvalidValue {
            unexpected, expected, ..
        } => (
            format!("found {}", crate::text::one_line(unexpected)),
            Some(expected.clone()),
            None,
        ),
        Error::InvalidScalar { ty, .. } => ("this value has another type".to_owned(), Some((*ty).to_owned()), None),
        Error::Unexpected { expected, .. } => ("this is something else".to_owned(), Some((*expected).to_owned()), None),
        Error::DuplicateMappingKey { key, .. } => (
            format!(
                "the field `{}` stands here twice",
                crate::text::one_line(key.as_deref().unwrap_or("?"))
            ),
            Some("each field once".to_owned()),
            Some("delete one of them".to_owned()),
        ),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => (
            "the file unfolds into more than a lab can need".to_owned(),
            Some("at most 20000 values, 24 levels deep, 100 aliases".to_owned()),
            Some("write repeated parts out, or make them smaller".to_owned()),
        ),
        Error::AliasError { error, .. } => explain(error),
        Error::MultipleDocuments { .. } => (
            "a second YAML document begins here".to_owned(),
            Some("one lab a file".to_owned()),
            None,
        ),
        other => (
            crate::text::one_line(&other.to_string()),
            None,
            Some("check the indentation and the quotes around here".to_owned()),
        ),
    }
}

fn number(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A problem at a place of the file.
pub fn problem(
    text: &str,
    line: usize,
    column: usize,
    width: usize,
    message: String,
    expected: Option<String>,
    hint: Option<String>,
) -> Problem {
    let source = line
        .checked_sub(1)
        .and_then(|index| text.lines().nth(index))
        .unwrap_or_default();
    Problem {
        line,
        column,
        width,
        message,
        expected,
        hint,
        source: source.chars().take(200).collect(),
    }
}
