//! Cluster DNS: answers `<service>.<namespace>.svc.cluster.local` from Services and EndpointSlices.
//!
//! [`Zone`] is pure: objects in, answers out. [`start`] keeps one current and serves it. Names outside the cluster's
//! domain are refused: an embedded cluster has no network to ask.
//!
//! Source: Kubernetes DNS-Based Service Discovery, schema version 1.1.0.

mod server;
mod zone;

pub use server::{DnsError, start};
pub use zone::{Answer, DOMAIN, Zone};
