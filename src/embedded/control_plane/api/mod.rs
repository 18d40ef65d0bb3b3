//! The API's machinery as pure functions: kinds, discovery, schemas, decoding, validation, defaults, tables, patches, selectors.
//!
//! JSON values in, JSON values out; no storage, no clock, no network. All input is untrusted: depth is bounded and
//! nothing panics. Texts are those of Kubernetes 1.33, because clients and people match on them.
//!
//! The way of a written object: [`decode::body`] → [`validate::fields`] → [`validate::normalize`] →
//! (a patch: [`patch`]) → [`defaults::apply`] → [`validate::object`] → storage. The way back: [`table::table`].

pub mod convert;
pub mod custom;
pub mod decode;
pub mod defaults;
pub mod discovery;
pub mod openapi;
pub mod patch;
pub mod pod_security;
pub mod protobuf;
pub mod registry;
mod resources;
pub mod schema;
pub mod selector;
pub mod table;
#[cfg(test)]
mod test_json;
pub mod validate;
mod view;

pub use registry::{Registry, Resource, Subresource};

/// Deepest nesting accepted anywhere; the recursion limit of `serde_json`.
pub const MAX_DEPTH: usize = 128;
