//! What a check says: passed, failed, or undetermined, and why.
//!
//! Three values, because a dead service proves nothing: a check that wants an absence and has no positive control
//! in the same window is undetermined, never passed.

use serde::{Deserialize, Serialize};

/// What the evidence says about a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The evidence shows what the check expects.
    Passed,
    /// The evidence shows something else.
    Failed,
    /// The evidence shows neither: nothing was measured, or the positive control is missing.
    Undetermined,
}

/// What a check found, in a word a lab file can name (`when: { check: …, found: no-traffic }`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// What was expected.
    Expected,
    /// The student has not captured anywhere the check looks.
    NoCapture,
    /// A capture ran, and saw nothing between the two workloads.
    NoTraffic,
    /// The capture saw the two workloads talk, but not what the check looks for.
    NotHeld,
    /// The capture holds what it must not.
    Held,
    /// A question nobody has answered yet.
    NotAnswered,
    /// A question that was answered, not rightly.
    WrongAnswer,
    /// There is nothing to compare an answer with yet.
    NothingToCompare,
    /// The student made no call of this kind yet.
    NoCall,
    /// The service answered with another status, or another body.
    WrongStatus,
    /// The connection was refused.
    Refused,
    /// Nothing came back in time.
    TimedOut,
    /// The name does not resolve.
    Unresolved,
    /// The workload a check looks from or at is not there, or not ready.
    NoWorkload,
    /// The call was let through though it must not be.
    Allowed,
    /// A Kubernetes object is there, and has other fields, or there are too few or too many of them.
    OtherObject,
    /// There is no such Kubernetes object.
    NoObject,
    /// There is no such file.
    NoFile,
    /// A body, an output or a file holds something else.
    OtherText,
    /// A program ended with another exit code.
    OtherExit,
    /// A name resolves though it must not.
    Resolved,
    /// A name resolves to another address.
    OtherAddress,
    /// What is spoken there is not TLS, or there is no common version of it.
    NotTls,
    /// The server's certificate does not verify.
    Untrusted,
    /// The peer refused in TLS.
    TlsRefused,
    /// The TLS session has another version, cipher suite or application protocol.
    OtherTls,
    /// The server did not ask for a client certificate.
    NotAsked,
    /// There is no certificate to look at.
    NoCertificate,
    /// A certificate says something else: names, issuer, usage, lifetime.
    OtherCertificate,
    /// A certificate's time is over, or has not begun.
    Expired,
    /// A certificate was signed by somebody else.
    NotSigned,
    /// A private key belongs to another certificate.
    OtherKey,
    /// A private key lies where it must not.
    KeyExposed,
    /// The conversation can be read on the way.
    Readable,
    /// The conversation is encrypted, and not every end proved who it is.
    Encrypted,
    /// The conversation is encrypted, and both ends proved who they are.
    Mutual,
    /// Another zero trust level was measured.
    OtherLevel,
    /// The positive control did not succeed, so that an absence shows nothing.
    NoControl,
    /// The evidence could not be gathered.
    NotMeasured,
}

impl Finding {
    /// Whether it says that something was not done yet, rather than that something was done wrongly.
    pub fn says_not_yet(self) -> bool {
        use Finding::{
            NoCall, NoCapture, NoCertificate, NoFile, NoObject, NoWorkload, NotAnswered, NotMeasured, NothingToCompare,
        };
        matches!(
            self,
            NoCapture
                | NotAnswered
                | NothingToCompare
                | NoCall
                | NoWorkload
                | NoObject
                | NoFile
                | NoCertificate
                | NotMeasured
        )
    }

    /// Every finding a lab file can name.
    pub const ALL: &'static [(&'static str, Finding)] = &[
        ("no-capture", Finding::NoCapture),
        ("no-traffic", Finding::NoTraffic),
        ("not-held", Finding::NotHeld),
        ("held", Finding::Held),
        ("not-answered", Finding::NotAnswered),
        ("wrong-answer", Finding::WrongAnswer),
        ("nothing-to-compare", Finding::NothingToCompare),
        ("no-call", Finding::NoCall),
        ("wrong-status", Finding::WrongStatus),
        ("refused", Finding::Refused),
        ("timed-out", Finding::TimedOut),
        ("unresolved", Finding::Unresolved),
        ("no-workload", Finding::NoWorkload),
        ("allowed", Finding::Allowed),
        ("other-object", Finding::OtherObject),
        ("no-object", Finding::NoObject),
        ("no-file", Finding::NoFile),
        ("other-text", Finding::OtherText),
        ("other-exit", Finding::OtherExit),
        ("resolved", Finding::Resolved),
        ("other-address", Finding::OtherAddress),
        ("not-tls", Finding::NotTls),
        ("untrusted", Finding::Untrusted),
        ("tls-refused", Finding::TlsRefused),
        ("other-tls", Finding::OtherTls),
        ("not-asked", Finding::NotAsked),
        ("no-certificate", Finding::NoCertificate),
        ("other-certificate", Finding::OtherCertificate),
        ("expired", Finding::Expired),
        ("not-signed", Finding::NotSigned),
        ("other-key", Finding::OtherKey),
        ("key-exposed", Finding::KeyExposed),
        ("readable", Finding::Readable),
        ("encrypted", Finding::Encrypted),
        ("mutual", Finding::Mutual),
        ("other-level", Finding::OtherLevel),
        ("no-control", Finding::NoControl),
        ("not-measured", Finding::NotMeasured),
    ];
}

/// A verdict with its reasons: what was expected, what was found, and the evidence behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The kind of thing that was found.
    pub finding: Finding,
    /// What the check expects, as a sentence.
    pub expected: String,
    /// What was found, as a sentence.
    pub found: String,
    /// The evidence, one line each: the packet, the log line, the probe.
    pub evidence: Vec<String>,
}

impl Judgement {
    /// A judgement without evidence lines.
    pub fn new(verdict: Verdict, finding: Finding, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            verdict,
            finding,
            expected: expected.into(),
            found: found.into(),
            evidence: Vec::new(),
        }
    }

    /// The same judgement with these evidence lines.
    #[must_use]
    pub fn with_evidence(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    /// Whether the check passed.
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Passed
    }
}
