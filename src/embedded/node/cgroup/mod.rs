//! Control groups (cgroup v2): what holds pods to their limits where a part of the hierarchy is the node's to change.
//!
//! ```text
//! ztlab-CLUSTER-HASH/        beneath the node's own group, or the nearest one above it that can be changed
//!   node/                    the node's process: a group that hands on controllers holds no process itself
//!   pods/POD/CONTAINER/      as Kubernetes has them
//! ```
//!
//! [`place`] finds where, [`values`] says what is written (both pure), and here it is done. A group outlives the processes in it,
//! however they end: a file in the cluster's directory says where it is, and whoever finds the node gone removes it
//! ([`remove_left`]).
//!
//! Source: the kernel's "Control Group v2"; runc's and the kubelet's use of it.

mod place;
mod values;

pub use place::{Hierarchy, Lack};
pub use values::Resources;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use sha2::{Digest, Sha256};

use place::{CPU, NEEDED, Place};
use values::Level;

/// The file in a cluster's directory that says where its node's group is.
const RECORD: &str = "cgroup";
/// What the names of the groups begin with.
const PREFIX: &str = "ztlab-";
/// How long processes that were killed may take to be gone from a group.
const PATIENCE: Duration = Duration::from_secs(2);
/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const MAGIC: u64 = 0x6367_7270;

/// The groups of a node; clones are the same ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    root: PathBuf,
    /// Whether processor time is among the controllers.
    cpu: bool,
}

/// A container's group.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    procs: Arc<OwnedFd>,
}

impl Groups {
    /// Makes the groups of the node of the cluster in `dir`, and moves the calling process into them. What an earlier node left
    /// must be gone ([`remove_left`]).
    ///
    /// # Errors
    /// Why this machine has none for the node; nothing is changed then.
    pub fn take(cluster: &str, dir: &Path) -> Result<Self, Lack> {
        let hash = Sha256::digest(dir.as_os_str().as_encoded_bytes());
        let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let record = |path: &Path| fs::write(dir.join(RECORD), path.as_os_str().as_encoded_bytes());
        Self::make(&format!("{PREFIX}{cluster}-{hash}"), record)
    }

    fn make(name: &str, record: impl Fn(&Path) -> io::Result<()>) -> Result<Self, Lack> {
        let place = Place::find()?;
        let mut first = None;
        for above in place.above() {
            let made = make_in(&place, above, name, &record);
            match made {
                Ok(groups) => return Ok(groups),
                // What the node's own group is refused for says most.
                Err(error) => drop(first.get_or_insert((above.to_owned(), error))),
            }
        }
        let (group, error) = first.unwrap_or_else(|| (place.own.clone(), io::ErrorKind::NotFound.into()));
        Err(Lack::Refused { group, error })
    }

    /// Whether processor time is held to limits too.
    pub fn cpu(&self) -> bool {
        self.cpu
    }

    fn pod_path(&self, id: &str) -> PathBuf {
        self.root.join("pods").join(id)
    }

    /// Makes a pod's group.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn make_pod(&self, id: &str, resources: &Resources) -> io::Result<()> {
        let path = self.pod_path(id);
        fs::create_dir(&path)?;
        enable(&path, NEEDED)?;
        if self.cpu {
            enable(&path, CPU)?;
        }
        values::write_all(&path, &resources.values(Level::Pod, self.cpu))
    }

    /// Makes a container's group in that of its pod.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn make_container(&self, pod: &str, id: &str, resources: &Resources) -> io::Result<Group> {
        let path = self.pod_path(pod).join(id);
        fs::create_dir(&path)?;
        values::write_all(&path, &resources.values(Level::Container, self.cpu))?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let procs = rustix::fs::open(path.join("cgroup.procs"), flags, Mode::empty())?;
        Ok(Group {
            path,
            procs: Arc::new(procs),
        })
    }

    /// Kills what is left in a pod's group and removes it. Blocks. What cannot be removed stays until the cluster's end.
    pub fn remove_pod(&self, id: &str) {
        quietly(&self.pod_path(id));
    }
}

impl Group {
    /// Where a process writes `0` to become part of it.
    pub fn procs(&self) -> Arc<OwnedFd> {
        self.procs.clone()
    }

    /// Whether the kernel ended processes in it for want of memory.
    pub fn oom_killed(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events"));
        events.is_ok_and(|text| values::oom_kills(&text) > 0)
    }

    /// Kills what is left in it and removes it. Blocks. What cannot be removed goes with its pod's.
    pub fn remove(&self) {
        quietly(&self.path);
    }
}

fn quietly(path: &Path) {
    if let Err(error) = remove_tree(path) {
        tracing::debug!(%error, path = %path.display(), "a control group stays");
    }
}

/// Tries all that a node does with control groups, in this process, and undoes it.
///
/// # Errors
/// Why a node would have none.
pub fn try_out() -> Result<Groups, Lack> {
    let place = Place::find()?;
    let groups = Groups::make(&format!("{PREFIX}doctor-{}", std::process::id()), |_| Ok(()))?;
    let resources = Resources {
        memory: Some(64 << 20),
        processes: Some(16),
        ..Resources::default()
    };
    let tried = groups
        .make_pod("pod", &resources)
        .and_then(|()| groups.make_container("pod", "container", &resources).map(drop));
    undo(&place, &groups.root);
    tried.map(|()| groups).map_err(|error| Lack::Refused {
        group: place.own,
        error,
    })
}

/// Removes the group of a node of the cluster in `dir` that has ended. Blocks. The caller sees to it that no node begins meanwhile.
///
/// # Errors
/// It is not empty, or not to be changed.
pub fn remove_left(dir: &Path) -> io::Result<()> {
    let record = dir.join(RECORD);
    let path = match fs::read_to_string(&record) {
        Ok(text) => PathBuf::from(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let named = path.file_name().and_then(|name| name.to_str());
    if named.is_some_and(|name| name.starts_with(PREFIX)) && is_group(&path) {
        remove_tree(&path)?;
    }
    fs::remove_file(record)
}

fn is_group(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(MAGIC))
}

/// Makes a node's groups in `above`, which is the process' own group or one above it.
fn make_in(place: &Place, above: &Path, name: &str, record: impl Fn(&Path) -> io::Result<()>) -> io::Result<Groups> {
    let handed = fs::read_to_string(above.join("cgroup.subtree_control"))?;
    let handed_on = place::holds(&handed, NEEDED);
    let of_old = |name: &&&str| !place::holds(&handed, &[**name]);
    let new: Vec<String> = CPU
        .iter()
        .chain(NEEDED)
        .filter(of_old)
        .map(|name| format!("-{name}"))
        .collect();
    // Whether a group above hands on controllers is for its owner to say.
    if !handed_on && above != place.own {
        return Err(Errno::NOTSUP.into());
    }
    let path = above.join(name);
    record(&path)?;
    fs::create_dir(&path)?;
    fill(above, handed_on, &path).inspect_err(|_| {
        if !handed_on {
            // It was not so before; without it the process can go back.
            let _ = write(&above.join("cgroup.subtree_control"), &new.join(" "));
        }
        undo(place, &path);
    })
}

fn fill(above: &Path, handed_on: bool, path: &Path) -> io::Result<Groups> {
    let (node, pods) = (path.join("node"), path.join("pods"));
    for group in [&node, &pods] {
        fs::create_dir(group)?;
    }
    join(&node)?;
    if !handed_on {
        enable(above, NEEDED)?;
        // Not every machine has it to give.
        let _ = enable(above, CPU);
    }
    for group in [path, &pods] {
        enable(group, NEEDED)?;
    }
    let cpu = [path, &pods].into_iter().all(|group| enable(group, CPU).is_ok());
    Ok(Groups {
        root: path.to_owned(),
        cpu,
    })
}

/// Brings the process back to where it was, and removes the groups.
fn undo(place: &Place, path: &Path) {
    // Where it cannot go back, the group stays until the next start.
    let _ = join(&place.own);
    let _ = remove_tree(path);
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    // Not made if it is missing, which the kernel calls a want of rights.
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

fn join(group: &Path) -> io::Result<()> {
    write(&group.join("cgroup.procs"), "0")
}

fn enable(group: &Path, controllers: &[&str]) -> io::Result<()> {
    let all: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    write(&group.join("cgroup.subtree_control"), &all.join(" "))
}

/// Kills whatever is in a group and removes it with those below it.
fn remove_tree(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut killed = false;
    loop {
        match remove_once(path) {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) && Instant::now() < deadline => {
                if !killed {
                    // Before Linux 5.14 nothing kills but the end of a PID namespace.
                    let _ = write(&path.join("cgroup.kill"), "1");
                    killed = true;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            answer => return answer,
        }
    }
}

fn remove_once(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_once(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_group_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let other = temp.path().join("ztlab-other");
        fs::create_dir(&other).unwrap();
        fs::write(temp.path().join(RECORD), other.to_str().unwrap()).unwrap();
        remove_left(temp.path()).unwrap();
        assert!(other.is_dir(), "it is no control group");
        assert!(!temp.path().join(RECORD).exists());
        remove_left(temp.path()).unwrap();
    }
}
