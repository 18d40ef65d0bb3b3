//! Copying a tree.

use std::{
    collections::HashMap,
    ffi::CStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps};

use super::{DEPTH, Entry, TreeError, below, entry, failed, names, top};

/// Copies trees, until they are too much together.
pub struct Copier {
    /// What may still be copied.
    bytes: u64,
    files: u64,
    most: (u64, u64),
}

/// One tree that is being copied.
struct Work<'a> {
    copier: &'a mut Copier,
    root: &'a OwnedFd,
    /// Where in the copy files are that have more than one name.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    /// Copies no more than this many bytes of the disk and files.
    pub fn new(bytes: u64, files: u64) -> Self {
        Self {
            bytes,
            files,
            most: (bytes, files),
        }
    }

    fn count(&mut self, stat: &Stat, path: &Path) -> Result<(), TreeError> {
        // What a file takes, not how long it is: there may be holes.
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let left = (self.bytes.checked_sub(bytes), self.files.checked_sub(1));
        let (Some(bytes), Some(files)) = left else {
            return Err(TreeError::TooMuch {
                path: path.to_owned(),
                what: format!("{} MiB and {} files in all", self.most.0 >> 20, self.most.1),
            });
        };
        (self.bytes, self.files) = (bytes, files);
        Ok(())
    }

    /// Makes `to`, which is not there yet, a copy of the tree at `from`. Where this fails, what was copied stays.
    ///
    /// # Errors
    /// The tree is too deep or too much, or the kernel refused.
    pub fn copy(&mut self, from: &Path, to: &Path) -> Result<(), TreeError> {
        let parent = File::open(to.parent().unwrap_or(Path::new("/"))).map_err(failed(to))?;
        let name = to.file_name().unwrap_or_default();
        let name = std::ffi::CString::new(name.as_encoded_bytes()).map_err(failed(to))?;
        let root = parent.into();
        let mut work = Work {
            copier: self,
            root: &root,
            linked: HashMap::new(),
        };
        let is = top(from)?.ok_or_else(|| failed(from)(io::Error::from(io::ErrorKind::NotFound)))?;
        let place = Place {
            dir: &root,
            inside: Path::new(""),
            depth: 0,
        };
        let (Entry::Directory(..) | Entry::File(..)) = &is else {
            return Err(failed(from)(io::Error::from(io::ErrorKind::InvalidInput)));
        };
        work.put(is, None, &place, &name, from)
    }

    /// Copies what is in the directory `from` into the directory `to`, which is there and empty.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub fn fill(&mut self, from: &Path, to: &Path) -> Result<(), TreeError> {
        let from_dir: OwnedFd = File::open(from).map_err(failed(from))?.into();
        let root = File::open(to).map_err(failed(to))?.into();
        let mut work = Work {
            copier: self,
            root: &root,
            linked: HashMap::new(),
        };
        let place = Place {
            dir: &root,
            inside: Path::new(""),
            depth: 0,
        };
        work.all(&from_dir, &place, from)
    }
}

/// A directory of the copy.
struct Place<'a> {
    dir: &'a OwnedFd,
    /// Its path below the copy's root.
    inside: &'a Path,
    depth: usize,
}

impl Work<'_> {
    fn all(&mut self, from: &OwnedFd, to: &Place<'_>, path: &Path) -> Result<(), TreeError> {
        for name in names(from).map_err(failed(path))? {
            let path = below(path, &name);
            if let Some(found) = entry(from, &name).map_err(failed(&path))? {
                self.put(found, Some(from), to, &name, &path)?;
            }
        }
        Ok(())
    }

    /// Puts `what` into a directory of the copy; it was found in `from`, at `path`.
    fn put(
        &mut self,
        what: Entry,
        from: Option<&OwnedFd>,
        to: &Place<'_>,
        name: &CStr,
        path: &Path,
    ) -> Result<(), TreeError> {
        match what {
            Entry::Directory(dir, stat) => self.directory(&dir, &stat, to, name, path),
            Entry::File(file, stat) => self.file(&file, &stat, to, name, path),
            Entry::Link(stat) => {
                self.copier.count(&stat, path)?;
                let Some(from) = from else { return Ok(()) };
                link(from, &stat, to.dir, name).map_err(failed(path))
            }
        }
    }

    fn directory(
        &mut self,
        from: &OwnedFd,
        stat: &Stat,
        to: &Place<'_>,
        name: &CStr,
        path: &Path,
    ) -> Result<(), TreeError> {
        self.copier.count(stat, path)?;
        if to.depth == DEPTH {
            return Err(TreeError::TooMuch {
                path: path.to_owned(),
                what: format!("{DEPTH} directories in one another"),
            });
        }
        rustix::fs::mkdirat(to.dir, name, Mode::RWXU).map_err(failed(path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(to.dir, name, flags, Mode::empty()).map_err(failed(path))?;
        let place = Place {
            dir: &made,
            inside: &below(to.inside, name),
            depth: to.depth + 1,
        };
        self.all(from, &place, path)?;
        attributes(&made, stat).map_err(failed(path))
    }

    fn file(&mut self, from: &File, stat: &Stat, to: &Place<'_>, name: &CStr, path: &Path) -> Result<(), TreeError> {
        let here = below(to.inside, name);
        if stat.st_nlink > 1
            && let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino))
        {
            return rustix::fs::linkat(self.root, first, to.dir, name, AtFlags::empty()).map_err(failed(path));
        }
        self.copier.count(stat, path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = rustix::fs::openat(to.dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed(path))?;
        let mut made = File::from(made);
        content(from, &mut made, stat).map_err(failed(path))?;
        attributes(&made, stat).map_err(failed(path))?;
        if stat.st_nlink > 1 {
            self.linked.insert((stat.st_dev, stat.st_ino), here);
        }
        Ok(())
    }
}

/// Copies what is in a file: by sharing its blocks where the file system can, and without what are holes.
fn content(from: &File, to: &mut File, stat: &Stat) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(&*to, from).is_ok() {
        return Ok(());
    }
    // No further than it was when it was opened: who writes to it may be faster.
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    let mut from = from;
    let mut at = 0;
    while at < length {
        let begin = match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Nothing but a hole is left.
            Err(rustix::io::Errno::NXIO) => break,
            // A file system that does not know of holes.
            Err(_) => at,
        };
        let end = rustix::fs::seek(from, rustix::fs::SeekFrom::Hole(begin)).unwrap_or(length);
        let end = end.min(length);
        if end <= begin {
            break;
        }
        from.seek(SeekFrom::Start(begin))?;
        to.seek(SeekFrom::Start(begin))?;
        io::copy(&mut from.take(end - begin), to)?;
        at = end;
    }
    to.set_len(length)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let nanoseconds = |value: u64| i64::try_from(value).unwrap_or(0);
    Timestamps {
        last_access: time(stat.st_atime, nanoseconds(stat.st_atime_nsec)),
        last_modification: time(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
    }
}

/// The owners of the original, where they can be given: a group that the node has no more cannot.
fn own(made: impl AsFd, stat: &Stat) -> io::Result<()> {
    use rustix::{
        fs::{Gid, Uid},
        io::Errno,
    };
    let now = rustix::fs::fstat(&made)?;
    if (now.st_uid, now.st_gid) == (stat.st_uid, stat.st_gid) {
        return Ok(());
    }
    match rustix::fs::fchown(
        &made,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    ) {
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn attributes(made: impl AsFd, stat: &Stat) -> io::Result<()> {
    own(&made, stat)?;
    // After the owner, whose change takes the set-user-id bits away.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(&made, &times(stat))?)
}

fn link(from: &OwnedFd, stat: &Stat, to: &OwnedFd, name: &CStr) -> io::Result<()> {
    let target = match rustix::fs::readlinkat(from, name, Vec::new()) {
        // It has gone, or is none any more.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => return Ok(()),
        target => target?,
    };
    rustix::fs::symlinkat(&*target, to, name)?;
    Ok(rustix::fs::utimensat(
        to,
        name,
        &times(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Waits until a tree that nobody writes to any more is on the disk.
///
/// # Errors
/// The disk's.
pub fn sync(path: &Path) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            sync(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()
}
