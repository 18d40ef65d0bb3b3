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

/// The oldest kubectl that the whole table is promised for. Of those before, that of Debian 12 is run too ([`OLD`]): it cannot do
/// what came after it, as the table says line by line.
const SUPPORTED: Version = Version(1, 27);
/// Debian 12's: it speaks SPDY alone, and asks for `/openapi/v2`.
pub const OLD: Version = Version(1, 20);

/// One kubectl.
pub struct Kubectl {
    pub path: PathBuf,
    pub version: Version,
}

/// Every version once: the one on `PATH`, what stands beside it as `kubectl.*` (a dispatcher's choices), and the peers that
/// `scripts/setup.sh test` places. Of these the newest, the oldest that is supported and Debian 12's, unless
/// `ZTLAB_COMPAT_KUBECTL` asks for others.
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
        let supported = || {
            kubectls
                .iter()
                .map(|kubectl| kubectl.version)
                .filter(|version| *version >= SUPPORTED)
        };
        let chosen = [supported().max(), supported().min(), Some(OLD)];
        kubectls.retain(|kubectl| chosen.contains(&Some(kubectl.version)));
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
