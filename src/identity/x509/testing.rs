//! Authorities and certificates for tests, good or broken in one way.

use std::time::Duration;

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};

use super::{Authority, X509Svid};
use crate::{TrustDomain, X509Bundle, X509BundleSet};

/// The moment at which tests verify.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn now() -> UnixTime {
    at(NOW)
}

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub(crate) fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

/// Sets the time of a certificate, in seconds since 1970.
pub(crate) fn times(params: &mut CertificateParams, not_before: u64, not_after: u64) {
    let start = date_time_ymd(1970, 1, 1);
    params.not_before = start + Duration::from_secs(not_before);
    params.not_after = start + Duration::from_secs(not_after);
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// An extension with these bytes.
pub(crate) fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

fn params(name: &str, id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![uri(id)];
    params.use_authority_key_identifier_extension = true;
    times(&mut params, NOW - 3600, NOW + 3600);
    params
}

/// What a good leaf has.
pub(crate) fn leaf_params(id: &str) -> CertificateParams {
    let mut params = params("workload", id);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

pub(crate) struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) der: CertificateDer<'static>,
}

impl Ca {
    /// The root of a trust domain.
    pub(crate) fn of(trust_domain: &str) -> Ca {
        Ca::made(trust_domain, |_| {})
    }

    /// A root that is otherwise than it should be.
    pub(crate) fn made(trust_domain: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let params = Ca::params(trust_domain, change);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Ca { params, key, der }
    }

    /// An authority below this one.
    pub(crate) fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut params = Ca::params("shop.test", change);
        params.distinguished_name.push(DnType::OrganizationName, name);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        Ca { params, key, der }
    }

    fn params(trust_domain: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
        let mut params = params(trust_domain, &format!("spiffe://{trust_domain}"));
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        params
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::read(self.der.clone()).unwrap()
    }

    /// The bundle of a trust domain that this authority signs for.
    pub(crate) fn bundle(&self, trust_domain: &str) -> X509Bundle {
        X509Bundle::new(domain(trust_domain), [self.authority()])
    }

    /// The bundle of `shop.test` alone.
    pub(crate) fn bundles(&self) -> X509BundleSet {
        X509BundleSet::default().with(self.bundle("shop.test"))
    }

    /// A leaf that is otherwise than it should be.
    pub(crate) fn leaf(
        &self,
        id: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, KeyPair) {
        let mut params = leaf_params(id);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        (der, key)
    }

    pub(crate) fn svid(&self, id: &str) -> X509Svid {
        self.svid_with(id, |_| {})
    }

    pub(crate) fn svid_with(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> X509Svid {
        let (der, key) = self.leaf(id, change);
        X509Svid::new(vec![der], pkcs8(&key)).unwrap()
    }
}

pub(crate) fn pkcs8(key: &KeyPair) -> PrivatePkcs8KeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der())
}
