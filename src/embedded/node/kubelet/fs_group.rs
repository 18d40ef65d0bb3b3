//! A pod's `fsGroup`: the group that its volumes belong to, and that its processes are in.
//!
//! Source: the kubelet's `pkg/volume/volume_linux.go` (`SetVolumeOwnership`): files are the group's to read and write, directories
//! hand the group on.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use k8s_openapi::api::core::v1::{Pod, PodSecurityContext};
use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags},
    io::Errno,
};

use crate::node::beneath;

/// What is added to a file's mode where it may be written, where it may not, and to a directory's besides.
const WRITE: u32 = 0o660;
const READ: u32 = 0o440;
const DIRECTORY: u32 = 0o2110;
/// No tree is deeper than this: each level has a descriptor open.
const DEEP: u32 = 256;

fn security(pod: &Pod) -> Option<&PodSecurityContext> {
    pod.spec.as_ref()?.security_context.as_ref()
}

fn number(group: i64) -> Option<u32> {
    u32::try_from(group).ok()
}

/// The group that the pod's volumes are to belong to.
pub fn of(pod: &Pod) -> Option<u32> {
    security(pod)?.fs_group.and_then(number)
}

/// The supplementary groups of the pod's processes.
pub fn groups(pod: &Pod) -> Vec<u32> {
    let more = security(pod).and_then(|security| security.supplemental_groups.as_ref());
    let more = more.into_iter().flatten().copied().filter_map(number);
    let all: BTreeSet<u32> = more.chain(of(pod)).collect();
    all.into_iter().collect()
}

/// Whether a volume whose directory is the group's already is left as it is (`fsGroupChangePolicy`).
fn only_on_mismatch(pod: &Pod) -> bool {
    let policy = security(pod).and_then(|security| security.fs_group_change_policy.as_deref());
    policy == Some("OnRootMismatch")
}

/// Gives a volume that pods write to, the part `inside` of `dir`, to the pod's group.
///
/// # Errors
/// The kernel's answer.
pub fn give_volume(pod: &Pod, dir: &Path, inside: Option<&Path>, group: u32) -> io::Result<()> {
    let root = beneath::open(dir, inside.unwrap_or(Path::new("")))?;
    let meta = rustix::fs::fstat(&root)?;
    let wanted = WRITE | DIRECTORY;
    if only_on_mismatch(pod) && meta.st_gid == group && meta.st_mode & wanted == wanted {
        return Ok(());
    }
    give(root.as_fd(), ".", group, WRITE, DEEP)
}

/// Gives files that pods only read, and the directories they are in, to a group.
///
/// # Errors
/// The kernel's answer.
pub fn give_files(dir: &Path, group: u32) -> io::Result<()> {
    let root = beneath::open(dir, Path::new(""))?;
    give(root.as_fd(), ".", group, READ, DEEP)
}

/// Gives what is called `name` in a directory. No link is followed: pods write to some of this, at this very moment too.
fn give(at: rustix::fd::BorrowedFd<'_>, name: &str, group: u32, mask: u32, deep: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = match rustix::fs::openat(at, name, flags, Mode::empty()) {
        // Gone meanwhile.
        Err(Errno::NOENT) => return Ok(()),
        place => place?,
    };
    let meta = rustix::fs::fstat(&place)?;
    let kind = FileType::from_raw_mode(meta.st_mode);
    rustix::fs::chownat(&place, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    if kind == FileType::Symlink {
        return Ok(());
    }
    let more = if kind == FileType::Directory {
        mask | DIRECTORY
    } else {
        mask
    };
    let mode = Mode::from_raw_mode((meta.st_mode & 0o7777) | more);
    // By the descriptor: a name may mean another file by now.
    rustix::fs::chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), mode)?;
    if kind != FileType::Directory || deep == 0 {
        return Ok(());
    }
    for name in names(&place)? {
        give(place.as_fd(), &name, group, mask, deep - 1)?;
    }
    Ok(())
}

fn names(place: &OwnedFd) -> io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(place, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(dir)? {
        let entry = entry?;
        // A name that is no text is one of the pod's own making, and stays its own.
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use serde_json::json;

    use super::*;

    fn pod(context: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "securityContext": context}})).unwrap()
    }

    #[test]
    fn groups_of_a_pod_are_gathered() {
        for (context, volumes, all) in [
            (json!({}), None, vec![]),
            (json!({"fsGroup": 7}), Some(7), vec![7]),
            (
                json!({"fsGroup": 7, "supplementalGroups": [9, 7, 3]}),
                Some(7),
                vec![3, 7, 9],
            ),
            (
                json!({"fsGroup": -1, "supplementalGroups": [1_i64 << 40]}),
                None,
                vec![],
            ),
        ] {
            let pod = pod(&context);
            assert_eq!((of(&pod), groups(&pod)), (volumes, all), "{context}");
        }
    }

    /// The group is that of whoever runs the test: no other can be given without rights.
    #[test]
    fn what_is_in_a_volume_is_the_groups_and_nothing_outside() {
        let temp = tempfile::tempdir().unwrap();
        let (outside, volume) = (temp.path().join("outside"), temp.path().join("volume"));
        fs::create_dir_all(volume.join("dir")).unwrap();
        let put = |path: &Path, mode| {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        put(&outside, 0o600);
        put(&volume.join("dir/file"), 0o600);
        put(&volume.join("run"), 0o700);
        symlink(&outside, volume.join("link")).unwrap();
        let group = rustix::process::getegid().as_raw();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        fs::set_permissions(&volume, Permissions::from_mode(0o700)).unwrap();
        give_files(&volume, group).unwrap();
        assert_eq!(mode(&volume), 0o2750);
        assert_eq!(mode(&volume.join("dir/file")), 0o640);
        let always = pod(&json!({"fsGroup": group}));
        give_volume(&always, temp.path(), Some(Path::new("volume")), group).unwrap();
        assert_eq!(mode(&volume), 0o2770);
        assert_eq!(mode(&volume.join("dir")) & 0o2770, 0o2770);
        assert_eq!(mode(&volume.join("dir/file")), 0o660);
        assert_eq!(mode(&volume.join("run")), 0o760);
        assert_eq!(mode(&outside), 0o600);
        // one that is the group's already may be left alone
        put(&volume.join("new"), 0o600);
        let policy = pod(&json!({"fsGroup": group, "fsGroupChangePolicy": "OnRootMismatch"}));
        give_volume(&policy, &volume, None, group).unwrap();
        assert_eq!(mode(&volume.join("new")), 0o600);
        give_volume(&always, &volume, None, group).unwrap();
        assert_eq!(mode(&volume.join("new")), 0o660);
    }
}
