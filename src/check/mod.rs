//! Checks: evidence is gathered ([`gather`]), then judged ([`judge`]).
//!
//! Judging is pure: the same check and the same evidence give the same judgement, whenever and wherever.

mod evidence;
mod gather;
mod judge;
#[cfg(test)]
mod judge_tests;
mod question;
mod run;
#[cfg(test)]
mod tests;
pub mod work;

pub use evidence::{
    Call, Calls, CertificateFound, Certificates, Evidence, ExecFound, FileFound, KeyAt, Loot, Objects, Probes, Refused,
    Shown,
};
pub use gather::{GatherError, Posture, Scene, gather, is_students, pods_of, pods_of_source, read_store, running_pod};
pub use judge::{expected, judge};
pub use question::{parts, right_answer};
pub use run::{Ran, run};
