//! A small Kubernetes: rootless, offline, ready in under a second. Knows no labs.
//!
//! Components meet only at the API server; this module starts them, in order.

pub mod control_plane;
pub mod dns;
pub mod image;
pub mod kubelet_api;
pub mod node;
pub mod rootless;
