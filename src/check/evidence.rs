//! What a check is judged by.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    evidence::{CaptureEvidence, CertificateFacts, ProbeResult},
    lab::{Captured, Part, Pattern, Workload},
    packet::{Leak, LeakKind, Message, PROBE_PORTS, Protocol},
    posture::Matrix,
};

/// What was gathered for a check.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// What the student's captures saw.
    Capture {
        /// The last messages, and where was listened.
        seen: Arc<CaptureEvidence>,
        /// The secrets found since the session began, also in messages no longer kept.
        loot: Arc<[Loot]>,
    },
    /// What the student answered.
    Answer {
        /// The answer, as typed; `None` before there is one.
        given: Option<String>,
        /// What it is compared with.
        loot: Arc<[Loot]>,
        /// What a prediction is compared with, or why it was not measured; `None` for other questions.
        posture: Option<Result<Arc<Matrix>, String>>,
    },
    /// What the callee's access log says.
    Calls(Calls),
    /// What a probe measured.
    Probes(Box<Probes>),
    /// What the student's captures saw of conversations, and what probes with and without a client certificate add.
    Flow {
        /// The last conversations, and where was listened.
        seen: Arc<CaptureEvidence>,
        /// The probe with a certificate, and the one without.
        probes: Option<Box<(ProbeResult, ProbeResult)>>,
    },
    /// Objects of the Kubernetes API.
    Objects(Objects),
    /// A certificate, and what it is compared with.
    Certificate(Box<Certificates>),
    /// A file of the work directory.
    File(FileFound),
    /// What a program came to.
    Exec(ExecFound),
    /// What was measured of the posture.
    Posture(Arc<Matrix>),
    /// No pod of this name is running.
    NoPod(String),
    /// Nothing could be gathered.
    Unavailable(String),
}

/// Objects of the Kubernetes API.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Whether the cluster knows the kind at all.
    pub kind_known: bool,
    /// The objects.
    pub found: Vec<serde_json::Value>,
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct CertificateFound {
    /// Its bytes, DER.
    pub der: Vec<u8>,
    /// What it says.
    pub facts: CertificateFacts,
}

/// A certificate, and what it is compared with.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The certificate, or why there is none.
    pub certificate: Result<CertificateFound, String>,
    /// Whose key must have signed it, or why that is not there.
    pub signer: Option<Result<CertificateFound, String>>,
    /// The public key of the private key that must belong to it, or why there is none.
    pub key: Option<Result<String, String>>,
    /// Every private key in the namespace's Secrets and ConfigMaps.
    pub keys: Option<Vec<KeyAt>>,
    /// When this was looked at, in seconds since the Unix epoch.
    pub now: i64,
}

/// A private key somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAt {
    /// Where.
    pub at: String,
    /// Its public key, as [`CertificateFacts::key`] has it.
    pub public: String,
}

/// A file of the work directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileFound {
    /// There is none.
    Missing,
    /// What it holds.
    There(String),
    /// It is not read, and why.
    Broken(String),
}

/// What a program came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecFound {
    /// The pod it ran in.
    pub pod: String,
    /// The program and its arguments.
    pub command: String,
    /// Its exit code.
    pub code: i32,
    /// The beginning of what it printed.
    pub output: String,
}

/// The accesses a workload logged.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// The caller's addresses.
    pub from: Vec<String>,
    /// How many pods of the callee were read.
    pub callees: usize,
    /// The accesses, oldest first.
    pub calls: Vec<Call>,
    /// The handshakes that were refused, oldest first.
    pub refused: Vec<Refused>,
    /// The addresses of who must be let in, where an absence is wanted.
    pub control: Vec<String>,
}

/// A probe and, where an absence is wanted, its positive control.
#[derive(Clone, Debug)]
pub struct Probes {
    /// The probe.
    pub probe: ProbeResult,
    /// The control, made in the same moment.
    pub control: Option<ProbeResult>,
    /// The addresses that a name must resolve to; none where any will do.
    pub expected: Vec<std::net::IpAddr>,
}

/// One line of an access log. Lines are untrusted: what they quote, a caller chose.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Call {
    /// When, RFC 3339.
    #[serde(default)]
    pub ts: String,
    /// `access`.
    pub level: String,
    /// The caller's address.
    pub caller_ip: String,
    /// What the caller proved.
    #[serde(default)]
    pub caller: String,
    /// Which certificate it showed, where it showed one and the callee says so.
    #[serde(default)]
    pub certificate: Option<Shown>,
    /// HTTP method, or `login` or `query`.
    pub method: String,
    /// HTTP path, or the statement.
    pub path: String,
    /// HTTP status.
    pub status: u16,
    /// Id of the probe, for ztlab's own calls.
    #[serde(default)]
    pub probe: Option<String>,
}

/// A client's certificate, as an access log tells it from others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Shown {
    /// The serial number.
    pub serial: String,
    /// Valid from, in seconds since the Unix epoch.
    pub not_before: i64,
    /// Valid until, in seconds since the Unix epoch.
    pub not_after: i64,
}

impl Call {
    /// Reads a log line; `None` for one that is no access.
    pub fn read(line: &str) -> Option<Self> {
        let call: Self = serde_json::from_str(line).ok()?;
        (call.level == "access").then_some(call)
    }

    /// One line for a person.
    pub fn describe(&self) -> String {
        crate::text::one_line(&format!("{} {} {} → {}", self.ts, self.method, self.path, self.status))
    }
}

/// One line of an access log about a caller whose TLS handshake failed. As untrusted as any other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refused {
    /// When, RFC 3339.
    #[serde(default)]
    pub ts: String,
    /// `refused`.
    pub level: String,
    /// The caller's address.
    pub caller_ip: String,
    /// The caller's port.
    pub caller_port: u16,
    /// Why, in the callee's words.
    pub reason: String,
}

impl Refused {
    /// Reads a log line; `None` for one that tells of no refused handshake.
    pub fn read(line: &str) -> Option<Self> {
        let refused: Self = serde_json::from_str(line).ok()?;
        (refused.level == "refused").then_some(refused)
    }

    /// Whether a probe of ztlab tried, by the port it tried from: a handshake that fails carries no id.
    pub fn by_probe(&self) -> bool {
        PROBE_PORTS.contains(&self.caller_port)
    }

    /// Whether this was within so long of a call.
    pub fn near(&self, call: &Call, within: Duration) -> bool {
        let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let (Some(one), Some(other)) = (at(&self.ts), at(&call.ts)) else {
            return false;
        };
        one.duration_since(other).unsigned_abs() <= within
    }

    /// One line for a person.
    pub fn describe(&self) -> String {
        crate::text::one_line(&format!("{} refused {}: {}", self.ts, self.caller_ip, self.reason))
    }
}

/// A secret that a capture of the student's showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loot {
    /// What it is.
    pub kind: LeakKind,
    /// The secret.
    pub value: String,
    /// Whose it is, where that is known.
    pub account: Option<String>,
    /// Who sent it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// In which protocol.
    pub protocol: Protocol,
    /// The packet that carried its first byte.
    pub frame: u64,
    /// The pod it was captured in.
    pub captured_in: String,
    /// The message it was in, in a line.
    pub message: String,
}

impl Loot {
    /// The secrets of a message.
    pub fn of(message: &Message) -> impl Iterator<Item = Self> + '_ {
        message.leaks.iter().map(|leak: &Leak| Self {
            kind: leak.kind,
            value: leak.value.clone(),
            account: leak.account.clone(),
            from: message.from.label(),
            to: message.to.label(),
            protocol: message.protocol,
            frame: leak.frame,
            captured_in: message
                .point
                .as_ref()
                .map(|point| point.pod.clone())
                .unwrap_or_default(),
            message: message.summary.clone(),
        })
    }

    /// Whether it tells nothing that `other` does not.
    pub fn same(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.value == other.value
            && self.account == other.account
            && self.from == other.from
            && self.to == other.to
    }

    /// Whether it went between these two.
    pub fn between(&self, (one, other): &(Workload, Workload)) -> bool {
        let (one, other) = (one.as_str(), other.as_str());
        (self.from == one && self.to == other) || (self.from == other && self.to == one)
    }

    /// Whether it is what a capture check looks for.
    pub fn matches(&self, pattern: &Pattern) -> bool {
        pattern.text.is_none()
            && pattern.leak == Some(self.kind)
            && pattern.protocol.is_none_or(|protocol| protocol == self.protocol)
    }

    /// The part of it that a question asks for, if it is what the question means.
    pub fn answers(&self, captured: &Captured) -> Option<&str> {
        if self.kind != captured.leak || captured.between.as_ref().is_some_and(|pair| !self.between(pair)) {
            return None;
        }
        match captured.part {
            Part::Value => Some(&self.value),
            Part::Account => self.account.as_deref(),
        }
    }

    /// One line for a person.
    pub fn describe(&self) -> String {
        let (from, to, frame, message) = (&self.from, &self.to, self.frame, &self.message);
        crate::text::one_line(&format!("packet {frame}, {from} → {to}: {message}"))
    }
}
