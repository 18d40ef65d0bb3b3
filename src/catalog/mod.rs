//! Where labs are found: in `./labs` of the directory the student works in, in the binary, and in directories that the
//! user named and trusts.

pub mod beside;
pub mod trust;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::lab::{self, Lab, LabError, MAX_FILE, Manifests, Surroundings};

/// A lab in the binary.
struct BuiltIn {
    id: &'static str,
    text: &'static str,
    /// The manifests beside it: path, text.
    files: &'static [(&'static str, &'static str)],
}

/// The labs in the binary.
const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        id: "layers",
        text: include_str!("../../labs/layers/lab.yaml"),
        files: &[],
    },
    BuiltIn {
        id: "manual-mtls",
        text: include_str!("../../labs/manual-mtls/lab.yaml"),
        files: &[
            (
                "solution/optional.yaml",
                include_str!("../../labs/manual-mtls/solution/optional.yaml"),
            ),
            (
                "solution/orders-api.yaml",
                include_str!("../../labs/manual-mtls/solution/orders-api.yaml"),
            ),
            (
                "solution/payments-api.yaml",
                include_str!("../../labs/manual-mtls/solution/payments-api.yaml"),
            ),
            (
                "solution/spoof.yaml",
                include_str!("../../labs/manual-mtls/solution/spoof.yaml"),
            ),
            (
                "solution/thief.yaml",
                include_str!("../../labs/manual-mtls/solution/thief.yaml"),
            ),
            (
                "solution/tls13.yaml",
                include_str!("../../labs/manual-mtls/solution/tls13.yaml"),
            ),
        ],
    },
    BuiltIn {
        id: "perimeter",
        text: include_str!("../../labs/perimeter/lab.yaml"),
        files: &[
            ("report.yaml", include_str!("../../labs/perimeter/report.yaml")),
            (
                "solution/default-deny.yaml",
                include_str!("../../labs/perimeter/solution/default-deny.yaml"),
            ),
            (
                "solution/dns.yaml",
                include_str!("../../labs/perimeter/solution/dns.yaml"),
            ),
            (
                "solution/ledger.yaml",
                include_str!("../../labs/perimeter/solution/ledger.yaml"),
            ),
            (
                "solution/no-frontend.yaml",
                include_str!("../../labs/perimeter/solution/no-frontend.yaml"),
            ),
            (
                "solution/shop.yaml",
                include_str!("../../labs/perimeter/solution/shop.yaml"),
            ),
            (
                "solution/too-broad.yaml",
                include_str!("../../labs/perimeter/solution/too-broad.yaml"),
            ),
        ],
    },
    BuiltIn {
        id: "spiffe-mtls",
        text: include_str!("../../labs/spiffe-mtls/lab.yaml"),
        files: &[
            (
                "solution/foreigner.yaml",
                include_str!("../../labs/spiffe-mtls/solution/foreigner.yaml"),
            ),
            (
                "solution/intruder.yaml",
                include_str!("../../labs/spiffe-mtls/solution/intruder.yaml"),
            ),
            (
                "solution/outsider.yaml",
                include_str!("../../labs/spiffe-mtls/solution/outsider.yaml"),
            ),
        ],
    },
    BuiltIn {
        id: "spire",
        text: include_str!("../../labs/spire/lab.yaml"),
        files: &[
            (
                "solution/beside.yaml",
                include_str!("../../labs/spire/solution/beside.yaml"),
            ),
            (
                "solution/by-account.yaml",
                include_str!("../../labs/spire/solution/by-account.yaml"),
            ),
            (
                "solution/by-label.yaml",
                include_str!("../../labs/spire/solution/by-label.yaml"),
            ),
            (
                "solution/client.yaml",
                include_str!("../../labs/spire/solution/client.yaml"),
            ),
            (
                "solution/no-volume.yaml",
                include_str!("../../labs/spire/solution/no-volume.yaml"),
            ),
            (
                "solution/other-label.yaml",
                include_str!("../../labs/spire/solution/other-label.yaml"),
            ),
            (
                "solution/thief.yaml",
                include_str!("../../labs/spire/solution/thief.yaml"),
            ),
            (
                "solution/walled.yaml",
                include_str!("../../labs/spire/solution/walled.yaml"),
            ),
        ],
    },
    BuiltIn {
        id: "wiretap",
        text: include_str!("../../labs/wiretap/lab.yaml"),
        files: &[],
    },
];

/// The most labs that are read from a directory.
const MOST: usize = 200;

/// A lab file that was found, not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The lab's id: its directory's name.
    pub id: String,
    /// Its file, or `built in`.
    pub source: String,
    /// What the file says.
    pub text: String,
    /// The manifests beside it, by their path from the lab's directory, with their text.
    pub files: BTreeMap<String, String>,
}

/// Why a lab cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No lab has this id.
    #[error("there is no lab `{id}`")]
    Unknown {
        /// The id that was asked for.
        id: String,
        /// The ids there are.
        known: Vec<String>,
    },
    /// Nothing is there.
    #[error("there is no file {}", path.display())]
    NoFile {
        /// The path that was named.
        path: PathBuf,
    },
    /// A directory without a lab.
    #[error("{}: there is no lab in it, neither as `lab.yaml` nor in a directory below", path.display())]
    NoLab {
        /// The directory.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What lies beside the file cannot be used.
    #[error(transparent)]
    Beside(#[from] beside::BesideError),
    /// The file is no valid lab.
    #[error("the lab `{id}` is broken\n{error}")]
    Broken {
        /// The lab's id.
        id: String,
        /// What is wrong with it.
        error: LabError,
    },
}

impl CatalogError {
    /// What the system said of a path.
    pub fn at(path: &Path, source: io::Error) -> CatalogError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => CatalogError::NoFile { path },
            _ => CatalogError::File { path, source },
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { known, .. } if known.is_empty() => None,
            Self::Unknown { known, .. } => Some(format!("the labs are: {}", known.join(", "))),
            Self::Beside(_) => Some("a lab may have YAML files beside it, and only those that lie there".to_owned()),
            Self::NoFile { .. } => Some(
                "name a lab's file, its directory, or a directory of labs; without one, every lab that can be found is meant"
                    .to_owned(),
            ),
            Self::NoLab { .. } => Some("`ztlab lab new ID` makes a lab in `./labs`".to_owned()),
            Self::File { source, .. } => Some(
                match source.kind() {
                    io::ErrorKind::PermissionDenied => "see who may read the file",
                    _ => "a lab is a plain text file, `lab.yaml`, in a directory of its own",
                }
                .to_owned(),
            ),
            Self::Broken { .. } => Some("mend the file, or move its directory away to get the built-in lab".to_owned()),
        }
    }
}

impl Found {
    /// The name of the lab's file in messages.
    pub fn file(&self) -> String {
        if self.source == SOURCE_BUILT_IN {
            format!("labs/{}/lab.yaml", self.id)
        } else {
            self.source.clone()
        }
    }

    /// A hash of the file's text and of the manifests beside it: a session is pinned to it.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new_with_prefix(self.text.as_bytes());
        for (path, text) in &self.files {
            // Lengths first, so that no two sets of files are the same bytes.
            hash.update(format!("\0{} {}\0{path}{text}", path.len(), text.len()));
        }
        let mut hex = String::with_capacity(64);
        for byte in hash.finalize() {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }

    /// Reads the lab.
    ///
    /// # Errors
    /// When the file is no valid lab, or calls itself something else than its directory.
    pub fn load(&self, manifests: &dyn Manifests) -> Result<Lab, CatalogError> {
        let files = &self.files;
        lab::parse(&self.file(), &self.text, Surroundings { manifests, files }).map_err(|error| CatalogError::Broken {
            id: self.id.clone(),
            error,
        })
    }
}

/// What [`Found::source`] says of a lab in the binary.
pub const SOURCE_BUILT_IN: &str = "built in";

/// The ids of the labs in the binary.
pub fn shipped() -> Vec<String> {
    BUILT_IN.iter().map(|lab| lab.id.to_owned()).collect()
}

fn built_in() -> Vec<Found> {
    let found = |lab: &BuiltIn| Found {
        id: lab.id.to_owned(),
        source: SOURCE_BUILT_IN.to_owned(),
        text: lab.text.to_owned(),
        files: lab
            .files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect(),
    };
    BUILT_IN.iter().map(found).collect()
}

/// Every lab: those of `cwd` come before built-in ones of the same id, and those before labs in trusted directories.
///
/// The labs of `cwd` are those of `<cwd>/labs`, or, where the user trusts `cwd` itself, those in it.
pub fn all(cwd: Option<&Path>) -> Vec<Found> {
    let trust = trust::Trust::open().ok();
    let trusted = |dir: &Path| {
        let standing = trust.as_ref().and_then(|trust| trust.standing(dir).ok());
        standing == Some(trust::Standing::Trusted)
    };
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut add = |labs: Vec<Found>| {
        for lab in labs {
            found.entry(lab.id.clone()).or_insert(lab);
        }
    };
    let built_in = built_in();
    if let Some(cwd) = cwd {
        let labs = cwd.join("labs");
        let here = if labs.is_dir() || !trusted(cwd) {
            in_directory(&labs)
        } else {
            in_directory(cwd)
        };
        // One that is the same as in the binary is that one.
        let same = |lab: &Found| built_in.iter().any(|one| one.id == lab.id && one.hash() == lab.hash());
        add(here.into_iter().filter(|lab| !same(lab)).collect());
    }
    add(built_in);
    for entry in trust.iter().flat_map(trust::Trust::entries) {
        if trusted(&entry.path) {
            add(in_directory(&trust::root(&entry.path)));
        }
    }
    found.into_values().collect()
}

/// The labs `<dir>/<id>/lab.yaml`, in the order of their ids. A file that cannot be read hides nothing.
pub fn in_directory(dir: &Path) -> Vec<Found> {
    let mut files = files(dir);
    files.sort();
    files.into_iter().filter_map(|(_, path)| open(&path).ok()).collect()
}

/// The lab of an id.
///
/// # Errors
/// When there is none.
pub fn find(id: &str, cwd: Option<&Path>) -> Result<Found, CatalogError> {
    let all = all(cwd);
    let known = all.iter().map(|lab| lab.id.clone()).collect();
    all.into_iter()
        .find(|lab| lab.id == id)
        .ok_or_else(|| CatalogError::Unknown {
            id: crate::text::one_line(id),
            known,
        })
}

/// A lab file of a path, or of a directory that holds `lab.yaml`.
///
/// # Errors
/// When it cannot be read, or is too large.
pub fn open(path: &Path) -> Result<Found, CatalogError> {
    let path = if path.is_dir() {
        path.join("lab.yaml")
    } else {
        path.to_owned()
    };
    let text = beside::plain(&path, MAX_FILE as u64).map_err(|source| CatalogError::at(&path, source))?;
    let dir = path
        .parent()
        .filter(|dir| *dir != Path::new(""))
        .unwrap_or(Path::new("."));
    // A file of another name is a draft: what lies beside it is not the lab's.
    let files = if path.file_name().is_some_and(|name| name == "lab.yaml") {
        beside::read(dir)?
    } else {
        BTreeMap::new()
    };
    let named = |dir: &Path| Some(dir.file_name()?.to_string_lossy().into_owned());
    // `.` and `..` have no name of their own.
    let parent = named(dir).or_else(|| named(&fs::canonicalize(dir).ok()?));
    Ok(Found {
        id: parent.unwrap_or_else(|| "lab".to_owned()),
        source: path.display().to_string(),
        text,
        files,
    })
}

/// `<dir>/<id>/lab.yaml` of every directory in `dir`.
fn files(dir: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .take(MOST)
        // A link could lead out of the directory that the user named.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path().join("lab.yaml"))))
        .filter(|(_, path)| path.is_file())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_before_the_binary() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("labs/wiretap");
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(find("wiretap", Some(temp.path())).unwrap().source, SOURCE_BUILT_IN);
        fs::write(dir.join("lab.yaml"), "kind: Lab\n").unwrap();
        let found = find("wiretap", Some(temp.path())).unwrap();
        assert_eq!(found.source, dir.join("lab.yaml").display().to_string());
        let Err(CatalogError::Broken { error, .. }) = found.load(&lab::Layer::default()) else {
            panic!("it is broken");
        };
        assert!(error.to_string().contains("lab.yaml:1:1"), "{error}");
    }

    #[test]
    fn an_unknown_lab_names_the_known_ones() {
        let error = find("wire\x1b[31mtap", None).unwrap_err();
        assert!(!error.to_string().contains('\x1b'));
        assert!(error.hint().unwrap().contains("wiretap"));
    }

    #[test]
    fn an_edit_changes_the_hash() {
        let one = find("wiretap", None).unwrap();
        let mut other = one.clone();
        other.text.push('\n');
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash().len(), 64);
    }
}
