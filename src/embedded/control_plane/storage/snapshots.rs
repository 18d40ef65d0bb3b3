//! Snapshots on disk: one file each, whole or not there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Key, journal,
    record::{self, Entry, FORMAT, Piece},
};
use crate::{control_plane::snapshot::Held, tree::TreeError};

/// The end of a snapshot file's name.
const SUFFIX: &str = "snapshot";
/// The most snapshots a cluster may have.
const MOST: usize = 100;
const LONGEST_NAME: usize = 63;

/// A snapshot, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// What it is of, in its maker's words; may be empty.
    pub note: String,
    /// When it was taken, RFC 3339.
    pub taken: String,
    /// How many objects it holds.
    pub objects: usize,
    /// How many volumes it holds the content of.
    #[serde(default)]
    pub volumes: usize,
}

/// A snapshot as it is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// What a list shows.
    pub info: SnapshotInfo,
    /// The objects.
    pub objects: Vec<(Key, Value)>,
    /// The content of volumes.
    pub content: Held,
}

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The name cannot be one of a file.
    #[error("{0:?} is no name for a snapshot: use lower-case letters, digits and '-', at most 63 of them")]
    Name(String),
    /// There is none of that name.
    #[error("there is no snapshot {name:?}; there {}", match known.as_slice() {
        [] => "are none".to_owned(),
        [one] => format!("is {one}"),
        all => format!("are {}", all.join(", ")),
    })]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// There are as many as there may be.
    #[error("there are {MOST} snapshots already: delete one first")]
    TooMany,
    /// It cannot be read to its end, or not as it was written: half a state must not be put back.
    #[error("the snapshot {0:?} is damaged: delete it, and take another")]
    Damaged(String),
    /// It is of a newer format.
    #[error("the snapshot {0:?} was taken by a newer version of ztlab")]
    Newer(String),
    /// What volumes hold could not be taken or put back.
    #[error(transparent)]
    Content(#[from] TreeError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, source }
}

fn file(dir: &Path, name: &str) -> Result<PathBuf, SnapshotError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = name.as_bytes();
    if name.len() <= LONGEST_NAME && bytes.iter().copied().all(fits) && ends(bytes.first()) && ends(bytes.last()) {
        Ok(dir.join(format!("{name}.{SUFFIX}")))
    } else {
        Err(SnapshotError::Name(name.to_owned()))
    }
}

/// Whether a snapshot of this name can be written.
///
/// # Errors
/// A bad name, or too many.
pub fn admit(dir: &Path, name: &str) -> Result<(), SnapshotError> {
    if !file(dir, name)?.exists() && names(dir)?.len() >= MOST {
        return Err(SnapshotError::TooMany);
    }
    Ok(())
}

/// Writes a snapshot; one of the same name is replaced. Blocks until it is on disk.
///
/// # Errors
/// A bad name, too many, or a file that cannot be written.
pub fn save(dir: &Path, snapshot: &Saved) -> Result<(), SnapshotError> {
    let Saved { info, objects, content } = snapshot;
    let path = file(dir, &info.name)?;
    admit(dir, &info.name)?;
    let mut bytes = Vec::new();
    let begin = Entry::Begin {
        format: FORMAT,
        taken: Some(info.taken.clone()),
        note: info.note.clone(),
        content: match content.is_empty() {
            true => Value::Null,
            false => serde_json::to_value(content).map_err(|error| failed(&path)(error.into()))?,
        },
    };
    let put = |(key, object): &(Key, Value)| Entry::Put {
        at: key.into(),
        object: Arc::new(object.clone()),
    };
    let whole = Entry::Whole {
        revision: 0,
        objects: objects.len(),
    };
    for entry in [begin].into_iter().chain(objects.iter().map(put)).chain([whole]) {
        if !record::encode(&entry, &mut bytes) {
            return Err(failed(&path)(io::Error::other("an object is too large")));
        }
    }
    fs::create_dir_all(dir).map_err(failed(dir))?;
    journal::write_whole(&path, &bytes).map_err(failed(&path))?;
    Ok(())
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, SnapshotError> {
    let path = file(dir, name)?;
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SnapshotError::Unknown {
            name: name.to_owned(),
            known: names(dir)?,
        }),
        read => read.map_err(failed(&path)),
    }
}

/// What a list shows of a snapshot: that it is whole is looked at, what its objects say is not.
fn outline(dir: &Path, name: &str) -> Result<SnapshotInfo, SnapshotError> {
    let bytes = read(dir, name)?;
    let damaged = || SnapshotError::Damaged(name.to_owned());
    let all = record::payloads(&bytes).ok_or_else(damaged)?;
    let [begin, objects @ .., end] = all.as_slice() else {
        return Err(damaged());
    };
    let entry = |payload: &[u8]| serde_json::from_slice(payload).map_err(|_| damaged());
    match (entry(begin)?, entry(end)?) {
        (Entry::Begin { format, .. }, _) if format > FORMAT => Err(SnapshotError::Newer(name.to_owned())),
        (
            Entry::Begin {
                taken, note, content, ..
            },
            Entry::Whole { objects: count, .. },
        ) if count == objects.len() => Ok(SnapshotInfo {
            name: name.to_owned(),
            note,
            taken: taken.unwrap_or_default(),
            objects: count,
            volumes: held(content).ok_or_else(damaged)?.volumes.len(),
        }),
        _ => Err(damaged()),
    }
}

/// The content that a first record names.
fn held(content: Value) -> Option<Held> {
    match content {
        Value::Null => Some(Held::default()),
        content => serde_json::from_value(content).ok(),
    }
}

/// Reads a snapshot.
///
/// # Errors
/// When it is not there, or not whole.
pub fn load(dir: &Path, name: &str) -> Result<Saved, SnapshotError> {
    let bytes = read(dir, name)?;
    let damaged = || SnapshotError::Damaged(name.to_owned());
    let mut begun = None;
    let mut objects = Vec::new();
    let mut is_whole = false;
    for piece in record::decode(&bytes) {
        match piece {
            Piece::Entry(Entry::Begin { format, .. }) if format > FORMAT => {
                return Err(SnapshotError::Newer(name.to_owned()));
            }
            Piece::Entry(Entry::Begin {
                taken, note, content, ..
            }) if begun.is_none() => {
                let content = held(content).ok_or_else(damaged)?;
                begun = Some((taken.unwrap_or_default(), note, content));
            }
            Piece::Entry(Entry::Put { at, object }) if !is_whole => {
                let object = Arc::try_unwrap(object).unwrap_or_else(|shared| (*shared).clone());
                objects.push((at.into(), object));
            }
            Piece::Entry(Entry::Whole { objects: count, .. }) if count == objects.len() => is_whole = true,
            _ => return Err(damaged()),
        }
    }
    let (taken, note, content) = begun.filter(|_| is_whole).ok_or_else(damaged)?;
    Ok(Saved {
        info: SnapshotInfo {
            name: name.to_owned(),
            note,
            taken,
            objects: objects.len(),
            volumes: content.volumes.len(),
        },
        objects,
        content,
    })
}

/// The content that the snapshots in `dir` hold, of the newest first; also of those that cannot be read to their end.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn contents(dir: &Path) -> Result<Vec<Held>, SnapshotError> {
    let mut all = Vec::new();
    for name in names(dir)? {
        if let Some(Entry::Begin { taken, content, .. }) = record::first(&read(dir, &name)?) {
            all.extend(held(content).map(|held| (taken, held)));
        }
    }
    all.sort_by(|a, b| b.0.cmp(&a.0));
    Ok(all.into_iter().map(|(_, held)| held).collect())
}

/// The names of the snapshots in `dir`, in order.
///
/// # Errors
/// When the directory cannot be read.
pub fn names(dir: &Path) -> Result<Vec<String>, SnapshotError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(dir)(error)),
    };
    let name = |path: PathBuf| {
        let is_one = path.extension().is_some_and(|end| end == SUFFIX);
        Some(path.file_stem()?.to_str()?.to_owned()).filter(|name| is_one && file(dir, name).is_ok())
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| name(entry.path())).collect();
    names.sort();
    Ok(names)
}

/// The snapshots in `dir`, the oldest first. One that cannot be read is listed by its name, with why as its note.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<SnapshotInfo>, SnapshotError> {
    let mut all: Vec<SnapshotInfo> = names(dir)?
        .into_iter()
        .map(|name| match outline(dir, &name) {
            Ok(info) => info,
            Err(error) => SnapshotInfo {
                name,
                note: error.to_string(),
                taken: String::new(),
                objects: 0,
                volumes: 0,
            },
        })
        .collect();
    all.sort_by(|a, b| (&a.taken, &a.name).cmp(&(&b.taken, &b.name)));
    Ok(all)
}

/// Removes a snapshot.
///
/// # Errors
/// When it is not there.
pub fn remove(dir: &Path, name: &str) -> Result<(), SnapshotError> {
    let path = file(dir, name)?;
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SnapshotError::Unknown {
            name: name.to_owned(),
            known: names(dir)?,
        }),
        Err(error) => Err(failed(&path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CollectionKey, tests::pod};
    use super::*;

    fn objects(count: i64) -> Vec<(Key, Value)> {
        let object = |n: i64| {
            let name = format!("p{n}");
            (CollectionKey::new("", "pods").object("a", &name), pod(&name, n))
        };
        (0..count).map(object).collect()
    }

    fn save(dir: &Path, name: &str, note: &str, taken: &str, objects: &[(Key, Value)]) -> Result<(), SnapshotError> {
        let content = Held {
            volumes: [("v".to_owned(), "tree".to_owned())].into(),
            ..Held::default()
        };
        let info = SnapshotInfo {
            name: name.to_owned(),
            note: note.to_owned(),
            taken: taken.to_owned(),
            objects: objects.len(),
            volumes: 1,
        };
        let objects = objects.to_vec();
        super::save(dir, &Saved { info, objects, content })
    }

    #[test]
    fn a_snapshot_is_listed_read_replaced_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("snapshots");
        assert!(list(&dir).unwrap().is_empty());
        save(&dir, "first", "a note", "2026-01-01T00:00:00Z", &objects(3)).unwrap();
        save(&dir, "a-second", "", "2026-01-02T00:00:00Z", &objects(1)).unwrap();
        let names: Vec<String> = list(&dir).unwrap().into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["first", "a-second"], "the oldest first");
        let read = load(&dir, "first").unwrap();
        assert_eq!(
            (read.info.note.as_str(), read.info.volumes, read.objects),
            ("a note", 1, objects(3))
        );
        assert_eq!(read.content.volumes["v"], "tree");
        assert_eq!(contents(&dir).unwrap().len(), 2);
        save(&dir, "first", "", "2026-01-03T00:00:00Z", &objects(2)).unwrap();
        assert_eq!(load(&dir, "first").unwrap().objects.len(), 2);
        let error = remove(&dir, "third").unwrap_err().to_string();
        assert_eq!(error, "there is no snapshot \"third\"; there are a-second, first");
        remove(&dir, "first").unwrap();
        assert!(
            load(&dir, "first")
                .unwrap_err()
                .to_string()
                .ends_with("there is a-second")
        );
    }

    #[test]
    fn names_stay_in_the_directory() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["", "../x", "a/b", "A", "-a", "a-", ".a", &"x".repeat(64), "a\0"] {
            assert!(
                matches!(save(temp.path(), name, "", "", &[]), Err(SnapshotError::Name(_))),
                "{name:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn half_a_snapshot_is_never_read(cut in 0usize..2000, flip in proptest::option::of(0u8..8)) {
            let temp = tempfile::tempdir().unwrap();
            save(temp.path(), "s", "", "2026-01-01T00:00:00Z", &objects(4)).unwrap();
            let path = temp.path().join("s.snapshot");
            let mut bytes = fs::read(&path).unwrap();
            let at = cut % bytes.len();
            match flip {
                None => bytes.truncate(at),
                Some(bit) => bytes[at] ^= 1 << bit,
            }
            fs::write(&path, bytes).unwrap();
            proptest::prop_assert!(matches!(load(temp.path(), "s"), Err(SnapshotError::Damaged(_))));
            proptest::prop_assert_eq!(list(temp.path()).unwrap()[0].objects, 0);
        }
    }
}
