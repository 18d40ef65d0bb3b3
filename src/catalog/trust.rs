//! Directories of labs that the user named, and said to trust.
//!
//! A lab cannot run anything on this machine by itself, but its manifests go into a cluster and its programs into pods.
//! So a directory is asked about once. What is remembered is its path and what is in it: a hash of its labs, or, for a Git
//! checkout, the remote it came from, so that a `git pull` needs no new question.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Found, beside};

/// The most bytes of the file of trusted directories.
const MOST: u64 = 1 << 20;

/// What a directory is recognised by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// A Git checkout of this remote.
    Remote(String),
    /// These labs: a hash of all of them.
    Hash(String),
}

/// A directory that is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// Its path, without links.
    pub path: PathBuf,
    /// What it is recognised by.
    pub mark: Mark,
}

/// Whether a directory is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The user said so, and it is as it was.
    Trusted,
    /// The user said so, of something else that was in this place.
    Changed,
    /// Nobody was asked.
    Unknown,
}

/// Why trust cannot be looked up or remembered.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The directory cannot be read, or the file of trusted directories.
    #[error("{}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no lab in the directory.
    #[error("{}: there is no lab in it", path.display())]
    NoLabs {
        /// The directory.
        path: PathBuf,
    },
    /// A file that is not ours, or damaged.
    #[error("{}: is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl TrustError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "name a directory that you can read",
            Self::NoLabs { .. } => "a directory of labs holds `<id>/lab.yaml`, or `labs/<id>/lab.yaml`",
            Self::Damaged { .. } => "delete it; you are asked again about each directory",
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> TrustError {
    let path = path.to_owned();
    |source| TrustError::Io { path, source }
}

/// The directories that the user trusts.
#[derive(Debug)]
pub struct Trust {
    file: PathBuf,
    entries: Vec<Trusted>,
}

impl Trust {
    /// Reads what the state directory remembers.
    ///
    /// # Errors
    /// When there is no state directory, or the file in it is damaged.
    pub fn open() -> Result<Self, TrustError> {
        let dir = crate::paths::state_dir().map_err(io_error(Path::new("the state directory")))?;
        Self::at(dir.join("trusted-labs.json"))
    }

    /// Reads a file; none is an empty one.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn at(file: PathBuf) -> Result<Self, TrustError> {
        let entries = match beside::plain(&file, MOST) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| TrustError::Damaged {
                path: file.clone(),
                reason: error.to_string(),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error(&file)(error)),
        };
        Ok(Self { file, entries })
    }

    /// The trusted directories, in the order they were named.
    pub fn entries(&self) -> &[Trusted] {
        &self.entries
    }

    /// Whether a directory is trusted as it is now.
    ///
    /// # Errors
    /// When it cannot be read, or there is no lab in it.
    pub fn standing(&self, dir: &Path) -> Result<Standing, TrustError> {
        let now = look(dir)?;
        Ok(match self.entries.iter().find(|entry| entry.path == now.path) {
            Some(entry) if entry.mark == now.mark => Standing::Trusted,
            Some(_) => Standing::Changed,
            None => Standing::Unknown,
        })
    }

    /// Trusts a directory as it is now.
    ///
    /// # Errors
    /// When it cannot be read, or the trust cannot be remembered.
    pub fn add(&mut self, dir: &Path) -> Result<Trusted, TrustError> {
        let now = look(dir)?;
        self.entries.retain(|entry| entry.path != now.path);
        self.entries.push(now.clone());
        self.write()?;
        Ok(now)
    }

    /// Trusts a directory no longer; `false` where it was not trusted. The directory itself need not be there any more.
    ///
    /// # Errors
    /// When that cannot be remembered.
    pub fn remove(&mut self, dir: &Path) -> Result<bool, TrustError> {
        let path =
            fs::canonicalize(dir).unwrap_or_else(|_| std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()));
        let before = self.entries.len();
        self.entries.retain(|entry| entry.path != path && entry.path != dir);
        if self.entries.len() == before {
            return Ok(false);
        }
        self.write()?;
        Ok(true)
    }

    /// Writes the file so that it is whole or as it was.
    fn write(&self) -> Result<(), TrustError> {
        use std::os::unix::fs::OpenOptionsExt;
        let new = self.file.with_extension("tmp");
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&new)?;
            io::Write::write_all(&mut file, &serde_json::to_vec_pretty(&self.entries)?)?;
            file.sync_all()?;
            fs::rename(&new, &self.file)
        };
        write().map_err(io_error(&self.file))
    }
}

/// The directory in which a named directory has its labs: `labs` in it, or itself.
pub fn root(dir: &Path) -> PathBuf {
    let labs = dir.join("labs");
    if labs.is_dir() { labs } else { dir.to_owned() }
}

/// What is in a directory now.
fn look(dir: &Path) -> Result<Trusted, TrustError> {
    let path = fs::canonicalize(dir).map_err(io_error(dir))?;
    let labs = super::in_directory(&root(&path));
    if labs.is_empty() {
        return Err(TrustError::NoLabs { path });
    }
    let mark = remote(&path).map_or_else(|| Mark::Hash(hash(&labs)), Mark::Remote);
    Ok(Trusted { path, mark })
}

/// A hash of every lab with all that belongs to it.
fn hash(labs: &[Found]) -> String {
    let mut hash = Sha256::new();
    for lab in labs {
        hash.update(format!("{} {}\n", lab.id, lab.hash()));
    }
    let mut hex = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Where a Git checkout came from: the URL of its remote `origin`, as `.git/config` has it (git-config(1)).
fn remote(dir: &Path) -> Option<String> {
    let config = beside::plain(&dir.join(".git/config"), MOST).ok()?;
    let mut origin = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            origin = line.replace(' ', "").eq_ignore_ascii_case("[remote\"origin\"]");
        } else if origin
            && let Some((key, value)) = line.split_once('=')
            && key.trim().eq_ignore_ascii_case("url")
        {
            return Some(without_password(value.trim()));
        }
    }
    None
}

/// A URL without the user and password that it may hold: the file of trusted directories is no place for them.
fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = host.rsplit('@').next().unwrap_or(host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn lab(dir: &Path, id: &str, text: &str) {
        fs::create_dir_all(dir.join(id)).unwrap();
        fs::write(dir.join(id).join("lab.yaml"), text).unwrap();
    }

    #[test]
    fn a_directory_is_trusted_until_a_lab_in_it_changes() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, file) = (temp.path().join("mine"), temp.path().join("trusted.json"));
        lab(&dir, "one", "kind: Lab\n");
        let mut trust = Trust::at(file.clone()).unwrap();
        assert_eq!(trust.standing(&dir).unwrap(), Standing::Unknown);
        trust.add(&dir).unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Remembered, and by the path without links.
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        let mut trust = Trust::at(file.clone()).unwrap();
        assert_eq!(trust.standing(&link).unwrap(), Standing::Trusted);
        fs::write(dir.join("one/extra.yaml"), "kind: Pod\n").unwrap();
        assert_eq!(trust.standing(&dir).unwrap(), Standing::Changed);
        trust.add(&dir).unwrap();
        assert_eq!(
            (trust.standing(&dir).unwrap(), trust.entries().len()),
            (Standing::Trusted, 1)
        );
        assert!(trust.remove(&dir).unwrap());
        assert!(!trust.remove(&dir).unwrap());
        assert_eq!(Trust::at(file).unwrap().standing(&dir).unwrap(), Standing::Unknown);
    }

    #[test]
    fn a_checkout_is_known_by_its_remote() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("checkout");
        lab(&dir.join("labs"), "one", "kind: Lab\n");
        fs::create_dir(dir.join(".git")).unwrap();
        let config = |url: &str| {
            let text = format!("[core]\n\tbare = false\n[remote \"origin\"]\n\turl = {url}\n[branch \"main\"]\n");
            fs::write(dir.join(".git/config"), text).unwrap();
        };
        config("https://me:secret@example.org/labs.git");
        let mut trust = Trust::at(temp.path().join("trusted.json")).unwrap();
        let added = trust.add(&dir).unwrap();
        assert_eq!(added.mark, Mark::Remote("https://example.org/labs.git".to_owned()));
        lab(&dir.join("labs"), "two", "kind: Lab\n");
        assert_eq!(trust.standing(&dir).unwrap(), Standing::Trusted);
        config("https://example.com/other.git");
        assert_eq!(trust.standing(&dir).unwrap(), Standing::Changed);
    }

    #[test]
    fn what_holds_no_lab_is_not_trusted() {
        let temp = tempfile::tempdir().unwrap();
        let mut trust = Trust::at(temp.path().join("trusted.json")).unwrap();
        assert!(matches!(trust.add(temp.path()), Err(TrustError::NoLabs { .. })));
        assert!(matches!(
            trust.add(&temp.path().join("none")),
            Err(TrustError::Io { .. })
        ));
        fs::write(temp.path().join("trusted.json"), "{").unwrap();
        assert!(matches!(
            Trust::at(temp.path().join("trusted.json")),
            Err(TrustError::Damaged { .. })
        ));
    }
}
