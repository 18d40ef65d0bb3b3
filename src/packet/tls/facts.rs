//! What is known of a TLS connection from outside.

use serde::{Deserialize, Serialize};

/// A certificate that went over the wire in clear (up to TLS 1.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Distinguished name of its owner.
    pub subject: String,
    /// Distinguished name of who signed it.
    pub issuer: String,
    /// DNS names and addresses it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// URIs it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
    /// The SPIFFE ID: its only URI, where that has the scheme `spiffe` (X509-SVID §2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    /// Valid from, in seconds since the Unix epoch.
    pub not_before: i64,
    /// Valid until, in seconds since the Unix epoch.
    pub not_after: i64,
    /// Whether it may sign others.
    #[serde(default)]
    pub ca: bool,
    /// What could not be read of it; empty where it is sound.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// Which end of a TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsEnd {
    /// Who sent the ClientHello.
    Client,
    /// Who answered it.
    Server,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsAlert {
    /// Who sent it.
    pub from: TlsEnd,
    /// Its name (`bad_certificate`); `None` where it is encrypted.
    pub name: Option<String>,
    /// Whether it ends the connection.
    pub fatal: bool,
    /// The frame that carried it.
    pub frame: u64,
}

/// What a capture shows of one TLS connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// The server name asked for, in clear (RFC 6066 §3).
    pub sni: Option<String>,
    /// Versions the client offered, the best first.
    pub versions_offered: Vec<String>,
    /// The version chosen.
    pub version: Option<String>,
    /// Application protocols the client offered (RFC 7301).
    pub alpn_offered: Vec<String>,
    /// The one chosen; TLS 1.3 encrypts it.
    pub alpn: Option<String>,
    /// Cipher suites the client offered, by IANA's names.
    pub ciphers_offered: Vec<String>,
    /// The one chosen.
    pub cipher: Option<String>,
    /// The server asked for another ClientHello (RFC 8446 §4.1.4).
    pub retried: bool,
    /// An earlier session was taken up again without certificates (up to TLS 1.2).
    pub resumed: bool,
    /// A part of the handshake that is in clear was not captured: what was not seen may have been said.
    #[serde(default)]
    pub handshake_missing: bool,
    /// The server's chain, its own certificate first; empty where it is encrypted (TLS 1.3).
    pub server_certificates: Vec<Certificate>,
    /// The server asked for a client certificate; TLS 1.3 encrypts that.
    pub certificate_requested: bool,
    /// The client's chain; `None` where it sent no Certificate message in clear, empty where it sent an empty one.
    pub client_certificates: Option<Vec<Certificate>>,
    /// The client proved that it has its certificate's key (CertificateVerify in clear).
    pub client_proved: bool,
    /// The alerts, in order.
    pub alerts: Vec<TlsAlert>,
    /// Which ends went over to encryption: client, server.
    pub encrypted: [bool; 2],
    /// Bytes of application data records: from the client, from the server. In TLS 1.3 the encrypted rest of the
    /// handshake is among them.
    pub data_bytes: [u64; 2],
    /// Application data records: from the client, from the server.
    pub data_records: [u64; 2],
    /// Length of the server's last application data record.
    pub last_server_record: u64,
    /// Application data records of the server since the client's last one.
    pub server_records_since_client: u64,
    /// Frames in which the facts stand: ClientHello, ServerHello, Certificate and the like.
    pub frames: Vec<u64>,
}

impl TlsFacts {
    /// Whether it is TLS 1.3, which encrypts the certificates.
    pub fn is_13(&self) -> bool {
        self.version.as_deref() == Some("1.3")
    }

    /// Bytes it holds, about.
    pub(crate) fn size(&self) -> usize {
        let text = |texts: &[String]| texts.iter().map(|text| text.len() + 24).sum::<usize>();
        let chain = |chain: &[Certificate]| {
            let size = |one: &Certificate| {
                256 + one.subject.len() + one.issuer.len() + text(&one.names) + 2 * text(&one.uris) + one.trouble.len()
            };
            chain.iter().map(size).sum::<usize>()
        };
        256 + text(&self.versions_offered)
            + text(&self.alpn_offered)
            + text(&self.ciphers_offered)
            + chain(&self.server_certificates)
            + chain(self.client_certificates.as_deref().unwrap_or_default())
            + self.alerts.len() * 64
    }

    /// Whether both ends went over to encryption.
    pub fn established(&self) -> bool {
        self.encrypted == [true; 2]
    }
}
