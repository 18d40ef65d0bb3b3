//! Whether a peer's chain leads to an authority of the trust domain that it names (X509-SVID section 5).
//!
//! The path is `webpki`'s, which rustls uses: it knows RFC 5280's rules and limits how many paths are tried. Three things it
//! leaves to its caller: key usage of the certificates in between, whether a trust anchor has expired, and how long a path the
//! anchor allows. URI name constraints it does not process; it refuses every path with one, which X509-SVID section 4.2
//! foresees.

use std::cell::RefCell;

use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext, VerifiedPath,
};

use super::{Authority, Leaf, X509Error, authority, profile};
use crate::{X509BundleSet, der, id::SpiffeId};

/// Verifies a peer's chain, the leaf first, against the bundle of the trust domain in the leaf's SPIFFE ID, at a time.
///
/// Gives the leaf: who the peer is. Whether it may do anything is the [`Authorizer`](crate::Authorizer)'s question.
///
/// # Errors
/// [`X509Error`], the first reason not to believe it.
pub fn verify(chain: &[CertificateDer<'_>], bundles: &X509BundleSet, now: UnixTime) -> Result<Leaf, X509Error> {
    if chain.len() > der::MOST_CERTIFICATES {
        return Err(X509Error::TooManyCertificates);
    }
    let (first, intermediates) = chain.split_first().ok_or(X509Error::EmptyChain)?;
    let leaf = Leaf::read(first)?;
    let trust_domain = leaf.id().trust_domain();
    let bundle = bundles
        .get(trust_domain)
        .ok_or_else(|| X509Error::UnknownTrustDomain(trust_domain.clone()))?;
    if bundle.is_empty() {
        return Err(X509Error::EmptyBundle(trust_domain.clone()));
    }
    let authorities: Vec<_> = bundle
        .authorities()
        .iter()
        .filter(|authority| authority.validity().contains(now))
        .collect();
    if authorities.is_empty() {
        return Err(X509Error::NoAuthorityNow(trust_domain.clone()));
    }
    let anchors: Vec<_> = authorities.iter().map(|it| it.anchor()).cloned().collect();
    // Only the certificates of the path that holds are judged: what else a peer sends along proves and spoils nothing.
    let refusal = RefCell::new(None);
    let signers = |path: &VerifiedPath<'_>| -> Result<(), webpki::Error> {
        may_sign(path, &authorities).map_err(|error| {
            *refusal.borrow_mut() = Some(error);
            webpki::Error::UnknownIssuer
        })
    };
    let held = EndEntityCert::try_from(first).and_then(|entity| {
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        entity
            .verify_for_usage(
                algorithms,
                &anchors,
                intermediates,
                now,
                BothSides,
                None,
                Some(&signers),
            )
            .map(|_| ())
    });
    match (held, refusal.into_inner()) {
        (Ok(()), _) => Ok(leaf),
        (Err(_), Some(refusal)) => Err(refusal),
        (Err(error), None) => Err(told(leaf.id(), error, &leaf)),
    }
}

/// An SVID is for servers and clients alike (X509-SVID section 4.4), so a certificate in between that allows only one of
/// them cannot have signed it.
struct BothSides;

impl ExtendedKeyUsageValidator for BothSides {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let present = usages
            .map(|usage| usage.map(|usage| usage.to_decoded_oid()))
            .collect::<Result<Vec<_>, _>>()?;
        let has = |wanted: &[usize]| present.iter().any(|usage| usage == wanted);
        let required = if !has(KeyUsage::SERVER_AUTH_REPR) {
            KeyUsage::server_auth()
        } else if !has(KeyUsage::CLIENT_AUTH_REPR) {
            KeyUsage::client_auth()
        } else {
            return Ok(());
        };
        if present.is_empty() {
            return Ok(());
        }
        let context = RequiredEkuNotFoundContext { required, present };
        Err(webpki::Error::RequiredEkuNotFoundContext(context))
    }
}

/// What `webpki` does not ask of the certificates that sign: key usage of those in between, and the length of the path that
/// the authority allows.
fn may_sign(path: &VerifiedPath<'_>, authorities: &[&Authority]) -> Result<(), X509Error> {
    let mut length = 0;
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        authority::check(&profile::read(&der)?)?;
        // RFC 5280 section 4.2.1.9: self-issued certificates do not count.
        length += u32::from(intermediate.subject() != intermediate.issuer());
    }
    let allowed = authorities
        .iter()
        .filter(|authority| authority.anchor() == path.anchor())
        .any(|authority| authority.path_length().is_none_or(|allowed| length <= allowed));
    if allowed { Ok(()) } else { Err(X509Error::PathTooLong) }
}

fn told(id: &SpiffeId, error: webpki::Error, leaf: &Leaf) -> X509Error {
    let id = id.clone();
    match error {
        // SPIRE's authorities all have one name, so that another's is tried, and only its key does not fit.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => X509Error::UnknownIssuer(id),
        // It is the leaf's if the leaf's time is over; else that of a certificate in between.
        webpki::Error::CertExpired { time, .. } if !leaf.validity().contains(time) => X509Error::Expired {
            id,
            not_after: leaf.validity().not_after,
        },
        webpki::Error::CertNotValidYet { time, .. } if !leaf.validity().contains(time) => X509Error::NotYetValid {
            id,
            not_before: leaf.validity().not_before,
        },
        other => X509Error::Path {
            id,
            reason: other.to_string(),
        },
    }
}
