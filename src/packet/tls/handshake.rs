//! Handshake messages in clear (RFC 8446 §4, RFC 5246 §7.4), parsed by `tls-parser`: it is maintained beside
//! `x509-parser`, knows the extensions, and has IANA's names of the cipher suites.

use tls_parser::{
    SNIType, TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extensions,
    parse_tls_message_handshake, parse_tls_server_hello_extensions,
};

use super::{
    certificate,
    facts::{Certificate, TlsFacts},
    names,
};
use crate::text::one_line;

/// Entries kept of a list in a hello.
const ENTRIES: usize = 128;
/// Certificates read of a chain.
const CHAIN: usize = 8;
/// The random of a ServerHello that is a HelloRetryRequest: SHA-256 of its name (RFC 8446 §4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What a handshake message says.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Its name in checks and filters.
    pub record: &'static str,
    pub summary: String,
    /// Lines about it.
    pub lines: Vec<String>,
    /// The chain of a Certificate message.
    pub certificates: Vec<Certificate>,
}

impl Step {
    fn new(record: &'static str, summary: impl Into<String>) -> Self {
        Self {
            record,
            summary: summary.into(),
            ..Self::default()
        }
    }

    fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }
}

/// Reads a whole handshake message, header included, sent by the client or not; adds to what is known.
pub(super) fn read(bytes: &[u8], by_client: bool, facts: &mut TlsFacts) -> Step {
    let kind = bytes.first().copied().unwrap_or_default();
    let parsed = match parse_tls_message_handshake(bytes) {
        Ok((_, TlsMessage::Handshake(message))) => message,
        _ => {
            let (record, name) = match kind {
                1 => ("client-hello", "ClientHello"),
                2 => ("server-hello", "ServerHello"),
                11 => ("certificate", "Certificate"),
                _ => ("handshake", "handshake message"),
            };
            return Step::new(record, format!("TLS {name} that does not hold together"));
        }
    };
    match parsed {
        TlsMessageHandshake::ClientHello(hello) => {
            let ciphers = hello.ciphers.iter().map(|cipher| cipher.0).collect();
            client_hello(hello.version.0, ciphers, hello.ext.unwrap_or_default(), facts)
        }
        TlsMessageHandshake::ServerHello(hello) => {
            facts.cipher = Some(names::cipher(hello.cipher.0));
            let retry = hello.random == RETRY;
            server_hello(hello.version.0, retry, hello.ext.unwrap_or_default(), facts)
        }
        TlsMessageHandshake::Certificate(message) => {
            let chain: Vec<_> = message
                .cert_chain
                .iter()
                .take(CHAIN)
                .map(|one| certificate::read(one.data))
                .collect();
            let lines = chain.iter().map(|one| format!("  {}", one.describe())).collect();
            let who = if by_client { "client" } else { "server" };
            let summary = match chain.first() {
                Some(first) => {
                    let name = first.spiffe_id.as_ref().unwrap_or(&first.subject);
                    format!("TLS Certificate of the {who}: {name}")
                }
                None => format!("TLS Certificate of the {who}: none"),
            };
            if by_client {
                facts.client_certificates = Some(chain.clone());
            } else {
                facts.server_certificates = chain.clone();
            }
            Step {
                record: "certificate",
                summary,
                lines,
                certificates: chain,
            }
        }
        TlsMessageHandshake::CertificateRequest(_) => {
            facts.certificate_requested = true;
            Step::new(
                "certificate-request",
                "TLS CertificateRequest: the server wants to know who the client is",
            )
        }
        TlsMessageHandshake::CertificateVerify(_) => {
            facts.client_proved |= by_client;
            Step::new(
                "certificate-verify",
                "TLS CertificateVerify: a signature proves the key of the certificate",
            )
        }
        TlsMessageHandshake::ServerKeyExchange(_) => Step::new("server-key-exchange", "TLS ServerKeyExchange"),
        TlsMessageHandshake::ClientKeyExchange(_) => Step::new("client-key-exchange", "TLS ClientKeyExchange"),
        TlsMessageHandshake::ServerDone(_) => Step::new("server-hello-done", "TLS ServerHelloDone"),
        TlsMessageHandshake::NewSessionTicket(_) => Step::new("new-session-ticket", "TLS NewSessionTicket"),
        TlsMessageHandshake::CertificateStatus(_) => Step::new("certificate-status", "TLS CertificateStatus"),
        TlsMessageHandshake::HelloRequest => Step::new("hello-request", "TLS HelloRequest"),
        TlsMessageHandshake::Finished(_) => Step::new("finished", "TLS Finished"),
        _ => Step::new("handshake", format!("TLS handshake message {kind}")),
    }
}

fn text(bytes: &[u8]) -> String {
    one_line(bytes)
}

fn client_hello(version: u16, ciphers: Vec<u16>, extensions: &[u8], facts: &mut TlsFacts) -> Step {
    facts.ciphers_offered = ciphers
        .into_iter()
        .filter(|cipher| !names::grease(*cipher))
        .take(ENTRIES)
        .map(names::cipher)
        .collect();
    facts.versions_offered = vec![names::version(version)];
    let (rest, read) = parse_tls_client_hello_extensions(extensions).unwrap_or((extensions, Vec::new()));
    for extension in &read {
        match extension {
            TlsExtension::SNI(list) => {
                let host = list.iter().find(|(kind, _)| *kind == SNIType::HostName);
                facts.sni = host.map(|(_, name)| text(name));
            }
            TlsExtension::ALPN(list) => facts.alpn_offered = list.iter().take(ENTRIES).map(|name| text(name)).collect(),
            TlsExtension::SupportedVersions(list) => {
                let known = list
                    .iter()
                    .map(|version| version.0)
                    .filter(|version| !names::grease(*version));
                facts.versions_offered = known.take(ENTRIES).map(names::version).collect();
            }
            _ => {}
        }
    }
    let to = facts
        .sni
        .as_deref()
        .map_or_else(|| "no server name".to_owned(), |name| format!("for {name}"));
    let mut step = Step::new("client-hello", format!("TLS ClientHello, {to}"))
        .line(format!(
            "server name (in clear): {}",
            facts.sni.as_deref().unwrap_or("none")
        ))
        .line(format!("versions offered: {}", facts.versions_offered.join(", ")));
    if !facts.alpn_offered.is_empty() {
        step = step.line(format!(
            "application protocols offered: {}",
            facts.alpn_offered.join(", ")
        ));
    }
    step = step.line(format!("cipher suites offered: {}", facts.ciphers_offered.join(", ")));
    if !rest.is_empty() {
        step = step.line(format!("[{} bytes of extensions do not hold together]", rest.len()));
    }
    step
}

fn server_hello(version: u16, retry: bool, extensions: &[u8], facts: &mut TlsFacts) -> Step {
    let mut version = names::version(version);
    let read = parse_tls_server_hello_extensions(extensions)
        .map(|(_, read)| read)
        .unwrap_or_default();
    for extension in &read {
        match extension {
            TlsExtension::SupportedVersions(list) => {
                if let Some(chosen) = list.first() {
                    version = names::version(chosen.0);
                }
            }
            TlsExtension::ALPN(list) => facts.alpn = list.first().map(|name| text(name)),
            _ => {}
        }
    }
    facts.version = Some(version.clone());
    facts.retried |= retry;
    let cipher = facts.cipher.clone().unwrap_or_default();
    if retry {
        return Step::new("hello-retry-request", format!("TLS HelloRetryRequest, {version}"))
            .line("the server wants a ClientHello with another key share");
    }
    let mut step = Step::new("server-hello", format!("TLS ServerHello, {version}"))
        .line(format!("version chosen: {version}"))
        .line(format!("cipher suite chosen: {cipher}"));
    if let Some(alpn) = &facts.alpn {
        step = step.line(format!("application protocol chosen: {alpn}"));
    }
    if facts.is_13() {
        step = step.line("[from here on everything is encrypted, the certificates too]");
    }
    step
}
