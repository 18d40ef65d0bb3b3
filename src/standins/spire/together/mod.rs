//! Server, agent and commands against each other: real sockets, real TLS, and a clock that tests advance.

mod attestation;
mod authority;
mod commands;
mod envoy;
mod errors;
mod go_spiffe;
mod json;
mod peers;
mod python;
mod restart;
mod rotation;
mod sds;
mod spiffe_crate;
mod spire_commands;
mod world;
