//! The TLS that the tool box's clients share: whom to trust, which certificate to show, and what a handshake told.

use std::{
    env, fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::standins::tls::{TlsError, Versions, certificates_of, private_key};

/// Where the distributions keep the authorities they trust.
const SYSTEM_BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// How to judge the server and what to show it.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Authorities, PEM; the system's if `None`.
    pub authorities: Option<&'a Path>,
    /// Client certificate and key, PEM.
    pub identity: Option<(&'a Path, &'a Path)>,
    /// What the server's certificate must be for the handshake to go on.
    pub demand: Demand,
    /// Which versions are offered.
    pub versions: Versions,
}

/// What a server's certificate must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Issued by one of the authorities, for the name that was asked for.
    Full,
    /// Issued by one of the authorities, for whichever name.
    Chain,
    /// Anything.
    Nothing,
}

/// What the verifier found, whether or not the handshake went on.
pub type Judgement = Arc<Mutex<Option<Result<(), Error>>>>;

/// Makes the client side of TLS, and the place where its judgement of the server will stand.
///
/// # Errors
/// [`TlsError`]
pub fn client(trust: Trust) -> Result<(Arc<ClientConfig>, Judgement), TlsError> {
    let provider = Arc::new(ring::default_provider());
    let judgement = Judgement::default();
    let verifier = Arc::new(Verifier {
        inner: verifier(trust.authorities, trust.demand == Demand::Nothing, &provider)?,
        demand: trust.demand,
        provider: provider.clone(),
        judgement: judgement.clone(),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(trust.versions.list())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match trust.identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates_of(certificate).map_err(|reason| TlsError::identity(certificate, reason))?;
            let private = fs::read(key).map_err(|error| error.to_string());
            let private = private
                .and_then(|pem| private_key(&pem))
                .map_err(|reason| TlsError::identity(key, reason))?;
            config
                .with_client_auth_cert(chain, private)
                .map_err(|error| TlsError::identity(certificate, error))?
        }
    };
    Ok((Arc::new(config), judgement))
}

fn verifier(
    path: Option<&Path>,
    insecure: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, TlsError> {
    let (path, found) = match path {
        Some(path) => (path.display().to_string(), certificates_of(path)),
        None => system_authorities(),
    };
    let found = match found {
        Ok(found) => found,
        Err(_) if insecure => return Ok(None),
        Err(reason) => return Err(TlsError::Authorities { path, reason }),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found);
    match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build() {
        Ok(verifier) => Ok(Some(verifier)),
        Err(_) if insecure => Ok(None),
        Err(error) => Err(TlsError::Authorities {
            path,
            reason: error.to_string(),
        }),
    }
}

fn system_authorities() -> (String, Result<Vec<CertificateDer<'static>>, String>) {
    let named = env::var("SSL_CERT_FILE").or_else(|_| env::var("CURL_CA_BUNDLE")).ok();
    let candidates = named.into_iter().chain(SYSTEM_BUNDLES.map(str::to_owned));
    for path in candidates {
        if Path::new(&path).exists() {
            let found = certificates_of(Path::new(&path));
            return (path, found);
        }
    }
    let reason = "there is none on this system: name one with --cacert".to_owned();
    ("the system's bundle".to_owned(), Err(reason))
}

/// Judges as the web does, remembers the judgement, and goes on regardless where it is told to.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    demand: Demand,
    provider: Arc<CryptoProvider>,
    judgement: Judgement,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = match &self.inner {
            Some(inner) => inner
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map(drop),
            None => Err(Error::General("no authorities to judge by".to_owned())),
        };
        *self.judgement.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        match (self.demand, found) {
            (Demand::Nothing, _) => Ok(ServerCertVerified::assertion()),
            // The name is looked at last, when everything else is good.
            (
                Demand::Chain,
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )),
            ) => Ok(ServerCertVerified::assertion()),
            (_, found) => found.map(|()| ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
