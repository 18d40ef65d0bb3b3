//! The `format`s of strings that are checked; others say nothing.
//!
//! Source: kube-openapi `pkg/validation/strfmt`, the formats that apiextensions-apiserver supports.

use std::{net::IpAddr, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Whether `text` is of the format; an unknown format is no restriction.
pub fn matches(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "datetime" => date_time(text),
        "date" => text.len() == 10 && jiff::civil::Date::from_str(text).is_ok(),
        "duration" => duration(text),
        "email" => email(text),
        "hostname" => hostname(text),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "mac" => mac(text),
        "uri" => uri(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        "byte" => STANDARD.decode(text).is_ok(),
        "hexcolor" => hex_color(text),
        "bsonobjectid" => text.len() == 24 && hex(text),
        _ => true,
    }
}

fn hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// RFC 3339 with `T`, and a zone.
fn date_time(text: &str) -> bool {
    let zoned = text.ends_with(['Z', 'z']) || text.get(19..).is_some_and(|rest| rest.contains(['+', '-']));
    text.as_bytes().get(10).is_some_and(|c| matches!(c, b'T' | b't'))
        && zoned
        && text.parse::<jiff::Timestamp>().is_ok()
}

/// Go's durations: `1h30m`, `-1.5s`, `0`.
fn duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        let parses = digits.bytes().any(|c| c.is_ascii_digit()) && digits.matches('.').count() <= 1;
        let unit = ["ns", "us", "µs", "μs", "ms", "s", "m", "h", "d", "w"]
            .into_iter()
            .find(|unit| {
                after
                    .strip_prefix(unit)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
            });
        match unit {
            Some(unit) if parses => rest = &after[unit.len()..],
            _ => return false,
        }
    }
    true
}

fn email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c);
    !local.is_empty() && local.chars().all(plain) && !local.contains("..") && hostname(domain)
}

fn hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    text.len() <= 255 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

fn mac(text: &str) -> bool {
    let separator = text.chars().find(|c| matches!(c, ':' | '-' | '.'));
    let Some(separator) = separator else { return false };
    let parts: Vec<&str> = text.split(separator).collect();
    let width = if separator == '.' { 4 } else { 2 };
    let total = parts.len() * width;
    matches!(total, 12 | 16 | 40) && parts.iter().all(|part| part.len() == width && hex(part))
}

/// An absolute URI, or a path from the root, as Go's `url.ParseRequestURI` takes them.
fn uri(text: &str) -> bool {
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let letters = scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c));
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && letters && !rest.is_empty()
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    let dashed = text.len() == 36 && [8, 13, 18, 23].into_iter().all(|at| text.as_bytes()[at] == b'-');
    (dashed || text.len() == 32)
        && plain.len() == 32
        && hex(&plain)
        && version.is_none_or(|version| plain.chars().nth(12) == Some(version))
}

fn hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && hex(digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [(&str, &[&str], &[&str]); 14] = [
        (
            "date-time",
            &["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5+01:00"],
            &["2026-01-02", "2026-01-02T03:04:05", "x"],
        ),
        ("date", &["2026-01-02"], &["2026-13-02", "2026-1-2"]),
        (
            "duration",
            &["1h30m", "-1.5s", "0", "10ms"],
            &["", "1", "h", "1x", "1..5s"],
        ),
        ("email", &["a@b.c"], &["a", "@b", "a@"]),
        ("hostname", &["a.b-c", "a"], &["", "-a", "a..b", "a b"]),
        ("ipv4", &["10.0.0.1"], &["10.0.0", "::1"]),
        ("ipv6", &["::1"], &["10.0.0.1"]),
        ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33"]),
        (
            "mac",
            &["01:23:45:67:89:ab", "0123.4567.89ab"],
            &["01:23", "xx:23:45:67:89:ab"],
        ),
        (
            "uri",
            &["https://a/b", "spiffe://td/x", "/a"],
            &["a", "", ":x", "a b:c"],
        ),
        (
            "uuid",
            &["123e4567-e89b-12d3-a456-426614174000"],
            &["123e4567", "123e4567-e89b-12d3-a456-42661417400g"],
        ),
        ("byte", &["aGk=", ""], &["aGk", "!"]),
        ("hexcolor", &["#fff", "00ff00"], &["#ff", "gg0000"]),
        ("no-such-format", &["anything"], &[]),
    ];

    #[test]
    fn formats() {
        for (format, good, bad) in FORMATS {
            for text in good {
                assert!(matches(format, text), "{format} {text:?}");
            }
            for text in bad {
                assert!(!matches(format, text), "{format} {text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}|[0-9a-fTZ:.+-]{0,40}") {
            for (format, ..) in FORMATS {
                let _ = matches(format, &text);
            }
        }
    }
}
