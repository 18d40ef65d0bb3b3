//! The TLS that the tool box's clients share: whom to trust, which certificate to show, and what a handshake told.

use std::{
    env, fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::CertificateDer;

use crate::{
    handshake::{Judged, Ruling},
    standins::tls::{TlsError, Versions, certificates_of, private_key},
};

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
    let verifier = Arc::new(Judged {
        judge: verifier(trust.authorities, trust.demand == Demand::Nothing, &provider)?,
        provider: provider.clone(),
        ruling: Demanding {
            demand: trust.demand,
            judgement: judgement.clone(),
        },
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

/// Remembers the judgement, and goes on regardless where it is told to.
#[derive(Debug)]
struct Demanding {
    demand: Demand,
    judgement: Judgement,
}

impl Ruling for Demanding {
    fn rule(&self, _: &[&CertificateDer<'_>], found: Option<Result<(), Error>>) -> Result<(), Error> {
        let found = found.unwrap_or_else(|| Err(Error::General("no authorities to judge by".to_owned())));
        *self.judgement.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        match (self.demand, found) {
            (Demand::Nothing, _) => Ok(()),
            // The name is looked at last, when everything else is good.
            (
                Demand::Chain,
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )),
            ) => Ok(()),
            (_, found) => found,
        }
    }
}
