//! For those who write labs: proves that a lab does what it says.
//!
//! A lab is proved by living it: in a scratch cluster, through the same session that a student has. Untouched it gives
//! no points; every wrong attempt fails the check it names and no other; solved it gives all points; after a reset none
//! again; and a second run gives the same.

mod proof;
mod verify;

use std::path::Path;

pub use proof::{Line, Proof};
pub use verify::{VerifyError, verify};

use crate::{
    catalog::{self, CatalogError},
    session::Topologies,
};

/// Reads a lab file, or the `lab.yaml` of a directory; what comes back is right.
///
/// # Errors
/// The file cannot be read, or everything that is wrong with it.
pub fn lint(path: &Path) -> Result<String, CatalogError> {
    let found = catalog::open(path)?;
    let lab = found.load(&Topologies)?;
    let checks: usize = lab.steps.iter().map(|step| step.checks.len()).sum();
    Ok(format!(
        "{}: lab `{}`, {} steps, {checks} checks: no mistakes",
        found.source,
        lab.id,
        lab.steps.len()
    ))
}
