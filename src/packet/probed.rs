//! What a capture cannot show of TLS 1.3, from other evidence.
//!
//! TLS 1.3 encrypts the certificates (RFC 8446 §4.4), and a client learns that it was refused only from the alert that it
//! reads after its own handshake is done. So a capture shows an encrypted conversation and not whether the client had to
//! say who it is: a probe that shows a certificate and one that shows none tell.

use super::{Flow, FlowVerdict, conversation::Fact};

/// What probes found that no capture of TLS 1.3 shows: `Some(true)` where the server let the caller in, `Some(false)` where
/// it refused the caller, `None` where neither was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probed {
    /// A caller that showed a certificate of the right authority.
    pub with_certificate: Option<bool>,
    /// A caller that showed none.
    pub without_certificate: Option<bool>,
}

impl Flow {
    /// Whether it is between these two, whoever opened it, by workload, pod, Service or node name.
    pub fn between(&self, one: &str, other: &str) -> bool {
        (self.client.is(one) && self.server.is(other)) || (self.client.is(other) && self.server.is(one))
    }

    /// Whether ztlab's own probes asked, by the port they ask from ([`PROBE_PORTS`](crate::PROBE_PORTS)).
    pub fn is_probe(&self) -> bool {
        crate::PROBE_PORTS.contains(&self.client.addr.port())
    }

    /// How bad it is when judged so, 0 being the worst; one that was refused or came to nothing says least.
    pub fn rank(&self, verdict: FlowVerdict) -> u8 {
        match (verdict, self.encrypted) {
            (FlowVerdict::Readable, _) => 0,
            // Bytes that no decoder knows may be readable to somebody else.
            (FlowVerdict::Undetermined, false) if self.said_something() => 1,
            (FlowVerdict::Undetermined, true) => 2,
            (FlowVerdict::EncryptedOneSided, _) => 3,
            (FlowVerdict::EncryptedMutual, _) => 4,
            (FlowVerdict::Refused, _) => 5,
            (FlowVerdict::Undetermined, false) => 6,
        }
    }

    /// Whether more than a handshake of TLS was said in it, which a capture that begins or ends in the middle of one cuts off.
    pub fn said_something(&self) -> bool {
        let in_handshake = self.tls.as_ref().is_some_and(|tls| !tls.established());
        self.bytes != [0, 0] && !(in_handshake && self.verdict == FlowVerdict::Undetermined)
    }

    /// The verdict when probes are taken into account: what TLS 1.3 hides from a capture, a caller with and one
    /// without a certificate bring to light. The facts say which of it decided.
    pub fn with_probes(&self, probed: Probed) -> (FlowVerdict, Vec<Fact>) {
        let mut evidence = self.evidence.clone();
        let hidden = self.encrypted && self.verdict == FlowVerdict::Undetermined;
        let verdict = match (hidden, probed.with_certificate, probed.without_certificate) {
            (true, Some(true), Some(false)) => {
                evidence.push(Fact::new(
                    None,
                    "a probe with a certificate was let in, one without was refused",
                ));
                FlowVerdict::EncryptedMutual
            }
            (true, _, Some(true)) => {
                evidence.push(Fact::new(None, "a probe without a certificate was let in"));
                FlowVerdict::EncryptedOneSided
            }
            (true, Some(false), Some(false)) => {
                evidence.push(Fact::new(
                    None,
                    "probes with and without a certificate were both refused: that shows nothing about the certificate",
                ));
                self.verdict
            }
            _ => self.verdict,
        };
        (verdict, evidence)
    }
}
