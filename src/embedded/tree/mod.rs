//! Trees of files that pods write to: copied, compared and put on disk, without ever leaving the tree.
//!
//! What a tree holds is of strangers: links are copied as they are and never followed, each name is opened relative to its
//! directory and looked at once more when it is open, and depth, number and size are bounded. Sockets, FIFOs and devices are
//! passed over: they are of programs that run, and say nothing without them. Files of one inode stay one file. Owners, modes and
//! times are kept; extended attributes are not.

mod compare;
mod copy;

pub use compare::same;
pub use copy::{Copier, sync};

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

/// Directories in one another.
const DEPTH: usize = 100;

/// Why a tree was not copied or compared.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It holds more than is copied.
    #[error("{} holds more than a snapshot takes ({what}): remove something from it", path.display())]
    TooMuch {
        /// What is too large.
        path: PathBuf,
        /// The bound that it is over.
        what: String,
    },
    /// The kernel refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::Io {
        path,
        source: source.into(),
    }
}

/// What an entry of a directory is.
enum Entry {
    Directory(OwnedFd, Stat),
    File(File, Stat),
    Link(Stat),
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Opens what `name` is in `dir`; nothing where it has just gone, and where it is none that is kept.
fn entry(dir: impl AsFd, name: &std::ffi::CStr) -> io::Result<Option<Entry>> {
    let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        stat => stat?,
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Symlink => return Ok(Some(Entry::Link(stat))),
        FileType::Directory | FileType::RegularFile => {}
        _ => return Ok(None),
    }
    let opened = match rustix::fs::openat(&dir, name, READ, Mode::empty()) {
        // It has gone, or is a link or a socket by now.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(None),
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&opened)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Some(Entry::Directory(opened, stat)),
        FileType::RegularFile => Some(Entry::File(opened.into(), stat)),
        _ => None,
    })
}

/// The names in a directory, without itself and the one above.
fn names(dir: impl AsFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// A path to print.
fn below(path: &Path, name: &std::ffi::CStr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    path.join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

/// Opens the tree whose top is `name` in `dir`, a directory that nobody else writes to.
fn top(path: &Path) -> Result<Option<Entry>, TreeError> {
    use std::os::unix::ffi::OsStrExt;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    let parent = match File::open(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        parent => parent.map_err(failed(path))?,
    };
    let name = std::ffi::CString::new(name.as_bytes()).map_err(failed(path))?;
    entry(&parent, &name).map_err(failed(path))
}

#[cfg(test)]
mod tests;
