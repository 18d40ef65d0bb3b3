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

/// The issuer of tokens that stand in Secrets and do not end.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// The claims of a service-account token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenClaims {
    /// Who signed it.
    pub iss: String,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
    /// Whom it is for; a token in a Secret does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// Not after, in seconds since 1970. Only a token in a Secret has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// Signed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// The token's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// What it is bound to: namespace, service account, pod or Secret, each with its uid.
    #[serde(default, rename = "kubernetes.io", skip_serializing_if = "Value::is_null")]
    pub kubernetes: Value,
    /// What a token in a Secret says instead.
    #[serde(flatten)]
    pub legacy: Option<LegacyClaims>,
}

/// The claims of a token that stands in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LegacyClaims {
    /// The namespace of both.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    /// The Secret's name.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    /// The account's name.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    /// The account's uid.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub uid: String,
}

impl TokenClaims {
    /// The claims of the token in the Secret that `claims` names.
    pub fn in_secret(claims: LegacyClaims) -> Self {
        Self {
            iss: LEGACY_ISSUER.to_owned(),
            sub: format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
            legacy: Some(claims),
            ..Self::default()
        }
    }

    /// Which of `audiences` the token is for. A token in a Secret is for the API server, whose audience is `own`.
    ///
    /// # Errors
    /// [`TokenError::Audience`] when it is for none.
    pub fn audiences(&self, audiences: &[&str], own: &str) -> Result<Vec<String>, TokenError> {
        let mine = |wanted: &&&str| match self.iss == LEGACY_ISSUER {
            true => **wanted == own,
            false => self.aud.iter().any(|mine| mine == **wanted),
        };
        let found: Vec<String> = audiences.iter().filter(mine).map(|one| (*one).to_owned()).collect();
        if found.is_empty() {
            return Err(TokenError::Audience);
        }
        Ok(found)
    }
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

    /// The public half as a JSON Web Key (RFC 7517, RFC 7518 §6.2).
    pub fn jwk(&self) -> Value {
        // An uncompressed point: 4, then x and y.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        let encode = |half: &[u8]| URL_SAFE_NO_PAD.encode(half);
        json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": encode(x), "y": encode(y)})
    }

    /// The claims of a token that this key signed and that is valid at `now` (seconds since 1970). Whom it is for is the
    /// caller's to ask ([`TokenClaims::audiences`]).
    ///
    /// # Errors
    /// One [`TokenError`] per reason.
    pub fn verify(&self, token: &str, now: i64) -> Result<TokenClaims, TokenError> {
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
        if claims.iss == LEGACY_ISSUER {
            return Ok(claims);
        }
        let expires = claims.exp.ok_or(TokenError::Malformed)?;
        if now >= expires || claims.nbf.is_some_and(|begins| now < begins) {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}
