//! Posture: who can reach whom, who can read it, and who proved what, measured between the workloads of namespaces.
//!
//! [`measure`] collects through the Kubernetes API only ([`inventory`], then probes and captures from inside the
//! pods); [`judge`] and [`level`] are pure. A refusal counts only where the callee answered somebody, or itself, in the
//! same window: a dead service proves nothing. The faces of a matrix ([`text`], [`markdown`], [`html`]) are pure too,
//! and take every name in it for untrusted.

mod callers;
mod credential;
mod diff;
mod field;
pub mod html;
pub mod inventory;
pub mod judge;
#[cfg(test)]
mod judge_tests;
pub mod level;
mod listen;
pub mod markdown;
mod measure;
pub mod model;
mod predict;
mod rotation;
mod scope;
mod seen;
mod svg;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;
pub mod words;

pub use diff::{Change, diff};
pub use inventory::{CALLERS, Edge};
pub use level::{Breaks, Level, LevelReport, Rule};
pub use measure::{PostureError, measure, measure_again};
pub use model::{
    Answer, Cell, Credential, CredentialKind, Credentials, DeclaredBy, Evidence, EvidenceKind, Finding, Mark, Matrix,
    Missing, Name, PodView, PortView, Property, Purpose, Reach, VERSION, WorkloadView,
};
pub use predict::{Compared, Comparison, Outcome, Predicted, compare};
pub use rotation::Memory;
pub use scope::Scope;
