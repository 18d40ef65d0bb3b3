//! Reading a lab file's text: within limits, with everything that is out of shape.

use serde::Deserialize;
use serde_yaml::Error;

use super::{
    Place, RawLab, fill, shape,
    tree::{self, Node, Tree},
};
use crate::lab::{
    MAX_FILE,
    error::{LabError, Problem, Severity},
    schema,
};

/// Reads the file's text. With the lab comes everything that is out of shape; that was mended, so that the rest can be
/// looked at.
///
/// # Errors
/// When it is too large, no YAML, or nothing like a lab.
pub fn read(file: &str, text: &str) -> Result<(RawLab, Vec<Problem>), LabError> {
    let one = |problem| LabError::one(file, problem);
    if text.len() > MAX_FILE {
        let message = format!("the file has {} bytes", text.len());
        let expected = Some(format!("at most {MAX_FILE} bytes"));
        return Err(one(problem(text, Place::NONE, message, expected, None)));
    }
    let mut root = tree::read(text).map_err(|error| one(syntax(text, &error)))?;
    if !matches!(root.value, Tree::Map(_)) {
        let Node { at, .. } = root;
        let expected = Some("`apiVersion: ztlab.dev/v1`, `kind: Lab`, `metadata` and `spec`".to_owned());
        let message = "this is no lab".to_owned();
        return Err(one(problem(text, at, message, expected, None)));
    }
    let problems = shape::fit(text, schema::value(), &mut root);
    match RawLab::deserialize(fill::Reader(&root)) {
        Ok(raw) => Ok((raw, problems)),
        Err(misfit) => {
            let message = crate::text::one_line(&misfit.message);
            let mut problems = problems;
            problems.push(problem(text, misfit.at, message, None, None));
            Err(LabError::new(file, problems))
        }
    }
}

fn syntax(text: &str, error: &Error) -> Problem {
    let error = error.without_snippet();
    let place = error.location().map_or(Place::NONE, Place::from);
    let (message, expected, hint) = explain(error);
    Problem {
        rule: "syntax",
        ..problem(text, place, message, expected, hint)
    }
}

fn explain(error: &Error) -> (String, Option<String>, Option<String>) {
    match error {
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
            Some("YAML".to_owned()),
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
        severity: Severity::Error,
        rule: "value",
        line: place.line,
        column: place.column,
        width: place.width,
        message: crate::text::one_line(&message),
        expected: expected.map(|text| crate::text::one_line(&text)),
        hint: hint.map(|text| crate::text::one_line(&text)),
        source: source.chars().take(200).collect(),
    }
}
