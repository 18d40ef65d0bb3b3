//! Registration entries: which are accepted, which match, and which an agent may serve. All pure.

mod authorized;
mod filter;
mod read;

pub use authorized::authorized;
pub use filter::{Filter, Match, selector_match};
pub use read::{apply, bundles_are_known, create, new_id};
