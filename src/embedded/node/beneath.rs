//! Paths below a directory that others write to: whatever links they put there, nothing outside of it is reached.
//!
//! Source: openat2(2), `RESOLVE_BENEATH`.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Component, Path},
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

fn resolve() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}

/// A path below a directory: no leading `/`, no `..`.
///
/// # Errors
/// `InvalidInput` for a path with `..`.
fn relative(path: &Path) -> io::Result<&Path> {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "must not contain '..'"));
    }
    Ok(if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    })
}

/// Opens what is at `path` below `root`, as a place only (`O_PATH`).
///
/// # Errors
/// `NotFound`; `EXDEV` for a link that leads out of `root`; `InvalidInput` for a path with `..`.
pub fn open(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    open_at(&File::open(root)?.into(), path)
}

/// As [`open`], below an open directory.
///
/// # Errors
/// As [`open`].
pub fn open_at(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(
        root,
        relative(path)?,
        flags,
        Mode::empty(),
        resolve(),
    )?)
}

/// Opens the directory at `path` below `root`; what is missing of it is made.
///
/// # Errors
/// As [`open`]; `EEXIST` or `ENOTDIR` where something else is in the way.
pub fn open_or_make(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    open_or_make_at(File::open(root)?.into(), path)
}

/// As [`open_or_make`], below an open directory.
///
/// # Errors
/// As [`open_or_make`].
pub fn open_or_make_at(root: OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    match open_at(&root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        answer => return answer,
    }
    let mut at = root;
    for component in relative(path)?.components() {
        let name = component.as_os_str();
        match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
        at = rustix::fs::openat2(&at, name, flags, Mode::empty(), resolve())?;
    }
    Ok(at)
}

/// Makes an empty file at `path` below `root`, in a directory that is there; one that is there is fine.
///
/// # Errors
/// As [`open`].
pub fn touch(root: &Path, path: &Path) -> io::Result<()> {
    let root = File::open(root)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat2(&root, relative(path)?, flags, Mode::from_raw_mode(0o644), resolve())?;
    Ok(())
}

/// What kind of file an open place is.
///
/// # Errors
/// The kernel's answer.
pub fn kind(place: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_outside_is_reached() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        fs::create_dir_all(root.join("in/side")).unwrap();
        fs::write(temp.path().join("outside"), "").unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("../outside", root.join("up")).unwrap();
        symlink("in", root.join("within")).unwrap();
        for path in ["", ".", "in", "/in/side", "within/side"] {
            assert!(open(&root, Path::new(path)).is_ok(), "{path}");
        }
        for path in ["absolute", "absolute/passwd", "up", "..", "in/../../outside"] {
            assert!(open(&root, Path::new(path)).is_err(), "{path}");
            assert!(open_or_make(&root, Path::new(path)).is_err(), "{path}");
            assert!(touch(&root, Path::new(path)).is_err(), "{path}");
        }
        for path in ["absolute/new", "up/new"] {
            assert!(open_or_make(&root, Path::new(path)).is_err(), "{path}");
        }
        open_or_make(&root, Path::new("new/er/est")).unwrap();
        assert!(root.join("new/er/est").is_dir());
        assert!(!Path::new("/etc/new").exists());
    }
}
