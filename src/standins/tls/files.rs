//! What is made of files, and made again when they change: the kubelet renews a mounted Secret under a running program.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsError, certificates, peer, private_key};
use crate::standins::log::Log;

/// The largest file that is read, in bytes: a bundle of all the web's authorities has a quarter of it.
const LARGEST: u64 = 1 << 20;

/// A certificate, with what leads to its authority, and its private key; PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate's file, the leaf first.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

/// The contents of files, in the order they were asked for.
pub struct Contents(Vec<(PathBuf, Result<Vec<u8>, String>)>);

impl Contents {
    fn read(paths: &[PathBuf]) -> Contents {
        let read = |path: &Path| {
            let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
            if size > LARGEST {
                return Err(format!("{size} bytes, more than the {LARGEST} that are read"));
            }
            fs::read(path).map_err(|error| error.to_string())
        };
        Contents(paths.iter().map(|path| (path.clone(), read(path))).collect())
    }

    /// The certificates in the file at `path`, as authorities.
    ///
    /// # Errors
    /// [`TlsError::Authorities`]
    pub fn authorities(&self, path: &Path) -> Result<rustls::RootCertStore, TlsError> {
        let found = self.of(path).and_then(|pem| certificates(pem));
        let mut roots = rustls::RootCertStore::empty();
        for certificate in found.map_err(|reason| TlsError::authorities(path, reason))? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::authorities(path, error))?;
        }
        Ok(roots)
    }

    /// The certificate and the key of `pair`, which belong together.
    ///
    /// # Errors
    /// [`TlsError::Identity`]
    pub fn identity(&self, pair: &Pair) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = self.of(&pair.certificate).and_then(|pem| certificates(pem));
        let chain = chain.map_err(|reason| TlsError::identity(&pair.certificate, reason))?;
        let key = self.of(&pair.key).and_then(|pem| private_key(pem));
        let key = key.map_err(|reason| TlsError::identity(&pair.key, reason))?;
        rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider()).map_err(
            |error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::identity(
                    &pair.key,
                    format!("is not the key of the certificate in {}", pair.certificate.display()),
                ),
                other => TlsError::identity(&pair.certificate, other),
            },
        )?;
        Ok((chain, key))
    }

    fn of(&self, path: &Path) -> Result<&Vec<u8>, String> {
        let found = self.0.iter().find(|(known, _)| known == path);
        match found {
            Some((_, Ok(content))) => Ok(content),
            Some((_, Err(reason))) => Err(reason.clone()),
            None => Err("was not read".to_owned()),
        }
    }

    fn same(&self, other: &Contents) -> bool {
        self.0 == other.0
    }
}

/// Makes a `T` of the contents of files.
type Make<T> = Box<dyn Fn(&Contents) -> Result<T, TlsError> + Send + Sync>;

/// A `T` made of files, as they are now.
pub struct Renewed<T> {
    paths: Vec<PathBuf>,
    /// Whose certificate it is about, for the log.
    shown: Option<Pair>,
    make: Make<T>,
    log: Log,
    last: Mutex<Last<T>>,
}

struct Last<T> {
    made: Arc<T>,
    tried: Contents,
}

impl<T> Renewed<T> {
    /// Makes it for the first time. `shown` is the certificate that the log tells of.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn new(
        paths: Vec<PathBuf>,
        shown: Option<Pair>,
        log: Log,
        make: impl Fn(&Contents) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Renewed<T>, TlsError> {
        let tried = Contents::read(&paths);
        let made = Arc::new(make(&tried)?);
        let renewed = Renewed {
            paths,
            shown,
            make: Box::new(make),
            log,
            last: Mutex::new(Last { made, tried }),
        };
        let last = renewed.last.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.tell("", &last.tried);
        drop(last);
        Ok(renewed)
    }

    /// As the files are now. A change that cannot be used, such as a certificate whose key has not come yet, leaves what
    /// was, and is told once.
    pub fn now(&self) -> Arc<T> {
        let found = Contents::read(&self.paths);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.same(&last.tried) {
            match (self.make)(&found) {
                Ok(made) => {
                    last.made = Arc::new(made);
                    self.tell("read again: ", &found);
                }
                Err(error) => self
                    .log
                    .warn(&format!("changed, and not usable: {error}; what was before is used on")),
            }
            last.tried = found;
        }
        last.made.clone()
    }

    fn tell(&self, what: &str, contents: &Contents) {
        let Some(pair) = &self.shown else { return };
        if let Ok(pem) = contents.of(&pair.certificate)
            && let Ok(chain) = certificates(pem)
            && let Some(leaf) = chain.first()
        {
            let path = pair.certificate.display();
            self.log
                .info(&format!("{what}certificate {path}: {}", peer::summary(leaf)));
        }
    }
}
