//! Labs as data: what a lab file says, validated once.
//!
//! A file is read into raw types that know where everything stands ([`raw`]), then checked as a whole and turned into
//! a [`Lab`] that cannot be invalid ([`validate`]). Lab files are untrusted: sizes are bounded, text that would
//! move a terminal's cursor is refused, and nothing in a lab runs on the host.

mod error;
mod model;
mod raw;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeSet;

pub use error::{LabError, Problem};
pub use model::*;

/// The workloads of a topology layer (`flat`), or `None` where there is no such layer.
pub type Topologies<'a> = &'a dyn Fn(&str) -> Option<BTreeSet<String>>;

/// The largest lab file, in bytes.
pub const MAX_FILE: usize = 256 * 1024;

/// Reads a lab: `file` is its name in messages, `topologies` knows the workloads of each layer.
///
/// # Errors
/// Everything that is wrong with it, each with line, column, what was expected and a hint.
pub fn parse(file: &str, text: &str, topologies: Topologies<'_>) -> Result<Lab, LabError> {
    let raw = raw::read(file, text)?;
    validate::validate(file, text, &raw, topologies)
}
