//! TLS as the stand-ins share it: certificates from PEM files, read again when the files change, and what a peer's
//! certificate says of it.
//!
//! Sessions are never resumed. A resumed session shows no certificate and asks for none, so that it could outlive the
//! certificate it began with, and a capture of it would show less than happened.

mod client;
pub mod environment;
mod files;
mod peer;
mod reason;
mod server;
pub mod ssl;
#[cfg(target_os = "linux")]
pub mod svid;

use std::{error::Error, fs, io, path::Path};

use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use thiserror::Error;

pub use self::{
    client::{Connector, Upstream},
    files::Pair,
    peer::{Proved, Shown},
    reason::noting,
    server::{Acceptor, ClientAuth, Serving, farewell},
};

/// Why no handshake can be begun.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The authorities cannot be read.
    #[error("authorities to trust, {path}: {reason}")]
    Authorities {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate to show, or its key, cannot be used.
    #[error("certificate or key {path}: {reason}")]
    Identity {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The library refused.
    #[error(transparent)]
    Library(#[from] rustls::Error),
}

impl TlsError {
    /// The authorities at `path` are not usable.
    pub fn authorities(path: &Path, reason: impl ToString) -> TlsError {
        TlsError::Authorities {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }

    /// The certificate or the key at `path` is not usable.
    pub fn identity(path: &Path, reason: impl ToString) -> TlsError {
        TlsError::Identity {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

static ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
static ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

/// The versions of TLS that are offered and accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    Both,
    /// TLS 1.2.
    Only12,
    /// TLS 1.3.
    Only13,
}

impl Versions {
    /// From the lowest and the highest version, as `1.2` and `1.3`; unset means no bound.
    ///
    /// # Errors
    /// A version there is not, or a lowest above the highest.
    pub fn between(lowest: Option<&str>, highest: Option<&str>) -> Result<Versions, String> {
        let read = |text: &str| match text.trim_start_matches("TLSv") {
            "1.2" => Ok(12),
            "1.3" => Ok(13),
            _ => Err(format!(
                "{text} is no version of TLS that is spoken here: 1.2 and 1.3 are"
            )),
        };
        match (read(lowest.unwrap_or("1.2"))?, read(highest.unwrap_or("1.3"))?) {
            (12, 13) => Ok(Versions::Both),
            (12, 12) => Ok(Versions::Only12),
            (13, 13) => Ok(Versions::Only13),
            _ => Err("the lowest version of TLS is above the highest".to_owned()),
        }
    }

    /// As rustls wants them.
    pub fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Versions::Both => rustls::ALL_VERSIONS,
            Versions::Only12 => ONLY_12,
            Versions::Only13 => ONLY_13,
        }
    }
}

/// The certificates of a PEM text, at least one.
///
/// # Errors
/// What is wrong with it.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(found)
}

/// The certificates of a PEM file.
///
/// # Errors
/// What is wrong with it.
pub fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates(&fs::read(path).map_err(|error| error.to_string())?)
}

/// The private key of a PEM text.
///
/// # Errors
/// What is wrong with it.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => "no private key in it".to_owned(),
        other => other.to_string(),
    })
}

/// The TLS error inside another one, if that is what it is.
pub fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error's source is that of what it wraps, so what it wraps must be looked at apart.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// An error as it is told: what TLS says of it, else the innermost reason.
pub fn told(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = cause(error) {
        return tls.to_string();
    }
    let mut inmost = error;
    while let Some(inner) = inmost.source() {
        inmost = inner;
    }
    inmost.to_string()
}

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
