//! What the fuzz targets run: bytes of a stranger through every reader, and what must hold afterwards.
//!
//! Tokens and certificates are verified with keys whose private halves were thrown away when the seeds were made, so that
//! whatever a fuzzer comes up with, nothing is believed but what the seeds say.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{
    Authorizer, Bundle, BundleSet, JwtBundle, JwtSvid, Path, PublicKey, SpiffeId, TrustDomain, VerifiedJwt, X509Bundle,
    X509Error, X509Svid, der, jwt,
    x509::{self, Authority, Leaf},
};

/// The bundle that the seeds of tokens and certificates are verified with.
const TRUSTED: &[u8] = include_bytes!("testdata/fuzz.json");
/// The trust domain of the seeds.
pub(crate) const DOMAIN: &str = "shop.test";
/// The only id that the thrown away keys signed for.
pub(crate) const SIGNED: &str = "spiffe://shop.test/ns/shop/sa/orders";
/// The audience of the seeds.
pub(crate) const AUDIENCE: &str = "payments";
/// Within the time of the seeds: 2027.
pub(crate) const TIME: u64 = 1_800_000_000;

/// Reads text as an id, its parts, and rules; gives how many of these it is.
///
/// # Panics
/// When an id is not read again as what it was written.
pub fn fuzz_id(input: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(input) else {
        return 0;
    };
    let id = SpiffeId::parse(text).ok();
    if let Some(id) = &id {
        let written = id.to_string();
        assert!(written.eq_ignore_ascii_case(text), "{text:?} was read as {written}");
        assert_eq!(SpiffeId::parse(&written).as_ref(), Ok(id));
        let parts: Vec<_> = id.path().segments().collect();
        assert_eq!(Path::from_segments(parts).as_ref(), Ok(id.path()));
        assert_eq!(
            SpiffeId::new(id.trust_domain().clone(), id.path().clone()).as_ref(),
            Ok(id)
        );
    }
    let rules = text.parse::<Authorizer>().ok();
    if let (Some(rules), Some(id)) = (&rules, &id) {
        assert!(rules.decide(id).is_allowed(), "{id} does not admit itself");
        assert!(!rules.decide(&id.trust_domain().id()).is_allowed());
    }
    let found = [
        id.is_some(),
        rules.is_some(),
        Path::new(text).is_ok(),
        TrustDomain::new(text).is_ok(),
    ];
    found.into_iter().filter(|it| *it).count()
}

/// Reads a bundle; gives how many authorities and keys it has.
///
/// # Panics
/// When it is not read again as what it was written.
pub fn fuzz_bundle(input: &[u8]) -> Option<usize> {
    let domain = TrustDomain::new(DOMAIN).ok()?;
    let _ = PublicKey::from_spki_der(input);
    let _ = JwtBundle::from_json(domain.clone(), input);
    let bundle = Bundle::from_json(domain.clone(), input).ok()?;
    let written = bundle.to_json().ok()?;
    assert_eq!(
        Bundle::from_json(domain.clone(), written.as_bytes()).as_ref(),
        Ok(&bundle)
    );
    let x509 = bundle.x509();
    assert_eq!(X509Bundle::from_der(domain, &x509.to_der()).as_ref(), Ok(x509));
    Some(x509.authorities().len() + bundle.jwt().keys().len())
}

/// Reads and verifies a token.
///
/// # Panics
/// When one is believed that nobody signed.
pub fn fuzz_jwt(input: &[u8]) -> Option<VerifiedJwt> {
    let token = std::str::from_utf8(input).ok()?;
    let read = JwtSvid::read_unverified(token);
    let verified = jwt::verify(token, &trusted()?.jwt(), AUDIENCE, now()).ok()?;
    assert_eq!(verified.id().to_string(), SIGNED);
    assert_eq!(read.as_ref().map(JwtSvid::id), Ok(verified.id()));
    Some(verified)
}

/// Reads and verifies certificates in DER, one after the other.
///
/// # Panics
/// When one is believed that nobody signed.
pub fn fuzz_certificates(input: &[u8]) -> Option<Leaf> {
    let _ = Authority::read(CertificateDer::from(input.to_vec()));
    let _ = der::certificates_of_pem(input);
    let chain = der::certificates(input).ok()?;
    let leaf = chain.first().map(Leaf::read);
    // No key is here, so none of them is anyone's own.
    assert!(X509Svid::from_der(input, &[]).is_err());
    match x509::verify(&chain, &trusted()?.x509(), now()) {
        Ok(verified) => {
            assert_eq!(verified.id().to_string(), SIGNED);
            assert_eq!(leaf, Some(Ok(verified.clone())));
            Some(verified)
        }
        // The first rule that is broken is the same, whoever asks.
        Err(error) => {
            if let Some(Err(unreadable)) = leaf {
                assert!(unreadable == error || error == X509Error::TooManyCertificates);
            }
            None
        }
    }
}

fn trusted() -> Option<BundleSet> {
    let domain = TrustDomain::new(DOMAIN).ok()?;
    Some(BundleSet::default().with(Bundle::from_json(domain, TRUSTED).ok()?))
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(TIME))
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod tests;
