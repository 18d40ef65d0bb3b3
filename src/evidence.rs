//! What was measured: the facts that probes and captures bring home, before anybody judges them.
//!
//! Evidence never says "good" or "bad"; a check turns it into a verdict. Each piece says where it was taken and
//! how, so that a person can repeat it by hand.

mod certificate;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

pub use self::certificate::{
    CertificateFacts, EXTENDED_KEY_USAGES, KEY_USAGES, chain_of, date, key_of, public_of, signed_by,
};
use crate::packet::{CapturePoint, LeakKind, Message};

/// Names one probe, in the header `x-ztlab-probe` and in the access logs of the workloads that answer it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProbeId(pub String);

impl fmt::Display for ProbeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The header that carries a [`ProbeId`].
pub const PROBE_HEADER: &str = "x-ztlab-probe";

/// How far a probe had come when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Asking DNS for the name.
    Resolve,
    /// The TCP handshake.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Sending the request.
    Send,
    /// Waiting for or reading the answer.
    Receive,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Resolve => "resolving the name",
            Phase::Connect => "connecting",
            Phase::Handshake => "the TLS handshake",
            Phase::Send => "sending",
            Phase::Receive => "waiting for the answer",
        })
    }
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum ProbeOutcome {
    /// An HTTP response came.
    Answered {
        /// Its status code.
        status: u16,
        /// Its headers, in order, names in lower case (up to a limit).
        headers: Vec<(String, String)>,
        /// The beginning of its body; bytes that are not UTF-8 are replaced.
        body: String,
        /// Whether `body` was cut at the limit.
        truncated: bool,
    },
    /// A TCP connection was established (and closed again).
    Connected,
    /// The name was resolved.
    Resolved {
        /// The records answered, in text form.
        answers: Vec<String>,
    },
    /// DNS answered that there is no such name, or no such record.
    NoSuchHost,
    /// DNS did not answer, or answered with an error.
    DnsFailed {
        /// Its response code or what went wrong.
        reason: String,
    },
    /// The peer refused the connection (RST to SYN, or an ICMP that means it).
    Refused,
    /// Nothing came back in time.
    TimedOut {
        /// While doing what.
        phase: Phase,
    },
    /// The peer broke the connection off.
    Reset {
        /// While doing what.
        phase: Phase,
    },
    /// There is no route to it, or the network said so.
    Unreachable {
        /// The system's words.
        reason: String,
    },
    /// The TLS handshake failed.
    TlsFailed {
        /// Why, in the TLS library's words.
        reason: String,
    },
    /// A TLS session was opened, and an answer came back through it.
    TlsOpen,
    /// A TLS session was opened, and nothing came back through it in time: neither let in nor refused.
    TlsSilent,
    /// The peer refused in TLS: by an alert, or by breaking off. In TLS 1.3 a client learns that its certificate is
    /// refused only after its own part of the handshake.
    TlsRefused {
        /// The alert, in the words of RFC 8446 §6; `None` where the peer only closed.
        alert: Option<String>,
        /// In the handshake, or while the answer was waited for.
        phase: Phase,
    },
    /// The server's certificate does not verify against the authorities that were given, so nothing was sent to it.
    Untrusted {
        /// Why not, in the TLS library's words.
        reason: String,
    },
    /// What came back was not the protocol asked for.
    ProtocolError {
        /// What was wrong with it.
        reason: String,
    },
    /// The probe itself could not run: nothing was measured, and nothing follows from it.
    NotRun {
        /// Why.
        reason: String,
    },
}

impl ProbeOutcome {
    /// The HTTP status, where one came.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether a byte of the peer came back: it is there and reachable, whatever it said.
    pub const fn reached(&self) -> bool {
        matches!(
            self,
            Self::Answered { .. }
                | Self::Connected
                | Self::ProtocolError { .. }
                | Self::TlsFailed { .. }
                | Self::TlsOpen
                | Self::TlsSilent
                | Self::TlsRefused { .. }
                | Self::Untrusted { .. }
        )
    }

    /// Whether anything was measured at all.
    pub const fn measured(&self) -> bool {
        !matches!(self, Self::NotRun { .. })
    }
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status, .. } => write!(f, "answered {status}"),
            Self::Connected => write!(f, "connected"),
            Self::Resolved { answers } => write!(f, "resolved to {}", answers.join(", ")),
            Self::NoSuchHost => write!(f, "no such host"),
            Self::DnsFailed { reason } => write!(f, "DNS failed: {reason}"),
            Self::Refused => write!(f, "connection refused"),
            Self::TimedOut { phase } => write!(f, "timed out while {phase}"),
            Self::Reset { phase } => write!(f, "connection reset while {phase}"),
            Self::Unreachable { reason } => write!(f, "unreachable: {reason}"),
            Self::TlsFailed { reason } => write!(f, "TLS failed: {reason}"),
            Self::TlsOpen => write!(f, "TLS session opened, and answered"),
            Self::TlsSilent => write!(f, "TLS session opened, no answer"),
            Self::TlsRefused {
                alert: Some(alert),
                phase: Phase::Handshake,
            } => write!(f, "refused in the TLS handshake: {alert}"),
            Self::TlsRefused { alert: Some(alert), .. } => write!(f, "refused after the TLS handshake: {alert}"),
            Self::TlsRefused { alert: None, phase } => write!(f, "TLS broken off by the peer while {phase}"),
            Self::Untrusted { reason } => write!(f, "the server is not to be trusted: {reason}"),
            Self::ProtocolError { reason } => write!(f, "unexpected answer: {reason}"),
            Self::NotRun { reason } => write!(f, "not run: {reason}"),
        }
    }
}

/// What one probe measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Its id; the access log of whoever answered has it too.
    pub id: ProbeId,
    /// Namespace of the pod it ran in.
    pub namespace: String,
    /// The pod it ran in.
    pub pod: String,
    /// What it asked, as one would write it (`GET http://payments-api/charge`, `tcp ledger:5432`).
    pub target: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: ProbeOutcome,
    /// What the name resolved to, in the pod.
    #[serde(default)]
    pub resolved: Vec<IpAddr>,
    /// The address it connected to.
    #[serde(default)]
    pub peer: Option<SocketAddr>,
    /// Its own address in that connection.
    #[serde(default)]
    pub local: Option<SocketAddr>,
    /// What its TLS handshake told, as far as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<TlsSeen>>,
    /// When it began, in nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// What a probe saw of a TLS handshake, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSeen {
    /// The version agreed on, as `1.3`.
    pub version: Option<String>,
    /// The cipher suite, by IANA's name.
    pub cipher: Option<String>,
    /// The application protocol (ALPN).
    pub alpn: Option<String>,
    /// The server's chain, its own certificate first.
    pub certificates: Vec<CertificateFacts>,
    /// Whether the chain verifies against the authorities that were given, and names the server; `None` where none
    /// were given, or no certificate came.
    pub verified: Option<bool>,
    /// Why it does not.
    pub verify_error: Option<String>,
    /// Whether the server asked for a client certificate.
    pub asked_for_client: bool,
    /// The certificate that was shown to it, in a line; `None` where none was asked for, or there was none to show.
    pub shown: Option<String>,
}

/// What a capture saw in a stretch of time: the evidence of checks about traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptureEvidence {
    /// Where it listened; empty means that nothing listened, and an absence proves nothing.
    pub points: Vec<CapturePoint>,
    /// From when, in nanoseconds since the Unix epoch.
    pub from_ns: u64,
    /// Until when, in nanoseconds since the Unix epoch.
    pub until_ns: u64,
    /// Packets seen.
    pub packets: u64,
    /// Packets that the kernel dropped before they could be read.
    pub dropped: u64,
    /// What was said.
    pub messages: Vec<Message>,
}

impl CaptureEvidence {
    /// The messages between two workloads, in either direction: the positive control of a claim about them.
    pub fn between<'a>(&'a self, one: &'a str, other: &'a str) -> impl Iterator<Item = &'a Message> {
        self.messages.iter().filter(move |message| message.between(one, other))
    }

    /// Every leak of a kind, with the message that holds it.
    pub fn leaks(&self, kind: LeakKind) -> impl Iterator<Item = (&Message, &crate::packet::Leak)> {
        self.messages.iter().flat_map(move |message| {
            message
                .leaks
                .iter()
                .filter(move |leak| leak.kind == kind)
                .map(move |leak| (message, leak))
        })
    }
}
