//! Why a token is refused.

use thiserror::Error;

use super::Algorithm;
use crate::{IdError, TrustDomain};

/// Why a token is refused. The section is that of the JWT-SVID standard, if no other is named.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtError {
    /// Longer than servers take headers.
    #[error("the token has {0} bytes, of which {max} are allowed", max = super::compact::LONGEST)]
    TooLong(usize),
    /// Not three parts between two dots (section 5.1).
    #[error("the token is not in compact form: header, claims and signature in base64url, with a dot between them")]
    NotCompact,
    /// A part that is not base64url.
    #[error("the token's {0} is not base64url without padding")]
    NotBase64(&'static str),
    /// A part that is no JSON object, or has a member twice.
    #[error("the token's {part} is no JSON object: {reason}")]
    NotJson {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An algorithm that the standard does not allow (section 2.1), or none.
    #[error("the token's algorithm {0:?} is not allowed: RS, ES and PS with 256, 384 and 512 are")]
    Algorithm(String),
    /// An allowed algorithm that is not implemented here.
    #[error("signatures with {0} cannot be verified here: let the trust domain sign with another key")]
    Unsupported(Algorithm),
    /// A type that is neither `JWT` nor `JOSE` (section 2.3).
    #[error("the token's type {0:?} is not allowed: JWT and JOSE are")]
    Type(String),
    /// A header beside `alg`, `kid` and `typ` (section 2).
    #[error("the token's header {0:?} is not allowed: alg, kid and typ are")]
    Header(String),
    /// A claim that is missing (section 3).
    #[error("the token has no claim {0:?}")]
    Missing(&'static str),
    /// A claim of another type than it should be.
    #[error("the token's claim {0:?} is not what it should be")]
    Claim(&'static str),
    /// The subject is no SPIFFE ID (section 3.1).
    #[error("the token's subject is no SPIFFE ID: {0}")]
    Subject(#[from] IdError),
    /// The subject is a trust domain, which is no workload (section 3.1).
    #[error("the token's subject is the trust domain {0}, which is no workload")]
    NoPath(TrustDomain),
    /// Meant for others (section 3.2).
    #[error("the token is for {found}, not for {wanted:?}")]
    Audience {
        /// Who the verifier is.
        wanted: String,
        /// For whom it is.
        found: String,
    },
    /// The verifier does not say who it is (section 3.2).
    #[error("no audience is given to verify against: without one every stolen token is good")]
    NoAudience,
    /// The time is over (section 3.3).
    #[error("the token expired at second {0}")]
    Expired(u64),
    /// The time has not come (RFC 7519 section 4.1.5).
    #[error("the token is not valid before second {0}")]
    NotYetValid(u64),
    /// No keys for the trust domain of the subject.
    #[error("there is no bundle for the trust domain {0}: it is not trusted here, or not federated with")]
    UnknownTrustDomain(TrustDomain),
    /// The bundle trusts nothing.
    #[error("the bundle of the trust domain {0} holds no JWT key: none of its JWT-SVIDs is trusted")]
    EmptyBundle(TrustDomain),
    /// A key id that the bundle does not have.
    #[error("the trust domain {trust_domain} has no key {kid:?}: fetch its bundle again")]
    UnknownKey {
        /// Which key.
        kid: String,
        /// Whose.
        trust_domain: TrustDomain,
    },
    /// Not signed by the trust domain.
    #[error("the signature is not that of the trust domain {0}")]
    Signature(TrustDomain),
    /// The issuer's key cannot be used.
    #[error("the signing key cannot be used: {0}")]
    SigningKey(String),
}
