//! Names, label keys and values: what is wrong with them, in Kubernetes' words.
//!
//! Source: apimachinery `pkg/util/validation/validation.go`; RFC 1123 § 2.1, RFC 1035 § 2.3.1.

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
    must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
    '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation \
    is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
    'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn ends_alphanumeric(text: &str) -> bool {
    let plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    plain(text.chars().next()) && plain(text.chars().last())
}

fn is_qualified(text: &str) -> bool {
    ends_alphanumeric(text) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_dns1123_label(text: &str) -> bool {
    ends_alphanumeric(text)
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// A label or annotation key: `[prefix/]name`.
pub fn qualified_name(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut parts = key.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if third.is_some() {
        let suffix = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
        return vec![format!("a qualified name {QUALIFIED}{suffix}")];
    }
    if second.is_some() {
        if first.is_empty() {
            problems.push("prefix part must be non-empty".to_owned());
        } else {
            problems.extend(dns1123_subdomain(first).iter().map(|p| format!("prefix part {p}")));
        }
    }
    let name = second.unwrap_or(first);
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        problems.push(format!("name part {}", too_long(63)));
    }
    if !is_qualified(name) {
        problems.push(format!("name part {QUALIFIED}"));
    }
    problems
}

/// A label's value.
pub fn label_value(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > 63 {
        problems.push(too_long(63));
    }
    if !value.is_empty() && !is_qualified(value) {
        problems.push(LABEL_VALUE.into());
    }
    problems
}

/// A name such as a Namespace's or a container's (RFC 1123 label).
pub fn dns1123_label(name: &str) -> Vec<String> {
    checked(name, 63, is_dns1123_label(name), DNS1123_LABEL)
}

/// A name such as a Pod's (RFC 1123 subdomain).
pub fn dns1123_subdomain(name: &str) -> Vec<String> {
    checked(name, 253, name.split('.').all(is_dns1123_label), DNS1123_SUBDOMAIN)
}

/// A Service's name (RFC 1035 label).
pub fn dns1035_label(name: &str) -> Vec<String> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    checked(name, 63, starts && is_dns1123_label(name), DNS1035_LABEL)
}

/// A name that only has to be one segment of a path, as of RBAC's kinds.
pub fn path_segment(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name == "." || name == ".." {
        problems.push(format!("may not be '{name}'"));
    }
    for illegal in ["/", "%"] {
        if name.contains(illegal) {
            problems.push(format!("may not contain '{illegal}'"));
        }
    }
    problems
}

/// A key of a ConfigMap's or Secret's data.
pub fn config_key(key: &str) -> Vec<String> {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let mut problems = checked(key, 253, plain, CONFIG_KEY);
    if key == "." {
        problems.push("must not be '.'".into());
    } else if key == ".." {
        problems.push("must not be '..'".into());
    } else if key.starts_with("..") {
        problems.push("must not start with '..'".into());
    }
    problems
}

/// An environment variable's name, by the relaxed rule of Kubernetes 1.32.
pub fn env_var(name: &str) -> Vec<String> {
    let printable = name.chars().all(|c| (' '..='~').contains(&c) && c != '=');
    if printable {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
}

/// A port's name (RFC 6335 § 5.1).
pub fn port_name(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > 15 {
        problems.push(too_long(15));
    }
    if !name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        || name.is_empty()
    {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !name.chars().any(|c| c.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

fn checked(text: &str, max: usize, valid: bool, message: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > max {
        problems.push(too_long(max));
    }
    if !valid {
        problems.push(message.into());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_names() {
        for (check, good, bad) in [
            (dns1123_label as fn(&str) -> Vec<String>, "a-1", "A"),
            (dns1123_label, "1a", "a.b"),
            (dns1123_subdomain, "a.b-c", "a..b"),
            (dns1123_subdomain, "a", ""),
            (dns1035_label, "a1", "1a"),
            (qualified_name, "example.com/My_name", "a/b/c"),
            (qualified_name, "app", "/app"),
            (qualified_name, "app", "app-"),
            (label_value, "", "-a"),
            (config_key, "tls.crt", "a b"),
            (config_key, ".x", ".."),
            (env_var, "a.b-c", "A=B"),
            (port_name, "http-1", "80"),
            (port_name, "a", "a--b"),
            (path_segment, "system:node", "a/b"),
        ] {
            assert_eq!(check(good), Vec::<String>::new(), "{good}");
            assert!(!check(bad).is_empty(), "{bad}");
        }
        assert!(dns1123_label(&"a".repeat(64))[0].contains("63"));
    }

    #[test]
    fn the_text_is_kubernetes_own() {
        assert_eq!(
            dns1123_subdomain("A_b")[0],
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
    }
}
