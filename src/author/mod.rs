//! For those who write labs: proves that a lab does what it says.
//!
//! A lab is proved by living it: in scratch clusters, through the same session that a student has. Untouched it gives
//! no points; every wrong attempt fails the check it names and no other; solved it gives all points; after a reset none
//! again; solved in other orders that its steps allow, all points too; and a second run, in a cluster of its own where that
//! costs nothing, gives the same.

mod lint;
mod new;
mod order;
mod plan;
mod proof;
mod reference;
mod timed;
mod verify;

pub use lint::{Linted, LintedFile, lint};
pub use new::{NewError, NewLab, new};
pub use plan::takes;
pub use proof::{Line, Proof, Timing};
pub use reference::reference;
pub use verify::{Proving, VerifyError, verify};
