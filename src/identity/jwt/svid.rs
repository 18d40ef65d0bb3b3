//! Tokens that have the form of a JWT-SVID, and those that were verified.

use std::fmt;

use serde_json::{Map, Value};

use super::{JwtError, compact};
use crate::SpiffeId;

/// A token with the form of a JWT-SVID: compact, an allowed algorithm, and `sub`, `aud` and `exp` in its claims. Nobody has
/// vouched for it: it is what an issuer hands to a workload. The token is a credential, and no `Debug` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSvid {
    token: String,
    claims: Claims,
    hint: String,
}

/// What a JWT-SVID says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) id: SpiffeId,
    pub(super) audience: Vec<String>,
    pub(super) expires: u64,
    pub(super) not_before: Option<u64>,
    pub(super) issued: Option<u64>,
    pub(super) all: Map<String, Value>,
}

/// What a verified JWT-SVID says. There is one only where signature, audience and time held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedJwt(pub(super) Claims);

impl JwtSvid {
    /// Reads a token that came from one's own issuer, as the Workload API's answer. It is **not** verified: see
    /// [`verify`](super::verify) for tokens of a peer.
    ///
    /// # Errors
    /// [`JwtError`], when it has not the form of a JWT-SVID.
    pub fn read_unverified(token: &str) -> Result<JwtSvid, JwtError> {
        Ok(JwtSvid {
            claims: Claims::read(compact::read(token)?.claims)?,
            token: token.to_owned(),
            hint: String::new(),
        })
    }

    /// With the operator's hint, by which a workload of several SVIDs tells them apart.
    #[must_use]
    pub fn with_hint(mut self, hint: &str) -> JwtSvid {
        self.hint = hint.to_owned();
        self
    }

    /// The token, to be sent to the audience and to nobody else.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whom it says it identifies.
    pub fn id(&self) -> &SpiffeId {
        &self.claims.id
    }

    /// For whom it is.
    pub fn audience(&self) -> &[String] {
        &self.claims.audience
    }

    /// Until when it may be used, in seconds since 1970.
    pub fn expires(&self) -> u64 {
        self.claims.expires
    }

    /// When it was issued, in seconds since 1970, if it says so.
    pub fn issued(&self) -> Option<u64> {
        self.claims.issued
    }

    /// The operator's hint; empty if there is none.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSvid")
            .field("claims", &self.claims)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

impl VerifiedJwt {
    /// Whom it identifies.
    pub fn id(&self) -> &SpiffeId {
        &self.0.id
    }

    /// For whom it is; the verifier is among them.
    pub fn audience(&self) -> &[String] {
        &self.0.audience
    }

    /// Until when it may be used, in seconds since 1970.
    pub fn expires(&self) -> u64 {
        self.0.expires
    }

    /// When it was issued, in seconds since 1970, if it says so.
    pub fn issued(&self) -> Option<u64> {
        self.0.issued
    }

    /// All of its claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0.all
    }
}

impl Claims {
    /// Holds claims to section 3.
    pub(super) fn read(all: Map<String, Value>) -> Result<Claims, JwtError> {
        let id = match all.get("sub") {
            None => return Err(JwtError::Missing("sub")),
            Some(Value::String(text)) => SpiffeId::parse(text)?,
            Some(_) => return Err(JwtError::Claim("sub")),
        };
        if id.path().is_root() {
            return Err(JwtError::NoPath(id.trust_domain().clone()));
        }
        Ok(Claims {
            id,
            audience: audience(all.get("aud"))?,
            expires: time(&all, "exp")?.ok_or(JwtError::Missing("exp"))?,
            not_before: time(&all, "nbf")?,
            issued: time(&all, "iat")?,
            all,
        })
    }
}

/// One text or several (RFC 7519 section 4.1.3), at least one that is not empty.
fn audience(claim: Option<&Value>) -> Result<Vec<String>, JwtError> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(JwtError::Claim("aud"));
    let found = match claim {
        None | Some(Value::Null) => return Err(JwtError::Missing("aud")),
        Some(Value::Array(values)) => values.iter().map(text).collect::<Result<Vec<_>, _>>()?,
        Some(value) => vec![text(value)?],
    };
    if found.is_empty() || found.iter().any(String::is_empty) {
        return Err(JwtError::Missing("aud"));
    }
    Ok(found)
}

/// Seconds since 1970, for which JSON numbers with a fraction are allowed too (RFC 7519 section 2, NumericDate); they are cut.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, JwtError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    if let Some(seconds) = value.as_u64() {
        return Ok(Some(seconds));
    }
    match value.as_f64() {
        // A cast saturates: what is past the end of time is never reached.
        Some(seconds) if seconds >= 0.0 => Ok(Some(seconds as u64)),
        _ => Err(JwtError::Claim(name)),
    }
}
