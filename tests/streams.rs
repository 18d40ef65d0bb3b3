//! Streams between clients and pods: exec, attach, cp, run, debug and port-forward, in a real embedded cluster, by
//! kubectl of today over WebSocket and over SPDY, by kubectl 1.20, and by the `kube` crate.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "streams/clients.rs"]
mod clients;
#[path = "streams/cluster.rs"]
mod cluster;
mod common;
#[path = "streams/frames.rs"]
mod frames;
#[path = "streams/proxy.rs"]
mod proxy;
#[path = "streams/terminal.rs"]
mod terminal;
