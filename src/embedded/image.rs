//! What an image name resolves to: for now a stand-in built into this binary.

/// A program of this binary that answers for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// The stand-in's own name, as `ztlab images` lists it and the `ztlab.dev/stand-in` annotation says it.
    pub name: String,
    /// Image repositories it answers for, without tag or digest (`ztlab.dev/shop/ledger`).
    pub repositories: Vec<String>,
    /// The image's `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// The image's `CMD`.
    pub cmd: Vec<String>,
    /// The image's `ENV`.
    pub env: Vec<(String, String)>,
    /// Programs that appear in `/usr/local/bin` of the container as links to this binary; `/name` appears in its root.
    pub programs: Vec<String>,
}

/// Resolves image names.
pub trait Registry: Send + Sync {
    /// Every stand-in there is.
    fn all(&self) -> Vec<StandIn>;

    /// The stand-in that answers for `reference` (`repository[:tag][@digest]`, with or without `docker.io/`), if any.
    fn resolve(&self, reference: &str) -> Option<StandIn> {
        let wanted = repository(reference);
        self.all()
            .into_iter()
            .find(|image| image.repositories.iter().any(|name| repository(name) == wanted))
    }
}

/// The repository of an image reference, normalised as container runtimes do
/// (`nginx` → `docker.io/library/nginx`), without tag and digest.
///
/// Source: the distribution project's reference grammar.
pub fn repository(reference: &str) -> String {
    let name = reference.split('@').next().unwrap_or(reference);
    let (path, last) = match name.rfind('/') {
        Some(slash) => name.split_at(slash + 1),
        None => ("", name),
    };
    let last = last.split(':').next().unwrap_or(last);
    let name = format!("{path}{last}");
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name,
        Some(_) => format!("docker.io/{name}"),
    }
}

/// Whether a text can name an image: `[host[:port]/]path[:tag][@digest]`.
///
/// Source: the distribution project's reference grammar.
pub fn valid(reference: &str) -> bool {
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let hex = |text: &str| text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digest.is_some_and(|digest| {
        !digest
            .split_once(':')
            .is_some_and(|(kind, rest)| !kind.is_empty() && hex(rest))
    }) {
        return false;
    }
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name.get(last..).and_then(|rest| rest.find(':')) {
        Some(colon) => (name.get(..last + colon), name.get(last + colon + 1..)),
        None => (Some(name), None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return false;
    }
    let path = path.unwrap_or_default();
    let (host, rest) = match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), rest),
        _ => (None, path),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let host_fits = host.is_none_or(|host| {
        let (name, port) = host.split_once(':').unwrap_or((host, "1"));
        !name.is_empty() && name.chars().all(word) && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    host_fits && path.len() <= 255 && rest.split('/').all(is_component)
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// Lower-case words with one of `.`, `_`, `__` or any number of `-` between them.
fn is_component(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = component.starts_with(word) && component.ends_with(word);
    let mut gaps = component.split(word).filter(|gap| !gap.is_empty());
    ends && gaps.all(|gap| matches!(gap, "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_have_a_grammar() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in [
            "nginx",
            "nginx:1.2_3-x",
            "a.b/c_d/e__f--g:T",
            "localhost:5000/x",
            "ztlab.dev/shop/ledger:1",
            &digest,
        ] {
            assert!(valid(good), "{good}");
        }
        for bad in [
            "",
            "Nginx",
            "a b",
            "a:",
            "a/",
            "/a",
            "a//b",
            "a:b:c",
            "a@sha256:12",
            "a___b",
            "a._b",
            "http://a/b",
            "a:-x",
        ] {
            assert!(!valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn references_are_normalised() {
        for (reference, expected) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx"),
            ("curlimages/curl:8.1@sha256:00", "docker.io/curlimages/curl"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b"),
            ("ztlab.dev/shop/ledger:1", "ztlab.dev/shop/ledger"),
        ] {
            assert_eq!(repository(reference), expected, "{reference}");
        }
    }
}
