//! The student's work directory: where the shell opens, with what the lab brings; put aside and put back with the cluster.
//!
//! It is the student's own: nothing in it is ever removed here. What a reset replaces is moved into [`BEFORE`].

mod brought;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

pub use brought::{Brought, brought};
use tree::{Entry, Kind, Limits, copy, same, scan};

/// Where a reset puts what it replaces, in the work directory itself.
pub const BEFORE: &str = ".ztlab-before-reset";

/// What is put aside of a work directory at most.
const KEPT: Limits = Limits {
    files: 1000,
    bytes: 16 << 20,
};
/// What is looked through at most.
const LOOKED: Limits = Limits {
    files: 100_000,
    bytes: u64::MAX,
};

/// Why a work directory could not be put aside or put back.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// There is more in it than is copied.
    #[error("{}: it holds more than {what}", path.display())]
    TooMuch {
        /// The directory.
        path: PathBuf,
        /// Than what.
        what: String,
    },
    /// It was not put aside at that moment.
    #[error("there is no copy of it from that moment")]
    NotKept,
    /// The system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> WorkError {
    let path = path.to_owned();
    move |source| WorkError::Io { path, source }
}

/// The work directory of a session, and its copies.
#[derive(Clone, Debug)]
pub struct WorkDir {
    dir: PathBuf,
    starts: PathBuf,
}

impl WorkDir {
    /// The work directory of the session that keeps its files in `session`; nothing is touched yet.
    pub fn of(session: &Path) -> Self {
        Self {
            dir: session.join("work"),
            starts: session.join("starts"),
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Begins anew with what the lab brings. What was there is kept, see [`BEFORE`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self, brought: &[Brought]) -> Result<Option<PathBuf>, WorkError> {
        self.ensure()?;
        self.keep_only(&BTreeSet::new());
        let fresh = self.fresh()?;
        for file in brought {
            let path = fresh.join(&file.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(at(parent))?;
            }
            tree::write(&path, &file.bytes, 0o600).map_err(at(&path))?;
        }
        self.name(&fresh, 0)?;
        self.put_back(0)
    }

    /// Makes the directory where it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or is somebody else's.
    pub fn ensure(&self) -> Result<(), WorkError> {
        for dir in [&self.dir, &self.starts] {
            crate::paths::private_dir(dir.clone()).map_err(at(dir))?;
        }
        Ok(())
    }

    /// Copies it under the number of a moment.
    ///
    /// # Errors
    /// When it holds too much, or cannot be read.
    pub fn put_aside(&self, number: u32) -> Result<(), WorkError> {
        self.ensure()?;
        let entries = scan(&self.dir, KEPT)?;
        let fresh = self.fresh()?;
        for entry in &entries {
            copy(&self.dir, entry, &fresh)?;
        }
        self.name(&fresh, number)
    }

    /// Makes it what it was at a moment; tells where what it replaced is now, if it replaced anything.
    ///
    /// # Errors
    /// When it was not put aside then, or cannot be written: then some of it may be moved, and nothing is lost.
    pub fn put_back(&self, number: u32) -> Result<Option<PathBuf>, WorkError> {
        self.ensure()?;
        let source = self.starts.join(number.to_string());
        if !source.is_dir() {
            return Err(WorkError::NotKept);
        }
        let wanted: BTreeMap<PathBuf, Entry> = by_path(scan(&source, KEPT)?);
        let there = by_path(scan(&self.dir, LOOKED)?);
        let before = self.next_before();
        let mut stays = BTreeSet::new();
        let mut moved = false;
        for (path, entry) in there.iter().filter(|(_, entry)| entry.kind != Kind::Directory) {
            if let Some(wanted) = wanted.get(path)
                && same((&source, wanted), (&self.dir, entry))?
            {
                stays.insert(path.clone());
                continue;
            }
            let aside = before.join(path);
            if let Some(parent) = aside.parent() {
                fs::create_dir_all(parent).map_err(at(parent))?;
            }
            fs::rename(self.dir.join(path), &aside).map_err(at(&aside))?;
            moved = true;
        }
        let directory = |path: &&PathBuf| there[*path].kind == Kind::Directory;
        // The deepest first: what stands in them is gone by then.
        for path in there.keys().rev().filter(directory) {
            let is_wanted = wanted.get(path).is_some_and(|wanted| wanted.kind == Kind::Directory);
            if !is_wanted {
                let path = self.dir.join(path);
                match fs::remove_dir(&path) {
                    // Something came into it meanwhile, and stays.
                    Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                    removed => removed.map_err(at(&path))?,
                }
            }
        }
        for (path, entry) in &wanted {
            if !stays.contains(path) {
                copy(&source, entry, &self.dir)?;
            }
        }
        Ok(moved.then_some(before))
    }

    /// Forgets the copies of all moments but these and the first.
    pub fn keep_only(&self, numbers: &BTreeSet<u32>) {
        for entry in fs::read_dir(&self.starts).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
            let stays = number.is_some_and(|number| number == 0 || numbers.contains(&number));
            if !stays {
                // What cannot be removed takes some room, and is never put back: its number is not used again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// An empty directory for a copy that is not whole yet.
    fn fresh(&self) -> Result<PathBuf, WorkError> {
        let fresh = self.starts.join("new");
        match fs::remove_dir_all(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&fresh)(error)),
            _ => {}
        }
        crate::paths::private_dir(fresh.clone()).map_err(at(&fresh))
    }

    fn name(&self, fresh: &Path, number: u32) -> Result<(), WorkError> {
        let path = self.starts.join(number.to_string());
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            _ => {}
        }
        fs::rename(fresh, &path).map_err(at(&path))
    }

    /// The first directory in [`BEFORE`] that is not there yet.
    fn next_before(&self) -> PathBuf {
        let before = self.dir.join(BEFORE);
        let last = fs::read_dir(&before)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .max();
        before.join(last.map_or(1, |last| last.saturating_add(1)).to_string())
    }
}

/// Something that differs whenever a file of a work directory was written, made or removed. Blocks.
pub fn fingerprint(dir: &Path) -> u64 {
    tree::fingerprint(dir, LOOKED)
}

fn by_path(entries: Vec<Entry>) -> BTreeMap<PathBuf, Entry> {
    entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn work() -> (tempfile::TempDir, WorkDir) {
        let temp = tempfile::tempdir().unwrap();
        let work = WorkDir::of(temp.path());
        let file = Brought {
            path: "policies/allow.yaml".into(),
            bytes: b"kind: NetworkPolicy\n".to_vec(),
        };
        assert_eq!(work.begin(&[file]).unwrap(), None);
        (temp, work)
    }

    fn listing(dir: &Path) -> Vec<String> {
        let mut found: Vec<String> = scan(dir, LOOKED)
            .unwrap()
            .into_iter()
            .map(|entry| entry.path.display().to_string())
            .collect();
        found.sort();
        found
    }

    #[test]
    fn it_begins_with_what_the_lab_brings_and_is_closed_to_others() {
        let (_temp, work) = work();
        assert_eq!(listing(work.path()), ["policies", "policies/allow.yaml"]);
        assert_eq!(fs::metadata(work.path()).unwrap().mode() & 0o777, 0o700);
        let mode = fs::metadata(work.path().join("policies/allow.yaml")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_was_put_aside_comes_back_and_what_it_replaces_is_kept() {
        let (_temp, work) = work();
        let path = |name: &str| work.path().join(name);
        fs::write(path("ca.key"), "one").unwrap();
        fs::set_permissions(path("ca.key"), fs::Permissions::from_mode(0o400)).unwrap();
        symlink("/etc/shadow", path("link")).unwrap();
        work.put_aside(3).unwrap();
        let untouched = fs::metadata(path("policies/allow.yaml")).unwrap().ino();
        fs::remove_file(path("ca.key")).unwrap();
        fs::write(path("ca.key"), "two").unwrap();
        fs::remove_file(path("link")).unwrap();
        fs::create_dir_all(path("link/deep")).unwrap();
        fs::write(path("link/deep/notes"), "mine").unwrap();
        let before = work.put_back(3).unwrap().unwrap();
        assert_eq!(fs::read_to_string(path("ca.key")).unwrap(), "one");
        assert_eq!(fs::metadata(path("ca.key")).unwrap().mode() & 0o777, 0o400);
        assert_eq!(fs::read_link(path("link")).unwrap(), Path::new("/etc/shadow"));
        assert_eq!(fs::metadata(path("policies/allow.yaml")).unwrap().ino(), untouched);
        assert_eq!(fs::read_to_string(before.join("ca.key")).unwrap(), "two");
        assert_eq!(fs::read_to_string(before.join("link/deep/notes")).unwrap(), "mine");
        assert_eq!(work.put_back(3).unwrap(), None, "nothing has changed since");
        fs::write(path("new"), "").unwrap();
        assert_eq!(work.put_back(0).unwrap(), Some(path(BEFORE).join("2")));
        assert_eq!(listing(work.path()), ["policies", "policies/allow.yaml"]);
    }

    #[test]
    fn a_moment_that_was_not_kept_changes_nothing() {
        let (_temp, work) = work();
        fs::write(work.path().join("mine"), "x").unwrap();
        work.put_aside(1).unwrap();
        work.put_aside(2).unwrap();
        work.keep_only(&BTreeSet::from([2]));
        assert!(matches!(work.put_back(1), Err(WorkError::NotKept)));
        assert!(work.path().join("mine").exists());
        assert_eq!(work.put_back(2).unwrap(), None);
    }

    #[test]
    fn too_much_is_not_copied_and_says_so() {
        let (_temp, work) = work();
        let file = fs::File::create(work.path().join("big")).unwrap();
        file.set_len((16 << 20) + 1).unwrap();
        let error = work.put_aside(1).unwrap_err();
        assert!(error.to_string().contains("16 MiB"), "{error}");
        fs::remove_file(work.path().join("big")).unwrap();
        let mut deep = work.path().to_owned();
        for _ in 0..40 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        assert!(work.put_aside(1).is_err());
        assert!(work.put_back(1).is_err(), "half a copy is none");
    }

    #[test]
    fn a_pipe_is_neither_read_nor_copied() {
        let (_temp, work) = work();
        let fifo = work.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        work.put_aside(1).unwrap();
        let before = work.put_back(1).unwrap().unwrap();
        assert!(before.join("pipe").exists() && !fifo.exists());
    }

    #[test]
    fn a_written_file_shows_and_what_a_reset_kept_does_not() {
        let (_temp, work) = work();
        let first = fingerprint(work.path());
        assert_eq!(fingerprint(work.path()), first);
        fs::write(work.path().join("note"), "a").unwrap();
        let second = fingerprint(work.path());
        assert_ne!(second, first);
        work.put_back(0).unwrap();
        assert_eq!(fingerprint(work.path()), first);
    }
}
