//! Where in the hierarchies of control groups this process is. Pure but for [`Place::find`].

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The controllers without which there are no groups.
pub(super) const NEEDED: &[&str] = &["memory", "pids"];
/// The one that can be done without.
pub(super) const CPU: &[&str] = &["cpu"];

/// Which control groups a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hierarchy {
    /// None that is mounted.
    #[default]
    None,
    /// Version 1 alone.
    V1,
    /// Both, and what bounds memory and processes is not in version 2.
    Hybrid,
    /// Version 2.
    V2,
}

impl Hierarchy {
    /// What this machine has.
    pub fn of_this_machine() -> Self {
        match Place::find() {
            Ok(_) => Self::V2,
            Err(Lack::Hierarchy(found)) => found,
            Err(_) => Self::None,
        }
    }
}

/// Why a node has no control groups.
#[derive(Debug, thiserror::Error)]
pub enum Lack {
    /// The machine has no hierarchy that could bound memory and processes.
    #[error("{}", match .0 {
        Hierarchy::None => "no control groups are mounted",
        Hierarchy::V1 => "this machine has control groups of version 1 only",
        Hierarchy::Hybrid => "memory and processes are with control groups of version 1 on this machine",
        Hierarchy::V2 => "memory and processes are not among the controllers of this machine's control groups",
    })]
    Hierarchy(Hierarchy),
    /// Nothing of it may be changed by this user, or here.
    #[error("the control group {} is not to be changed: {error}", group.display())]
    Refused {
        /// The process' own group, or the first above it that was tried.
        group: PathBuf,
        /// The kernel's answer.
        error: io::Error,
    },
}

impl Lack {
    /// The kernel's answer, where it gave one.
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Self::Hierarchy(_) => None,
            Self::Refused { error, .. } => error.raw_os_error(),
        }
    }
}

/// This process' group of version 2.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the hierarchy is mounted.
    pub(super) mount: PathBuf,
    /// The group, below it.
    pub(super) own: PathBuf,
}

impl Place {
    /// Looks for it.
    pub(super) fn find() -> Result<Self, Lack> {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let (place, v1) = parse(&read("mountinfo"), &read("cgroup"));
        let Some(place) = place else {
            return Err(Lack::Hierarchy(if v1 { Hierarchy::V1 } else { Hierarchy::None }));
        };
        let all = fs::read_to_string(place.mount.join("cgroup.controllers")).unwrap_or_default();
        if holds(&all, NEEDED) {
            Ok(place)
        } else {
            Err(Lack::Hierarchy(if v1 { Hierarchy::Hybrid } else { Hierarchy::V2 }))
        }
    }

    /// The groups in which the node's could be: its own, then those above it.
    pub(super) fn above(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|path| path.starts_with(&self.mount))
    }
}

/// Whether a list of controllers has all of `wanted`.
pub(super) fn holds(list: &str, wanted: &[&str]) -> bool {
    wanted
        .iter()
        .all(|wanted| list.split_ascii_whitespace().any(|one| one == *wanted))
}

/// The place that `/proc/self/mountinfo` and `/proc/self/cgroup` tell of, and whether there are hierarchies of version 1.
///
/// Source: proc_pid_mountinfo(5), cgroups(7).
fn parse(mounts: &str, groups: &str) -> (Option<Place>, bool) {
    let mut v1 = false;
    let mut mounted = None;
    for line in mounts.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else {
            continue;
        };
        let mut fields = mount.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else {
            continue;
        };
        match file_system.split(' ').next() {
            Some("cgroup") => v1 = true,
            Some("cgroup2") => mounted = mounted.or(Some((root, point))),
            _ => {}
        }
    }
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let place = mounted.zip(own).and_then(|((root, point), own)| {
        // What is not below the part that is mounted cannot be reached.
        let inside = Path::new(own).strip_prefix(root).ok()?;
        let mount = PathBuf::from(point.replace("\\040", " "));
        let own = if inside.as_os_str().is_empty() {
            mount.clone()
        } else {
            mount.join(inside)
        };
        Some(Place { mount, own })
    });
    (place, v1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_found_on_every_kind_of_machine() {
        let unified = "25 22 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "30 22 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            31 22 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let v1 = "30 22 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let part = "25 22 0:22 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let user = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope";
        let at = |mount: &str, own: &str| {
            Some(Place {
                mount: mount.into(),
                own: own.into(),
            })
        };
        for (mounts, groups, expected) in [
            (
                unified,
                format!("0::{user}\n"),
                (at("/sys/fs/cgroup", &format!("/sys/fs/cgroup{user}")), false),
            ),
            (
                unified,
                "0::/\n".to_owned(),
                (at("/sys/fs/cgroup", "/sys/fs/cgroup"), false),
            ),
            (
                hybrid,
                "4:memory:/x\n0::/\n".to_owned(),
                (at("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"), true),
            ),
            (v1, "4:memory:/x\n".to_owned(), (None, true)),
            (
                part,
                "0::/docker/abc/inner\n".to_owned(),
                (at("/sys/fs/cgroup", "/sys/fs/cgroup/inner"), false),
            ),
            (part, "0::/elsewhere\n".to_owned(), (None, false)),
            ("", String::new(), (None, false)),
            ("nonsense\n1 2 - cgroup2\n", "0::\n".to_owned(), (None, false)),
        ] {
            assert_eq!(parse(mounts, &groups), expected, "{mounts}{groups}");
        }
    }

    #[test]
    fn the_own_group_comes_before_those_above() {
        let place = Place {
            mount: "/c".into(),
            own: "/c/a/b".into(),
        };
        let all: Vec<_> = place.above().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(all, ["/c/a/b", "/c/a", "/c"]);
    }

    #[test]
    fn controllers_are_looked_for_by_name() {
        assert!(holds("cpuset cpu io memory pids\n", NEEDED));
        assert!(!holds("cpuset memory", NEEDED));
        assert!(!holds("cpuset", CPU));
    }
}
