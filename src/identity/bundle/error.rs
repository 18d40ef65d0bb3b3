//! Why a bundle is refused.

use thiserror::Error;

use crate::{KeyError, TrustDomain, X509Error};

/// Why a bundle is refused. Who fetched it keeps the one before.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Longer than any bundle is.
    #[error("the bundle has {0} bytes, of which {max} are allowed", max = super::document::LONGEST)]
    TooLong(usize),
    /// Not JSON, or not of the form of a JWK set.
    #[error("the bundle is no JWK set: {0}")]
    NotJson(String),
    /// More keys than any trust domain has.
    #[error("the bundle has more than {} keys of one kind", super::MOST_KEYS)]
    TooManyKeys,
    /// A certificate that is not base64.
    #[error("key {0} of the bundle: the first value of x5c is not base64")]
    NotBase64(usize),
    /// A certificate that may not sign.
    #[error("key {index} of the bundle: {error}")]
    Certificate {
        /// Which entry of `keys`, from 0.
        index: usize,
        /// What is wrong with it.
        error: X509Error,
    },
    /// A key that cannot be read.
    #[error("key {index} of the bundle: {error}")]
    Key {
        /// Which entry of `keys`, from 0.
        index: usize,
        /// What is wrong with it.
        error: KeyError,
    },
    /// A key for JWT-SVIDs without a name (JWT-SVID section 6.1).
    #[error("a key with use jwt-svid has no kid, by which tokens name it")]
    MissingKeyId,
    /// Two keys for JWT-SVIDs with one name.
    #[error("two keys with use jwt-svid have the kid {0:?}")]
    DuplicateKeyId(String),
    /// A kind of key that signs no JWT-SVIDs (JWT-SVID section 2.1).
    #[error("the key {0:?} is of a kind that no JWT-SVID is signed with")]
    NotForJwt(String),
    /// Parts of two trust domains.
    #[error("the X.509 authorities are of the trust domain {0}, the JWT keys of {1}: bundles are never merged")]
    OtherTrustDomain(TrustDomain, TrustDomain),
}
