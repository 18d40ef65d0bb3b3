//! `hostPath`: paths of the node. The node is not the machine it runs on: its file system is a directory in memory that the
//! cluster owns and its pods share, and `volumes/` in the cluster's directory, which outlives it. No path leads to the machine's
//! own files.
//!
//! [`resolve`] is pure; [`prepare`] makes what is to be there.
//!
//! Source: Kubernetes' "Volumes", hostPath; its type checks and their texts.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use rustix::fs::FileType;

use crate::node::beneath;

/// Directories of the node that pods may share.
const SHARED: [&str; 6] = ["/run", "/tmp", "/mnt", "/srv", "/data", "/var/lib"];

/// Those directories below what stands for the node's file system, whole: what pods keep on the node.
pub fn shared_directories(memory: &Path) -> Vec<PathBuf> {
    let tops = SHARED.iter().filter_map(|shared| Path::new(shared).components().nth(1));
    tops.map(|top| memory.join(top)).collect()
}

/// The two directories that stand for the node's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDirs {
    /// In memory, gone with the node: `/run` and its like.
    pub memory: PathBuf,
    /// On disk: a directory a PersistentVolume.
    pub volumes: PathBuf,
}

/// A path of the node, found in one of its two directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath {
    /// The directory.
    pub root: PathBuf,
    /// The path in it.
    pub inside: PathBuf,
}

/// Where a path of the node is.
///
/// # Errors
/// It is none that pods may have; the text says which they may.
pub fn resolve(path: &str, dirs: &NodeDirs) -> Result<HostPath, String> {
    let refused = || {
        format!(
            "hostPath {path:?} is not in a directory that the cluster owns: pods share {} of the node (memory, not this \
             machine's files), and {} is kept on disk",
            SHARED.join(", "),
            dirs.volumes.display()
        )
    };
    let whole = Path::new(path);
    if !whole.is_absolute() || whole.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(refused());
    }
    if let Ok(inside) = whole.strip_prefix(&dirs.volumes) {
        if inside.as_os_str().is_empty() {
            return Err(refused());
        }
        return Ok(HostPath {
            root: dirs.volumes.clone(),
            inside: inside.to_owned(),
        });
    }
    // /var/run is a link to /run on every Linux of today.
    let plain = match whole.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => whole.to_owned(),
    };
    if !SHARED.iter().any(|shared| plain.starts_with(shared)) {
        return Err(refused());
    }
    let inside = plain.components().filter(|part| matches!(part, Component::Normal(_)));
    Ok(HostPath {
        root: dirs.memory.clone(),
        inside: inside.collect(),
    })
}

/// Makes and checks what a `hostPath` of type `kind`, written as `path`, is to be.
///
/// # Errors
/// What is there is not of that type, in the kubelet's words.
pub fn prepare(place: &HostPath, kind: &str, path: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("hostPath {path:?}: {error}");
    let (root, inside) = (&place.root, place.inside.as_path());
    let parent = inside.parent().unwrap_or(Path::new(""));
    let wanted = match kind {
        "" => None,
        "DirectoryOrCreate" | "Directory" => Some((FileType::Directory, "directory")),
        "FileOrCreate" | "File" => Some((FileType::RegularFile, "file")),
        "Socket" => Some((FileType::Socket, "socket file")),
        "CharDevice" => Some((FileType::CharacterDevice, "character device")),
        "BlockDevice" => Some((FileType::BlockDevice, "block device")),
        other => return Err(format!("hostPath type {other:?} is not known")),
    };
    let found = match (beneath::open(root, inside), kind) {
        (Err(error), "" | "DirectoryOrCreate") if error.kind() == io::ErrorKind::NotFound => {
            Some(beneath::open_or_make(root, inside).map_err(failed)?)
        }
        (Err(error), "FileOrCreate") if error.kind() == io::ErrorKind::NotFound => {
            // As the kubelet does: the file is made, its directory is not, but for the node's own.
            if SHARED
                .iter()
                .any(|shared| Path::new(shared).strip_prefix("/") == Ok(parent))
            {
                beneath::open_or_make(root, parent).map_err(failed)?;
            }
            beneath::touch(root, inside).map_err(failed)?;
            Some(beneath::open(root, inside).map_err(failed)?)
        }
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => None,
        (answer, _) => Some(answer.map_err(failed)?),
    };
    let is = found.as_ref().map(beneath::kind).transpose().map_err(failed)?;
    match wanted {
        Some((wanted, word)) if is != Some(wanted) => {
            Err(format!("hostPath type check failed: {path} is not a {word}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs() -> NodeDirs {
        NodeDirs {
            memory: "/cluster/run/node".into(),
            volumes: "/cluster/volumes".into(),
        }
    }

    #[test]
    fn only_what_the_cluster_owns() {
        for (path, root, inside) in [
            ("/run/spire/sockets", "/cluster/run/node", "run/spire/sockets"),
            ("/var/run/spire", "/cluster/run/node", "run/spire"),
            ("/run/./spire//x/", "/cluster/run/node", "run/spire/x"),
            ("/mnt/data", "/cluster/run/node", "mnt/data"),
            ("/var/lib", "/cluster/run/node", "var/lib"),
            ("/cluster/volumes/pv-1", "/cluster/volumes", "pv-1"),
        ] {
            let found = resolve(path, &dirs()).unwrap();
            assert_eq!(
                (found.root.to_str(), found.inside.to_str()),
                (Some(root), Some(inside)),
                "{path}"
            );
        }
        for path in [
            "/",
            "/etc",
            "/home",
            "/root",
            "/var",
            "/var/log",
            "/proc",
            "/sys",
            "/dev",
            "/usr",
            "/runner",
            "run/x",
            "",
            "/run/../etc",
            "/cluster/volumes",
            "/cluster/pki",
            "/cluster/volumes/../pki",
            "/var/run/../../etc",
        ] {
            let refused = resolve(path, &dirs()).unwrap_err();
            assert!(
                refused.contains("/run, /tmp") && refused.contains("/cluster/volumes"),
                "{path}: {refused}"
            );
        }
    }

    #[test]
    fn types_are_checked_as_the_kubelet_does() {
        let temp = tempfile::tempdir().unwrap();
        let place = |inside: &str| HostPath {
            root: temp.path().to_owned(),
            inside: inside.into(),
        };
        let check = |inside: &str, kind: &str| prepare(&place(inside), kind, &format!("/{inside}"));
        let failed = |what: &str| Err(format!("hostPath type check failed: {what}"));
        std::fs::write(temp.path().join("file"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("socket")).unwrap();
        assert_eq!(check("run/a/b", "Directory"), failed("/run/a/b is not a directory"));
        assert_eq!(check("run/a/b", "DirectoryOrCreate"), Ok(()));
        assert_eq!(check("run/a/b", "Directory"), Ok(()));
        assert_eq!(check("run/x", ""), Ok(()));
        assert!(temp.path().join("run/x").is_dir());
        assert_eq!(check("file", "DirectoryOrCreate"), failed("/file is not a directory"));
        assert_eq!(check("file", "File"), Ok(()));
        assert_eq!(check("no", "File"), failed("/no is not a file"));
        assert_eq!(check("tmp/new", "FileOrCreate"), Ok(()));
        assert!(temp.path().join("tmp/new").is_file());
        assert!(check("mnt/no/new", "FileOrCreate").is_err());
        assert_eq!(check("socket", "Socket"), Ok(()));
        assert_eq!(check("file", "Socket"), failed("/file is not a socket file"));
        assert_eq!(check("file", "CharDevice"), failed("/file is not a character device"));
        assert!(check("file", "Nonsense").is_err());
        std::os::unix::fs::symlink("/etc", temp.path().join("run/out")).unwrap();
        assert!(check("run/out", "Directory").is_err());
    }
}
