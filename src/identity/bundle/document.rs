//! Bundles as JSON: a JWK set with two members of SPIFFE's (SPIFFE Trust Domain and Bundle section 4).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, value::RawValue};

use super::{Bundle, BundleError, JwtBundle, MOST_KEYS, X509Bundle};
use crate::{KeyError, PublicKey, TrustDomain, key::Jwk, x509::Authority};

/// Bytes of a bundle that are read: a hundred certificates and more.
pub(super) const LONGEST: usize = 1 << 20;

const X509_SVID: &str = "x509-svid";
const JWT_SVID: &str = "jwt-svid";

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
    spiffe_sequence: Option<u64>,
    spiffe_refresh_hint: Option<u64>,
}

/// What decides whether an entry is for us; of any type, since an entry that is not for us may say what it likes.
#[derive(Deserialize)]
struct Kind {
    kty: Option<Value>,
    #[serde(rename = "use")]
    usage: Option<Value>,
}

/// What an entry is good for here.
enum Entry {
    Authority(Authority),
    Key(String, PublicKey),
    Ignored,
}

#[derive(Serialize)]
struct Written {
    keys: Vec<Jwk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_refresh_hint: Option<u64>,
}

impl Bundle {
    /// Reads a trust domain's bundle. Entries of an unknown kind of key or an unknown or missing use are passed over, as
    /// section 4.2 has it; a bundle without usable entries trusts nothing.
    ///
    /// # Errors
    /// [`BundleError`], when it is no bundle, or an entry for X.509- or JWT-SVIDs is damaged.
    pub fn from_json(trust_domain: TrustDomain, json: &[u8]) -> Result<Bundle, BundleError> {
        let (document, authorities, keys) = read(json)?;
        let x509 = X509Bundle::new(trust_domain.clone(), authorities);
        Ok(Bundle::new(x509, JwtBundle::new(trust_domain, keys)?)?
            .with_sequence(document.spiffe_sequence)
            .with_refresh_hint(document.spiffe_refresh_hint.map(Duration::from_secs)))
    }

    /// The bundle as JSON, without line breaks.
    ///
    /// # Errors
    /// Memory for the text could not be had.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl JwtBundle {
    /// Reads the JWK set of the Workload API (section 6.2.2), which is a bundle whose other entries are passed over.
    ///
    /// # Errors
    /// As [`Bundle::from_json`].
    pub fn from_json(trust_domain: TrustDomain, json: &[u8]) -> Result<JwtBundle, BundleError> {
        let (_, _, keys) = read(json)?;
        JwtBundle::new(trust_domain, keys)
    }

    /// The JWK set as JSON, without line breaks.
    ///
    /// # Errors
    /// Memory for the text could not be had.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

type Read<'a> = (Document<'a>, Vec<Authority>, Vec<(String, PublicKey)>);

fn read(json: &[u8]) -> Result<Read<'_>, BundleError> {
    if json.len() > LONGEST {
        return Err(BundleError::TooLong(json.len()));
    }
    let document: Document<'_> = serde_json::from_slice(json).map_err(not_json)?;
    let (mut authorities, mut keys) = (Vec::new(), Vec::new());
    for (index, raw) in document.keys.iter().enumerate() {
        match entry(index, raw.get())? {
            Entry::Authority(authority) => authorities.push(authority),
            Entry::Key(kid, key) => keys.push((kid, key)),
            Entry::Ignored => {}
        }
        if authorities.len().max(keys.len()) > MOST_KEYS {
            return Err(BundleError::TooManyKeys);
        }
    }
    Ok((document, authorities, keys))
}

fn entry(index: usize, json: &str) -> Result<Entry, BundleError> {
    let kind: Kind = serde_json::from_str(json).map_err(not_json)?;
    let (Some(Value::String(kty)), Some(Value::String(usage))) = (kind.kty, kind.usage) else {
        return Ok(Entry::Ignored);
    };
    if !matches!(kty.as_str(), "RSA" | "EC" | "OKP") {
        return Ok(Entry::Ignored);
    }
    match usage.as_str() {
        X509_SVID => authority(index, &serde_json::from_str(json).map_err(not_json)?),
        JWT_SVID => key(index, serde_json::from_str(json).map_err(not_json)?),
        _ => Ok(Entry::Ignored),
    }
}

/// Only the first certificate counts, and an entry without one is passed over (X509-SVID section 6.2).
fn authority(index: usize, jwk: &Jwk) -> Result<Entry, BundleError> {
    let Some(first) = jwk.x5c.as_ref().and_then(|chain| chain.first()) else {
        return Ok(Entry::Ignored);
    };
    let der = STANDARD.decode(first).map_err(|_| BundleError::NotBase64(index))?;
    Authority::read(CertificateDer::from(der))
        .map(Entry::Authority)
        .map_err(|error| BundleError::Certificate { index, error })
}

fn key(index: usize, jwk: Jwk) -> Result<Entry, BundleError> {
    match PublicKey::of_jwk(&jwk) {
        // Curves are part of the kind of key: one that no JWT-SVID is signed with is as unknown as another `kty`.
        Err(KeyError::UnknownKind) | Ok(PublicKey::Ed25519(_)) => Ok(Entry::Ignored),
        Err(error) => Err(BundleError::Key { index, error }),
        Ok(key) => Ok(Entry::Key(jwk.kid.ok_or(BundleError::MissingKeyId)?, key)),
    }
}

fn not_json(error: serde_json::Error) -> BundleError {
    BundleError::NotJson(error.to_string())
}

fn written_x509(bundle: &X509Bundle) -> impl Iterator<Item = Jwk> {
    bundle.authorities().iter().map(|authority| Jwk {
        usage: Some(X509_SVID.to_owned()),
        x5c: Some(vec![STANDARD.encode(authority.der())]),
        ..authority.public_key().to_jwk()
    })
}

fn written_jwt(bundle: &JwtBundle) -> impl Iterator<Item = Jwk> {
    bundle.keys().iter().map(|(kid, key)| Jwk {
        usage: Some(JWT_SVID.to_owned()),
        kid: Some(kid.clone()),
        ..key.to_jwk()
    })
}

impl Serialize for Bundle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written {
            keys: written_x509(self.x509()).chain(written_jwt(self.jwt())).collect(),
            spiffe_sequence: self.sequence(),
            spiffe_refresh_hint: self.refresh_hint().map(|hint| hint.as_secs()),
        }
        .serialize(serializer)
    }
}

impl Serialize for JwtBundle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written {
            keys: written_jwt(self).collect(),
            spiffe_sequence: None,
            spiffe_refresh_hint: None,
        }
        .serialize(serializer)
    }
}
