//! X.509-SVIDs: certificates that carry a SPIFFE ID (X509-SVID).
//!
//! A [`Leaf`] identifies a workload and an [`Authority`] signs; both are read from DER by the rules of their kind, so that a
//! signing certificate cannot be mistaken for an identity. An [`X509Svid`] is a workload's own chain with its key. What a
//! peer shows is believed after [`verify`].

mod authority;
mod error;
mod inspect;
mod leaf;
mod path;
mod profile;
mod svid;
mod validity;

pub use authority::Authority;
pub use error::X509Error;
pub use inspect::{Demand, Field, Inspection, Role, inspect};
pub use leaf::Leaf;
pub use path::verify;
pub use svid::X509Svid;
pub use validity::Validity;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
