//! Directories as lists of what they hold; links are never followed.

use std::{
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::{BEFORE, WorkError, at};

/// Directories in directories, at most.
const DEPTH: usize = 32;

/// How much is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Files, links and directories.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Something in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where, seen from the directory that was scanned.
    pub path: PathBuf,
    /// What.
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File {
        bytes: u64,
        mode: u32,
    },
    Link(PathBuf),
    /// A pipe, a socket, a device.
    Other,
}

/// What a directory holds, without what resets have put aside.
pub(super) fn scan(root: &Path, limits: Limits) -> Result<Vec<Entry>, WorkError> {
    let mut found = Vec::new();
    let mut bytes = 0;
    visit(root, Path::new(""), 0, &mut |entry| {
        if let Kind::File { bytes: more, .. } = entry.kind {
            bytes += more;
        }
        found.push(entry);
        let what = if found.len() > limits.files {
            format!("{} files", limits.files)
        } else if bytes > limits.bytes {
            format!("{} MiB", limits.bytes >> 20)
        } else {
            return Ok(());
        };
        Err(WorkError::TooMuch {
            path: root.to_owned(),
            what,
        })
    })?;
    Ok(found)
}

fn visit(
    root: &Path,
    below: &Path,
    depth: usize,
    tell: &mut dyn FnMut(Entry) -> Result<(), WorkError>,
) -> Result<(), WorkError> {
    let dir = root.join(below);
    for entry in fs::read_dir(&dir).map_err(at(&dir))? {
        let entry = entry.map_err(at(&dir))?;
        if below.as_os_str().is_empty() && entry.file_name() == BEFORE {
            continue;
        }
        let path = below.join(entry.file_name());
        let whole = root.join(&path);
        let meta = match fs::symlink_metadata(&whole) {
            Ok(meta) => meta,
            // It went away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(at(&whole)(error)),
        };
        let kind = if meta.is_dir() {
            Kind::Directory
        } else if meta.is_symlink() {
            Kind::Link(fs::read_link(&whole).map_err(at(&whole))?)
        } else if meta.is_file() {
            Kind::File {
                bytes: meta.len(),
                mode: meta.mode() & 0o777,
            }
        } else {
            Kind::Other
        };
        let enter = kind == Kind::Directory;
        tell(Entry {
            path: path.clone(),
            kind,
        })?;
        if enter && depth == DEPTH {
            return Err(WorkError::TooMuch {
                path: root.to_owned(),
                what: format!("{DEPTH} directories in each other"),
            });
        }
        if enter {
            visit(root, &path, depth + 1, tell)?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
}

/// Copies an entry of `from` to the same place in `to`.
pub(super) fn copy(from: &Path, entry: &Entry, to: &Path) -> Result<(), WorkError> {
    let (source, target) = (from.join(&entry.path), to.join(&entry.path));
    match &entry.kind {
        Kind::Directory => match fs::DirBuilder::new().mode(0o700).create(&target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(&target)(error)),
            _ => Ok(()),
        },
        Kind::Link(leads) => symlink(leads, &target).map_err(at(&target)),
        Kind::File { bytes, mode } => {
            let mut content = Vec::new();
            open(&source)
                .and_then(|file| file.take(*bytes).read_to_end(&mut content))
                .map_err(at(&source))?;
            write(&target, &content, *mode).map_err(at(&target))
        }
        Kind::Other => Ok(()),
    }
}

/// Writes a file that is not there yet.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Whether two entries are the same file or the same link.
pub(super) fn same(one: (&Path, &Entry), other: (&Path, &Entry)) -> Result<bool, WorkError> {
    let ((from, one), (to, other)) = (one, other);
    if one.kind != other.kind || one.kind == Kind::Other {
        return Ok(false);
    }
    let Kind::File { bytes, .. } = one.kind else {
        return Ok(true);
    };
    let read = |path: PathBuf| -> Result<Vec<u8>, WorkError> {
        let mut content = Vec::new();
        open(&path)
            .and_then(|file| file.take(bytes + 1).read_to_end(&mut content))
            .map_err(at(&path))?;
        Ok(content)
    };
    Ok(read(from.join(&one.path))? == read(to.join(&other.path))?)
}

/// A hash of names, sizes and times.
pub(super) fn fingerprint(root: &Path, limits: Limits) -> u64 {
    let mut entries = scan(root, limits).unwrap_or_default();
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let mut hasher = DefaultHasher::new();
    for entry in entries {
        entry.path.hash(&mut hasher);
        if let Ok(meta) = fs::symlink_metadata(root.join(&entry.path))
            && !meta.is_dir()
        {
            (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino(), meta.mode()).hash(&mut hasher);
        }
    }
    hasher.finish()
}
