//! Secrets that are known by their form or by the name of the field they stand in.
//!
//! One pass over the text looks for the few letters that one of the forms must have, with the vector instructions of the
//! machine; each place found is then read by hand. Most texts have none. What the forms are as regular expressions stands
//! in the tests, which compare.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{Found, LeakKind};

/// Where one of the forms may be: letters that each of them has, three of each, so that all are looked for at once.
const HINTS: &str = r"AKI|ASI|gh[pousr]|glp|xox|[sr]k_|AIz|://|BEG|(?i-u:pas|pwd|key|sec|tok)";

static HINT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(HINTS).ok());

/// Bytes a value may have and still be taken for a secret.
const LONGEST: usize = 4096;

/// Where a form's text ends, and what it gives away, where that is no placeholder.
type Read = (usize, Option<Found>);

/// What one form found, and how far it has read.
#[derive(Default)]
struct Finds {
    found: Vec<Found>,
    until: usize,
}

impl Finds {
    fn add(&mut self, read: Option<Read>) {
        if let Some((end, one)) = read {
            self.until = end;
            self.found.extend(one);
        }
    }
}

/// Finds the secrets of a text that no other detector found.
pub(crate) fn secrets(text: &str, found: &mut Vec<Found>) {
    let Some(hint) = HINT.as_ref() else { return };
    let [mut keys, mut issued, mut logins, mut sql, mut fields]: [Finds; 5] = Default::default();
    for place in hint.find_iter(text) {
        let at = place.start();
        match place.as_str().as_bytes() {
            b"BEG" => keys.add(private_key(text, at, keys.until)),
            b"://" => logins.add(database_url(text, at, logins.until)),
            b"AKI" | b"ASI" | b"AIz" | b"glp" | b"xox" | b"sk_" | b"rk_" | [b'g', ..] => {
                issued.add(issued_key(text, at, issued.until));
            }
            word => {
                if word.eq_ignore_ascii_case(b"pas") {
                    sql.add(sql_password(text, at, sql.until));
                }
                fields.add(field(text, at, fields.until));
            }
        }
    }
    // Of two that overlap, the form that says more comes first.
    for one in [keys, issued, logins, sql, fields]
        .into_iter()
        .flat_map(|finds| finds.found)
    {
        add(one, found);
    }
}

/// Whether a word could begin here: nothing before it belongs to one.
fn begins_word(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    !before.is_some_and(|char| char.is_alphabetic() || matches!(char, '0'..='9' | '_'))
}

/// How many bytes of this set come first, `most` at most.
fn run(text: &[u8], most: usize, set: impl Fn(u8) -> bool) -> usize {
    text.iter().take(most).take_while(|byte| set(**byte)).count()
}

/// Private keys, to their end or to that of the text, which may have been cut: RFC 7468 §10 and §11, and the older
/// labels of OpenSSL (`EC PRIVATE KEY`). `at` is where `BEGIN` stands.
fn private_key(text: &str, at: usize, from: usize) -> Option<Read> {
    const BEGIN: &str = "-----BEGIN ";
    const LABEL: &str = "PRIVATE KEY-----";
    let start = at.checked_sub(5).filter(|start| *start >= from)?;
    let rest = text.get(start..)?.strip_prefix(BEGIN)?;
    let label = rest.find("-----").and_then(|end| rest.get(..end + 5))?;
    if !label.ends_with(LABEL) {
        return None;
    }
    let body = start + BEGIN.len() + label.len();
    let end = format!("-----END {label}");
    let until = text[body..]
        .find(&end)
        .map_or(text.len(), |offset| body + offset + end.len());
    let one = (until > body).then(|| Found::plain(LeakKind::PrivateKey, text, start..until));
    Some((until, one))
}

/// Keys whose issuers publish their form, so that leaked ones can be found: AWS, GitHub, GitLab, Slack, Stripe,
/// Google.
fn issued_key(text: &str, at: usize, from: usize) -> Option<Read> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric();
    let capital = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    let hyphened = |byte: u8| letter(byte) || byte == b'-';
    let joined = |byte: u8| hyphened(byte) || byte == b'_';
    let bytes = text.as_bytes().get(at..).filter(|_| at >= from)?;
    // The length of what its kind begins with, and the least and most that follow.
    let (prefix, least, most, set): (usize, usize, usize, &dyn Fn(u8) -> bool) = match bytes {
        [b'A', b'K' | b'S', b'I', b'A', ..] => (4, 16, 16, &capital),
        [b'A', b'I', b'z', b'a', ..] => (4, 35, 35, &joined),
        [b'g', b'h', _, b'_', ..] => (4, 36, 255, &letter),
        [b'g', b'l', b'p', b'a', b't', b'-', ..] => (6, 20, 64, &joined),
        [
            b'x',
            b'o',
            b'x',
            b'a' | b'b' | b'e' | b'o' | b'p' | b'r' | b's',
            b'-',
            ..,
        ] => (5, 10, 250, &hyphened),
        [_, b'k', b'_', rest @ ..] if rest.starts_with(b"live_") || rest.starts_with(b"test_") => (8, 16, 250, &letter),
        _ => return None,
    };
    let count = run(&bytes[prefix..], most, set);
    if count < least || !begins_word(text, at) {
        return None;
    }
    let end = at + prefix + count;
    Some((end, Some(Found::plain(LeakKind::ApiKey, text, at..end))))
}

/// Schemes of databases and the like whose URLs carry a login.
const SCHEMES: [&str; 8] = [
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "mongodb",
    "mongodb+srv",
    "redis",
    "amqp",
];

/// `postgres://user:password@host` and the like, RFC 3986 §3.2.1. `at` is where `://` stands.
fn database_url(text: &str, at: usize, from: usize) -> Option<Read> {
    let scheme = SCHEMES.into_iter().find(|scheme| text[..at].ends_with(scheme))?;
    let start = at - scheme.len();
    if start < from || !begins_word(text, start) {
        return None;
    }
    let user = at + 3;
    let colon = user + part(&text[user..], 128, |char| matches!(char, ':' | '/' | '@'))?;
    let password = colon + text[colon..].strip_prefix(':').map(|_| 1)?;
    let end = password + part(&text[password..], 256, |char| matches!(char, '/' | '@'))?;
    text[end..].strip_prefix('@')?;
    let mut one = Found::plain(LeakKind::DatabaseLogin, text, password..end);
    one.account = Some(text[user..colon].to_owned());
    Some((end + 1, Some(one)))
}

/// The bytes of a part of a URL: 1 to `most` characters up to white space or one that ends it.
fn part(text: &str, most: usize, ends: impl Fn(char) -> bool) -> Option<usize> {
    let ends = |char: char| char.is_whitespace() || ends(char);
    let mut chars = text.char_indices().take(most + 1);
    let end = chars.find(|(_, char)| ends(*char)).map(|(end, _)| end)?;
    (end > 0).then_some(end)
}

/// `PASSWORD 'x'`, as in CREATE and ALTER ROLE.
fn sql_password(text: &str, at: usize, from: usize) -> Option<Read> {
    const WORD: &str = "password";
    let behind = at + WORD.len();
    let word = text.get(at..behind).filter(|_| at >= from)?;
    if !word.eq_ignore_ascii_case(WORD) || !begins_word(text, at) {
        return None;
    }
    let rest = text[behind..].trim_start();
    let at = text.len() - rest.len();
    if at == behind || !rest.starts_with('\'') {
        return None;
    }
    let value = quoted(text, at)?;
    Some((value.end + 1, Some(Found::plain(LeakKind::Password, text, value))))
}

/// Where the value of quotes that begin here stands: on one line, and not empty.
fn quoted(text: &str, at: usize) -> Option<Range<usize>> {
    let quote = *text.as_bytes().get(at)?;
    if !matches!(quote, b'"' | b'\'') {
        return None;
    }
    let value = &text.as_bytes()[at + 1..];
    let end = value.iter().position(|byte| *byte == quote || *byte == b'\n')?;
    (end > 0 && value[end] == quote).then_some(at + 1..at + 1 + end)
}

/// Names of fields, in two parts that may be joined by an underscore or a hyphen.
const NAMES: [(&str, &str); 10] = [
    ("password", ""),
    ("passwd", ""),
    ("passphrase", ""),
    ("pwd", ""),
    ("api", "key"),
    ("secret", "key"),
    ("client", "secret"),
    ("access", "token"),
    ("refresh", "token"),
    ("id", "token"),
];

/// Bytes a name may have before what hints at it: `refresh_`.
const AHEAD: usize = 8;

/// A field of a form or of JSON: its name, then its value. `at` is within the name.
fn field(text: &str, at: usize, from: usize) -> Option<Read> {
    let bytes = text.as_bytes();
    let ahead = bytes[..at].iter().rev().take(AHEAD);
    let start = at
        - ahead
            .take_while(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-'))
            .count();
    let parted = |char: char| char.is_whitespace() || matches!(char, '"' | '\'' | '&' | '?' | ';' | ',' | '{');
    match text[..start].char_indices().next_back() {
        None => {}
        Some((before, char)) if before >= from && parted(char) => {}
        Some(_) => return None,
    }
    let name = start..start + name_length(&bytes[start..])?;
    let after_name = name.end + usize::from(matches!(bytes.get(name.end), Some(b'"' | b'\'')));
    let sign = after_space(text, after_name);
    if !matches!(bytes.get(sign), Some(b':' | b'=')) {
        return None;
    }
    let at = after_space(text, sign + 1);
    let (value, end) = match quoted(text, at) {
        Some(value) => (value.clone(), value.end + 1),
        None => {
            let ends = |char: char| {
                char.is_whitespace() || matches!(char, '"' | '\'' | '&' | ',' | ';' | '{' | '}' | '[' | ']')
            };
            let end = at + text[at..].find(ends).unwrap_or(text.len() - at);
            (at..end, end)
        }
    };
    if value.is_empty() {
        return None;
    }
    let shown = !placeholder(&text[value.clone()]);
    let one = shown.then(|| Found::plain(kind(&text[name]), text, value));
    Some((end, one))
}

/// Behind one white space, where there is one.
fn after_space(text: &str, at: usize) -> usize {
    let space = text[at..].chars().next().filter(|char| char.is_whitespace());
    at + space.map_or(0, char::len_utf8)
}

/// The length of the name that stands here.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let is = |at: usize, word: &str| {
        let there = bytes.get(at..at + word.len());
        there.is_some_and(|there| there.eq_ignore_ascii_case(word.as_bytes()))
    };
    NAMES.into_iter().find_map(|(first, second)| {
        if !is(0, first) {
            return None;
        }
        let joint = !second.is_empty() && matches!(bytes.get(first.len()), Some(b'_' | b'-'));
        let at = first.len() + usize::from(joint);
        is(at, second).then_some(at + second.len())
    })
}

/// What a field of this name holds.
fn kind(name: &str) -> LeakKind {
    let name = name.to_ascii_lowercase();
    if name.starts_with("pass") || name == "pwd" {
        LeakKind::Password
    } else if name.ends_with("token") {
        // RFC 6750 §2.2 and §2.3.
        LeakKind::BearerToken
    } else {
        LeakKind::ApiKey
    }
}

/// Values that say that nothing is shown.
fn placeholder(value: &str) -> bool {
    value.len() > LONGEST
        || value.bytes().all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.'))
        || ["null", "none", "true", "false", "redacted", "[redacted]", "<redacted>"]
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word))
}

/// Secrets looked for in one text; a page full of them needs no more.
const MOST: usize = 1024;

/// Adds what does not overlap something found before.
fn add(one: Found, found: &mut Vec<Found>) {
    let overlaps = |other: &Found| one.range.start < other.range.end && other.range.start < one.range.end;
    if found.len() < MOST && !found.iter().any(overlaps) {
        found.push(one);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(LeakKind, String)> {
        let mut found = Vec::new();
        secrets(text, &mut found);
        found.into_iter().map(|one| (one.kind, one.value)).collect()
    }

    #[test]
    fn the_hints_are_compiled() {
        assert!(HINT.is_some());
    }

    /// The forms as regular expressions, in the order in which they are looked for.
    fn by_regex(text: &str) -> Vec<Found> {
        const ISSUED: &str = r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[0-9A-Za-z]{36,255}|glpat-[0-9A-Za-z_-]{20,64}|xox[abeoprs]-[0-9A-Za-z-]{10,250}|[sr]k_(?:live|test)_[0-9A-Za-z]{16,250}|AIza[0-9A-Za-z_-]{35})";
        const DATABASE_URL: &str =
            r"\b(?:postgres(?:ql)?|mysql|mariadb|mongodb(?:\+srv)?|redis|amqp)://([^\s:/@]{1,128}):([^\s/@]{1,256})@";
        const SQL_PASSWORD: &str = r"\b(?i-u:password)\s+'([^'\n]+)'";
        const FIELD: &str = r#"(?:^|[\s"'&?;,{])((?i-u:password|passwd|pwd|passphrase|api[_-]?key|secret[_-]?key|client[_-]?secret|access[_-]?token|refresh[_-]?token|id[_-]?token))["']?\s?[:=]\s?(?:"([^"\n]+)"|'([^'\n]+)'|([^"'&\s,;{}\[\]]+))"#;
        static REGEXES: LazyLock<[Regex; 4]> =
            LazyLock::new(|| [ISSUED, DATABASE_URL, SQL_PASSWORD, FIELD].map(|form| Regex::new(form).unwrap()));
        let [issued, database_url, sql_password, field] = &*REGEXES;
        let mut found = Vec::new();
        let (mut at, begin) = (0, "-----BEGIN ");
        while let Some(offset) = text[at..].find(begin) {
            let read = private_key(text, at + offset + 5, at);
            at = read.as_ref().map_or(at + offset + begin.len(), |read| read.0);
            read.and_then(|read| read.1)
                .into_iter()
                .for_each(|one| add(one, &mut found));
        }
        for key in issued.find_iter(text) {
            add(Found::plain(LeakKind::ApiKey, text, key.range()), &mut found);
        }
        for login in database_url.captures_iter(text) {
            let mut one = Found::plain(LeakKind::DatabaseLogin, text, login.get(2).unwrap().range());
            one.account = Some(login[1].to_owned());
            add(one, &mut found);
        }
        for password in sql_password.captures_iter(text) {
            add(
                Found::plain(LeakKind::Password, text, password.get(1).unwrap().range()),
                &mut found,
            );
        }
        for field in field.captures_iter(text) {
            let value = field.get(2).or_else(|| field.get(3)).or_else(|| field.get(4)).unwrap();
            if !placeholder(value.as_str()) {
                add(Found::plain(kind(&field[1]), text, value.range()), &mut found);
            }
        }
        found
    }

    /// Text made of what the forms are made of.
    fn pieces() -> impl Strategy<Value = String> {
        const WORDS: [&str; 62] = [
            "AKIA",
            "ASIA",
            "AIza",
            "ghp_",
            "ghr_",
            "glpat-",
            "xoxb-",
            "xoxo",
            "sk_live_",
            "rk_test_",
            "sk_",
            "://",
            ":",
            "=",
            "@",
            "/",
            "'",
            "\"",
            "&",
            "?",
            ";",
            ",",
            "{",
            "}",
            "[",
            " ",
            "  ",
            "\n",
            "\t",
            "\u{a0}",
            "\u{e9}",
            "_",
            "-",
            "-----",
            "-----BEGIN ",
            "-----END ",
            "PRIVATE KEY-----",
            "postgres",
            "postgresql",
            "mysql",
            "mongodb",
            "+srv",
            "redis",
            "user",
            "password",
            "PassWord",
            "passwd",
            "pwd",
            "passphrase",
            "api",
            "key",
            "Secret",
            "client",
            "access",
            "token",
            "refresh",
            "id",
            "tok",
            "****",
            "null",
            "x",
            "0",
        ];
        let piece = prop_oneof![
            6 => proptest::sample::select(&WORDS[..]).prop_map(str::to_owned),
            1 => "[0-9A-Z]{15,17}",
            1 => "[0-9a-z_-]{9,70}",
            1 => "[0-9a-zA-Z]{120,260}",
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    /// Text with most of a form in it.
    fn nearly() -> impl Strategy<Value = String> {
        let field = "[ '\"&?;,{a_-]{0,2}(password|passwd|PWD|passphrase|api[_-]?key|secret[_-]?key|client[_-]?secret|(access|refresh|id)[_-]?token)[\"']?[ \n]{0,2}[:=]?[ \n]?[\"']?[a-z*: ]{0,5}[\"',&]?";
        let url = "[ a]?(postgres|postgresql|mysql|mariadb|mongodb|mongodb\\+srv|redis|amqp|http)://[a-z]{0,3}:?[a-z:]{0,3}@?[a-z]{0,3}";
        let sql = "[ a_]?[Pp]assword[ \n]{0,2}'?[a-z]{0,3}'?";
        proptest::collection::vec(prop_oneof![field, url, sql], 1..4).prop_map(|parts| parts.concat())
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]
        #[test]
        fn what_is_read_by_hand_is_what_the_expressions_say(text in prop_oneof![pieces(), nearly()]) {
            let mut found = Vec::new();
            secrets(&text, &mut found);
            proptest::prop_assert_eq!(found, by_regex(&text), "{:?}", text);
        }
    }

    #[test]
    fn secrets_are_found_by_form_and_by_name() {
        use LeakKind::{ApiKey, BearerToken, DatabaseLogin, Password};
        for (text, kind, value) in [
            ("AKIAIOSFODNN7EXAMPLE", ApiKey, "AKIAIOSFODNN7EXAMPLE"),
            (
                "key ghp_0123456789abcdefghijABCDEFGHIJ012345.",
                ApiKey,
                "ghp_0123456789abcdefghijABCDEFGHIJ012345",
            ),
            ("sk_test_0123456789abcdef", ApiKey, "sk_test_0123456789abcdef"),
            (
                "DATABASE_URL=postgres://shop:not-real@ledger:5432/x",
                DatabaseLogin,
                "not-real",
            ),
            ("alter role shop PASSWORD 'not-real'", Password, "not-real"),
            (r#"{"user":"a","password":"not real"}"#, Password, "not real"),
            (r#"{"password": "x1"}"#, Password, "x1"),
            ("user=a&password=not-real&b=1", Password, "not-real"),
            ("GET /?api_key=k1 HTTP/1.1", ApiKey, "k1"),
            ("/pay?access_token=t1", BearerToken, "t1"),
            ("client_secret=s1", ApiKey, "s1"),
        ] {
            assert_eq!(found(text), [(kind, value.to_owned())], "{text}");
        }
    }

    #[test]
    fn private_keys_are_found_even_where_they_are_cut() {
        for name in ["", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH "] {
            let key =
                format!("-----BEGIN {name}PRIVATE KEY-----\nMIIBVQIBADANBgkqhkiG9w0\n-----END {name}PRIVATE KEY-----");
            assert_eq!(
                found(&format!("key:\n{key}\nmore")),
                [(LeakKind::PrivateKey, key.clone())]
            );
            assert_eq!(found(&key[..50])[0].0, LeakKind::PrivateKey);
        }
    }

    #[test]
    fn words_about_secrets_are_none() {
        for text in [
            "the password is wrong",
            "password authentication failed for user \"shop\"",
            r#"{"password":null}"#,
            r#"{"password":"****"}"#,
            "password=",
            "forgot-password: yes",
            "-----BEGIN PUBLIC KEY-----\nMIIBVQIBADANBgkqhkiG9w0\n-----END PUBLIC KEY-----",
            "postgres://ledger:5432/x",
            "sk_live_short",
            "AKIA",
            "tokenizer=fast",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }
}
