//! Why a peer is refused, in words for a log and as the alert that the peer gets.

use std::sync::Arc;

use rustls::{CertificateError, OtherError};
use rustls_pki_types::UnixTime;
use thiserror::Error;

use crate::{SpiffeId, X509Error};

/// Why a peer is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// One has no identity oneself, and so no bundle to verify with.
    #[error("there is no X.509-SVID and no bundle here yet: look whether the Workload API answers this workload")]
    NoContext,
    /// The peer's certificate is not believed.
    #[error(transparent)]
    Untrusted(#[from] X509Error),
    /// It is believed, and the peer is not to be let in.
    #[error("{why}")]
    Unauthorized {
        /// Who the peer is.
        id: SpiffeId,
        /// Why it may not.
        why: String,
    },
}

impl Refusal {
    /// As rustls has it, which decides the alert (RFC 8446 section 6.2): `access_denied` for a peer that is believed but not
    /// authorised, `certificate_expired`, `unknown_ca`, else `certificate_unknown`.
    pub(super) fn as_tls(&self, now: UnixTime) -> rustls::Error {
        let time =
            |second: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(second.max(0).unsigned_abs()));
        rustls::Error::InvalidCertificate(match self {
            Refusal::Unauthorized { .. } => CertificateError::ApplicationVerificationFailure,
            Refusal::Untrusted(X509Error::UnknownIssuer(_)) => CertificateError::UnknownIssuer,
            Refusal::Untrusted(X509Error::Expired { not_after, .. }) => CertificateError::ExpiredContext {
                time: now,
                not_after: time(*not_after),
            },
            Refusal::Untrusted(X509Error::NotYetValid { not_before, .. }) => CertificateError::NotValidYetContext {
                time: now,
                not_before: time(*not_before),
            },
            other => CertificateError::Other(OtherError(Arc::new(other.clone()))),
        })
    }
}
