//! Who set which field: `metadata.managedFields`, and server-side apply, which goes by it.
//!
//! Source: Kubernetes' "Server-Side Apply"; the FieldsV1 format of structured-merge-diff.

mod apply;
mod fields;
mod managers;

pub use apply::{Apply, Conflict, apply, message};
pub use fields::Kind;
pub use managers::{Writer, track};

#[cfg(test)]
mod tests;
