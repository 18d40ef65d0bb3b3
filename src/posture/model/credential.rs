//! What proves an identity: secrets, certificates, SVIDs. Plain values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::finding::{Answer, Evidence};

/// What proves an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// A secret that whoever reads it can show too: a password, a bearer token.
    SharedSecret,
    /// An X.509 certificate (RFC 5280).
    X509,
    /// An X.509 certificate whose only URI is a SPIFFE ID (X509-SVID §2).
    X509Svid,
    /// A JWT whose subject is a SPIFFE ID (JWT-SVID §3).
    JwtSvid,
}

impl CredentialKind {
    /// As people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SharedSecret => "shared secret",
            Self::X509 => "X.509 certificate",
            Self::X509Svid => "X.509-SVID",
            Self::JwtSvid => "JWT-SVID",
        }
    }
}

impl CredentialKind {
    /// The same with its article.
    pub const fn one(self) -> &'static str {
        match self {
            Self::SharedSecret => "a shared secret",
            Self::X509 => "an X.509 certificate",
            Self::X509Svid => "an X.509-SVID",
            Self::JwtSvid => "a JWT-SVID",
        }
    }
}

/// What one side of a connection showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its kind.
    pub kind: CredentialKind,
    /// Whom it names: a SPIFFE ID, else the certificate's subject or names; of a secret, which kind.
    pub identity: String,
    /// Who issued it; empty for a secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// Valid from, in seconds since the Unix epoch, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    /// Valid until, in seconds since the Unix epoch, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<i64>,
    /// Whether another one took its place while it was looked at.
    pub rotated: Answer,
    /// Why that is so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// What shows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

impl Credential {
    /// One of which no more is known than that there is one.
    pub(in crate::posture) fn of(kind: CredentialKind, identity: impl Into<String>) -> Self {
        Self {
            kind,
            identity: identity.into(),
            issuer: String::new(),
            not_before: None,
            not_after: None,
            rotated: Answer::Undetermined,
            because: String::new(),
            evidence: Vec::new(),
        }
    }

    /// An X509-SVID of which the id alone is known.
    pub(in crate::posture) fn svid(id: &str) -> Self {
        Self::of(CredentialKind::X509Svid, id)
    }

    /// How long it is valid altogether.
    pub fn lifetime(&self) -> Option<Duration> {
        let seconds = self.not_after?.checked_sub(self.not_before?)?;
        u64::try_from(seconds).ok().map(Duration::from_secs)
    }

    /// The trust domain of its SPIFFE ID.
    pub fn trust_domain(&self) -> Option<&str> {
        let rest = self.identity.strip_prefix("spiffe://")?;
        rest.split('/').next().filter(|domain| !domain.is_empty())
    }

    /// Whether it is a SPIFFE Verifiable Identity Document.
    pub fn is_svid(&self) -> bool {
        matches!(self.kind, CredentialKind::X509Svid | CredentialKind::JwtSvid)
    }
}

/// What both sides of an edge showed; `None` where it was not seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The server's.
    pub server: Option<Credential>,
    /// The client's.
    pub client: Option<Credential>,
}
