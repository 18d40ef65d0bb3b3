//! The client side of TLS in a probe: it looks at every certificate, believes none, and tells what the server made of
//! its own.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::{
    AlertDescription, ClientConfig, Error, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, WebPkiServerVerifier},
    crypto::{CryptoProvider, ring},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    ProbeRequest, StartTls, TlsIdentity, TlsOptions, TlsProbe, TlsVersion,
    ask::{Asking, broken},
};
use crate::{
    evidence::{CertificateFacts, PROBE_HEADER, Phase, ProbeOutcome, TlsSeen, chain_of, key_of},
    handshake::{Judged, Ruling},
};

/// How long is waited, before anything is sent, for a server that refuses a client only after the handshake. What
/// would be sent at once could meet a closed socket, and the reset that answers it can overtake the alert.
const AFTERTHOUGHT: Duration = Duration::from_millis(250);
/// Certificates of a chain that are told.
const CHAIN: usize = 8;

/// What the handshake showed, noted while it ran.
#[derive(Debug, Default)]
struct Notes {
    certificates: Vec<Vec<u8>>,
    verified: Option<Result<(), Error>>,
    asked: bool,
}

type Shared = Arc<Mutex<Notes>>;

fn note(shared: &Shared, write: impl FnOnce(&mut Notes)) {
    write(&mut shared.lock().unwrap_or_else(PoisonError::into_inner));
}

impl Asking {
    /// Opens a TLS session over a connection to a server that can be trusted, if authorities were given, and that did
    /// not refuse this client after the handshake.
    pub(super) async fn session(
        &mut self,
        stream: TcpStream,
        host: &str,
        options: &TlsOptions,
    ) -> Result<TlsStream<TcpStream>, ProbeOutcome> {
        let (stream, said) = self.handshake(stream, host, options).await?;
        if let Some(reason) = self.result.tls.as_ref().and_then(|seen| seen.verify_error.clone()) {
            return Err(ProbeOutcome::Untrusted { reason });
        }
        if said.is_empty() {
            return Ok(stream);
        }
        // An HTTP server that speaks before it is asked is none.
        Err(ProbeOutcome::ProtocolError {
            reason: "the server spoke before it was asked".to_owned(),
        })
    }

    /// The session, and what the server said of its own accord.
    async fn handshake(
        &mut self,
        stream: TcpStream,
        host: &str,
        options: &TlsOptions,
    ) -> Result<(TlsStream<TcpStream>, Vec<u8>), ProbeOutcome> {
        self.phase = Phase::Handshake;
        let wrong = |reason: String| ProbeOutcome::NotRun { reason };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = options.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|error| wrong(format!("the server's name: {error}")))?;
        let notes = Shared::default();
        let config = config(options, &notes).map_err(wrong)?;
        let outcome = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let seen = self.result.tls.insert(Box::new(seen(&notes, options)));
        let mut stream = outcome.map_err(|error| failed(&error, Phase::Handshake))?;
        let (_, session) = stream.get_ref();
        seen.version = session.protocol_version().map(version);
        seen.cipher = session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str().map(|name| name.replacen("TLS13_", "TLS_", 1)));
        seen.alpn = session
            .alpn_protocol()
            .map(|protocol| crate::text::one_line(&String::from_utf8_lossy(protocol)));
        self.phase = Phase::Receive;
        let mut said = vec![0; 1024];
        let count = match tokio::time::timeout(AFTERTHOUGHT, stream.read(&mut said)).await {
            Err(_) => 0,
            Ok(Ok(0)) => return Err(closed()),
            Ok(Ok(count)) => count,
            Ok(Err(error)) => return Err(failed(&error, Phase::Receive)),
        };
        said.truncate(count);
        Ok((stream, said))
    }

    /// Opens a session and sees whether it is of use.
    pub(super) async fn tls(&mut self, probe: &TlsProbe, request: &ProbeRequest) -> Result<ProbeOutcome, ProbeOutcome> {
        let mut stream = self.connect(&probe.host, probe.port).await?;
        if let Some(StartTls::Postgres) = probe.starttls {
            self.phase = Phase::Send;
            ask_postgres(&mut stream).await?;
        }
        let (mut stream, said) = self.handshake(stream, &probe.host, &probe.tls).await?;
        if !said.is_empty() {
            return Ok(ProbeOutcome::TlsOpen);
        }
        let alpn = self.result.tls.as_ref().and_then(|seen| seen.alpn.clone());
        let question = question(probe, request, alpn.as_deref());
        self.phase = Phase::Send;
        let sent = stream.write_all(&question).await.and(stream.flush().await);
        self.phase = Phase::Receive;
        // A refusal stands in what can still be read, not in that nothing more could be sent.
        let mut answer = [0; 1024];
        match (stream.read(&mut answer).await, sent) {
            (Ok(0), _) => Err(closed()),
            (Ok(_), _) => Ok(ProbeOutcome::TlsOpen),
            (Err(error), _) => Err(failed(&error, Phase::Receive)),
        }
    }
}

/// Closed in good order, without a word.
const fn closed() -> ProbeOutcome {
    ProbeOutcome::TlsRefused {
        alert: None,
        phase: Phase::Receive,
    }
}

/// What is asked through a session: any answer shows that it is of use.
fn question(probe: &TlsProbe, request: &ProbeRequest, alpn: Option<&str>) -> Vec<u8> {
    if probe.starttls == Some(StartTls::Postgres) {
        return postgres_startup(&request.id.0);
    }
    if alpn == Some("h2") {
        // The preface of RFC 9113 §3.4 and an empty SETTINGS frame.
        return [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    }
    let host = probe.tls.name.as_deref().unwrap_or(&probe.host);
    format!(
        "GET / HTTP/1.1\r\nhost: {host}\r\n{PROBE_HEADER}: {}\r\nconnection: close\r\n\r\n",
        request.id
    )
    .into_bytes()
}

/// PostgreSQL's SSLRequest and its answer, one letter.
async fn ask_postgres(stream: &mut TcpStream) -> Result<(), ProbeOutcome> {
    let request = [8u32.to_be_bytes(), 80_877_103u32.to_be_bytes()].concat();
    let asked = async {
        stream.write_all(&request).await?;
        stream.read_u8().await
    };
    match asked.await {
        Ok(b'S') => Ok(()),
        Ok(b'N') => Err(ProbeOutcome::TlsFailed {
            reason: "the server offers no TLS".to_owned(),
        }),
        Ok(_) => Err(ProbeOutcome::ProtocolError {
            reason: "the server does not speak PostgreSQL".to_owned(),
        }),
        Err(error) => Err(broken(&error, Phase::Send)),
    }
}

/// PostgreSQL's start-up message, protocol 3.0, of a user that nobody has.
fn postgres_startup(id: &str) -> Vec<u8> {
    let program = format!("ztlab-probe/{id}");
    let mut body = 196_608u32.to_be_bytes().to_vec();
    for word in ["user", "ztlab-probe", "application_name", &program] {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [length.to_be_bytes().to_vec(), body].concat()
}

fn config(options: &TlsOptions, notes: &Shared) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match options.version {
        Some(TlsVersion::V12) => &[&rustls::version::TLS12],
        Some(TlsVersion::V13) => &[&rustls::version::TLS13],
        None => rustls::ALL_VERSIONS,
    };
    let looking = Judged {
        judge: judge(options, &provider)?,
        provider: provider.clone(),
        ruling: Looking(notes.clone()),
    };
    let showing = Showing {
        identity: identity(options.identity.as_ref(), &provider)?,
        notes: notes.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(looking))
        .with_client_cert_resolver(Arc::new(showing));
    // A session taken up again would show no certificates.
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = options.alpn.iter().map(|protocol| protocol.clone().into()).collect();
    Ok(config)
}

fn judge(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Option<Arc<WebPkiServerVerifier>>, String> {
    let Some(pem) = &options.trust else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in chain_of(pem.as_bytes()).map_err(|reason| format!("the authorities to trust: {reason}"))? {
        roots
            .add(certificate)
            .map_err(|error| format!("an authority to trust: {error}"))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map(Some)
        .map_err(|error| format!("the authorities to trust: {error}"))
}

fn identity(identity: Option<&TlsIdentity>, provider: &CryptoProvider) -> Result<Option<Arc<CertifiedKey>>, String> {
    let Some(identity) = identity else {
        return Ok(None);
    };
    let wrong = |reason: String| format!("the client certificate: {reason}");
    let chain = chain_of(identity.chain.as_bytes()).map_err(wrong)?;
    let key = key_of(identity.key.as_bytes()).map_err(wrong)?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(Arc::new(certified)))
}

/// Takes the notes of a handshake together.
fn seen(notes: &Shared, options: &TlsOptions) -> TlsSeen {
    let notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    let facts = |der: &Vec<u8>| {
        CertificateFacts::read(der).unwrap_or_else(|reason| CertificateFacts {
            subject: reason,
            ..CertificateFacts::default()
        })
    };
    let shown = options
        .identity
        .as_ref()
        .filter(|_| notes.asked)
        .and_then(|identity| chain_of(identity.chain.as_bytes()).ok())
        .and_then(|chain| chain.first().map(|first| facts(&first.to_vec()).describe()));
    let whole = if options.whole { CHAIN } else { 0 };
    TlsSeen {
        certificates: notes.certificates.iter().take(CHAIN).map(facts).collect(),
        der: notes
            .certificates
            .iter()
            .take(whole)
            .map(|der| BASE64_STANDARD.encode(der))
            .collect(),
        verified: notes.verified.as_ref().map(Result::is_ok),
        verify_error: match &notes.verified {
            Some(Err(error)) => Some(crate::text::one_line(&error.to_string())),
            _ => None,
        },
        asked_for_client: notes.asked,
        shown,
        ..TlsSeen::default()
    }
}

fn version(version: rustls::ProtocolVersion) -> String {
    match version {
        rustls::ProtocolVersion::TLSv1_2 => "1.2".to_owned(),
        rustls::ProtocolVersion::TLSv1_3 => "1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

/// What an error of a TLS session says about the peer.
fn failed(error: &io::Error, phase: Phase) -> ProbeOutcome {
    if let Some(outcome) = refused(error, phase) {
        return outcome;
    }
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => {
            ProbeOutcome::TlsRefused { alert: None, phase }
        }
        _ => broken(error, phase),
    }
}

/// What the TLS library says of an error; `None` where it is none of TLS.
pub(super) fn refused(error: &io::Error, phase: Phase) -> Option<ProbeOutcome> {
    let reason = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match reason {
        Error::AlertReceived(alert) => ProbeOutcome::TlsRefused {
            alert: Some(alert_name(*alert)),
            phase,
        },
        Error::InvalidMessage(_) => ProbeOutcome::TlsFailed {
            reason: "the server does not speak TLS".to_owned(),
        },
        other => ProbeOutcome::TlsFailed {
            reason: crate::text::one_line(&other.to_string()),
        },
    })
}

/// An alert's name as RFC 8446 §6 has it (`certificate_required`).
fn alert_name(alert: AlertDescription) -> String {
    let Some(name) = alert.as_str() else {
        return format!("alert {}", u8::from(alert));
    };
    let mut words = String::new();
    let mut small = false;
    for letter in name.chars() {
        if small && letter.is_ascii_uppercase() {
            words.push('_');
        }
        small = letter.is_ascii_lowercase();
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// Notes what the server shows, and goes on whatever it is.
#[derive(Debug)]
struct Looking(Shared);

impl Ruling for Looking {
    fn rule(&self, chain: &[&CertificateDer<'_>], found: Option<Result<(), Error>>) -> Result<(), Error> {
        note(&self.0, |notes| {
            let told = chain.iter().take(CHAIN);
            notes.certificates = told.map(|certificate| certificate.to_vec()).collect();
            notes.verified = found;
        });
        Ok(())
    }
}

/// Notes that the server asked for a certificate, and shows the one there is.
#[derive(Debug)]
struct Showing {
    identity: Option<Arc<CertifiedKey>>,
    notes: Shared,
}

impl ResolvesClientCert for Showing {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        note(&self.notes, |notes| notes.asked = true);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        // Otherwise the library would not ask, and the question would go unnoticed.
        true
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ServerConfig, server::WebPkiClientVerifier};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::probe::{
        HttpProbe, ProbeKind, ask,
        pki::{self, Recipe, Role},
    };

    fn authority() -> TlsIdentity {
        let recipe = Recipe {
            role: Role::Authority {
                flag: true,
                path_length: None,
            },
            ..Recipe::leaf("shop CA")
        };
        pki::self_signed(&recipe).unwrap()
    }

    fn der(identity: &TlsIdentity) -> Vec<CertificateDer<'static>> {
        chain_of(identity.chain.as_bytes()).unwrap()
    }

    /// A server that answers every request it reads; gives its port.
    async fn serve(ca: &TlsIdentity, demands: bool, version: Option<&'static rustls::SupportedProtocolVersion>) -> u16 {
        let provider = Arc::new(ring::default_provider());
        let own = pki::signed_by(&Recipe::leaf("payments-api"), ca).unwrap();
        let versions = version.map_or_else(|| rustls::ALL_VERSIONS.to_vec(), |version| vec![version]);
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .unwrap();
        let config = if demands {
            let mut roots = RootCertStore::empty();
            roots.add(der(ca)[0].clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        let config = config
            .with_single_cert(der(&own), key_of(own.key.as_bytes()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut asked = [0; 1024];
                    if stream.read(&mut asked).await.is_ok_and(|count| count > 0) {
                        let _ = stream
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                            .await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        port
    }

    async fn probe(port: u16, tls: TlsOptions) -> crate::evidence::ProbeResult {
        let kind = ProbeKind::Tls(TlsProbe {
            host: "127.0.0.1".into(),
            port,
            starttls: None,
            tls: TlsOptions {
                name: Some("payments-api".into()),
                ..tls
            },
        });
        ask::ask(&ProbeRequest::new("ns", "pod", kind)).await
    }

    #[tokio::test]
    async fn what_the_server_shows_is_told_and_judged() {
        let ca = authority();
        let port = serve(&ca, false, None).await;
        let result = probe(port, TlsOptions::default()).await;
        assert_eq!(result.outcome, ProbeOutcome::TlsOpen);
        let seen = result.tls.unwrap();
        assert_eq!(seen.version.as_deref(), Some("1.3"));
        assert!(seen.cipher.as_deref().unwrap().starts_with("TLS_AES_"), "{seen:?}");
        assert_eq!(seen.certificates[0].dns, ["payments-api"]);
        assert_eq!((seen.verified, seen.asked_for_client), (None, false));
        let trust = Some(ca.chain.clone());
        let good = probe(
            port,
            TlsOptions {
                trust: trust.clone(),
                version: Some(TlsVersion::V12),
                ..TlsOptions::default()
            },
        )
        .await;
        let seen = good.tls.unwrap();
        assert_eq!((seen.verified, seen.version.as_deref()), (Some(true), Some("1.2")));
        // Another authority: looked at all the same.
        let other = Some(authority().chain);
        let bad = probe(
            port,
            TlsOptions {
                trust: other.clone(),
                ..TlsOptions::default()
            },
        )
        .await;
        assert_eq!(bad.outcome, ProbeOutcome::TlsOpen);
        let seen = bad.tls.unwrap();
        assert!(seen.verified == Some(false) && seen.verify_error.is_some(), "{seen:?}");
        // HTTP does not talk to a server it cannot trust.
        let get = |trust: Option<String>| {
            let mut http = HttpProbe::new("GET", format!("https://127.0.0.1:{port}/"));
            http.tls = TlsOptions {
                trust,
                name: Some("payments-api".into()),
                ..TlsOptions::default()
            };
            ProbeRequest::new("ns", "pod", ProbeKind::Http(http))
        };
        assert_eq!(ask::ask(&get(trust)).await.outcome.status(), Some(200));
        let refused = ask::ask(&get(other)).await.outcome;
        assert!(matches!(refused, ProbeOutcome::Untrusted { .. }), "{refused:?}");
    }

    #[tokio::test]
    async fn a_refused_client_learns_of_it_in_either_version() {
        let ca = authority();
        let known = pki::signed_by(&Recipe::leaf("orders-api"), &ca).unwrap();
        let expired = Recipe {
            expired: true,
            ..Recipe::leaf("orders-api")
        };
        let expired = pki::signed_by(&expired, &ca).unwrap();
        let self_made = pki::self_signed(&Recipe::leaf("orders-api")).unwrap();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let port = serve(&ca, true, Some(version)).await;
            let with = |identity: Option<&TlsIdentity>| TlsOptions {
                identity: identity.cloned(),
                ..TlsOptions::default()
            };
            let good = probe(port, with(Some(&known))).await;
            assert_eq!(good.outcome, ProbeOutcome::TlsOpen, "{version:?}");
            let seen = good.tls.unwrap();
            assert!(seen.asked_for_client && seen.shown.unwrap().contains("CN=orders-api"));
            for (identity, alert) in [
                (None, "certificate_required"),
                (Some(&expired), "certificate_expired"),
                (Some(&self_made), "unknown_ca"),
            ] {
                let result = probe(port, with(identity)).await;
                let ProbeOutcome::TlsRefused { alert: Some(found), .. } = &result.outcome else {
                    panic!("{version:?} {alert}: {:?}", result.outcome);
                };
                // Which words a server finds is its own affair; rustls' are these, and an older alert in TLS 1.2.
                assert!(
                    found == alert || found == "handshake_failure" || found == "certificate_unknown",
                    "{version:?} {alert}: {found}"
                );
                assert!(result.tls.unwrap().asked_for_client, "{version:?} {alert}");
            }
            let mut http = HttpProbe::new("GET", format!("https://127.0.0.1:{port}/"));
            let result = ask::ask(&ProbeRequest::new("ns", "pod", ProbeKind::Http(http.clone()))).await;
            assert!(
                matches!(result.outcome, ProbeOutcome::TlsRefused { .. }),
                "{:?}",
                result.outcome
            );
            http.tls.identity = Some(known.clone());
            let result = ask::ask(&ProbeRequest::new("ns", "pod", ProbeKind::Http(http))).await;
            assert_eq!(result.outcome.status(), Some(200));
        }
    }

    #[tokio::test]
    async fn what_is_no_tls_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 512]).await;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        let result = probe(port, TlsOptions::default()).await;
        assert!(
            matches!(result.outcome, ProbeOutcome::TlsFailed { .. }),
            "{:?}",
            result.outcome
        );
        let broken = TlsOptions {
            trust: Some("no PEM".into()),
            ..TlsOptions::default()
        };
        assert!(!probe(port, broken).await.outcome.measured());
        let kind = ProbeKind::Tls(TlsProbe {
            host: "127.0.0.1".into(),
            port,
            starttls: Some(StartTls::Postgres),
            tls: TlsOptions::default(),
        });
        let result = ask::ask(&ProbeRequest::new("ns", "pod", kind)).await;
        assert!(
            matches!(result.outcome, ProbeOutcome::ProtocolError { .. }),
            "{:?}",
            result.outcome
        );
    }

    #[tokio::test]
    async fn postgres_goes_over_to_tls_when_asked() {
        let ca = authority();
        let tls = serve(&ca, false, None).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in [b"S", b"N"] {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut asked = [0; 8];
                client.read_exact(&mut asked).await.unwrap();
                assert_eq!(asked, [0, 0, 0, 8, 4, 210, 22, 47]);
                client.write_all(answer).await.unwrap();
                let mut server = TcpStream::connect(("127.0.0.1", tls)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
        let kind = ProbeKind::Tls(TlsProbe {
            host: "127.0.0.1".into(),
            port,
            starttls: Some(StartTls::Postgres),
            tls: TlsOptions::default(),
        });
        let request = ProbeRequest::new("ns", "pod", kind);
        assert_eq!(ask::ask(&request).await.outcome, ProbeOutcome::TlsOpen);
        let declined = ask::ask(&request).await.outcome;
        assert!(
            matches!(&declined, ProbeOutcome::TlsFailed { reason } if reason.contains("no TLS")),
            "{declined:?}"
        );
    }

    #[test]
    fn alerts_have_their_names() {
        for (alert, name) in [
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::BadCertificate, "bad_certificate"),
            (AlertDescription::Unknown(200), "alert 200"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }
}
