//! `ztlab lab verify` and `ztlab lab lint`: for those who write labs.

use std::{path::Path, process::ExitCode};

use super::{error::CliError, output::Output};

/// Proves a lab.
///
/// # Errors
/// When there is no such lab, or it cannot be run.
pub fn verify(_id: &str, _out: &Output) -> Result<ExitCode, CliError> {
    Err(CliError::new("verifying is not built yet"))
}

/// Reads a lab file and says what is wrong with it.
///
/// # Errors
/// When the file cannot be read.
pub fn lint(_path: &Path, _out: &Output) -> Result<ExitCode, CliError> {
    Err(CliError::new("linting is not built yet"))
}
