//! Service-account tokens: JSON Web Tokens signed with ES256.
//!
//! Source: RFC 7515 (JWS), RFC 7518 §3.4 (ES256), RFC 7519 (JWT); Kubernetes' "Bound service account tokens".

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
    },
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Longer than any token this cluster signs; more is refused before it is parsed.
const MAX_TOKEN: usize = 16 * 1024;

/// Why a token was refused, or its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The key is no P-256 key.
    #[error("not a P-256 private key: {0}")]
    Key(String),
    /// It is no JWT of this cluster's making.
    #[error("malformed token")]
    Malformed,
    /// Its signature is not this cluster's.
    #[error("the token's signature is invalid")]
    Signature,
    /// Its time is over, or has not come.
    #[error("the token has expired")]
    Expired,
    /// It was made for somebody else.
    #[error("the token's audiences do not include this API server")]
    Audience,
}

/// The claims of a service-account token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenClaims {
    /// Who signed it.
    pub iss: String,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
    /// Whom it is for.
    pub aud: Vec<String>,
    /// Not after, in seconds since 1970.
    pub exp: i64,
    /// Signed at.
    pub iat: i64,
    /// Not before.
    pub nbf: i64,
    /// What it is bound to: namespace, service account, pod, each with its uid.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Value,
}

/// The key that signs and verifies tokens.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    pem: String,
    id: String,
}

impl TokenKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, TokenError> {
        let key = rcgen::KeyPair::generate().map_err(|error| TokenError::Key(error.to_string()))?;
        Self::from_pem(&key.serialize_pem())
    }

    /// The key in a PKCS #8 PEM.
    ///
    /// # Errors
    /// When it is no P-256 key.
    pub fn from_pem(pem: &str) -> Result<Self, TokenError> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| TokenError::Key(error.to_string()))?;
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            der.secret_pkcs8_der(),
            &SystemRandom::new(),
        )
        .map_err(|error| TokenError::Key(error.to_string()))?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.public_key().as_ref()));
        Ok(Self {
            pair,
            pem: pem.to_owned(),
            id,
        })
    }

    /// The private key as PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs `claims`.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn sign(&self, claims: &TokenClaims) -> Result<String, TokenError> {
        let header = json!({"alg": "ES256", "kid": self.id, "typ": "JWT"}).to_string();
        let claims = serde_json::to_vec(claims).map_err(|_| TokenError::Malformed)?;
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message.as_bytes())
            .map_err(|_| TokenError::Signature)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token that this key signed, that is valid at `now` (seconds since 1970) and meant for `audience`.
    ///
    /// # Errors
    /// One [`TokenError`] per reason.
    pub fn verify(&self, token: &str, audience: &str, now: i64) -> Result<TokenClaims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header["alg"] != "ES256" {
            return Err(TokenError::Malformed);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(message.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: TokenClaims = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)?;
        if now >= claims.exp || now < claims.nbf {
            return Err(TokenError::Expired);
        }
        if !claims.aud.iter().any(|aud| aud == audience) {
            return Err(TokenError::Audience);
        }
        Ok(claims)
    }
}
