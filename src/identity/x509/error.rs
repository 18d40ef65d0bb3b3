//! Why a certificate, a chain or a key is refused.

use thiserror::Error;

use crate::{IdError, KeyError, SpiffeId, TrustDomain};

/// Why a certificate, a chain or a key is refused. The section is that of the X509-SVID standard, if no other is named.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum X509Error {
    /// No X.509 certificate in DER.
    #[error("not an X.509 certificate: {0}")]
    NotACertificate(String),
    /// Bytes behind a certificate that should stand alone.
    #[error("there are {0} bytes after the certificate: hand over one certificate alone")]
    TrailingBytes(usize),
    /// A PEM section that cannot be read.
    #[error("not PEM: {0}")]
    Pem(String),
    /// An empty chain.
    #[error("the chain holds no certificate: the leaf comes first")]
    EmptyChain,
    /// A list that no trust domain needs.
    #[error("there are more than {} certificates", crate::der::MOST_CERTIFICATES)]
    TooManyCertificates,
    /// An extension is there twice, or cannot be read (RFC 5280 section 4.2).
    #[error("the certificate's extensions cannot be used: {0}")]
    Extensions(String),

    /// Not exactly one URI name (section 2).
    #[error("the certificate has {0} URI names: an X.509-SVID has exactly one, its SPIFFE ID")]
    UriNames(usize),
    /// The URI name is no SPIFFE ID (section 5.2).
    #[error("the certificate's URI name is no SPIFFE ID: {0}")]
    Id(#[from] IdError),
    /// The URI name is not text.
    #[error("the certificate's URI name is not ASCII text")]
    IdNotText,
    /// A leaf whose SPIFFE ID is a trust domain's (section 3.1).
    #[error("the certificate is for {0}, a trust domain: a workload's SPIFFE ID has a path")]
    NoPath(SpiffeId),
    /// No subject, and the alternative names are not critical (section 3.1; RFC 5280 section 4.1.2.6).
    #[error("the certificate has no subject, and its alternative names are not marked critical")]
    NamesNotCritical,
    /// A certificate authority shown as an identity (section 4.1).
    #[error("the certificate is a certificate authority's: it signs, and never identifies a workload")]
    LeafIsAuthority,
    /// No key usage (section 4.3).
    #[error("the certificate has no key usage extension")]
    NoKeyUsage,
    /// Key usage is not critical (section 4.3).
    #[error("the certificate's key usage is not marked critical")]
    KeyUsageNotCritical,
    /// A key usage is missing (section 4.3).
    #[error("the certificate's key usage lacks {0}")]
    MissingKeyUsage(&'static str),
    /// A key usage that a leaf must not have (section 4.3).
    #[error("the certificate's key usage has {0}, which only a signing certificate may have")]
    ForbiddenKeyUsage(&'static str),
    /// Only one of the two extended usages (section 4.4).
    #[error("the certificate's extended key usage lacks {0}: an X.509-SVID has serverAuth and clientAuth, or neither")]
    MissingExtendedUsage(&'static str),

    /// A signing certificate without the mark of an authority (section 4.1).
    #[error("the signing certificate is not marked as a certificate authority's")]
    NotAnAuthority,
    /// A signing certificate whose SPIFFE ID has a path (section 3.2).
    #[error("the signing certificate is for {0}: the SPIFFE ID of a signing certificate has no path")]
    AuthorityWithPath(SpiffeId),

    /// The public key of a signing certificate cannot be used.
    #[error("the signing certificate's key cannot be used: {0}")]
    PublicKey(#[from] KeyError),

    /// The key cannot be read or is of a kind that is not supported.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// The key does not belong to the leaf.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,

    /// No bundle for the peer's trust domain.
    #[error("there is no bundle for the trust domain {0}: it is not trusted here, or not federated with")]
    UnknownTrustDomain(TrustDomain),
    /// The bundle trusts nothing (SPIFFE Trust Domain and Bundle section 4.1.3).
    #[error("the bundle of the trust domain {0} holds no X.509 authority: none of its X.509-SVIDs is trusted")]
    EmptyBundle(TrustDomain),
    /// All authorities are of another time.
    #[error("no X.509 authority of the trust domain {0} is valid now: fetch its bundle again")]
    NoAuthorityNow(TrustDomain),
    /// Not signed by the trust domain of its SPIFFE ID (section 5.1).
    #[error("{0} is not signed by an authority of its trust domain")]
    UnknownIssuer(SpiffeId),
    /// The time is over.
    #[error("the certificate of {id} expired at second {not_after}")]
    Expired {
        /// Whose it is.
        id: SpiffeId,
        /// Its last second, since 1970.
        not_after: i64,
    },
    /// The time has not come.
    #[error("the certificate of {id} is not valid before second {not_before}")]
    NotYetValid {
        /// Whose it is.
        id: SpiffeId,
        /// Its first second, since 1970.
        not_before: i64,
    },
    /// More signing certificates follow an authority than it allows (section 4.1).
    #[error("the certification path is longer than the authority at its end allows")]
    PathTooLong,
    /// The certification path does not hold for another reason (RFC 5280 section 6).
    #[error("the certification path of {id} does not hold: {reason}")]
    Path {
        /// Whose it is.
        id: SpiffeId,
        /// What is wrong with it.
        reason: String,
    },
}
