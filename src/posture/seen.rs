//! What probes and captures saw in one measurement. Plain values.

use std::collections::BTreeMap;

use super::{callers::Proved, model::Name, rotation::Rotation};
use crate::{evidence::ProbeResult, packet::Flow};

/// A TCP connection that a caller's pod tried to open.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The workload it came from.
    pub from: Name,
    /// The workload it went to.
    pub to: Name,
    /// The port of [`Port::port`].
    pub port: u16,
    /// The pod whose own address was dialed; `None` where it was the Service's.
    pub pod: Option<String>,
    /// What came of it.
    pub probe: ProbeResult,
}

/// A connection from a callee's pod to itself, which no policy stops: it shows that the port answers.
#[derive(Debug, Clone)]
pub struct Control {
    /// The workload.
    pub of: Name,
    /// The pod.
    pub pod: String,
    /// The port of [`Port::port`].
    pub port: u16,
    /// Whether it was made after the attempts, not before.
    pub after: bool,
    /// What came of it.
    pub probe: ProbeResult,
}

/// How a port is asked what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// `GET /` without encryption.
    Http,
    /// A TLS handshake without a client certificate, and a request through the session.
    Tls,
    /// The same, after PostgreSQL's request for it.
    Postgres,
}

/// A port that was asked what it speaks: from its own pod, or from a caller's.
#[derive(Debug, Clone)]
pub struct Look {
    /// The workload it was asked from.
    pub from: Name,
    /// In which words.
    pub asked: Asked,
    /// The workload.
    pub of: Name,
    /// The port of [`Port::port`].
    pub port: u16,
    /// What came of it.
    pub probe: ProbeResult,
}

/// A conversation that was captured in the callee's pod.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Who called.
    pub from: Name,
    /// Whom.
    pub to: Name,
    /// The port of [`Port::port`].
    pub port: u16,
    /// The namespace of the pod it was captured in.
    pub namespace: String,
    /// The pod it was captured in.
    pub pod: String,
    /// The conversation.
    pub flow: Flow,
}

/// Everything that was seen in one measurement.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Connections that were tried.
    pub attempts: Vec<Attempt>,
    /// The callees' own.
    pub controls: Vec<Control>,
    /// Ports that were asked what they speak.
    pub looks: Vec<Look>,
    /// Conversations of the application's own.
    pub heard: Vec<Heard>,
    /// Identities that callees say their callers proved.
    pub proved: Vec<Proved>,
    /// Servers whose SVIDs were watched.
    pub rotations: Vec<Rotation>,
    /// Pods that could not be looked from, and why.
    pub blind: BTreeMap<String, String>,
    /// When the measurement began, in seconds since the Unix epoch: certificates are valid then or not.
    pub now_s: i64,
}
