//! What a probe is asked to do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evidence::ProbeId;

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
}

/// An HTTP request to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// `GET`, `POST` …
    pub method: String,
    /// `http://host[:port]/path`.
    pub url: String,
    /// Headers to send besides `Host` and the probe's id.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Body to send.
    #[serde(default)]
    pub body: Option<String>,
}

impl ProbeRequest {
    /// Time allowed unless something else is asked.
    pub const TIMEOUT: Duration = Duration::from_secs(3);

    /// A probe with a fresh random id and the usual time allowed.
    pub fn new(namespace: impl Into<String>, pod: impl Into<String>, kind: ProbeKind) -> Self {
        Self {
            id: ProbeId(format!("{:016x}", rand::random::<u64>())),
            namespace: namespace.into(),
            pod: pod.into(),
            kind,
            timeout: Self::TIMEOUT,
        }
    }

    /// What it asks, as one would write it.
    pub fn target(&self) -> String {
        match &self.kind {
            ProbeKind::Http(http) => format!("{} {}", http.method, http.url),
            ProbeKind::Tcp { host, port } => format!("tcp {host}:{port}"),
            ProbeKind::Dns { name } => format!("dns {name}"),
        }
    }
}
