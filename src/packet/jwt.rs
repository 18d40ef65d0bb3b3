//! JSON Web Tokens (RFC 7519) in compact form: shown, never verified.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::text::one_long_line;

/// Bytes of a token that are looked at; servers refuse longer headers.
const LONGEST: usize = 16 << 10;
/// Tokens looked for in one value.
const TOKENS: usize = 8;

/// What a token says, as it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Jwt {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

/// The first token within a header's value: alone, behind a scheme, or in a cookie.
pub(super) fn within(value: &str) -> Option<Jwt> {
    // What `{"` begins with in base64url.
    if !value.contains("eyJ") {
        return None;
    }
    value
        .split([' ', ';', ',', '=', '"'])
        .filter(|word| word.starts_with("eyJ"))
        .take(TOKENS)
        .find_map(decode)
}

/// A token: header, claims and signature, each in base64url. Its header names an algorithm.
pub(super) fn decode(token: &str) -> Option<Jwt> {
    let mut parts = token.split('.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || token.len() > LONGEST {
        return None;
    }
    let object = |part: &str| -> Option<Map<String, Value>> {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let (header, claims) = (object(header)?, object(claims)?);
    header.contains_key("alg").then_some(Jwt { header, claims })
}

impl Jwt {
    /// One line: the claims that say for whom, by whom and until when.
    pub(super) fn line(&self) -> String {
        let mut said = Vec::new();
        let mut say = |name: &str, value: Option<&Value>| {
            if let Some(value) = value {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                said.push(format!("{name} {text}"));
            }
        };
        say("alg", self.header.get("alg"));
        for claim in ["iss", "sub", "aud"] {
            say(claim, self.claims.get(claim));
        }
        match self
            .claims
            .get("exp")
            .and_then(Value::as_i64)
            .map(jiff::Timestamp::from_second)
        {
            Some(Ok(time)) => said.push(format!("expires {time}")),
            Some(Err(_)) => say("exp", self.claims.get("exp")),
            None => said.push("never expires".to_owned()),
        }
        one_long_line(format!("JWT (signature not verified): {}", said.join(", ")).as_bytes())
    }

    /// Header and claims in full, a line each.
    pub(super) fn lines(&self) -> [String; 2] {
        let text = |object: &Map<String, Value>| one_long_line(Value::Object(object.clone()).to_string().as_bytes());
        [
            format!("JWT header: {}", text(&self.header)),
            format!("JWT claims (signature not verified): {}", text(&self.claims)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!(
            "{}.{}.c2ln",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        )
    }

    #[test]
    fn tokens_are_shown_and_nothing_else_is_one() {
        let real = token(
            r#"{"alg":"ES256","kid":"1"}"#,
            r#"{"sub":"spiffe://shop.test/a","aud":["b"],"exp":1700000000}"#,
        );
        for value in [real.clone(), format!("Bearer {real}"), format!("a=1; session={real}")] {
            let jwt = within(&value).unwrap();
            assert_eq!(
                jwt.line(),
                "JWT (signature not verified): alg ES256, sub spiffe://shop.test/a, aud [\"b\"], expires 2023-11-14T22:13:20Z"
            );
            assert_eq!(jwt.lines()[0], r#"JWT header: {"alg":"ES256","kid":"1"}"#);
        }
        let forever = within(&token(r#"{"alg":"none"}"#, "{}")).unwrap();
        assert!(forever.line().ends_with("alg none, never expires"));
        for value in [
            "",
            "eyJ",
            "eyJ.eyJ.eyJ",
            "a.b.c",
            &token("{}", "{}"),
            &format!("{real}.x"),
            &token("[1]", "{}"),
        ] {
            assert_eq!(within(value), None, "{value}");
        }
        // A time that no calendar has, and text that could drive a terminal.
        let odd = within(&token(r#"{"alg":"\u001b[2J"}"#, r#"{"exp":99999999999999}"#)).unwrap();
        assert!(odd.line().contains("exp 99999999999999") && !odd.line().contains('\u{1b}'));
    }
}
