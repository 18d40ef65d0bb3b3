//! One student's run through one lab.
//!
//! A session has one owner, the session host: a background process of this binary, one per user, started on demand.
//! Faces send it [`command::Command`]s over a unix socket and follow its [`snapshot::Snapshot`]s.
//!
//! What happens enters a pure state machine ([`state`]) as events; it answers with effects, which the driver
//! ([`driver`]) runs against the world ([`world`]). What must not be lost is in the [`journal`].

use std::time::{SystemTime, UNIX_EPOCH};

mod captures;
mod changes;
pub mod client;
pub mod command;
pub mod driver;
mod ground;
mod host;
pub mod journal;
mod listening;
pub mod snapshot;
mod solve;
pub mod state;
#[cfg(test)]
mod tests;
mod tools;
mod view;
pub mod world;

pub use ground::GroundWorld;
pub use host::{Host, Topologies, host_stage};

/// The time, in milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
