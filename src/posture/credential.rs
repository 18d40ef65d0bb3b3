//! What somebody showed, as a credential: a certificate on the wire or to a probe, or a secret in clear.

use super::{
    model::{Answer, Credential, CredentialKind, Finding},
    words,
};
use crate::{
    evidence::CertificateFacts,
    packet::{Certificate, Flow, LeakKind},
};

/// A secret that a conversation in clear showed as a credential.
pub(super) fn shared_secret(flow: &Flow) -> Option<Credential> {
    let kinds: Vec<String> = flow
        .leaks
        .keys()
        .filter(|kind| !matches!(kind, LeakKind::CardNumber | LeakKind::PrivateKey))
        .map(LeakKind::to_string)
        .collect();
    (!kinds.is_empty()).then(|| Credential::of(CredentialKind::SharedSecret, kinds.join(", ")))
}

/// A certificate that somebody showed.
pub(super) struct Shown {
    credential: Credential,
    /// Why it proves nothing, where it is damaged.
    trouble: String,
}

impl Shown {
    /// One that crossed the wire in clear.
    pub(super) fn of_wire(shown: &Certificate) -> Self {
        let name = shown.names.first().unwrap_or(&shown.subject);
        Self::of(
            shown.spiffe_id.as_deref(),
            name,
            &shown.issuer,
            (shown.not_before, shown.not_after),
            &shown.trouble,
        )
    }

    /// One that was shown to a probe.
    pub(super) fn of_look(shown: &CertificateFacts) -> Self {
        let name = shown.dns.first().unwrap_or(&shown.subject);
        // Exactly one URI, of the scheme `spiffe` (X509-SVID §2).
        let spiffe = match shown.uris.as_slice() {
            [one] if one.starts_with("spiffe://") => Some(one.as_str()),
            _ => None,
        };
        // A certificate that could not be read has no key, and says why in its subject.
        let trouble = if shown.key.is_empty() {
            shown.subject.as_str()
        } else {
            ""
        };
        Self::of(
            spiffe,
            name,
            &shown.issuer,
            (shown.not_before, shown.not_after),
            trouble,
        )
    }

    fn of(spiffe: Option<&str>, name: &str, issuer: &str, valid: (i64, i64), trouble: &str) -> Self {
        let kind = if spiffe.is_some() {
            CredentialKind::X509Svid
        } else {
            CredentialKind::X509
        };
        Self {
            credential: Credential {
                issuer: issuer.to_owned(),
                not_before: Some(valid.0),
                not_after: Some(valid.1),
                ..Credential::of(kind, spiffe.unwrap_or(name))
            },
            trouble: trouble.to_owned(),
        }
    }

    pub(super) fn credential(self) -> Credential {
        self.credential
    }

    /// What it says about who showed it.
    pub(super) fn authenticates(&self, now_s: i64) -> Finding {
        let who = &self.credential.identity;
        let (from, until) = (
            self.credential.not_before.unwrap_or(0),
            self.credential.not_after.unwrap_or(0),
        );
        if !self.trouble.is_empty() {
            Finding::new(Answer::No, format!("its certificate is not sound: {}", self.trouble))
        } else if until < now_s {
            Finding::new(
                Answer::No,
                format!("its certificate for {who} expired {}", words::second(until)),
            )
        } else if from > now_s {
            Finding::new(
                Answer::No,
                format!("its certificate for {who} is valid only from {}", words::second(from)),
            )
        } else {
            Finding::new(
                Answer::Yes,
                format!(
                    "it showed a certificate for {who} of {}, valid until {}; whether its callers check that was not measured",
                    self.credential.issuer,
                    words::second(until)
                ),
            )
        }
    }
}
