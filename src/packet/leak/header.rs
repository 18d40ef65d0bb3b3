//! What HTTP headers give away.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Found, LeakKind};
use crate::text;

/// Headers whose value is a key by common convention; no standard names them.
const API_KEY_HEADERS: [&str; 6] = [
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
    "x-amz-security-token",
];

/// What a header holds by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Authorization,
    Cookies,
    NewCookie,
    ApiKey,
}

fn holds(name: &[u8]) -> Option<Holds> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("authorization") || is("proxy-authorization") {
        Some(Holds::Authorization)
    } else if is("cookie") {
        Some(Holds::Cookies)
    } else if is("set-cookie") {
        Some(Holds::NewCookie)
    } else if API_KEY_HEADERS.into_iter().any(is) {
        Some(Holds::ApiKey)
    } else {
        None
    }
}

/// Whether a header of this name can give something away.
pub(crate) fn gives_away(name: &[u8]) -> bool {
    holds(name).is_some()
}

/// What a header gives away. `range` is where its value stands in `text`.
pub(crate) fn in_header(name: &[u8], text: &str, range: Range<usize>, found: &mut Vec<Found>) {
    let value = &text[range.clone()];
    match holds(name) {
        Some(Holds::Authorization) => in_authorization(text, range, found),
        Some(Holds::Cookies) => {
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
        Some(Holds::NewCookie) => {
            let pair = value.split(';').next().unwrap_or(value).trim_end();
            if !pair.is_empty() {
                found.push(Found::plain(
                    LeakKind::Cookie,
                    text,
                    range.start..range.start + pair.len(),
                ));
            }
        }
        Some(Holds::ApiKey) if !value.is_empty() => {
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

#[cfg(test)]
mod tests {
    use super::*;

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
            in_header(name.as_bytes(), &text, 2..text.len(), &mut found);
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
        in_header(b"cookie", text, 0..text.len(), &mut found);
        assert_eq!(
            found.iter().map(|leak| &text[leak.range.clone()]).collect::<Vec<_>>(),
            ["a=1", "b=2"]
        );
    }
}
