//! How checks and actions name pods, callees, bytes and files.

use std::{fmt, net::IpAddr};

use regex::Regex;

use super::Workload;

/// Whose pod something runs in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A pod of a workload; not a bare pod that only wears its `app` label.
    Workload(Workload),
    /// The pod of this name.
    Pod(String),
    /// The first running pod that this label selector chooses, by name.
    Labels(String),
}

impl Source {
    /// Reads one as it is written in lab files: `orders-api`, `pod/spoof`, or `app=orders-api,owner=mallory`. Whether
    /// there is such a workload is another question.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("pod/") {
            return object_name(name).then(|| Source::Pod(name.to_owned()));
        }
        if text.contains('=') {
            return label_selector(text).then(|| Source::Labels(text.to_owned()));
        }
        object_name(text).then(|| Source::Workload(Workload(text.to_owned())))
    }

    /// The workload, where it is one.
    pub fn workload(&self) -> Option<&Workload> {
        match self {
            Source::Workload(workload) => Some(workload),
            Source::Pod(_) | Source::Labels(_) => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Workload(workload) => f.pad(workload.as_str()),
            Source::Pod(name) => write!(f, "pod {name}"),
            Source::Labels(labels) => write!(f, "the pod labelled {labels}"),
        }
    }
}

/// Who is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A Service of the lab's namespace.
    Service(String),
    /// A pod's own address.
    Pod(Source),
    /// An address.
    Address(IpAddr),
    /// A DNS name.
    Host(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Service(name) | Target::Host(name) => f.pad(name),
            Target::Pod(source) => write!(f, "{source}"),
            Target::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Target::Address(address) => write!(f, "{address}"),
        }
    }
}

/// A path in the student's work directory: relative, and never out of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkPath(String);

impl WorkPath {
    /// The longest path, in bytes.
    const LONGEST: usize = 200;

    /// A path, if it leads down from the work directory.
    pub fn new(path: &str) -> Option<Self> {
        let good = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'))
        };
        (path.len() <= Self::LONGEST && path.split('/').all(good)).then(|| Self(path.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same path with an ending.
    #[must_use]
    pub fn with(&self, ending: &str) -> Self {
        Self(format!("{}{ending}", self.0))
    }
}

impl fmt::Display for WorkPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where bytes stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Store {
    /// A key of a Secret of the lab's namespace.
    Secret {
        /// The Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// A key of a ConfigMap of the lab's namespace.
    ConfigMap {
        /// The ConfigMap.
        name: String,
        /// The key.
        key: String,
    },
    /// A file in the work directory.
    File(WorkPath),
}

impl Store {
    /// The forms in which one is written.
    pub const FORMS: &'static str = "`secret/NAME/KEY`, `configmap/NAME/KEY` or `file/PATH`";

    /// Reads one as it is written in lab files.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/')?;
        if kind == "file" {
            return WorkPath::new(rest).map(Store::File);
        }
        let (name, key) = rest.split_once('/')?;
        if !object_name(name) || !data_key(key) {
            return None;
        }
        let (name, key) = (name.to_owned(), key.to_owned());
        match kind {
            "secret" => Some(Store::Secret { name, key }),
            "configmap" => Some(Store::ConfigMap { name, key }),
            _ => None,
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Store::Secret { name, key } => write!(f, "the key {key} of the Secret {name}"),
            Store::ConfigMap { name, key } => write!(f, "the key {key} of the ConfigMap {name}"),
            Store::File(path) => write!(f, "the file {path}"),
        }
    }
}

/// Whether a text can be an object's name: a DNS subdomain (RFC 1123).
pub fn object_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

/// Whether a text is a selector of labels by equality: `a=b,c=d`.
pub fn label_selector(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let pair = |pair: &str| {
        pair.split_once('=').is_some_and(|(key, value)| {
            !key.is_empty() && key.chars().all(good) && value.chars().all(good) && !value.contains('/')
        })
    };
    text.len() <= 512 && text.split(',').all(pair)
}

/// Whether a text can be a key of a Secret or ConfigMap.
pub fn data_key(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= 253
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// A rule for a text; each part that is there must hold.
#[derive(Clone, Debug, Default)]
pub struct TextRule {
    /// Words that must be in it.
    pub contains: Option<String>,
    /// A regular expression that must be found in it.
    pub matches: Option<Regex>,
    /// Words that must not be in it.
    pub lacks: Option<String>,
}

impl TextRule {
    /// Whether a text meets the rule.
    pub fn meets(&self, text: &str) -> bool {
        self.contains.as_ref().is_none_or(|words| text.contains(words.as_str()))
            && self.matches.as_ref().is_none_or(|rule| rule.is_match(text))
            && self.lacks.as_ref().is_none_or(|words| !text.contains(words.as_str()))
    }

    /// Whether it can hold only because something is missing.
    pub fn wants_only_absence(&self) -> bool {
        self.contains.is_none() && self.matches.is_none()
    }
}

impl fmt::Display for TextRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.contains.as_ref().map(|words| format!("contains `{words}`")),
            self.matches.as_ref().map(|rule| format!("matches `{rule}`")),
            self.lacks.as_ref().map(|words| format!("lacks `{words}`")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_work_directory() {
        for good in ["ca.crt", "pki/ca.crt", "a/b-c/d_e.F", ".hidden"] {
            assert_eq!(WorkPath::new(good).map(|path| path.to_string()).as_deref(), Some(good));
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            "a b",
            "a\0b",
            "ä",
            &"x".repeat(201),
        ] {
            assert_eq!(WorkPath::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn stores_are_read_as_written() {
        assert_eq!(
            Store::parse("secret/payments-api-tls/tls.crt"),
            Some(Store::Secret {
                name: "payments-api-tls".into(),
                key: "tls.crt".into()
            })
        );
        assert_eq!(
            Store::parse("configmap/shop-ca/ca.crt").unwrap().to_string(),
            "the key ca.crt of the ConfigMap shop-ca"
        );
        assert_eq!(
            Store::parse("file/pki/ca.crt"),
            WorkPath::new("pki/ca.crt").map(Store::File)
        );
        for bad in [
            "secret/a",
            "secret/A/b",
            "secret/a/b/c",
            "file/../x",
            "file/",
            "vault/a/b",
            "",
            "secret//b",
        ] {
            assert_eq!(Store::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sources_are_read_as_written() {
        let read = |text| Source::parse(text).map(|source| source.to_string());
        assert_eq!(read("orders-api").as_deref(), Some("orders-api"));
        assert_eq!(read("pod/spoof").as_deref(), Some("pod spoof"));
        assert_eq!(
            read("app=orders-api,owner=mallory").as_deref(),
            Some("the pod labelled app=orders-api,owner=mallory")
        );
        for bad in ["", "pod/", "pod/A", "=x", "a=b,c", "a=b=c", "Orders", "a b=c", "x/y"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn rules_hold_as_a_whole() {
        let rule = TextRule {
            contains: Some("charged".into()),
            matches: Some(Regex::new("id\":\\d+").unwrap()),
            lacks: Some("error".into()),
        };
        assert!(rule.meets("{\"id\":7,\"status\":\"charged\"}"));
        for bad in ["charged", "\"id\":7", "charged id\":7 error"] {
            assert!(!rule.meets(bad), "{bad}");
        }
        assert!(!rule.wants_only_absence());
    }
}
