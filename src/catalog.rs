//! Where labs are found: in the binary, and in `./labs` of the directory the student works in.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::lab::{self, Lab, LabError, MAX_FILE, Topologies};

/// The labs in the binary: id and file.
const BUILT_IN: &[(&str, &str)] = &[("wiretap", include_str!("../labs/wiretap/lab.yaml"))];

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
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { known, .. } if known.is_empty() => None,
            Self::Unknown { known, .. } => Some(format!("the labs are: {}", known.join(", "))),
            Self::File { .. } => Some("see who may read the file".to_owned()),
            Self::Broken { .. } => Some("mend the file, or move its directory away to get the built-in lab".to_owned()),
        }
    }
}

impl Found {
    /// A hash of the file's text: a session is pinned to it.
    pub fn hash(&self) -> String {
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(self.text.as_bytes()) {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }

    /// Reads the lab.
    ///
    /// # Errors
    /// When the file is no valid lab, or calls itself something else than its directory.
    pub fn load(&self, topologies: Topologies<'_>) -> Result<Lab, CatalogError> {
        let file = if self.source == SOURCE_BUILT_IN {
            format!("labs/{}/lab.yaml", self.id)
        } else {
            self.source.clone()
        };
        lab::parse(&file, &self.text, topologies).map_err(|error| CatalogError::Broken {
            id: self.id.clone(),
            error,
        })
    }
}

/// What [`Found::source`] says of a lab in the binary.
pub const SOURCE_BUILT_IN: &str = "built in";

/// Every lab: those of `<cwd>/labs` come before built-in ones of the same id.
pub fn all(cwd: Option<&Path>) -> Vec<Found> {
    let mut found: BTreeMap<String, Found> = BUILT_IN
        .iter()
        .map(|(id, text)| {
            let lab = Found {
                id: (*id).to_owned(),
                source: SOURCE_BUILT_IN.to_owned(),
                text: (*text).to_owned(),
            };
            (lab.id.clone(), lab)
        })
        .collect();
    for (id, path) in cwd.map(|cwd| files(&cwd.join("labs"))).unwrap_or_default() {
        // A file that cannot be read hides nothing.
        if let Ok(text) = read(&path) {
            let same = found.get(&id).is_some_and(|built_in| built_in.text == text);
            if !same {
                let source = path.display().to_string();
                found.insert(id.clone(), Found { id, source, text });
            }
        }
    }
    found.into_values().collect()
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
    let text = read(&path).map_err(|source| CatalogError::File {
        path: path.clone(),
        source,
    })?;
    let parent = path
        .parent()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned());
    Ok(Found {
        id: parent.unwrap_or_else(|| "lab".to_owned()),
        source: path.display().to_string(),
        text,
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
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path().join("lab.yaml"))))
        .filter(|(_, path)| path.is_file())
        .collect()
}

fn read(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > MAX_FILE as u64 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{size} bytes, more than the {MAX_FILE} a lab may have"),
        ));
    }
    fs::read_to_string(path)
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
        let Err(CatalogError::Broken { error, .. }) = found.load(&|_| None) else {
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
