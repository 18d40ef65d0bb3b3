//! Secrets in plain sight.

use std::{fmt, ops::Range, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{Peer, text};

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
    fn plain(kind: LeakKind, text: &str, range: Range<usize>) -> Self {
        Self {
            kind,
            value: text[range.clone()].to_owned(),
            account: None,
            range,
        }
    }
}

/// Headers whose value is a key by common convention; no standard names them.
const API_KEY_HEADERS: [&str; 6] = [
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
    "x-amz-security-token",
];

/// What a header gives away. `range` is where its value stands in `text`.
pub(super) fn in_header(name: &str, text: &str, range: Range<usize>, found: &mut Vec<Found>) {
    let name = name.to_ascii_lowercase();
    let value = &text[range.clone()];
    match name.as_str() {
        "authorization" | "proxy-authorization" => in_authorization(text, range, found),
        "cookie" => {
            let mut at = range.start;
            for pair in value.split(';') {
                let trimmed = pair.trim();
                let start = at + (pair.len() - pair.trim_start().len());
                if !trimmed.is_empty() {
                    found.push(Found::plain(LeakKind::Cookie, text, start..start + trimmed.len()));
                }
                at += pair.len() + 1;
            }
        }
        "set-cookie" => {
            let pair = value.split(';').next().unwrap_or(value).trim_end();
            if !pair.is_empty() {
                found.push(Found::plain(
                    LeakKind::Cookie,
                    text,
                    range.start..range.start + pair.len(),
                ));
            }
        }
        name if API_KEY_HEADERS.contains(&name) && !value.is_empty() => {
            found.push(Found::plain(LeakKind::ApiKey, text, range));
        }
        _ => {}
    }
}

fn in_authorization(text: &str, range: Range<usize>, found: &mut Vec<Found>) {
    let value = &text[range.clone()];
    let Some((scheme, rest)) = value.split_once(' ') else {
        return;
    };
    let credentials = rest.trim();
    if credentials.is_empty() {
        return;
    }
    let start = range.start + scheme.len() + 1 + (rest.len() - rest.trim_start().len());
    let range = start..start + credentials.len();
    if scheme.eq_ignore_ascii_case("bearer") {
        found.push(Found::plain(LeakKind::BearerToken, text, range));
    } else if scheme.eq_ignore_ascii_case("basic") {
        let Ok(decoded) = STANDARD.decode(credentials) else {
            return;
        };
        let (user, password) = match decoded.iter().position(|byte| *byte == b':') {
            Some(colon) => (&decoded[..colon], &decoded[colon + 1..]),
            None => (&decoded[..], &[][..]),
        };
        let (user, value) = (text::one_line(user), text::one_line(password));
        found.push(Found {
            kind: LeakKind::BasicAuth,
            value,
            account: Some(user),
            range,
        });
    }
}

/// Digits a card number may have, ISO/IEC 7812-1.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Card numbers in a stretch of text: digits in a row or in groups parted by single spaces or hyphens, that pass
/// the Luhn check and begin as an issuer's numbers do.
pub(super) fn card_numbers(text: &str, range: Range<usize>, found: &mut Vec<Found>) {
    let bytes = &text.as_bytes()[..range.end.min(text.len())];
    let mut at = range.start;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let (digits, ends) = digit_groups(bytes, at);
        let before = at
            .checked_sub(1)
            .filter(|before| *before >= range.start)
            .map(|before| bytes[before]);
        let begins = !before.is_some_and(part_of_a_word);
        let card = ends.iter().rev().find(|(end, count)| {
            let fraction = bytes.get(*end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
            let alone = begins && !bytes.get(*end).copied().is_some_and(part_of_a_word) && !fraction;
            alone && CARD_DIGITS.contains(count) && issued(&digits[..*count]) && luhn(&digits[..*count])
        });
        at = match card {
            Some(&(end, count)) => {
                let value = digits[..count].iter().map(|digit| char::from(b'0' + digit)).collect();
                found.push(Found {
                    kind: LeakKind::CardNumber,
                    value,
                    account: None,
                    range: at..end,
                });
                end
            }
            None => at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        };
    }
}

fn part_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The digits that begin here, in groups parted by single spaces or hyphens, as many as a card has; and where each
/// group ends, with the count of digits so far.
fn digit_groups(bytes: &[u8], start: usize) -> (Vec<u8>, Vec<(usize, usize)>) {
    let mut digits = Vec::with_capacity(20);
    let mut ends = Vec::new();
    let mut at = start;
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        if digits.len() == *CARD_DIGITS.end() {
            return (digits, ends);
        }
        digits.push(digit - b'0');
        at += 1;
        let next = bytes.get(at);
        if !next.is_some_and(u8::is_ascii_digit) {
            ends.push((at, digits.len()));
            at += usize::from(matches!(next, Some(b' ' | b'-')));
        }
    }
    (digits, ends)
}

/// The Luhn check of ISO/IEC 7812-1 Annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit) * if place % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether a number of this length begins as the payment networks publish for theirs. Without it, one in ten of all
/// timestamps and ids would be called a card.
fn issued(digits: &[u8]) -> bool {
    let prefix = |count: usize| {
        digits
            .iter()
            .take(count)
            .fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit))
    };
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    match digits.len() {
        13 => digits[0] == 4,
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37),
        16 => digits[0] == 4 || matches!(two, 50..=69) || matches!(four, 2221..=2720 | 3528..=3589),
        17 | 18 => matches!(two, 50 | 56..=69),
        19 => digits[0] == 4 || matches!(two, 50 | 56..=69),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        card_numbers(text, 0..text.len(), &mut found);
        found.into_iter().map(|leak| leak.value).collect()
    }

    #[test]
    fn card_numbers_are_found_and_nothing_else() {
        for (text, expected) in [
            (r#"{"card":"4111 1111 1111 1111"}"#, &["4111111111111111"][..]),
            ("4111-1111-1111-1111", &["4111111111111111"]),
            ("card=4111111111111111&cvc=123", &["4111111111111111"]),
            ("378282246310005", &["378282246310005"]),
            (
                "5555555555554444 and 6011000990139424",
                &["5555555555554444", "6011000990139424"],
            ),
            ("on 2026-11-23 4111 1111 1111 1111 7 times", &["4111111111111111"]),
            ("4111 1111 1111 1112", &[]),
            ("x4111111111111111", &[]),
            ("4111111111111111.5", &[]),
            ("1795394166123", &[]),
            ("00000000000000000", &[]),
            ("4111  1111  1111  1111", &[]),
            ("", &[]),
        ] {
            assert_eq!(cards(text), expected, "{text}");
        }
    }

    #[test]
    fn headers_give_away_what_they_carry() {
        for (name, value, expected) in [
            (
                "Authorization",
                "Bearer abc.def",
                Some((LeakKind::BearerToken, "abc.def", None)),
            ),
            ("authorization", "bearer  x ", Some((LeakKind::BearerToken, "x", None))),
            (
                "Authorization",
                "Basic dXNlcjpwYTpzcw==",
                Some((LeakKind::BasicAuth, "pa:ss", Some("user"))),
            ),
            ("Authorization", "Basic !!!", None),
            ("Authorization", "Bearer", None),
            ("Set-Cookie", "sid=1; Secure", Some((LeakKind::Cookie, "sid=1", None))),
            ("X-API-Key", "k", Some((LeakKind::ApiKey, "k", None))),
            ("Accept", "Bearer x", None),
        ] {
            let text = format!("> {value}");
            let mut found = Vec::new();
            in_header(name, &text, 2..text.len(), &mut found);
            let got = found
                .first()
                .map(|leak| (leak.kind, leak.value.as_str(), leak.account.as_deref()));
            assert_eq!(got, expected, "{name}: {value}");
            for leak in &found {
                assert!(leak.kind == LeakKind::BasicAuth || text[leak.range.clone()] == leak.value);
            }
        }
        let text = "a=1; b=2";
        let mut found = Vec::new();
        in_header("cookie", text, 0..text.len(), &mut found);
        assert_eq!(
            found.iter().map(|leak| &text[leak.range.clone()]).collect::<Vec<_>>(),
            ["a=1", "b=2"]
        );
    }
}
