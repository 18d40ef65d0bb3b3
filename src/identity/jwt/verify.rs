//! Whether a token is the trust domain's that its subject names, for this verifier, now (JWT-SVID sections 3 and 4).

use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::UnixTime;

use super::{
    Algorithm, JwtError, VerifiedJwt,
    compact::{self, Compact},
    svid::Claims,
};
use crate::{JwtBundle, JwtBundleSet, PublicKey, key::Curve};

/// Verifies a token of a peer: its form, the signature against the bundle of the trust domain in its subject, that it is for
/// `audience`, and that `now` is in its time. No leeway: the issuer gives some by what it writes.
///
/// Whether the peer may do anything is the [`Authorizer`](crate::Authorizer)'s question.
///
/// # Errors
/// [`JwtError`], the first reason not to believe it.
pub fn verify(token: &str, bundles: &JwtBundleSet, audience: &str, now: UnixTime) -> Result<VerifiedJwt, JwtError> {
    if audience.is_empty() {
        return Err(JwtError::NoAudience);
    }
    let mut compact = compact::read(token)?;
    let claims = Claims::read(std::mem::take(&mut compact.claims))?;
    let trust_domain = claims.id.trust_domain();
    let bundle = bundles
        .get(trust_domain)
        .ok_or_else(|| JwtError::UnknownTrustDomain(trust_domain.clone()))?;
    verify_signature(&compact, bundle)?;
    if !claims.audience.iter().any(|for_whom| for_whom == audience) {
        return Err(JwtError::Audience {
            wanted: audience.to_owned(),
            found: format!("{:?}", claims.audience),
        });
    }
    // RFC 7519 section 4.1.4: on or after this time it is refused.
    if now.as_secs() >= claims.expires {
        return Err(JwtError::Expired(claims.expires));
    }
    match claims.not_before {
        Some(not_before) if now.as_secs() < not_before => Err(JwtError::NotYetValid(not_before)),
        _ => Ok(VerifiedJwt(claims)),
    }
}

/// With the key that the token names, or, as it need not name one (section 2.2), with each that can make such signatures.
pub(super) fn verify_signature(compact: &Compact<'_>, bundle: &JwtBundle) -> Result<(), JwtError> {
    let trust_domain = bundle.trust_domain();
    if bundle.is_empty() {
        return Err(JwtError::EmptyBundle(trust_domain.clone()));
    }
    if compact.algorithm == Algorithm::Es512 {
        return Err(JwtError::Unsupported(compact.algorithm));
    }
    let held = match &compact.kid {
        Some(kid) => {
            let key = bundle.key(kid).ok_or_else(|| JwtError::UnknownKey {
                kid: kid.clone(),
                trust_domain: trust_domain.clone(),
            })?;
            holds(compact, key)
        }
        None => bundle.keys().iter().any(|(_, key)| holds(compact, key)),
    };
    if held {
        Ok(())
    } else {
        Err(JwtError::Signature(trust_domain.clone()))
    }
}

/// The kind of the key must fit the algorithm: a token cannot choose how a key is used.
fn holds(compact: &Compact<'_>, key: &PublicKey) -> bool {
    let (message, signature) = (compact.signed.as_bytes(), compact.signature.as_slice());
    match (compact.algorithm, key) {
        (
            Algorithm::Es256,
            PublicKey::Ec {
                curve: Curve::P256,
                point,
            },
        ) => ecdsa(&signature::ECDSA_P256_SHA256_FIXED, point, message, signature),
        (
            Algorithm::Es384,
            PublicKey::Ec {
                curve: Curve::P384,
                point,
            },
        ) => ecdsa(&signature::ECDSA_P384_SHA384_FIXED, point, message, signature),
        (algorithm, PublicKey::Rsa { n, e }) => rsa_parameters(algorithm).is_some_and(|parameters| {
            let key = RsaPublicKeyComponents { n, e };
            key.verify(parameters, message, signature).is_ok()
        }),
        _ => false,
    }
}

fn ecdsa(algorithm: &'static dyn VerificationAlgorithm, point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(algorithm, point)
        .verify(message, signature)
        .is_ok()
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => None,
    }
}
