//! The student's work directory: what is in it is the student's, and no path leads out of it.
//!
//! Each part of a path is opened by itself, and never through a symbolic link, so that nothing that is put there can
//! make ztlab read or write elsewhere.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

use crate::lab::WorkPath;

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// A file's bytes; `None` where there is none.
///
/// # Errors
/// A symbolic link on the way, something that is no plain file, or one that is too large.
pub fn read(dir: &Path, path: &WorkPath) -> io::Result<Option<Vec<u8>>> {
    let (parents, name) = parts(path);
    let mut at = match open_dir(CWD, dir, false) {
        Ok(at) => at,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    for part in parents {
        at = match open_dir(&at, part, true) {
            Ok(at) => at,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(on_the_way(part, error)),
        };
    }
    // Without NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(&at, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(on_the_way(name, error)),
    };
    let about = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    File::from(file).take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(Some(bytes))
}

/// Writes a file, for its owner's eyes only, in the place of one that may be there; makes the directories on the way.
///
/// # Errors
/// A symbolic link on the way, or what keeps it from being written.
pub fn write(dir: &Path, path: &WorkPath, bytes: &[u8]) -> io::Result<()> {
    let (parents, name) = parts(path);
    let mut at = open_dir(CWD, dir, false)?;
    for part in parents {
        match rustix::fs::mkdirat(&at, part, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = open_dir(&at, part, true).map_err(|error| on_the_way(part, error))?;
    }
    // A name of its own, then put in place: a reader sees the old file or the new one.
    let fresh = format!(".{name}.{:08x}", rand::random::<u32>());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&at, &fresh, flags, Mode::RUSR | Mode::WUSR)?;
    let written = File::from(file).write_all(bytes);
    let placed = written.and_then(|()| rustix::fs::renameat(&at, &fresh, &at, name).map_err(io::Error::from));
    if placed.is_err() {
        // What kept it from being written is what is told.
        let _ = rustix::fs::unlinkat(&at, &fresh, AtFlags::empty());
    }
    placed
}

fn parts(path: &WorkPath) -> (Vec<&str>, &str) {
    let mut parts: Vec<&str> = path.as_str().split('/').collect();
    let name = parts.pop().unwrap_or_default();
    (parts, name)
}

fn open_dir(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg, within: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if within {
        flags |= OFlags::NOFOLLOW;
    }
    rustix::fs::openat(at, path, flags, Mode::empty())
}

fn on_the_way(part: &str, error: Errno) -> io::Error {
    match error {
        Errno::LOOP => io::Error::other(format!("`{part}` is a symbolic link, which is not followed")),
        Errno::NOTDIR => io::Error::other(format!("`{part}` is no directory")),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn path(text: &str) -> WorkPath {
        WorkPath::new(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), &path("pki/ca.crt")).unwrap(), None);
        write(dir.path(), &path("pki/deep/ca.crt"), b"one").unwrap();
        write(dir.path(), &path("pki/deep/ca.crt"), b"two").unwrap();
        assert_eq!(
            read(dir.path(), &path("pki/deep/ca.crt")).unwrap().as_deref(),
            Some(&b"two"[..])
        );
        assert_eq!(fs::read_dir(dir.path().join("pki/deep")).unwrap().count(), 1);
        assert_eq!(read(&dir.path().join("gone"), &path("a")).unwrap(), None);
    }

    #[test]
    fn no_link_leads_out() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), b"x").unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        for inside in ["out/secret", "file"] {
            let error = read(dir.path(), &path(inside)).unwrap_err().to_string();
            assert!(
                error.contains("symbolic link") || error.contains("no directory"),
                "{error}"
            );
        }
        assert!(write(dir.path(), &path("out/new"), b"y").is_err());
        assert!(!outside.path().join("new").exists());
        // Writing over a link replaces the link.
        write(dir.path(), &path("file"), b"y").unwrap();
        assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"x");
    }

    #[test]
    fn only_plain_files_of_a_sensible_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(read(dir.path(), &path("dir")).is_err());
        rustix::fs::mknodat(CWD, dir.path().join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(
            read(dir.path(), &path("pipe"))
                .unwrap_err()
                .to_string()
                .contains("plain file")
        );
        fs::write(dir.path().join("large"), vec![0; MAX_FILE as usize + 1]).unwrap();
        assert!(
            read(dir.path(), &path("large"))
                .unwrap_err()
                .to_string()
                .contains("larger")
        );
    }
}
