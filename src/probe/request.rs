//! What a probe is asked to do.

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    evidence::ProbeId,
    lab::{StartTls, TlsVersion},
};

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// Its id: sent in [`crate::evidence::PROBE_HEADER`] where the protocol has headers.
    pub id: ProbeId,
    /// Namespace of the pod it runs in.
    pub namespace: String,
    /// The pod it runs in.
    pub pod: String,
    /// The question.
    pub kind: ProbeKind,
    /// How long the whole probe may take.
    pub timeout: Duration,
    /// Connect to this address, whatever the name resolves to: so that cut DNS is not taken for a cut connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<IpAddr>,
}

/// The question a probe puts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ProbeKind {
    /// Send an HTTP/1.1 request and read the answer. Redirects are not followed.
    Http(HttpProbe),
    /// Open a TCP connection and close it.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Ask the pod's own DNS, with its search list.
    Dns {
        /// The name.
        name: String,
    },
    /// Open a TLS session, look at what the server shows, and see whether the session is of use: in TLS 1.3 a client
    /// learns only after the handshake that it was refused.
    Tls(TlsProbe),
}

/// A TLS session to open. Whatever certificate the server shows is looked at, never believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsProbe {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What comes before the handshake.
    #[serde(default)]
    pub starttls: Option<StartTls>,
    /// Whom to trust, what to show.
    #[serde(default)]
    pub tls: TlsOptions,
}

/// Whom a TLS client trusts, and what it shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsOptions {
    /// The server's name, asked for and verified; the host without it.
    pub name: Option<String>,
    /// The authorities to verify by, PEM. Without them nothing is verified.
    pub trust: Option<String>,
    /// The certificate to show when the server asks for one.
    pub identity: Option<TlsIdentity>,
    /// Offer only this version.
    pub version: Option<TlsVersion>,
    /// Application protocols to offer (RFC 7301).
    pub alpn: Vec<String>,
    /// Give the certificates themselves back too, not only what they say.
    pub whole: bool,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsIdentity {
    /// The certificate and those that lead to its authority, PEM.
    pub chain: String,
    /// Its private key, PEM.
    pub key: String,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

/// An HTTP request to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// `GET`, `POST` …
    pub method: String,
    /// `http://host[:port]/path`, or `https://`.
    pub url: String,
    /// Headers to send besides `Host` and the probe's id.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Body to send.
    #[serde(default)]
    pub body: Option<String>,
    /// Whom to trust and what to show, for `https://`.
    #[serde(default)]
    pub tls: TlsOptions,
}

impl HttpProbe {
    /// A request without headers or body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: None,
            tls: TlsOptions::default(),
        }
    }
}

impl ProbeRequest {
    /// Time allowed unless something else is asked.
    pub const TIMEOUT: Duration = Duration::from_secs(3);

    /// A probe with a fresh random id and the usual time allowed.
    pub fn new(namespace: impl Into<String>, pod: impl Into<String>, kind: ProbeKind) -> Self {
        Self {
            id: fresh_id(),
            namespace: namespace.into(),
            pod: pod.into(),
            kind,
            timeout: Self::TIMEOUT,
            at: None,
        }
    }

    /// What it asks, as one would write it.
    pub fn target(&self) -> String {
        match &self.kind {
            ProbeKind::Http(http) => format!("{} {}", http.method, http.url),
            ProbeKind::Tcp { host, port } => format!("tcp {host}:{port}"),
            ProbeKind::Dns { name } => format!("dns {name}"),
            ProbeKind::Tls(tls) => format!("tls {}:{}", tls.host, tls.port),
        }
    }
}

/// A random id for a probe.
pub fn fresh_id() -> ProbeId {
    ProbeId(format!("{:016x}", rand::random::<u64>()))
}
