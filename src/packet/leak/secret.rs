//! Secrets that are known by their form or by the name of the field they stand in.

use std::sync::LazyLock;

use regex::Regex;

use super::{Found, LeakKind};

/// Keys whose issuers publish their form, so that leaked ones can be found: AWS, GitHub, GitLab, Slack, Stripe,
/// Google.
const ISSUED: &str = r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[0-9A-Za-z]{36,255}|glpat-[0-9A-Za-z_-]{20,64}|xox[abeoprs]-[0-9A-Za-z-]{10,250}|[sr]k_(?:live|test)_[0-9A-Za-z]{16,250}|AIza[0-9A-Za-z_-]{35})";

/// `postgres://user:password@host` and the like, RFC 3986 §3.2.1.
const DATABASE_URL: &str =
    r"\b(?:postgres(?:ql)?|mysql|mariadb|mongodb(?:\+srv)?|redis|amqp)://([^\s:/@]{1,128}):([^\s/@]{1,256})@";

/// Bytes a value may have and still be taken for a secret.
const LONGEST: usize = 4096;

/// `PASSWORD 'x'`, as in CREATE and ALTER ROLE.
const SQL_PASSWORD: &str = r"\b(?i-u:password)\s+'([^'\n]+)'";

/// A field of a form or of JSON: its name, then its value.
const FIELD: &str = r#"(?:^|[\s"'&?;,{])((?i-u:password|passwd|pwd|passphrase|api[_-]?key|secret[_-]?key|client[_-]?secret|access[_-]?token|refresh[_-]?token|id[_-]?token))["']?\s?[:=]\s?(?:"([^"\n]+)"|'([^'\n]+)'|([^"'&\s,;{}\[\]]+))"#;

/// Whether a text names anything of the kind at all; cheap, for the many that do not.
const NAMED: &str = r"(?i-u:passw|passphrase|pwd|key|secret|token)";

struct Forms {
    named: Regex,
    issued: Regex,
    database_url: Regex,
    sql_password: Regex,
    field: Regex,
}

static FORMS: LazyLock<Option<Forms>> = LazyLock::new(|| {
    Some(Forms {
        named: Regex::new(NAMED).ok()?,
        issued: Regex::new(ISSUED).ok()?,
        database_url: Regex::new(DATABASE_URL).ok()?,
        sql_password: Regex::new(SQL_PASSWORD).ok()?,
        field: Regex::new(FIELD).ok()?,
    })
});

/// Finds the secrets of a text that no other detector found.
pub(crate) fn secrets(text: &str, found: &mut Vec<Found>) {
    let Some(forms) = FORMS.as_ref() else { return };
    private_keys(text, found);
    for key in forms.issued.find_iter(text) {
        add(Found::plain(LeakKind::ApiKey, text, key.range()), found);
    }
    for login in forms.database_url.captures_iter(text) {
        if let (Some(user), Some(password)) = (login.get(1), login.get(2)) {
            let mut one = Found::plain(LeakKind::DatabaseLogin, text, password.range());
            one.account = Some(user.as_str().to_owned());
            add(one, found);
        }
    }
    if !forms.named.is_match(text) {
        return;
    }
    for password in forms.sql_password.captures_iter(text).filter_map(|found| found.get(1)) {
        add(Found::plain(LeakKind::Password, text, password.range()), found);
    }
    for field in forms.field.captures_iter(text) {
        let value = field.get(2).or_else(|| field.get(3)).or_else(|| field.get(4));
        if let (Some(name), Some(value)) = (field.get(1), value)
            && !placeholder(value.as_str())
        {
            add(Found::plain(kind(name.as_str()), text, value.range()), found);
        }
    }
}

/// Private keys, to their end or to that of the text, which may have been cut: RFC 7468 §10 and §11, and the older
/// labels of OpenSSL (`EC PRIVATE KEY`).
fn private_keys(text: &str, found: &mut Vec<Found>) {
    const BEGIN: &str = "-----BEGIN ";
    const LABEL: &str = "PRIVATE KEY-----";
    let mut at = 0;
    while let Some(start) = text[at..].find(BEGIN).map(|offset| at + offset) {
        let rest = &text[start + BEGIN.len()..];
        at = start + BEGIN.len();
        let Some(label) = rest.find("-----").and_then(|end| rest.get(..end + 5)) else {
            return;
        };
        if !label.ends_with(LABEL) {
            continue;
        }
        let body = at + label.len();
        let end = format!("-----END {label}");
        let until = text[body..]
            .find(&end)
            .map_or(text.len(), |offset| body + offset + end.len());
        if until > body {
            add(Found::plain(LeakKind::PrivateKey, text, start..until), found);
        }
        at = until;
    }
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
    use super::*;

    fn found(text: &str) -> Vec<(LeakKind, String)> {
        let mut found = Vec::new();
        secrets(text, &mut found);
        found.into_iter().map(|one| (one.kind, one.value)).collect()
    }

    #[test]
    fn the_forms_are_compiled() {
        assert!(FORMS.is_some());
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
