//! The part of a PostgreSQL connection string that is about TLS, which the protocol's library does not know in full.

use std::collections::BTreeMap;

use pgwire::{
    api::client::Config,
    error::{PgWireClientError, PgWireError},
};

use super::cause;

/// The names of libpq's options about TLS that are known here.
const OPTIONS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// Sets what `config` does about TLS: `disable`, `prefer` or `require`. The library reads the word, but keeps the type of
/// what it reads to itself.
pub fn set_mode(config: &mut Config, mode: &str) {
    if let Ok(read) = format!("sslmode={mode}").parse::<Config>() {
        config.ssl_mode(read.get_ssl_mode());
    }
}

/// What TLS says of why a client failed, if it was TLS. A refusal in TLS 1.3 comes with what the client reads first, so
/// that it is wrapped as an error of the protocol.
pub fn reason(error: &PgWireClientError) -> Option<String> {
    let (PgWireClientError::IoError(io) | PgWireClientError::PgWireError(PgWireError::IoError(io))) = error else {
        return None;
    };
    cause(io).map(ToString::to_string)
}

/// Takes the options about TLS out of `postgresql://…?…`, or out of `host=… sslmode=…`; what is left, and they.
///
/// # Errors
/// An option that is named twice, or whose value cannot be read.
pub fn split(text: &str) -> Result<(String, BTreeMap<String, String>), String> {
    let mut found = BTreeMap::new();
    let mut take = |part: &str, decode: bool| -> Result<bool, String> {
        let Some((name, value)) = part.split_once('=') else {
            return Ok(false);
        };
        if !OPTIONS.contains(&name) {
            return Ok(false);
        }
        let value = if decode { decoded(value)? } else { value.to_owned() };
        match found.insert(name.to_owned(), value) {
            None => Ok(true),
            Some(_) => Err(format!("{name} is there twice")),
        }
    };
    let rest = if text.contains("://") {
        let Some((base, query)) = text.split_once('?') else {
            return Ok((text.to_owned(), found));
        };
        let rest = left(query.split('&'), |part| take(part, true))?.join("&");
        if rest.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{rest}")
        }
    } else if text.contains('\'') {
        // A quoted value may hold anything, also what looks like an option.
        text.to_owned()
    } else {
        left(text.split_whitespace(), |part| take(part, false))?.join(" ")
    };
    Ok((rest, found))
}

fn left<'a>(
    parts: impl Iterator<Item = &'a str>,
    mut take: impl FnMut(&str) -> Result<bool, String>,
) -> Result<Vec<&'a str>, String> {
    let mut rest = Vec::new();
    for part in parts {
        if !take(part)? {
            rest.push(part);
        }
    }
    Ok(rest)
}

/// A value of a URL's query without its percent signs (RFC 3986 §2.1).
fn decoded(value: &str) -> Result<String, String> {
    let wrong = || format!("`{value}` is not percent-encoded rightly");
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first == b'%' {
            let (digits, more) = rest.split_at_checked(2).ok_or_else(wrong)?;
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
            rest = more;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_about_tls_are_taken_out() {
        for (text, rest, options) in [
            ("postgresql://ledger/shop", "postgresql://ledger/shop", &[][..]),
            (
                "postgresql://ledger/shop?sslmode=verify-full",
                "postgresql://ledger/shop",
                &[("sslmode", "verify-full")],
            ),
            (
                "postgresql://u:p@ledger/shop?sslrootcert=%2Ftls%2Fca.crt&connect_timeout=3&sslmode=require",
                "postgresql://u:p@ledger/shop?connect_timeout=3",
                &[("sslmode", "require"), ("sslrootcert", "/tls/ca.crt")],
            ),
            (
                "host=ledger user=me sslcert=/a sslkey=/b",
                "host=ledger user=me",
                &[("sslcert", "/a"), ("sslkey", "/b")],
            ),
            ("host=l password='a sslmode=b'", "host=l password='a sslmode=b'", &[]),
        ] {
            let (found, taken) = split(text).unwrap();
            let taken: Vec<(&str, &str)> = taken.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!((found.as_str(), taken.as_slice()), (rest, options), "{text}");
        }
        for text in [
            "postgresql://x/y?sslmode=a&sslmode=b",
            "postgresql://x/y?sslkey=%2",
            "postgresql://x/y?sslkey=%zz",
        ] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_mode_is_set() {
        for mode in ["disable", "prefer", "require"] {
            let mut config = Config::new();
            set_mode(&mut config, mode);
            assert_eq!(format!("{:?}", config.get_ssl_mode()).to_lowercase(), mode);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".*", query in "[a-z=&%0-9]{0,40}") {
            let _ = split(&text);
            let _ = split(&format!("postgresql://h/d?{query}"));
        }
    }
}
