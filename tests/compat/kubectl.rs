//! The kubectls of this machine.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// Reads `1.33`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.trim().split_once('.')?;
        let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The oldest kubectl that the whole table is promised for. Those before ask for kinds and an OpenAPI document that are not served
/// any more, or not here; what they can do is held by `tests/streams.rs`.
const SUPPORTED: Version = Version(1, 27);

/// One kubectl.
pub struct Kubectl {
    pub path: PathBuf,
    pub version: Version,
}

/// Every version once: the one on `PATH`, what stands beside it as `kubectl.*` (a dispatcher's choices), and the peers that
/// `scripts/setup.sh test` places. Of these the newest and the oldest that is supported, unless `ZTLAB_COMPAT_KUBECTL` asks for others.
pub fn find() -> Vec<Kubectl> {
    let mut candidates = Vec::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(first) = std::env::split_paths(&path)
        .map(|dir| dir.join("kubectl"))
        .find(|path| path.is_file())
    {
        let real = fs::canonicalize(&first).unwrap();
        candidates.extend(beside(real.parent().unwrap()));
        candidates.push(first);
    }
    candidates.extend(beside(&Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")));
    let wanted = std::env::var("ZTLAB_COMPAT_KUBECTL").ok();
    let all = wanted.as_deref() == Some("all");
    let wanted: Option<Vec<Version>> = wanted
        .filter(|_| !all)
        .map(|text| text.split(',').filter_map(Version::parse).collect());
    let mut found = BTreeMap::new();
    for path in candidates {
        if let Some(version) = version(&path)
            && wanted.as_ref().is_none_or(|wanted| wanted.contains(&version))
        {
            found.entry(version).or_insert(path);
        }
    }
    let kubectls = found.into_iter().rev().map(|(version, path)| Kubectl { path, version });
    let mut kubectls: Vec<Kubectl> = kubectls.collect();
    if wanted.is_none() && !all {
        kubectls.retain(|kubectl| kubectl.version >= SUPPORTED);
    }
    if wanted.is_none() && !all && kubectls.len() > 2 {
        kubectls.drain(1..kubectls.len() - 1);
    }
    kubectls
}

/// `kubectl`, `kubectl.1.30` and `kubectl-1.20` in a directory.
fn beside(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let programs = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = name
            .strip_prefix("kubectl")
            .map(|rest| rest.trim_start_matches(['.', '-']));
        rest.is_some_and(|rest| rest.is_empty() || Version::parse(rest).is_some()) && path.is_file()
    });
    programs.collect()
}

fn version(path: &Path) -> Option<Version> {
    let mut command = Command::new(path);
    let output = command.args(["version", "--client", "-o", "json"]).output().ok()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Version::parse(
        said.pointer("/clientVersion/gitVersion")?
            .as_str()?
            .trim_start_matches('v'),
    )
}
