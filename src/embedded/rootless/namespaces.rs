//! The namespaces of a cluster.

use rustix::{mount::MountPropagationFlags, process::Pid, thread::UnshareFlags};

use crate::node::sys::{self, Fork};

use super::RootlessError;
use super::id_maps;
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
    id_maps::enter(uid, gid).map_err(|(made, error)| {
        let step = if made { Step::IdMap } else { Step::UserNamespace };
        refused(step)(error)
    })?;
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

/// Mounts a `/proc` of the new PID namespace.
fn own_proc() -> Result<(), RootlessError> {
    use rustix::mount::MountFlags;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None).map_err(|error| refused(Step::Proc)(error.into()))
}
