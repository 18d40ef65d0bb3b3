//! Labs as data: what a lab file says, validated once.
//!
//! A file is read into raw types that know where everything stands ([`raw`]), then checked as a whole and turned into
//! a [`Lab`] that cannot be invalid ([`validate`]). Lab files are untrusted: sizes are bounded, text that would
//! move a terminal's cursor is refused, and nothing in a lab runs on the host.

pub mod commands;
mod error;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod lint_tests;
mod model;
mod order;
mod raw;
pub mod schema;
mod surroundings;
#[cfg(test)]
mod tests;
mod validate;

pub use error::{LabError, Problem, Severity};
pub use model::*;
pub use order::in_order;
pub use surroundings::{Layer, Manifests, Placed, Surroundings};
pub use validate::Lint;

/// The largest lab file, in bytes.
pub const MAX_FILE: usize = 256 * 1024;

/// Reads a lab: `file` is its name in messages, `among` what it is read among.
///
/// # Errors
/// Everything that is wrong with it, each with line, column, what was expected and a hint.
pub fn parse(file: &str, text: &str, among: Surroundings<'_>) -> Result<Lab, LabError> {
    let (raw, problems) = raw::read(file, text)?;
    let (lab, problems) = validate::validate(text, &raw, problems, among, None);
    match lab {
        Some(lab) if problems.is_empty() => Ok(lab),
        _ => Err(LabError::new(file, problems)),
    }
}

/// Any bytes as a lab file, for the fuzz target and its seeds: read and linted, without a panic, and with nothing in a message
/// that a terminal would take for a command. Gives the number of errors.
///
/// # Panics
/// When a message holds a control character: that is what is looked for.
#[doc(hidden)]
pub fn fuzz(file: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(file) else { return 0 };
    let names = ["frontend", "orders-api", "payments-api", "ledger", "mallory", "visitor"];
    let shop = Layer {
        workloads: names.map(str::to_owned).into(),
        placed: std::collections::BTreeSet::from([Placed {
            kind: "Namespace".to_owned(),
            name: "shop".to_owned(),
            namespace: None,
        }]),
        ..Layer::default()
    };
    let files = std::collections::BTreeMap::from([("visitor.yaml".to_owned(), String::new())]);
    let among = Surroundings {
        manifests: &shop,
        files: &files,
    };
    let with = Lint {
        lab: &|_| false,
        file: &|_| false,
        directory: None,
    };
    let (_, problems) = lint("lab.yaml", text, among, with);
    let told = LabError::new("lab.yaml", problems.clone()).to_string();
    assert!(!told.chars().any(|char| char.is_control() && char != '\n'), "{told:?}");
    let read = parse("lab.yaml", text, among);
    assert!(read.is_ok() || !problems.is_empty());
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    errors.count()
}

/// Reads a lab as [`parse`] does, and holds it to the rules for those who write labs too. The lab comes back where a
/// student could take it.
pub fn lint(file: &str, text: &str, among: Surroundings<'_>, lint: Lint<'_>) -> (Option<Lab>, Vec<Problem>) {
    let (raw, problems) = match raw::read(file, text) {
        Ok(read) => read,
        Err(error) => return (None, error.problems),
    };
    validate::validate(text, &raw, problems, among, Some(lint))
}
