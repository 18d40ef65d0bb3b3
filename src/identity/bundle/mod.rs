//! Bundles: what a trust domain's SVIDs are verified with (SPIFFE Trust Domain and Bundle).
//!
//! A bundle belongs to one trust domain and says so. Several are held in a [`BundleSet`], which gives out the one of the
//! trust domain that is asked for: bundles are never merged, since then each domain could issue the others' ids.

mod document;
mod error;
mod set;

use std::{sync::Arc, time::Duration};

pub use error::BundleError;
pub use set::{BundleSet, JwtBundleSet, OfTrustDomain, X509BundleSet};

use crate::{PublicKey, TrustDomain, X509Error, der, x509::Authority};

/// Keys and authorities of each kind that one bundle may hold.
pub const MOST_KEYS: usize = der::MOST_CERTIFICATES;

/// The X.509 authorities of a trust domain; without any, none of its X.509-SVIDs is trusted. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Bundle {
    trust_domain: TrustDomain,
    authorities: Arc<[Authority]>,
}

impl X509Bundle {
    /// Takes a trust domain's authorities, of which each is kept once.
    pub fn new(trust_domain: TrustDomain, authorities: impl IntoIterator<Item = Authority>) -> X509Bundle {
        let mut kept: Vec<Authority> = Vec::new();
        for authority in authorities {
            if !kept.contains(&authority) {
                kept.push(authority);
            }
        }
        X509Bundle {
            trust_domain,
            authorities: kept.into(),
        }
    }

    /// Reads certificates in DER, one after the other (SPIFFE Workload API section 5.2). No bytes: it trusts nothing.
    ///
    /// # Errors
    /// [`X509Error`], when one of them may not sign.
    pub fn from_der(trust_domain: TrustDomain, bytes: &[u8]) -> Result<X509Bundle, X509Error> {
        let certificates = der::certificates(bytes)?;
        let authorities: Vec<_> = certificates
            .into_iter()
            .map(Authority::read)
            .collect::<Result<_, _>>()?;
        Ok(X509Bundle::new(trust_domain, authorities))
    }

    /// Reads certificates of a PEM text. No certificate: it trusts nothing.
    ///
    /// # Errors
    /// [`X509Error`], when one of them may not sign.
    pub fn from_pem(trust_domain: TrustDomain, pem: &[u8]) -> Result<X509Bundle, X509Error> {
        let certificates = der::certificates_of_pem(pem)?;
        let authorities: Vec<_> = certificates
            .into_iter()
            .map(Authority::read)
            .collect::<Result<_, _>>()?;
        Ok(X509Bundle::new(trust_domain, authorities))
    }

    /// Whose it is.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The authorities.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Whether it trusts nothing.
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }

    /// The certificates in DER, one after the other, as the Workload API sends them.
    pub fn to_der(&self) -> Vec<u8> {
        self.authorities
            .iter()
            .flat_map(|it| it.der().as_ref())
            .copied()
            .collect()
    }

    /// The certificates as PEM text.
    pub fn to_pem(&self) -> String {
        self.authorities.iter().map(|it| der::to_pem(it.der())).collect()
    }
}

/// The keys that a trust domain signs JWT-SVIDs with, each with its name; without any, none of its JWT-SVIDs is trusted.
/// Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtBundle {
    trust_domain: TrustDomain,
    keys: Arc<[(String, PublicKey)]>,
}

impl JwtBundle {
    /// Takes a trust domain's keys, each with its key id (`kid`).
    ///
    /// # Errors
    /// [`BundleError`], when an id is empty or is there twice, or the key is of no kind that signs JWT-SVIDs.
    pub fn new(
        trust_domain: TrustDomain,
        keys: impl IntoIterator<Item = (String, PublicKey)>,
    ) -> Result<JwtBundle, BundleError> {
        let mut kept: Vec<(String, PublicKey)> = Vec::new();
        for (kid, key) in keys {
            if kid.is_empty() {
                return Err(BundleError::MissingKeyId);
            }
            if matches!(key, PublicKey::Ed25519(_)) {
                return Err(BundleError::NotForJwt(kid));
            }
            if kept.iter().any(|(other, _)| *other == kid) {
                return Err(BundleError::DuplicateKeyId(kid));
            }
            if kept.len() == MOST_KEYS {
                return Err(BundleError::TooManyKeys);
            }
            kept.push((kid, key));
        }
        Ok(JwtBundle {
            trust_domain,
            keys: kept.into(),
        })
    }

    /// Whose it is.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The keys with their ids, in the order in which they were taken.
    pub fn keys(&self) -> &[(String, PublicKey)] {
        &self.keys
    }

    /// The key of this id.
    pub fn key(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.iter().find(|(name, _)| name == kid).map(|(_, key)| key)
    }

    /// Whether it trusts nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// All that a trust domain publishes: authorities, keys, and how often to look for news. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    x509: X509Bundle,
    jwt: JwtBundle,
    sequence: Option<u64>,
    refresh_hint: Option<Duration>,
}

impl Bundle {
    /// Joins what a trust domain publishes.
    ///
    /// # Errors
    /// [`BundleError::OtherTrustDomain`], when the two are not of one trust domain.
    pub fn new(x509: X509Bundle, jwt: JwtBundle) -> Result<Bundle, BundleError> {
        if x509.trust_domain != jwt.trust_domain {
            return Err(BundleError::OtherTrustDomain(x509.trust_domain, jwt.trust_domain));
        }
        Ok(Bundle {
            x509,
            jwt,
            sequence: None,
            refresh_hint: None,
        })
    }

    /// With a sequence number: higher whenever anything in the bundle changed (section 4.1.1).
    #[must_use]
    pub fn with_sequence(mut self, sequence: Option<u64>) -> Bundle {
        self.sequence = sequence;
        self
    }

    /// With the time after which to look for news, whole seconds (section 4.1.2).
    #[must_use]
    pub fn with_refresh_hint(mut self, hint: Option<Duration>) -> Bundle {
        self.refresh_hint = hint.map(|hint| Duration::from_secs(hint.as_secs()));
        self
    }

    /// Whose it is.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.x509.trust_domain
    }

    /// Its X.509 authorities.
    pub fn x509(&self) -> &X509Bundle {
        &self.x509
    }

    /// Its keys for JWT-SVIDs.
    pub fn jwt(&self) -> &JwtBundle {
        &self.jwt
    }

    /// The sequence number, if the publisher counts.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// The time after which to look for news, if the publisher says one.
    pub fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }

    /// Whether it trusts nothing.
    pub fn is_empty(&self) -> bool {
        self.x509.is_empty() && self.jwt.is_empty()
    }
}

#[cfg(test)]
mod tests;
