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

#[cfg(test)]
mod tests {
    use super::*;

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
