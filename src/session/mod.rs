//! One student's run through one lab.
//!
//! A session has one owner, the session host: a background process of this binary, one per user, started on demand.
//! Faces send it [`command::Command`]s over a unix socket and follow its [`snapshot::Snapshot`]s.
//!
//! What happens enters a pure state machine ([`state`]) as events; it answers with effects, which the driver
//! ([`driver`]) runs against the world ([`world`]). What must not be lost is in the [`journal`].

use std::time::{SystemTime, UNIX_EPOCH};

mod acting;
mod asking;
mod captures;
mod changes;
mod checking;
pub mod client;
mod clock;
pub mod command;
mod deeds;
pub mod driver;
mod edited;
pub mod export;
mod ground;
mod host;
pub mod journal;
mod listening;
mod pin;
pub mod posture;
pub mod site;
pub mod snapshot;
mod solve;
pub mod state;
#[cfg(test)]
mod tests;
mod tools;
pub mod topics;
mod view;
pub mod work;
pub mod world;

pub use ground::GroundWorld;
pub use host::{Host, Topologies, host_stage};

/// Writes a file so that it is whole or as it was.
fn write(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let new = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// The time, in milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
