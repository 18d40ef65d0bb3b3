//! The namespaces of a cluster.

use std::{fs, io};

use rustix::{mount::MountPropagationFlags, process::Pid, thread::UnshareFlags};

use crate::embedded::node::sys::{self, Fork};

use super::RootlessError;
use super::refusal::{Step, refused};

/// Enters a new user, network, mount, PID, UTS and IPC namespace and forks. The caller goes on as PID 1, with `/proc` of its
/// own; `outer` is called in the process that stays behind, with the pid of the new one, and that process then ends with
/// the code it returns. Root takes the same way as everybody.
///
/// # Errors
/// The step that this machine refuses, with what to do about it.
pub fn enter_namespaces(outer: impl FnOnce(Pid) -> u8) -> Result<(), RootlessError> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    sys::unshare(UnshareFlags::NEWUSER).map_err(refused(Step::UserNamespace))?;
    // root in the new namespace is the user outside; a single id needs no setuid helper
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        write(&format!("/proc/self/{file}"), &text).map_err(refused(Step::IdMap))?;
    }
    sys::unshare(UnshareFlags::NEWNET).map_err(refused(Step::Network))?;
    sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)
        .map_err(refused(Step::Others))?;
    match sys::fork_single_threaded().map_err(refused(Step::Fork))? {
        Fork::Parent(pid) => std::process::exit(outer(pid).into()),
        Fork::Child => {}
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|error| refused(Step::Mounts)(error.into()))?;
    own_proc()
}

fn write(path: &str, text: &str) -> io::Result<()> {
    use io::Write;
    // these files take one write and cannot be truncated
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

/// Mounts a `/proc` of the new PID namespace.
fn own_proc() -> Result<(), RootlessError> {
    use rustix::mount::MountFlags;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None).map_err(|error| refused(Step::Proc)(error.into()))
}
