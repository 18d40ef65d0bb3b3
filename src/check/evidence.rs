//! What a check is judged by.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    evidence::{CaptureEvidence, ProbeResult},
    lab::{Captured, Part, Pattern, Workload},
    packet::{Leak, LeakKind, Message, Protocol},
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
    },
    /// What the callee's access log says.
    Calls(Calls),
    /// What a probe measured.
    Probes(Box<Probes>),
    /// Nothing could be gathered.
    Unavailable(String),
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
}

/// A probe and, where an absence is wanted, its positive control.
#[derive(Clone, Debug)]
pub struct Probes {
    /// The probe.
    pub probe: ProbeResult,
    /// The control, made in the same moment.
    pub control: Option<ProbeResult>,
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
        pattern.leak == Some(self.kind) && pattern.protocol.is_none_or(|protocol| protocol == self.protocol)
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
