//! `idle`: does nothing until SIGTERM; the program of a pod that is there to be worked in.

use std::{ffi::OsString, process::ExitCode};

use crate::standins::process;

/// Waits for SIGTERM.
pub fn main(_args: Vec<OsString>) -> ExitCode {
    process::serve("idle", async |shutdown| {
        shutdown.cancelled().await;
        Ok(())
    })
}
