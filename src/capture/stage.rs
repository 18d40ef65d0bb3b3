//! The observer's side, inside the pod.

use std::{ffi::OsString, process::ExitCode};

/// The stage `__observe`: `capture …` or `probe JSON`.
pub fn observe_stage(_args: Vec<OsString>) -> ExitCode {
    ExitCode::from(2)
}
