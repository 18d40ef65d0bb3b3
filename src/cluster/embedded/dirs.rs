//! The directories of clusters: which there are, who may change one now, and what an interrupted command left.
//!
//! Nothing here is undone by a process that cleans up after itself: locks are `flock`s on directories that are there anyway,
//! which the kernel drops with whoever holds them, and a file appears whole under its name or not at all.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use crate::{
    cluster::ClusterError,
    embedded::{ConfigError, NodeConfig, ranges::Ranges, rootless::running_node},
    paths,
};

/// What a node is told, and what makes a directory a cluster.
pub(super) const CONFIG: &str = "node.json";
/// Part of the name of a directory that is being removed.
const DELETED: &str = ".deleted-";

pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::File { path, source }
}

/// The directory of all clusters.
pub(super) fn parent() -> Result<PathBuf, ClusterError> {
    let state = paths::state_dir().map_err(file_error(Path::new("the state directory")))?;
    Ok(state.join("clusters"))
}

/// The directory of a cluster, whether it is there or not.
pub(super) fn dir_of(name: &str) -> Result<PathBuf, ClusterError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > 40 {
        "it has more than 40 characters"
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        "it has characters other than lower-case letters, digits and '-'"
    } else if name.starts_with('-') || name.ends_with('-') {
        "it starts or ends with '-'"
    } else {
        return Ok(parent()?.join(name));
    };
    Err(ClusterError::BadName {
        name: name.to_owned(),
        reason,
    })
}

pub(super) fn existing_dir(name: &str) -> Result<PathBuf, ClusterError> {
    let dir = dir_of(name)?;
    if dir.join(CONFIG).is_file() {
        Ok(dir)
    } else {
        Err(ClusterError::NotFound { name: name.to_owned() })
    }
}

/// The cluster directories there are, with their names, in order.
pub(super) fn all() -> Result<Vec<(String, PathBuf)>, ClusterError> {
    let parent = parent()?;
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error(&parent)(error)),
    };
    let mut found: Vec<(String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, path)| dir_of(name).is_ok() && path.join(CONFIG).is_file())
        .collect();
    found.sort();
    Ok(found)
}

/// What the cluster `name` was made with.
pub(super) fn read_config(name: &str, dir: &Path) -> Result<NodeConfig, ClusterError> {
    let path = dir.join(CONFIG);
    NodeConfig::read(&path).map_err(|error| match error {
        ConfigError::Io(source) => ClusterError::File { path, source },
        error => ClusterError::Unusable {
            name: name.to_owned(),
            reason: error.to_string(),
        },
    })
}

/// The right to change one cluster, for as long as it is held.
pub(super) struct Held(#[allow(dead_code)] File);

/// Waits for the right to change the cluster in `dir`; `None` where the directory is gone by then.
pub(super) fn hold(dir: &Path) -> Result<Option<Held>, ClusterError> {
    match File::open(dir) {
        Ok(file) => hold_opened(file, dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(dir)(error)),
    }
}

fn hold_opened(file: File, dir: &Path) -> Result<Option<Held>, ClusterError> {
    lock(&file, dir)?;
    // Whoever held it before may have removed the directory, and another may have its name by now.
    let same = match (fs::metadata(dir), file.metadata()) {
        (Ok(named), Ok(held)) => (named.dev(), named.ino()) == (held.dev(), held.ino()),
        _ => false,
    };
    Ok(same.then_some(Held(file)))
}

fn lock(file: &File, path: &Path) -> Result<(), ClusterError> {
    loop {
        match rustix::fs::flock(file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(file_error(path)(error.into())),
        }
    }
}

/// Takes a name for a new cluster: its directory, its ranges, its file. A cluster whose creation was interrupted before its
/// node ever ran holds nothing, and is taken over.
pub(super) fn claim(name: &str) -> Result<PathBuf, ClusterError> {
    let dir = dir_of(name)?;
    let parent = paths::private_dir(parent()?).map_err(file_error(&dir))?;
    let all_clusters = File::open(&parent).map_err(file_error(&parent))?;
    lock(&all_clusters, &parent)?;
    sweep(&parent);
    let config = dir.join(CONFIG);
    if config.is_file() {
        if running_node(&dir).is_some() || has_run(&dir) {
            return Err(ClusterError::AlreadyExists { name: name.to_owned() });
        }
        if read_config(name, &dir).is_ok() {
            return Ok(dir);
        }
    }
    let taken: Vec<Ranges> = all()?
        .iter()
        .filter(|(other, _)| other != name)
        .filter_map(|(other, dir)| Some(read_config(other, dir).ok()?.ranges))
        .collect();
    paths::private_dir(dir.clone()).map_err(file_error(&dir))?;
    let made = NodeConfig {
        ranges: Ranges::free(&taken),
        ..NodeConfig::new(name, dir.clone())
    };
    made.write(&config).map_err(file_error(&config))?;
    Ok(dir)
}

/// Whether a node ever got as far as keeping objects.
fn has_run(dir: &Path) -> bool {
    dir.join(crate::embedded::STORE_DIR).exists()
}

/// Gives up a name whose cluster could not be made. The log stays, where the error points to it.
pub(super) fn disclaim(dir: &Path) {
    // It was made by this process, and what is left of it is in nobody's way.
    let _ = fs::remove_file(dir.join(CONFIG));
}

/// Removes a cluster's directory.
pub(super) fn remove(dir: &Path) -> Result<(), ClusterError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    // Out of sight first: an interrupted removal must not leave half a cluster under its name.
    let unique = format!(".{name}{DELETED}{}-{:x}", std::process::id(), rand::random::<u32>());
    let aside = dir.with_file_name(unique);
    fs::rename(dir, &aside).map_err(file_error(dir))?;
    remove_all(&aside).map_err(file_error(&aside))?;
    if let Some(parent) = dir.parent() {
        sweep(parent);
    }
    Ok(())
}

/// Finishes removals that were interrupted.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.contains(DELETED) {
            // What cannot be removed now is tried again the next time.
            let _ = remove_all(&entry.path());
        }
    }
}

/// Removes a directory that somebody else may be removing too.
fn remove_all(dir: &Path) -> io::Result<()> {
    let mut result = Ok(());
    for _ in 0..4 {
        result = fs::remove_dir_all(dir);
        match &result {
            Ok(()) => return Ok(()),
            Err(_) if !dir.exists() => return Ok(()),
            // A directory without the right to write (a pod may have made one) is ours all the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open_up(dir),
            Err(_) => {}
        }
    }
    result
}

fn open_up(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    // Best effort: what stays closed makes the removal fail, with its name.
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for bad in ["", "A", "a_b", "-a", "a-", "../x", "a/b", &"x".repeat(41)] {
            assert!(matches!(dir_of(bad), Err(ClusterError::BadName { .. })), "{bad:?}");
        }
        assert!(dir_of("lab-1").unwrap().ends_with("clusters/lab-1"));
    }

    #[test]
    fn an_interrupted_removal_is_finished() {
        let temp = tempfile::tempdir().unwrap();
        let left = temp.path().join(".demo.deleted-77-1/a/b");
        fs::create_dir_all(&left).unwrap();
        fs::create_dir(temp.path().join("demo")).unwrap();
        fs::set_permissions(&left, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
        sweep(temp.path());
        let names: Vec<_> = fs::read_dir(temp.path())
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(names, ["demo"]);
    }

    #[test]
    fn whoever_waits_for_a_directory_is_told_that_it_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("demo");
        assert!(hold(&dir).unwrap().is_none());
        fs::create_dir(&dir).unwrap();
        assert!(hold(&dir).unwrap().is_some());
        // Gone, and made anew, between opening it and getting one's turn.
        let opened = File::open(&dir).unwrap();
        fs::rename(&dir, temp.path().join("aside")).unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(hold_opened(opened, &dir).unwrap().is_none());
        assert!(hold(&dir).unwrap().is_some());
    }
}
