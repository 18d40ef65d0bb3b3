//! JWT-SVIDs: JSON Web Tokens signed with ES256 (RFC 7515, RFC 7518 section 3.4, JWT-SVID).

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::{Rng, distr::Alphanumeric};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::{Value, json};

use super::{Made, Published, Settings, end};
use ztlab_identity::SpiffeId;

use crate::{
    refusal::Refusal,
    store::{JwtAuthority, Slot, Standing},
};

/// Letters of a key id.
const KEY_ID_LETTERS: usize = 32;

/// Signs tokens with one authority.
pub struct JwtSigner {
    id: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
    not_after: i64,
}

impl JwtSigner {
    /// The signer of the authority in `slot`, whose key is `pkcs8`.
    pub fn new(slot: &Slot, pkcs8: &[u8]) -> Result<Self, Refusal> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|error| Refusal::internal(format!("the key of JWT authority {} is unusable: {error}", slot.id)))?;
        Ok(Self {
            id: slot.id.clone(),
            key,
            random,
            not_after: slot.not_after,
        })
    }

    /// The key id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A token of `id` for `audience`, with when it was issued and ends; it ends no later than its authority.
    pub fn sign(
        &self,
        id: &SpiffeId,
        audience: &[String],
        now: i64,
        ttl: Duration,
        issuer: Option<&str>,
        with_jti: bool,
    ) -> Result<(String, i64, i64), Refusal> {
        let audience: Vec<&String> = audience.iter().filter(|one| !one.is_empty()).collect();
        if audience.is_empty() {
            return Err(Refusal::invalid("at least one audience is required"));
        }
        let expires_at = end(now, ttl).min(self.not_after);
        let mut claims = json!({ "sub": id.to_string(), "aud": audience, "iat": now, "exp": expires_at });
        if let Some(issuer) = issuer {
            claims["iss"] = Value::from(issuer);
        }
        if with_jti {
            claims["jti"] = Value::from(BASE64_URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 16]>()));
        }
        let header = json!({ "alg": "ES256", "kid": self.id, "typ": "JWT" });
        let signed = format!("{}.{}", segment(&header), segment(&claims));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .map_err(|_| Refusal::internal("the token could not be signed"))?;
        let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
        Ok((token, now, expires_at))
    }
}

fn segment(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

pub(super) fn new_authority(settings: &Settings, now: i64) -> Result<Made, Refusal> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|error| Refusal::internal(format!("no key could be made: {error}")))?;
    let id: String = rand::rng()
        .sample_iter(Alphanumeric)
        .take(KEY_ID_LETTERS)
        .map(char::from)
        .collect();
    let not_after = end(now, settings.ca_ttl);
    Ok(Made {
        slot: Slot {
            id: id.clone(),
            standing: Standing::Prepared,
            issued_at: now,
            not_after,
            certificate: Vec::new(),
        },
        pkcs8: key.serialize_der(),
        published: Published::Jwt(JwtAuthority {
            key_id: id,
            public_key: key.subject_public_key_info(),
            expires_at: not_after,
            tainted: false,
        }),
    })
}
