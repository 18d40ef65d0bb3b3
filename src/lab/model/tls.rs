//! TLS sessions and certificates in checks.

use std::fmt;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{Control, Source, Store, Target, name_of};

/// A TLS session to try.
#[derive(Clone, Debug)]
pub struct TlsTry {
    /// From where.
    pub from: Source,
    /// Who is called.
    pub to: Target,
    /// On which port.
    pub port: u16,
    /// What comes before the handshake.
    pub starttls: Option<StartTls>,
    /// Whom to trust, and what to show.
    pub tls: TlsUse,
}

/// Whom a TLS client trusts, and what it shows.
#[derive(Clone, Debug, Default)]
pub struct TlsUse {
    /// The authorities to verify by; without them nothing is verified.
    pub trust: Option<Store>,
    /// The certificate to show.
    pub client: Client,
    /// The server's name; the host without it.
    pub name: Option<String>,
    /// Offer only this version.
    pub version: Option<TlsVersion>,
    /// Application protocols to offer.
    pub alpn: Vec<String>,
}

/// A certificate that a TLS client shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Client {
    /// None.
    #[default]
    None,
    /// A fresh one that its own key signs.
    SelfMade,
    /// One that is somewhere.
    Given {
        /// Where.
        certificate: Store,
        /// Where its key is.
        key: Store,
    },
    /// A fresh one that an authority signs.
    Signed {
        /// Where the authority's certificate is.
        authority: Store,
        /// Where its key is.
        key: Store,
        /// The common name; the calling workload's without it.
        name: Option<String>,
        /// Whether it ended yesterday.
        expired: bool,
    },
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::None => f.write_str("without a certificate"),
            Client::SelfMade => f.write_str("with a self-made certificate"),
            Client::Given { certificate, .. } => write!(f, "with the certificate in {certificate}"),
            Client::Signed { expired: true, .. } => f.write_str("with an expired certificate of the authority"),
            Client::Signed { .. } => f.write_str("with a certificate of the authority"),
        }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3, RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

impl TlsVersion {
    /// Every version, with its name in lab files.
    pub const ALL: &'static [(&'static str, TlsVersion)] = &[("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)];

    /// Its name in lab files.
    pub fn as_str(self) -> &'static str {
        name_of(Self::ALL, self)
    }
}

/// A protocol that begins in clear and goes over to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartTls {
    /// PostgreSQL's SSLRequest (frontend/backend protocol, "SSL Session Encryption").
    Postgres,
}

impl StartTls {
    /// Every one, with its name in lab files.
    pub const ALL: &'static [(&'static str, StartTls)] = &[("postgres", StartTls::Postgres)];
}

/// A TLS session, and what must be true of it.
#[derive(Clone, Debug)]
pub struct TlsCheck {
    /// The session.
    pub session: TlsTry,
    /// What must come of it.
    pub expect: TlsExpect,
    /// Who gets an answer in the same moment.
    pub control: Option<Control>,
}

/// What must come of a TLS session; everything that is there.
#[derive(Clone, Debug, Default)]
pub struct TlsExpect {
    /// Whether an answer comes back through it.
    pub usable: Option<bool>,
    /// The version.
    pub version: Option<TlsVersion>,
    /// What is found in the cipher suite's name.
    pub cipher: Option<Regex>,
    /// The application protocol.
    pub alpn: Option<String>,
    /// Whether the server's certificate verifies.
    pub verified: Option<bool>,
    /// Whether the server asks for a client certificate.
    pub asks_for_client: Option<bool>,
    /// Rules for the server's own certificate.
    pub certificate: Option<CertificateRules>,
}

/// Rules for a certificate; everything that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRules {
    /// Whether it is an authority's.
    pub ca: Option<bool>,
    /// How many authorities may follow below it.
    pub path_length: Option<u32>,
    /// Key usages, at least these.
    pub key_usage: Vec<String>,
    /// Extended key usages, at least these.
    pub extended_key_usage: Vec<String>,
    /// Alternative names, at least these.
    pub names: Vec<String>,
    /// Its common name.
    pub subject: Option<String>,
    /// The common name of who signed it.
    pub issuer: Option<String>,
    /// Whether its time is over; else it must be valid now.
    pub expired: bool,
    /// The longest lifetime, in days.
    pub at_most_days: Option<u32>,
    /// How many days it must still be valid.
    pub at_least_days: Option<u32>,
    /// Whether its own key signed it.
    pub self_signed: Option<bool>,
}

/// A certificate somewhere, and what must be true of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateCheck {
    /// Where it is.
    pub store: Store,
    /// Rules for what it says.
    pub rules: CertificateRules,
    /// Where the certificate is whose key must have signed it.
    pub signed_by: Option<Store>,
    /// Where its private key must be.
    pub key: Option<Store>,
    /// No Secret and no ConfigMap of the namespace may hold its private key.
    pub key_not_in_cluster: bool,
}
