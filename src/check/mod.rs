//! Checks: evidence is gathered ([`gather`]), then judged ([`judge`]).
//!
//! Judging is pure: the same check and the same evidence give the same judgement, whenever and wherever.

mod evidence;
mod gather;
mod judge;
mod question;
#[cfg(test)]
mod tests;

pub use evidence::{Call, Calls, Evidence, Loot, Probes};
pub use gather::{GatherError, Scene, gather, pods_of};
pub use judge::{expected, judge};
pub use question::{parts, right_answer};
