//! Where ztlab keeps its files: the XDG state and runtime directories.
//!
//! Source: XDG Base Directory Specification 0.8.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The directory of everything that outlives a process: `$XDG_STATE_HOME/ztlab`, else `~/.local/state/ztlab`.
///
/// # Errors
/// When neither `XDG_STATE_HOME` nor `HOME` is set to an absolute path, or the directory cannot be made.
pub fn state_dir() -> io::Result<PathBuf> {
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "neither XDG_STATE_HOME nor HOME names a directory: set one of them",
            )
        })?;
    private_dir(base.join("ztlab"))
}

/// The directory of sockets: `$XDG_RUNTIME_DIR/ztlab`, else `/tmp/ztlab-<uid>`; 0700 and owned by this user.
///
/// # Errors
/// When no such directory can be made, or the one that is there belongs to somebody else.
pub fn runtime_dir() -> io::Result<PathBuf> {
    if let Some(dir) = absolute("XDG_RUNTIME_DIR")
        && let Ok(dir) = private_dir(dir.join("ztlab"))
    {
        return Ok(dir);
    }
    private_dir(PathBuf::from(format!(
        "/tmp/ztlab-{}",
        rustix::process::geteuid().as_raw()
    )))
}

/// `clusters/<name>` under [`state_dir`]; not created.
///
/// # Errors
/// As [`state_dir`].
pub fn cluster_dir(name: &str) -> io::Result<PathBuf> {
    Ok(state_dir()?.join("clusters").join(name))
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// Makes `dir` (and its parents) with mode 0700, or checks that the one that is there is ours.
///
/// # Errors
/// When it cannot be made, is no directory, or is owned by another user.
pub fn private_dir(dir: PathBuf) -> io::Result<PathBuf> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) => return Ok(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(named(&dir, &error)),
    }
    let meta = fs::symlink_metadata(&dir)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} is not a directory of this user: remove it, or set XDG_RUNTIME_DIR",
                dir.display()
            ),
        ));
    }
    if meta.mode() & 0o077 != 0 {
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(dir)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_dir_is_closed_to_others() {
        let temp = tempfile::tempdir().unwrap();
        let dir = private_dir(temp.path().join("a/b")).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(dir.clone()).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_in_the_way_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("x"), "").unwrap();
        assert!(private_dir(temp.path().join("x")).is_err());
    }
}
