//! What a lab puts into the student's work directory: the plain files of `work/` beside its `lab.yaml`.
//!
//! A lab is untrusted: names that begin with a dot (which shells and tools read by themselves), links, and more than a
//! few files are refused, and no file can be run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    catalog::{Found, SOURCE_BUILT_IN},
    cluster::manifests::Transform,
};

/// The most files, directories included.
const FILES: usize = 64;
/// The most bytes of all of them.
const BYTES: u64 = 1 << 20;
/// Directories in directories.
const DEPTH: usize = 4;

/// The files of built-in labs: lab, path below its `work/`, content.
const BUILT_IN: &[(&str, &str, &str)] = &[
    (
        "layers",
        "layers.md",
        include_str!("../../../labs/layers/work/layers.md"),
    ),
    (
        "manual-mtls",
        "ca.cnf",
        include_str!("../../../labs/manual-mtls/work/ca.cnf"),
    ),
    (
        "manual-mtls",
        "orders-api.ext",
        include_str!("../../../labs/manual-mtls/work/orders-api.ext"),
    ),
    (
        "manual-mtls",
        "orders-api.yaml",
        include_str!("../../../labs/manual-mtls/work/orders-api.yaml"),
    ),
    (
        "manual-mtls",
        "payments-api.ext",
        include_str!("../../../labs/manual-mtls/work/payments-api.ext"),
    ),
    (
        "manual-mtls",
        "payments-api.yaml",
        include_str!("../../../labs/manual-mtls/work/payments-api.yaml"),
    ),
    (
        "manual-mtls",
        "spoof.yaml",
        include_str!("../../../labs/manual-mtls/work/spoof.yaml"),
    ),
    (
        "manual-mtls",
        "thief.yaml",
        include_str!("../../../labs/manual-mtls/work/thief.yaml"),
    ),
    (
        "perimeter",
        "default-deny.yaml",
        include_str!("../../../labs/perimeter/work/default-deny.yaml"),
    ),
    (
        "perimeter",
        "dns.yaml",
        include_str!("../../../labs/perimeter/work/dns.yaml"),
    ),
    (
        "perimeter",
        "ledger.yaml",
        include_str!("../../../labs/perimeter/work/ledger.yaml"),
    ),
    (
        "perimeter",
        "report.yaml",
        include_str!("../../../labs/perimeter/work/report.yaml"),
    ),
    (
        "perimeter",
        "shop.yaml",
        include_str!("../../../labs/perimeter/work/shop.yaml"),
    ),
    (
        "spiffe-mtls",
        "claimed.ext",
        include_str!("../../../labs/spiffe-mtls/work/claimed.ext"),
    ),
    (
        "spiffe-mtls",
        "foreigner.yaml",
        include_str!("../../../labs/spiffe-mtls/work/foreigner.yaml"),
    ),
    (
        "spiffe-mtls",
        "partner.ext",
        include_str!("../../../labs/spiffe-mtls/work/partner.ext"),
    ),
    (
        "spiffe-mtls",
        "intruder.yaml",
        include_str!("../../../labs/spiffe-mtls/work/intruder.yaml"),
    ),
    (
        "spire",
        "client.yaml",
        include_str!("../../../labs/spire/work/client.yaml"),
    ),
    (
        "spire",
        "identities.yaml",
        include_str!("../../../labs/spire/work/identities.yaml"),
    ),
    (
        "spire",
        "thief.yaml",
        include_str!("../../../labs/spire/work/thief.yaml"),
    ),
];

/// A file for the work directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// Where, below the work directory.
    pub path: PathBuf,
    /// What it says.
    pub bytes: Vec<u8>,
}

impl Brought {
    /// The file as it is where the lab runs: a manifest that the student applies makes what is the lab's there. What is no
    /// manifest stays as it is.
    #[must_use]
    pub fn placed(mut self, transform: &Transform) -> Self {
        let is_yaml = |extension: &std::ffi::OsStr| extension == "yaml" || extension == "yml";
        if self.path.extension().is_some_and(is_yaml)
            && let Ok(text) = std::str::from_utf8(&self.bytes)
            && let Ok(placed) = transform.file("work", text)
        {
            self.bytes = placed.into_bytes();
        }
        self
    }
}

/// What a lab brings.
///
/// # Errors
/// What is wrong with it, naming the file.
pub fn brought(found: &Found) -> Result<Vec<Brought>, String> {
    if found.source == SOURCE_BUILT_IN {
        let own = BUILT_IN.iter().filter(|(lab, ..)| *lab == found.id);
        return Ok(own
            .map(|(_, path, text)| Brought {
                path: path.into(),
                bytes: text.as_bytes().to_vec(),
            })
            .collect());
    }
    let Some(dir) = Path::new(&found.source).parent() else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    read(&dir.join("work"), Path::new(""), 0, &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn read(root: &Path, below: &Path, depth: usize, into: &mut Vec<Brought>) -> Result<(), String> {
    let dir = root.join(below);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && depth == 0 => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", dir.display())),
    };
    for entry in entries {
        let entry = entry.map_err(|error| format!("{}: {error}", dir.display()))?;
        let path = below.join(entry.file_name());
        let whole = root.join(&path);
        let refuse = |why: &str| {
            Err(format!(
                "{}: {why}",
                crate::text::one_line(&whole.display().to_string())
            ))
        };
        if entry.file_name().to_string_lossy().starts_with('.') {
            return refuse("a lab brings no file whose name begins with a dot");
        }
        let meta = fs::symlink_metadata(&whole).map_err(|error| format!("{}: {error}", whole.display()))?;
        if meta.is_dir() && depth < DEPTH {
            read(root, &path, depth + 1, into)?;
        } else if meta.is_file() {
            let so_far: u64 = into.iter().map(|file| file.bytes.len() as u64).sum();
            if into.len() == FILES || so_far.saturating_add(meta.len()) > BYTES {
                return refuse("a lab brings 64 files and 1 MiB at most");
            }
            let bytes = fs::read(&whole).map_err(|error| format!("{}: {error}", whole.display()))?;
            into.push(Brought { path, bytes });
        } else {
            return refuse("a lab brings plain files and directories, four deep");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn of(dir: &Path) -> Result<Vec<Brought>, String> {
        brought(&Found {
            id: "lab".to_owned(),
            source: dir.join("lab.yaml").display().to_string(),
            text: String::new(),
            files: std::collections::BTreeMap::new(),
        })
    }

    #[test]
    fn plain_files_are_brought_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(of(temp.path()), Ok(Vec::new()));
        let work = temp.path().join("work");
        fs::create_dir_all(work.join("a")).unwrap();
        fs::write(work.join("a/b.yaml"), "x").unwrap();
        fs::write(temp.path().join("secret"), "not of it").unwrap();
        let found = of(temp.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].path.as_path(), found[0].bytes.as_slice()),
            (Path::new("a/b.yaml"), &b"x"[..])
        );
        for (name, why) in [(".bashrc", "a dot"), ("big", "1 MiB"), ("link", "plain files")] {
            let path = work.join(name);
            match name {
                "link" => symlink("/etc/passwd", &path).unwrap(),
                "big" => fs::write(&path, vec![0; (1 << 20) + 1]).unwrap(),
                _ => fs::write(&path, "").unwrap(),
            }
            let error = of(temp.path()).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_is_built_in_is_what_the_directories_hold() {
        let labs = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs");
        let mut there = Vec::new();
        for lab in fs::read_dir(labs).unwrap() {
            let lab = lab.unwrap().path();
            let id = lab.file_name().unwrap().to_string_lossy().into_owned();
            for file in of(&lab).unwrap() {
                let text = String::from_utf8(file.bytes).unwrap();
                there.push((id.clone(), file.path.display().to_string(), text));
            }
        }
        there.sort();
        let mut built_in: Vec<_> = BUILT_IN
            .iter()
            .map(|(lab, path, text)| ((*lab).to_owned(), (*path).to_owned(), (*text).to_owned()))
            .collect();
        built_in.sort();
        assert_eq!(there, built_in, "a file of a lab's work/ is missing in BUILT_IN");
    }
}
