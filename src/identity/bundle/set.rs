//! Bundles of several trust domains, side by side.

use std::collections::BTreeMap;

use super::{Bundle, JwtBundle, X509Bundle};
use crate::TrustDomain;

/// What belongs to one trust domain.
pub trait OfTrustDomain {
    /// Which one.
    fn trust_domain(&self) -> &TrustDomain;
}

impl OfTrustDomain for X509Bundle {
    fn trust_domain(&self) -> &TrustDomain {
        self.trust_domain()
    }
}

impl OfTrustDomain for JwtBundle {
    fn trust_domain(&self) -> &TrustDomain {
        self.trust_domain()
    }
}

impl OfTrustDomain for Bundle {
    fn trust_domain(&self) -> &TrustDomain {
        self.trust_domain()
    }
}

/// At most one bundle for each trust domain. A peer is verified against the bundle of the trust domain that it names, and
/// against no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSet<B = Bundle>(BTreeMap<TrustDomain, B>);

/// X.509 authorities of several trust domains, side by side.
pub type X509BundleSet = BundleSet<X509Bundle>;
/// Keys for JWT-SVIDs of several trust domains, side by side.
pub type JwtBundleSet = BundleSet<JwtBundle>;

impl<B> Default for BundleSet<B> {
    fn default() -> Self {
        BundleSet(BTreeMap::new())
    }
}

impl<B: OfTrustDomain> BundleSet<B> {
    /// Takes a bundle in the place of the one of its trust domain, which it gives back.
    pub fn insert(&mut self, bundle: B) -> Option<B> {
        self.0.insert(bundle.trust_domain().clone(), bundle)
    }

    /// The set with `bundle` in it, in the place of the one of its trust domain.
    #[must_use]
    pub fn with(mut self, bundle: B) -> Self {
        self.insert(bundle);
        self
    }

    /// Takes out the bundle of a trust domain, whose SVIDs are then not trusted.
    pub fn remove(&mut self, trust_domain: &TrustDomain) -> Option<B> {
        self.0.remove(trust_domain)
    }

    /// The bundle of a trust domain.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&B> {
        self.0.get(trust_domain)
    }

    /// All of them, by the name of the trust domain.
    pub fn iter(&self) -> impl Iterator<Item = &B> {
        self.0.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl BundleSet<Bundle> {
    /// The X.509 authorities of each.
    pub fn x509(&self) -> X509BundleSet {
        self.iter()
            .fold(BundleSet::default(), |set, it| set.with(it.x509().clone()))
    }

    /// The keys for JWT-SVIDs of each.
    pub fn jwt(&self) -> JwtBundleSet {
        self.iter()
            .fold(BundleSet::default(), |set, it| set.with(it.jwt().clone()))
    }
}
