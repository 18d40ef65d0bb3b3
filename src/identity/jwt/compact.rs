//! JWS compact serialization (RFC 7515 section 3.1), as far as JWT-SVID allows it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{Algorithm, JwtError};

/// Bytes of a token that are read; servers refuse longer headers.
pub(super) const LONGEST: usize = 16 << 10;

/// A token taken apart.
pub(super) struct Compact<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// What is signed: header and claims as they stand in the token.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

/// Takes a token apart and holds its header to sections 2 and 5.1.
pub(super) fn read(token: &str) -> Result<Compact<'_>, JwtError> {
    if token.len() > LONGEST {
        return Err(JwtError::TooLong(token.len()));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::NotCompact)?;
    let (header, claims) = signed.split_once('.').ok_or(JwtError::NotCompact)?;
    if claims.contains('.') || header.is_empty() || claims.is_empty() || signature.is_empty() {
        return Err(JwtError::NotCompact);
    }
    let (algorithm, kid) = read_header(object("header", header)?)?;
    Ok(Compact {
        algorithm,
        kid,
        claims: object("claims", claims)?,
        signed,
        signature: bytes("signature", signature)?,
    })
}

/// Header, claims and signature of a token to be; `sign` signs what stands before the second dot.
pub(super) fn write<E>(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn read_header(header: Map<String, Value>) -> Result<(Algorithm, Option<String>), JwtError> {
    let mut algorithm = None;
    let mut kid = None;
    for (name, value) in header {
        match (name.as_str(), value) {
            ("alg", Value::String(text)) => {
                algorithm = Some(Algorithm::of_name(&text).ok_or(JwtError::Algorithm(text))?);
            }
            ("alg", other) => return Err(JwtError::Algorithm(other.to_string())),
            ("kid", Value::String(text)) => kid = Some(text),
            ("typ", Value::String(text)) if matches!(text.as_str(), "JWT" | "JOSE") => {}
            ("typ", other) => return Err(JwtError::Type(other.to_string())),
            _ => return Err(JwtError::Header(name)),
        }
    }
    match algorithm {
        Some(algorithm) => Ok((algorithm, kid)),
        None => Err(JwtError::Algorithm(String::new())),
    }
}

fn bytes(part: &'static str, text: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::NotBase64(part))
}

fn object(part: &'static str, text: &str) -> Result<Map<String, Value>, JwtError> {
    let json = bytes(part, text)?;
    match serde_json::from_slice::<Unique>(&json) {
        Ok(unique) => Ok(unique.0),
        Err(error) => Err(JwtError::NotJson {
            part,
            reason: error.to_string(),
        }),
    }
}

/// An object none of whose members is there twice: of two subjects, another reader may believe the other
/// (RFC 7515 section 4, RFC 7519 section 4).
struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format!("the member {name:?} is there twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Unique(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
