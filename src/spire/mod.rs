//! SPIRE as a cluster has it: its parts, what its server has registered, what workloads show, and why a pod has the identity it
//! has, or none.
//!
//! ```text
//!  pods, nodes, ClusterSPIFFEIDs ──┐
//!  spire-server's own commands ────┼─ World ──> explain, rules, registration (pure) ──> text
//!  handshakes with the pods ───────┘
//! ```
//!
//! [`gather`] and [`seen`] collect, through the Kubernetes API alone: objects, `spire-server … -output json` by exec, and
//! handshakes by the pods' observers. What an entry says a pod *may* have and what a handshake showed that it *has* are told
//! apart everywhere. Everything else is pure. Nothing here knows the stand-ins: SPIRE's own images answer the same.

pub mod absence;
mod ask;
pub mod explain;
mod find;
mod gather;
mod manager;
mod model;
mod overview;
mod registration;
mod rules;
mod seen;
mod selectors;
mod svid;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;

pub use ask::AskError;
pub use explain::{Explanation, Matched, Step, Verdict, explain};
pub use find::{Declared, Found, LOOKED_FOR, Part, find};
pub(crate) use gather::services;
pub use gather::{Answers, GatherError, Scope, World, gather, warning};
pub use model::{Agent, AuthorityView, BundleView, Entry, JwtKeyView, Selector, bundle_set};
pub use overview::{Given, Overview, PodIdentity, overview};
pub use registration::{Compared, Lack, Missing, Parent, Reach, compare};
pub use rules::{Rule, Unmet, Verdict as RuleVerdict};
pub use seen::{Sight, look, workloads};
pub use selectors::selectors;
pub(crate) use svid::belief;
pub use svid::{Belief, Rotation, SvidView};
