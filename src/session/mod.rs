//! One student's run through one lab.
//!
//! A session has one owner, the session host: a background process of this binary, one per user, started on demand.
//! Faces send it [`command::Command`]s over a unix socket and follow its [`snapshot::Snapshot`]s.

use std::{ffi::OsString, process::ExitCode};

pub mod client;
pub mod command;
pub mod snapshot;

/// The session host: the background process that owns this user's session.
pub fn host_stage(_args: Vec<OsString>) -> ExitCode {
    ExitCode::from(2)
}
