//! Test only: real TLS, spoken in memory.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
};

use super::super::testing::{ACK, Talk};

/// How a client and a server speak TLS.
#[derive(Clone)]
pub(crate) struct Session {
    pub version: &'static SupportedProtocolVersion,
    /// Whether the server demands a client certificate.
    pub demanded: bool,
    /// Whether the client shows one.
    pub shown: bool,
    /// Whether the client knows the server's CA.
    pub trusted: bool,
    /// Key exchange groups of the client and of the server.
    pub groups: [Vec<&'static dyn SupportedKxGroup>; 2],
}

impl Session {
    pub(crate) fn new(version: &'static SupportedProtocolVersion) -> Self {
        let groups = ring::default_provider().kx_groups;
        Self {
            version,
            demanded: false,
            shown: false,
            trusted: true,
            groups: [groups.clone(), groups],
        }
    }

    pub(crate) fn mutual(version: &'static SupportedProtocolVersion) -> Self {
        Self {
            demanded: true,
            shown: true,
            ..Self::new(version)
        }
    }
}

pub(crate) const CLIENT_ID: &str = "spiffe://shop.test/ns/shop/sa/orders-api";

fn provider(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: groups.to_vec(),
        ..ring::default_provider()
    })
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A certificate of this name, for these names.
fn signed(ca: &CertifiedIssuer<'_, KeyPair>, name: &str, names: Vec<SanType>) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = names;
    let certificate = params.signed_by(&key, ca).unwrap();
    (
        certificate.der().clone(),
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    )
}

fn ends(session: &Session) -> (ClientConnection, ServerConnection) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "shop CA");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let dns = SanType::DnsName("payments-api.shop".try_into().unwrap());
    let (certificate, key) = signed(&ca, "payments-api", vec![dns]);
    let server = ServerConfig::builder_with_provider(provider(&session.groups[1]))
        .with_protocol_versions(&[session.version])
        .unwrap();
    let server = if session.demanded {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider(&session.groups[1]));
        server.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        server.with_no_client_auth()
    };
    let mut server = server.with_single_cert(vec![certificate], key).unwrap();
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let known = if session.trusted {
        roots
    } else {
        Arc::new(RootCertStore::empty())
    };
    let client = ClientConfig::builder_with_provider(provider(&session.groups[0]))
        .with_protocol_versions(&[session.version])
        .unwrap()
        .with_root_certificates(known);
    let mut client = if session.shown {
        let id = SanType::URI(CLIENT_ID.try_into().unwrap());
        let (certificate, key) = signed(&ca, "orders-api", vec![id]);
        client.with_client_auth_cert(vec![certificate], key).unwrap()
    } else {
        client.with_no_client_auth()
    };
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("payments-api.shop").unwrap();
    let client = ClientConnection::new(Arc::new(client), name).unwrap();
    (client, ServerConnection::new(Arc::new(server)).unwrap())
}

/// Everything that both say, turn by turn: the handshake, and where it succeeds a request and its answer.
pub(crate) fn turns(session: &Session) -> Vec<(usize, Vec<u8>)> {
    let (mut client, mut server) = ends(session);
    let mut turns: Vec<(usize, Vec<u8>)> = Vec::new();
    let (mut asked, mut answered) = (false, false);
    loop {
        let mut quiet = true;
        let mut said = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut said).unwrap();
        }
        if !said.is_empty() {
            quiet = false;
            let mut rest = said.as_slice();
            while !rest.is_empty() {
                if server.read_tls(&mut rest).unwrap() == 0 || server.process_new_packets().is_err() {
                    break;
                }
            }
            turns.push((0, said));
        }
        let mut request = [0; 64];
        if !answered && server.reader().read(&mut request).is_ok_and(|count| count > 0) {
            answered = true;
            server.writer().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        }
        let mut said = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut said).unwrap();
        }
        if !said.is_empty() {
            quiet = false;
            let mut rest = said.as_slice();
            while !rest.is_empty() {
                if client.read_tls(&mut rest).unwrap() == 0 || client.process_new_packets().is_err() {
                    break;
                }
            }
            turns.push((1, said));
        }
        if !asked && !client.is_handshaking() {
            asked = true;
            quiet = false;
            client.writer().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        }
        if quiet {
            return turns;
        }
    }
}

/// The same on a TCP connection, in segments of a packet's size.
pub(crate) fn talk(session: &Session) -> Talk {
    let mut talk = Talk::open(443);
    for (from, bytes) in turns(session) {
        for segment in bytes.chunks(1400) {
            talk.send(from, ACK, segment);
        }
        talk.send(1 - from, ACK, &[]);
    }
    talk.close();
    talk
}
