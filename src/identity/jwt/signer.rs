//! The issuer's half: a key that signs JWT-SVIDs.

use std::fmt;

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Algorithm, JwtError, JwtSvid, compact};
use crate::{PublicKey, SpiffeId, key::Curve};

/// A key of a trust domain that signs JWT-SVIDs with ES256, SPIRE's default. Shown by no `Debug`.
pub struct Signer {
    kid: String,
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    /// Makes a P-256 key: PKCS#8 in DER, to be kept and given to [`Signer::from_pkcs8`].
    ///
    /// # Errors
    /// [`JwtError::SigningKey`], when the system gives no random numbers.
    pub fn generate_pkcs8() -> Result<Zeroizing<Vec<u8>>, JwtError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|document| Zeroizing::new(document.as_ref().to_vec()))
            .map_err(|_| JwtError::SigningKey("the system gave no random numbers".to_owned()))
    }

    /// Takes a P-256 key, PKCS#8 in DER, and the name by which tokens call it.
    ///
    /// # Errors
    /// [`JwtError::SigningKey`], when it is none.
    pub fn from_pkcs8(kid: &str, pkcs8: &[u8]) -> Result<Signer, JwtError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|rejected| JwtError::SigningKey(rejected.to_string()))?;
        let kid = kid.to_owned();
        Ok(Signer { kid, pair, random })
    }

    /// The name by which tokens call the key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half, for the bundle.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::Ec {
            curve: Curve::P256,
            point: self.pair.public_key().as_ref().to_vec(),
        }
    }

    /// Issues a token for a workload. Times are seconds since 1970.
    ///
    /// # Errors
    /// [`JwtError`], when the standard allows no such token: without an audience, or for a trust domain's own id.
    pub fn sign(&self, id: &SpiffeId, audience: &[String], issued: u64, expires: u64) -> Result<JwtSvid, JwtError> {
        self.sign_with(id, audience, issued, expires, &Map::new())
    }

    /// As [`Signer::sign`], with claims beside those that the standard names, as `iss` and `jti`.
    ///
    /// # Errors
    /// As [`Signer::sign`], and [`JwtError::Claim`], when `more` has one of the standard's claims.
    pub fn sign_with(
        &self,
        id: &SpiffeId,
        audience: &[String],
        issued: u64,
        expires: u64,
        more: &Map<String, Value>,
    ) -> Result<JwtSvid, JwtError> {
        if let Some(name) = ["sub", "aud", "exp", "iat"]
            .into_iter()
            .find(|name| more.contains_key(*name))
        {
            return Err(JwtError::Claim(name));
        }
        let mut claims = more.clone();
        claims.insert("sub".to_owned(), id.to_string().into());
        claims.insert("aud".to_owned(), audience.into());
        claims.insert("exp".to_owned(), expires.into());
        claims.insert("iat".to_owned(), issued.into());
        let header = json!({ "alg": Algorithm::Es256.name(), "kid": self.kid, "typ": "JWT" });
        let token = compact::write(&header, &Value::Object(claims), |message| {
            match self.pair.sign(&self.random, message) {
                Ok(signature) => Ok(signature.as_ref().to_vec()),
                Err(_) => Err(JwtError::SigningKey("the system gave no random numbers".to_owned())),
            }
        })?;
        JwtSvid::read_unverified(&token)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}
