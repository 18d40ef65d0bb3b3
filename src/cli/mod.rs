//! The command line.

use std::{ffi::OsString, process::ExitCode};

/// Parses the arguments and runs the command.
pub fn main(_args: Vec<OsString>) -> ExitCode {
    ExitCode::from(2)
}
