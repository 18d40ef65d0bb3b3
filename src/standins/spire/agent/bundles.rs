//! Bundles as the APIs carry them, and as types that cannot be invalid.

use rustls::pki_types::CertificateDer;
use yasna::models::ObjectIdentifier;
use ztlab_identity::{Bundle, Curve, JwtBundle, PublicKey, TrustDomain, X509Bundle, x509::Authority};

use crate::api::types;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleMessageError {
    /// It does not say whose it is.
    #[error("the bundle names no trust domain: {0}")]
    Name(#[from] ztlab_identity::IdError),
    /// The authorities and keys do not make a bundle.
    #[error("the bundle cannot be used: {0}")]
    Bundle(String),
}

/// Reads a message. An authority that the standard forbids, or a key of an unknown kind, is left out and warned of: the
/// others are trusted all the same.
pub fn bundle_of(message: &types::Bundle) -> Result<Bundle, BundleMessageError> {
    let name = TrustDomain::new(
        message
            .trust_domain
            .strip_prefix("spiffe://")
            .unwrap_or(&message.trust_domain),
    )?;
    let authorities = message.x509_authorities.iter().filter_map(|one| {
        Authority::read(CertificateDer::from(one.asn1.clone()))
            .inspect_err(|error| tracing::warn!(trust_domain = %name, %error, "an X.509 authority is left out"))
            .ok()
    });
    let x509 = X509Bundle::new(name.clone(), authorities);
    let keys: Vec<(String, PublicKey)> = message
        .jwt_authorities
        .iter()
        .filter_map(|one| {
            PublicKey::from_spki_der(&one.public_key)
                .inspect_err(|error| tracing::warn!(trust_domain = %name, %error, "a JWT authority is left out"))
                .ok()
                .map(|key| (one.key_id.clone(), key))
        })
        .collect();
    let wrong = |error: ztlab_identity::BundleError| BundleMessageError::Bundle(error.to_string());
    let jwt = JwtBundle::new(name, keys).map_err(wrong)?;
    let hint = u64::try_from(message.refresh_hint).ok().filter(|seconds| *seconds > 0);
    Ok(Bundle::new(x509, jwt)
        .map_err(wrong)?
        .with_sequence((message.sequence_number > 0).then_some(message.sequence_number))
        .with_refresh_hint(hint.map(std::time::Duration::from_secs)))
}

/// Writes a message.
pub fn bundle_message_of(bundle: &Bundle) -> types::Bundle {
    types::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        x509_authorities: bundle
            .x509()
            .authorities()
            .iter()
            .map(|one| types::X509Certificate {
                asn1: one.der().to_vec(),
                tainted: false,
            })
            .collect(),
        jwt_authorities: bundle
            .jwt()
            .keys()
            .iter()
            .filter_map(|(id, key)| {
                let public_key = spki(key)?;
                Some(types::JwtKey {
                    public_key,
                    key_id: id.clone(),
                    expires_at: 0,
                    tainted: false,
                })
            })
            .collect(),
        refresh_hint: bundle
            .refresh_hint()
            .and_then(|hint| i64::try_from(hint.as_secs()).ok())
            .unwrap_or(0),
        sequence_number: bundle.sequence().unwrap_or(0),
    }
}

/// SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7, RFC 5480, RFC 8017, RFC 8410); `None` for a kind that is not
/// known here.
fn spki(key: &PublicKey) -> Option<Vec<u8>> {
    const RSA: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
    const EC: &[u64] = &[1, 2, 840, 10_045, 2, 1];
    const ED25519: &[u64] = &[1, 3, 101, 112];
    let (algorithm, curve, bits) = match key {
        PublicKey::Rsa { n, e } => {
            let key = yasna::construct_der(|writer| {
                writer.write_sequence(|writer| {
                    writer.next().write_bigint_bytes(n, true);
                    writer.next().write_bigint_bytes(e, true);
                });
            });
            (RSA, None, key)
        }
        PublicKey::Ec { curve, point } => {
            let curve: &[u64] = match curve {
                Curve::P256 => &[1, 2, 840, 10_045, 3, 1, 7],
                Curve::P384 => &[1, 3, 132, 0, 34],
                Curve::P521 => &[1, 3, 132, 0, 35],
            };
            (EC, Some(curve), point.clone())
        }
        PublicKey::Ed25519(key) => (ED25519, None, key.clone()),
        _ => return None,
    };
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&ObjectIdentifier::from_slice(algorithm));
                match curve {
                    Some(curve) => writer.next().write_oid(&ObjectIdentifier::from_slice(curve)),
                    None if algorithm == RSA => writer.next().write_null(),
                    None => {}
                }
            });
            writer.next().write_bitvec_bytes(&bits, bits.len() * 8);
        });
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_kind_survive_the_way_to_the_server() {
        let mut modulus = vec![0x80; 256];
        modulus[255] = 1;
        let keys = [
            PublicKey::Rsa {
                n: modulus,
                e: vec![1, 0, 1],
            },
            PublicKey::Ec {
                curve: Curve::P256,
                point: [&[4][..], &[7; 64]].concat(),
            },
            PublicKey::Ec {
                curve: Curve::P384,
                point: [&[4][..], &[7; 96]].concat(),
            },
            PublicKey::Ed25519(vec![9; 32]),
        ];
        for key in keys {
            let der = spki(&key).unwrap();
            assert_eq!(PublicKey::from_spki_der(&der).unwrap(), key);
        }
    }
}
