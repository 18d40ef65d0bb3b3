//! Labs as data: what a lab file says, validated once.
//!
//! A file is read into raw types that know where everything stands ([`raw`]), then checked as a whole and turned into
//! a [`Lab`] that cannot be invalid ([`validate`]). Lab files are untrusted: sizes are bounded, text that would
//! move a terminal's cursor is refused, and nothing in a lab runs on the host.

mod error;
mod model;
mod raw;
mod surroundings;
#[cfg(test)]
mod tests;
mod validate;

pub use error::{LabError, Problem};
pub use model::*;
pub use surroundings::{Layer, Manifests, Surroundings};

/// The largest lab file, in bytes.
pub const MAX_FILE: usize = 256 * 1024;

/// Reads a lab: `file` is its name in messages, `among` what it is read among.
///
/// # Errors
/// Everything that is wrong with it, each with line, column, what was expected and a hint.
pub fn parse(file: &str, text: &str, among: Surroundings<'_>) -> Result<Lab, LabError> {
    let raw = raw::read(file, text)?;
    validate::validate(file, text, &raw, among)
}
