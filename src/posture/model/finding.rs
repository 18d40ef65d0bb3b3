//! What is known of a question, and what shows it. Plain values.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the evidence says of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It shows that it is so.
    Yes,
    /// It shows that it is not so.
    No,
    /// It shows neither.
    Undetermined,
}

impl Answer {
    /// `yes`, `no`, `undetermined`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Undetermined => "undetermined",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What kind of thing stands behind a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A probe that ran in the caller's pod.
    Probe,
    /// A probe that shows the callee alive in the same window.
    Control,
    /// A packet that was captured.
    Packet,
    /// A line of the callee's access log.
    Log,
}

impl EvidenceKind {
    /// `probe`, `control`, `packet`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Control => "control",
            Self::Packet => "packet",
            Self::Log => "log",
        }
    }
}

/// One thing that was seen, and where to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is.
    pub kind: EvidenceKind,
    /// The probe's id, which access logs have too; or the packet's number in its capture; empty for several packets.
    pub id: String,
    /// The namespace of the pod it was taken in.
    pub namespace: String,
    /// The pod it was taken in.
    pub pod: String,
    /// When, in nanoseconds since the Unix epoch.
    pub at_ns: u64,
    /// What it shows.
    pub says: String,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, pod, says) = (self.kind.as_str(), &self.pod, &self.says);
        match (self.id.as_str(), self.kind) {
            ("", EvidenceKind::Packet) => write!(f, "packets in {pod}: {says}"),
            ("", _) => write!(f, "{kind} in {pod}: {says}"),
            (id, _) => write!(f, "{kind} {id} in {pod}: {says}"),
        }
    }
}

/// An answer with its reason and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The answer.
    pub answer: Answer,
    /// Why, in a sentence without a period.
    pub because: String,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

impl Finding {
    /// An answer without evidence lines.
    pub fn new(answer: Answer, because: impl Into<String>) -> Self {
        Self {
            answer,
            because: because.into(),
            evidence: Vec::new(),
        }
    }

    /// Neither yes nor no.
    pub fn undetermined(because: impl Into<String>) -> Self {
        Self::new(Answer::Undetermined, because)
    }

    /// The same with this evidence.
    #[must_use]
    pub fn with(mut self, evidence: impl IntoIterator<Item = Evidence>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}
