//! The manifests beside a lab file. Whoever wrote the lab may have put anything there: what is not a plain YAML file
//! below the lab's own directory is refused, and everything is bounded.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The most files that are read.
const FILES: usize = 64;
/// The most bytes of all files together.
const BYTES: u64 = 1 << 20;
/// How many directories deep.
const DEPTH: usize = 3;
/// The most entries of a directory that are looked at.
const ENTRIES: usize = 1000;

/// Why the files beside a lab cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BesideError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is a link, a socket, or anything else but a file.
    #[error("{}: is {what}, not a plain file", path.display())]
    NotPlain {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// More than a lab may have.
    #[error("{}: there are more than {limit} beside the lab", path.display())]
    TooMuch {
        /// Where it was noticed.
        path: PathBuf,
        /// What there may be.
        limit: String,
    },
}

/// Reads every `*.yaml` and `*.yml` in `dir` and below, but not `lab.yaml` itself, nor what is in `work`: path from `dir`, text.
///
/// # Errors
/// When one cannot be read, is no plain file (a symbolic link could lead anywhere), or there is too much.
pub fn read(dir: &Path) -> Result<BTreeMap<String, String>, BesideError> {
    let mut reader = Reader {
        files: BTreeMap::new(),
        bytes: 0,
    };
    reader.directory(dir, "", 0)?;
    Ok(reader.files)
}

struct Reader {
    files: BTreeMap<String, String>,
    bytes: u64,
}

impl Reader {
    fn directory(&mut self, dir: &Path, prefix: &str, depth: usize) -> Result<(), BesideError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            |source| BesideError::Io { path, source }
        };
        let entries = fs::read_dir(dir).map_err(io_error(dir))?;
        for (count, entry) in entries.enumerate() {
            if count == ENTRIES {
                return Err(too_much(dir, format!("{ENTRIES} entries")));
            }
            let entry = entry.map_err(io_error(dir))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // Git's own, and an editor's.
            if name.starts_with('.') || (depth == 0 && name == "lab.yaml") {
                continue;
            }
            let path = entry.path();
            let kind = entry.file_type().map_err(io_error(&path))?;
            let manifest = name.ends_with(".yaml") || name.ends_with(".yml");
            let written = format!("{prefix}{name}");
            if kind.is_dir() {
                // What the student's work directory begins with is no manifest.
                let work = depth == 0 && name == "work";
                if depth < DEPTH && !work {
                    self.directory(&path, &format!("{written}/"), depth + 1)?;
                }
            } else if manifest && kind.is_symlink() {
                let what = "a symbolic link, which could lead out of the lab's directory";
                return Err(BesideError::NotPlain { path, what });
            } else if manifest && !kind.is_file() {
                let what = "a device, a pipe or a socket";
                return Err(BesideError::NotPlain { path, what });
            } else if manifest {
                self.file(&path, written)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, written: String) -> Result<(), BesideError> {
        if self.files.len() == FILES {
            return Err(too_much(path, format!("{FILES} manifests")));
        }
        let text = plain(path, BYTES - self.bytes).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => too_much(path, format!("{BYTES} bytes of manifests")),
            _ => BesideError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
        self.bytes += text.len() as u64;
        self.files.insert(written, text);
        Ok(())
    }
}

/// Reads a file of at most so many bytes, without following a link, and without ever waiting for a pipe.
///
/// # Errors
/// When it cannot be read, is no plain file, is no UTF-8, or ([`io::ErrorKind::FileTooLarge`]) is too large.
pub fn plain(path: &Path, most: u64) -> io::Result<String> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::LOOP => io::Error::new(io::ErrorKind::InvalidInput, "is a symbolic link"),
            error => error.into(),
        })?,
    );
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a plain file"));
    }
    let mut text = Vec::new();
    // One more than may be, so that a file that grows meanwhile is noticed too.
    io::Read::read_to_end(&mut io::Read::take(file, most.saturating_add(1)), &mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("is larger than {most} bytes"),
        ));
    }
    String::from_utf8(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8 text"))
}

fn too_much(path: &Path, limit: String) -> BesideError {
    BesideError::TooMuch {
        path: path.to_owned(),
        limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_below_the_directory_are_read_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        fs::create_dir_all(dir.join("extra/deep")).unwrap();
        fs::create_dir_all(dir.join(".git")).unwrap();
        fs::create_dir_all(dir.join("work")).unwrap();
        for file in [
            "lab.yaml",
            "a.yaml",
            "work/mine.yaml",
            "extra/b.yml",
            "extra/deep/lab.yaml",
            "notes.md",
            ".git/x.yaml",
        ] {
            fs::write(dir.join(file), file).unwrap();
        }
        let found = read(dir).unwrap();
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.yaml", "extra/b.yml", "extra/deep/lab.yaml"]);
        assert_eq!(found["extra/b.yml"], "extra/b.yml");
    }

    #[test]
    fn what_leads_out_of_the_directory_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let secret = temp.path().join("secret.yaml");
        fs::write(&secret, "password: x").unwrap();
        let dir = temp.path().join("lab");
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(&secret, dir.join("a.yaml")).unwrap();
        let error = read(&dir).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert!(plain(&dir.join("a.yaml"), 100).is_err());
        // A directory that is a link is not entered.
        fs::remove_file(dir.join("a.yaml")).unwrap();
        std::os::unix::fs::symlink(temp.path(), dir.join("up")).unwrap();
        assert!(read(&dir).unwrap().is_empty());
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.yaml");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(matches!(read(temp.path()), Err(BesideError::NotPlain { .. })));
        assert!(plain(&path, 100).is_err());
    }

    #[test]
    fn too_much_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let large = fs::File::create(temp.path().join("a.yaml")).unwrap();
        // Sparse: it takes no room, and must not be read as a whole either.
        large.set_len(100 << 20).unwrap();
        let error = read(temp.path()).unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
        fs::remove_file(temp.path().join("a.yaml")).unwrap();
        for number in 0..=FILES {
            fs::write(temp.path().join(format!("{number}.yaml")), "a: b").unwrap();
        }
        assert!(matches!(read(temp.path()), Err(BesideError::TooMuch { .. })));
    }
}
