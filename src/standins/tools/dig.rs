//! `dig`.

use std::{ffi::OsString, process::ExitCode};

use crate::standins::process;

/// Not built yet.
pub fn main(_args: Vec<OsString>) -> ExitCode {
    process::complain("dig", "not built yet");
    ExitCode::from(2)
}
