//! The cluster's certificates and kubeconfig.
//!
//! One CA (ECDSA P-256) signs the API server's certificate and the users' client certificates; a second key signs
//! service-account tokens. As in Kubernetes, a client certificate's common name is the user, its organisations are
//! the user's groups.
//!
//! Source: Kubernetes' "PKI certificates and requirements", "Authenticating".

mod kubeconfig;
mod sign;
mod token;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

pub use kubeconfig::{Kubeconfig, write_private};
pub use sign::{CertificateRequest, Signer, Usage, usage};
pub use token::{LegacyClaims, TokenClaims, TokenError, TokenKey};

/// Why the cluster's certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of the PKI could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A file is there but is no key or certificate.
    #[error("{path}: {reason}; remove the directory to make new certificates")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be signed.
    #[error("signing a certificate: {0}")]
    Sign(#[from] rcgen::Error),
    /// The TLS configuration was refused.
    #[error("configuring TLS: {0}")]
    Tls(String),
    /// The token key could not be made.
    #[error("making the service-account key: {0}")]
    Token(#[from] TokenError),
}

/// A certificate and its private key, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The cluster's CA and what it has signed.
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    signer: Arc<Signer>,
    ca_certificate: String,
    admin: Identity,
    token_key: Arc<TokenKey>,
}

/// The names and addresses by which the API server is reached.
const SERVER_NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

const CA_YEARS: i16 = 10;
const SERVER_YEARS: i16 = 1;
/// The user's certificate lives as long as the cluster: it is written once into the kubeconfig on the user's disk.
const CLIENT_YEARS: i64 = 10;

impl Pki {
    /// Reads the PKI in `dir`, or makes one there; keys have mode 0600.
    ///
    /// # Errors
    /// When a file cannot be read or written, or is damaged.
    pub fn load_or_create(dir: &Path) -> Result<Self, PkiError> {
        let files = ["ca.crt", "ca.key", "sa.key", "admin.crt", "admin.key"].map(|name| dir.join(name));
        if files.iter().all(|file| file.exists()) {
            return Self::load(&files);
        }
        let pki = Self::create()?;
        fs::create_dir_all(dir).map_err(|source| PkiError::Io {
            path: dir.to_owned(),
            source,
        })?;
        let [ca_crt, ca_key, sa_key, admin_crt, admin_key] = &files;
        write(ca_crt, &pki.ca_certificate)?;
        write(ca_key, &pki.issuer.key().serialize_pem())?;
        write(sa_key, pki.token_key.pem())?;
        write(admin_crt, &pki.admin.certificate)?;
        write(admin_key, &pki.admin.key)?;
        Ok(pki)
    }

    /// A PKI that is nowhere on disk.
    ///
    /// # Errors
    /// When a certificate cannot be signed.
    pub fn create() -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = params("kubernetes", CA_YEARS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let ca_certificate = params.self_signed(&key)?.pem();
        let signer = Signer::new(&ca_certificate, &key)?;
        let issuer = Issuer::new(params, key);
        let admin = client(&signer, "kubernetes-admin", &["system:masters"])?;
        Ok(Self {
            issuer,
            signer: Arc::new(signer),
            ca_certificate,
            admin,
            token_key: Arc::new(TokenKey::generate()?),
        })
    }

    fn load([ca_crt, ca_key, sa_key, admin_crt, admin_key]: &[PathBuf; 5]) -> Result<Self, PkiError> {
        let damaged = |path: &Path| {
            let path = path.to_owned();
            move |error: rcgen::Error| PkiError::Damaged {
                path,
                reason: error.to_string(),
            }
        };
        let ca_certificate = read(ca_crt)?;
        let key = KeyPair::from_pem(&read(ca_key)?).map_err(damaged(ca_key))?;
        let issuer = Issuer::from_ca_cert_pem(&ca_certificate, key).map_err(damaged(ca_crt))?;
        let signer = Signer::new(&ca_certificate, issuer.key())?;
        let token_key = TokenKey::from_pem(&read(sa_key)?).map_err(|error| PkiError::Damaged {
            path: sa_key.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            issuer,
            signer: Arc::new(signer),
            ca_certificate,
            admin: Identity {
                certificate: read(admin_crt)?,
                key: read(admin_key)?,
            },
            token_key: Arc::new(token_key),
        })
    }

    /// The CA's certificate as PEM, which pods get as `ca.crt`.
    pub fn ca_certificate(&self) -> &str {
        &self.ca_certificate
    }

    /// Who signs certificates that users ask for.
    pub fn signer(&self) -> Arc<Signer> {
        self.signer.clone()
    }

    /// The key that signs service-account tokens.
    pub fn token_key(&self) -> Arc<TokenKey> {
        self.token_key.clone()
    }

    /// The client identity of `kubernetes-admin` in the group `system:masters`.
    pub fn admin(&self) -> &Identity {
        &self.admin
    }

    /// Signs a client certificate for `user` in `groups`.
    ///
    /// # Errors
    /// When the names cannot be put in a certificate.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity, PkiError> {
        client(&self.signer, user, groups)
    }

    /// The API server's TLS, for loopback and `addresses`: HTTP/2 and HTTP/1.1; a client may show a certificate of this CA, and one without is left
    /// to the API server, which takes a bearer token or answers 401.
    ///
    /// # Errors
    /// When the server's certificate cannot be signed or rustls refuses it.
    pub fn server_config(&self, addresses: &[Ipv4Addr]) -> Result<Arc<ServerConfig>, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = params("kube-apiserver", SERVER_YEARS)?;
        for name in SERVER_NAMES {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        let addresses = [Ipv4Addr::LOCALHOST].iter().chain(addresses);
        let addresses = addresses.map(|address| SanType::IpAddress(IpAddr::V4(*address)));
        params.subject_alt_names.extend(addresses);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let tls = |error: rustls::Error| PkiError::Tls(error.to_string());

        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca_certificate.as_bytes())
            .map_err(|error| PkiError::Tls(error.to_string()))?;
        roots.add(ca).map_err(tls)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| PkiError::Tls(error.to_string()))?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| PkiError::Tls(error.to_owned()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The kubeconfig with which `kubernetes-admin` reaches the API server at `server` (`https://127.0.0.1:6443`).
    pub fn kubeconfig(&self, cluster: &str, server: &str, namespace: Option<&str>) -> Kubeconfig {
        Kubeconfig {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            namespace: namespace.map(str::to_owned),
            user: "kubernetes-admin".to_owned(),
            ca_certificate: self.ca_certificate.clone(),
            identity: self.admin.clone(),
        }
    }
}

fn client(signer: &Signer, user: &str, groups: &[&str]) -> Result<Identity, PkiError> {
    const DAY: i64 = 24 * 3600;
    let key = KeyPair::generate()?;
    let request = CertificateRequest::of(&key, user, groups);
    let usages: Vec<Usage> = ["digital signature", "client auth"]
        .into_iter()
        .filter_map(usage)
        .collect();
    let now = jiff::Timestamp::now().as_second();
    // A day back, for a client whose clock is behind.
    Ok(Identity {
        certificate: signer.sign(&request, &usages, now - DAY, now + CLIENT_YEARS * 365 * DAY)?,
        key: key.serialize_pem(),
    })
}

fn params(common_name: &str, years: i16) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    // A day back, for a client whose clock is behind; the 1st to 28th exist in every month of every year.
    let yesterday = today.yesterday().unwrap_or(today);
    let date = |year: i16| {
        let day = yesterday.day().clamp(1, 28).unsigned_abs();
        rcgen::date_time_ymd(i32::from(year), yesterday.month().unsigned_abs(), day)
    };
    params.not_before = date(yesterday.year());
    params.not_after = date(yesterday.year() + years);
    Ok(params)
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::Io {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    write_private(path, text.as_bytes()).map_err(|source| PkiError::Io {
        path: path.to_owned(),
        source,
    })
}

fn open_private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests;
