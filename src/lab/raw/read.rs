//! Reading a lab file's text, within limits.

use serde_yaml::Error;

use super::{Place, RawLab};
use crate::lab::{
    MAX_FILE,
    error::{LabError, Problem, did_you_mean, one_of},
};

/// Reads the file's text.
///
/// # Errors
/// When it is too large, no YAML, or not shaped as a lab.
pub fn read(file: &str, text: &str) -> Result<RawLab, LabError> {
    if text.len() > MAX_FILE {
        let message = format!("the file has {} bytes", text.len());
        let expected = Some(format!("at most {MAX_FILE} bytes"));
        return Err(LabError::one(file, problem(text, Place::NONE, message, expected, None)));
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
    let place = error.location().map_or(Place::NONE, Place::from);
    let (message, expected, hint) = explain(error);
    LabError::one(file, problem(text, place, message, expected, hint))
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

/// A problem at a place of the file.
pub fn problem(text: &str, place: Place, message: String, expected: Option<String>, hint: Option<String>) -> Problem {
    let source = place
        .line
        .checked_sub(1)
        .and_then(|index| text.lines().nth(index))
        .unwrap_or_default();
    Problem {
        line: place.line,
        column: place.column,
        width: place.width,
        message,
        expected,
        hint,
        source: source.chars().take(200).collect(),
    }
}
