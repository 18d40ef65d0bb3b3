//! Public keys, as JSON Web Keys and certificates write them (RFC 7517, RFC 7518 section 6, RFC 8037).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use x509_parser::{
    der_parser::{Oid, oid},
    prelude::FromDer,
    public_key::PublicKey as Parsed,
    x509::SubjectPublicKeyInfo,
};

/// Bytes of an RSA modulus that are accepted: 2048 to 8192 bits, as `ring` does.
const RSA_MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;
/// Bytes of an RSA exponent that are accepted.
const RSA_EXPONENT: std::ops::RangeInclusive<usize> = 1..=4;

/// Why a public key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A kind of key that is not known here.
    #[error("the kind of key is not known: RSA, and P-256, P-384, P-521 and Ed25519 are")]
    UnknownKind,
    /// A parameter is missing.
    #[error("the key has no parameter {0:?}")]
    Missing(&'static str),
    /// A parameter that is not base64url without padding.
    #[error("the key's parameter {0:?} is not base64url without padding")]
    NotBase64(&'static str),
    /// A parameter of a length that a key of this kind does not have.
    #[error("the key's parameter {name:?} has {length} bytes, which no usable key of this kind has")]
    Length {
        /// Which parameter.
        name: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// No SubjectPublicKeyInfo in DER.
    #[error("not a public key in DER: {0}")]
    NotDer(String),
}

/// A curve of NIST's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// P-521.
    P521,
}

impl Curve {
    /// As a JSON Web Key names it.
    pub fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::P521 => "P-521",
        }
    }

    fn coordinate(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    fn of_name(name: &str) -> Option<Curve> {
        [Curve::P256, Curve::P384, Curve::P521]
            .into_iter()
            .find(|curve| curve.name() == name)
    }

    fn of_oid(oid: &Oid<'_>) -> Option<Curve> {
        if *oid == oid!(1.2.840.10045.3.1.7) {
            Some(Curve::P256)
        } else if *oid == oid!(1.3.132.0.34) {
            Some(Curve::P384)
        } else if *oid == oid!(1.3.132.0.35) {
            Some(Curve::P521)
        } else {
            None
        }
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicKey {
    /// RSA; big-endian, without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point on a curve of NIST's; each coordinate has the curve's full length.
    Ec {
        /// The curve.
        curve: Curve,
        /// The uncompressed point: 4, x, y (SEC 1 section 2.3.3).
        point: Vec<u8>,
    },
    /// Ed25519.
    Ed25519(Vec<u8>),
}

/// A JSON Web Key, as far as bundles use them. Fields in the order in which SPIRE writes them.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Jwk {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kty: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x5c: Option<Vec<String>>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    /// [`KeyError`], when it is none, or of a kind that is not known.
    pub fn from_spki_der(der: &[u8]) -> Result<PublicKey, KeyError> {
        let (rest, read) = SubjectPublicKeyInfo::from_der(der).map_err(|error| KeyError::NotDer(error.to_string()))?;
        if !rest.is_empty() {
            return Err(KeyError::NotDer(format!("{} bytes too many", rest.len())));
        }
        PublicKey::of(&read)
    }

    /// The public key of a certificate.
    pub(crate) fn of(read: &SubjectPublicKeyInfo<'_>) -> Result<PublicKey, KeyError> {
        if read.algorithm.algorithm == oid!(1.3.101.112) {
            return ed25519(read.subject_public_key.data.to_vec());
        }
        match read.parsed().map_err(|error| KeyError::NotDer(error.to_string()))? {
            Parsed::RSA(key) => rsa(without_zeros(key.modulus), without_zeros(key.exponent)),
            Parsed::EC(point) => {
                let parameters = read.algorithm.parameters.as_ref().ok_or(KeyError::UnknownKind)?;
                let name = parameters.as_oid().map_err(|_| KeyError::UnknownKind)?;
                ec(
                    Curve::of_oid(&name).ok_or(KeyError::UnknownKind)?,
                    point.data().to_vec(),
                )
            }
            _ => Err(KeyError::UnknownKind),
        }
    }

    /// Reads the parameters of a JSON Web Key (RFC 7518 section 6).
    pub(crate) fn of_jwk(jwk: &Jwk) -> Result<PublicKey, KeyError> {
        let bytes = |name: &'static str, text: &Option<String>| {
            let text = text.as_ref().ok_or(KeyError::Missing(name))?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::NotBase64(name))
        };
        match (jwk.kty.as_deref(), jwk.crv.as_deref()) {
            (Some("RSA"), _) => rsa(without_zeros(&bytes("n", &jwk.n)?), without_zeros(&bytes("e", &jwk.e)?)),
            (Some("EC"), None) | (Some("OKP"), None) => Err(KeyError::Missing("crv")),
            (Some("EC"), Some(name)) => {
                let curve = Curve::of_name(name).ok_or(KeyError::UnknownKind)?;
                let (x, y) = (bytes("x", &jwk.x)?, bytes("y", &jwk.y)?);
                for (name, coordinate) in [("x", &x), ("y", &y)] {
                    if coordinate.len() != curve.coordinate() {
                        let length = coordinate.len();
                        return Err(KeyError::Length { name, length });
                    }
                }
                ec(curve, [&[4], x.as_slice(), y.as_slice()].concat())
            }
            (Some("OKP"), Some("Ed25519")) => ed25519(bytes("x", &jwk.x)?),
            _ => Err(KeyError::UnknownKind),
        }
    }

    /// As a JSON Web Key, without use and name.
    pub(crate) fn to_jwk(&self) -> Jwk {
        let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
        match self {
            PublicKey::Rsa { n, e } => Jwk {
                kty: Some("RSA".to_owned()),
                n: text(n),
                e: text(e),
                ..Jwk::default()
            },
            PublicKey::Ec { curve, point } => {
                let (x, y) = point.get(1..).unwrap_or_default().split_at(curve.coordinate());
                Jwk {
                    kty: Some("EC".to_owned()),
                    crv: Some(curve.name().to_owned()),
                    x: text(x),
                    y: text(y),
                    ..Jwk::default()
                }
            }
            PublicKey::Ed25519(x) => Jwk {
                kty: Some("OKP".to_owned()),
                crv: Some("Ed25519".to_owned()),
                x: text(x),
                ..Jwk::default()
            },
        }
    }
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<PublicKey, KeyError> {
    let length = |name, bytes: &[u8]| KeyError::Length {
        name,
        length: bytes.len(),
    };
    if !RSA_MODULUS.contains(&n.len()) {
        return Err(length("n", &n));
    }
    if !RSA_EXPONENT.contains(&e.len()) {
        return Err(length("e", &e));
    }
    Ok(PublicKey::Rsa { n, e })
}

fn ec(curve: Curve, point: Vec<u8>) -> Result<PublicKey, KeyError> {
    if point.len() != 1 + 2 * curve.coordinate() || point.first() != Some(&4) {
        let length = point.len();
        return Err(KeyError::Length { name: "point", length });
    }
    Ok(PublicKey::Ec { curve, point })
}

fn ed25519(key: Vec<u8>) -> Result<PublicKey, KeyError> {
    match key.len() {
        32 => Ok(PublicKey::Ed25519(key)),
        length => Err(KeyError::Length { name: "x", length }),
    }
}

/// A number as JSON Web Keys write it: DER puts a zero before one whose first bit is set.
fn without_zeros(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
}
