//! Secrets in plain sight.
//!
//! Three detectors: [`header`] knows the headers that carry credentials, [`card`] the numbers of payment cards, and
//! [`secret`] the forms that secrets have wherever they stand: private keys, keys of well-known issuers, fields of
//! forms and JSON that are named for what they hold.

mod card;
mod header;
mod secret;

use std::{fmt, ops::Range, str::FromStr};

pub(super) use card::card_numbers;
pub(super) use header::{gives_away, in_header};
pub(super) use secret::secrets;
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
    /// An API key: in a header or field of that name (`x-api-key`, `api_key` …), or of an issuer's known form.
    ApiKey,
    /// A password in a form, in JSON or in SQL.
    Password,
    /// A private key in PEM, RFC 7468.
    PrivateKey,
}

impl LeakKind {
    /// Every kind.
    pub const ALL: [LeakKind; 8] = [
        LeakKind::BearerToken,
        LeakKind::BasicAuth,
        LeakKind::CardNumber,
        LeakKind::DatabaseLogin,
        LeakKind::Cookie,
        LeakKind::ApiKey,
        LeakKind::Password,
        LeakKind::PrivateKey,
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
            LeakKind::Password => "password",
            LeakKind::PrivateKey => "private-key",
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
    "unknown kind of leak {0:?}, expected one of bearer-token, basic-auth, card-number, database-login, cookie, api-key, password, \
     private-key"
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

/// Bytes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The frame's number.
    pub frame: u64,
    /// Its first byte, counted from the start of the frame.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
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
    /// What it says, where it is a JSON Web Token: its signature was not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// First byte of it in the message's `text`.
    pub start: usize,
    /// One past its last byte in the message's `text`; both are character boundaries.
    pub end: usize,
    /// Number of the frame that carried its first byte.
    pub frame: u64,
    /// Where its bytes stand in the frames that carried them; more than one where segments part it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// Who sent it.
    pub from: Peer,
    /// To whom.
    pub to: Peer,
}

/// A leak within a text, before it is known who said it to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub kind: LeakKind,
    pub value: String,
    pub account: Option<String>,
    pub range: Range<usize>,
}

impl Found {
    pub(crate) fn plain(kind: LeakKind, text: &str, range: Range<usize>) -> Self {
        Self {
            kind,
            value: text[range.clone()].to_owned(),
            account: None,
            range,
        }
    }
}
