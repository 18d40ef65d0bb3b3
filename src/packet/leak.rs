//! Secrets in plain sight.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Peer;

/// What kind of secret was readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeakKind {
    /// `Authorization: Bearer …`, RFC 6750 §2.1.
    BearerToken,
    /// `Authorization: Basic …`, RFC 7617.
    BasicAuth,
    /// A payment card number: 13 to 19 digits that pass the Luhn check, ISO/IEC 7812-1.
    CardNumber,
    /// A database password sent in clear, with its user.
    DatabaseLogin,
    /// A session cookie: `Cookie` or `Set-Cookie`, RFC 6265.
    Cookie,
    /// An API key in a header of that name (`x-api-key`, `api-key` …).
    ApiKey,
}

impl LeakKind {
    /// Every kind.
    pub const ALL: [LeakKind; 6] = [
        LeakKind::BearerToken,
        LeakKind::BasicAuth,
        LeakKind::CardNumber,
        LeakKind::DatabaseLogin,
        LeakKind::Cookie,
        LeakKind::ApiKey,
    ];

    /// The name used in lab files, filters and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            LeakKind::BearerToken => "bearer-token",
            LeakKind::BasicAuth => "basic-auth",
            LeakKind::CardNumber => "card-number",
            LeakKind::DatabaseLogin => "database-login",
            LeakKind::Cookie => "cookie",
            LeakKind::ApiKey => "api-key",
        }
    }
}

impl fmt::Display for LeakKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that is no kind of leak.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown kind of leak {0:?}, expected one of bearer-token, basic-auth, card-number, database-login, cookie, api-key"
)]
pub struct UnknownLeakKind(pub String);

impl FromStr for LeakKind {
    type Err = UnknownLeakKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownLeakKind(name.to_owned()))
    }
}

/// One secret that could be read off the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    /// What it is.
    pub kind: LeakKind,
    /// The secret itself: the token, the digits of the card without separators, the password, the cookie's
    /// `name=value`.
    pub value: String,
    /// Whose it is, where that stands beside it: the user of a database login or of basic auth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// First byte of it in the message's `text`.
    pub start: usize,
    /// One past its last byte in the message's `text`; both are character boundaries.
    pub end: usize,
    /// Number of the frame that carried its first byte.
    pub frame: u64,
    /// Who sent it.
    pub from: Peer,
    /// To whom.
    pub to: Peer,
}
