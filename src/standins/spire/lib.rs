//! Stand-ins for SPIRE: a server, an agent and a controller manager that do the work for real.
//!
//! ```text
//!   ClusterSPIFFEID ──> controller ──entries──> server <──mTLS── agent <──unix socket── workload
//!                                     (admin     │ CA, entries,     │ X.509- and JWT-SVIDs,
//!                                      socket)   │ bundle           │ bundles, rotation
//! ```
//!
//! - [`server`]: the certificate authority, the registration entries and SPIRE's server APIs;
//! - [`agent`]: attests to the server and serves the SPIFFE Workload API;
//! - [`controller`]: turns ClusterSPIFFEIDs into registration entries;
//! - [`cli`]: the commands of `spire-server` and `spire-agent`.
//!
//! They speak SPIRE's protocols on the wire, so the real command-line tools drive them; what differs is written in
//! the book. They know nothing of labs or of the cluster that they run in, but by the Kubernetes API.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod api;
mod ca;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
mod convert;
mod entries;
mod pem;
mod protojson;
mod refusal;
pub mod server;
mod store;
mod transport;
pub mod workload;

pub use transport::fuzz_authority;

#[cfg(test)]
mod together;
