//! The terminal interface: draws the session's snapshots and sends it commands.
//!
//! The session owns the state. Here, [`update`](update::update) is a pure function from a model and a message to
//! effects, the [`views`] are pure functions of frame, area and model, and the loop in `run` does the effects.

pub mod field;
#[cfg(test)]
mod fixture;
pub mod keys;
pub mod markdown;
pub mod model;
mod run;
pub mod terminal;
pub mod theme;
pub mod update;
pub mod views;
pub mod wrap;

pub use run::{Ended, run};
