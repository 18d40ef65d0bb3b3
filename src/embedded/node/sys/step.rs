//! What a child does on its way to its program, one step after the other: by plain system calls on what was laid out before it
//! was made.

use std::{
    ffi::{CStr, CString},
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    mount::{MountFlags, MoveMountFlags, UnmountFlags},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
    process::{Resource, Rlimit},
    pty::OpenptFlags,
    termios::Winsize,
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use super::Filter;

/// What a child sends with the other side of its terminal.
pub(super) const TERMINAL: u8 = b'T';
/// A child asks for the maps of its user namespace, and hears that it has them, or not.
pub(super) const MAPS: u8 = b'M';
pub(super) const NO_MAPS: u8 = b'N';

/// One thing a child does before it executes its program.
#[derive(Debug, Clone)]
pub enum Step {
    /// Becomes part of the control group whose `cgroup.procs` this is.
    Join(Arc<OwnedFd>),
    /// setns(2) into the namespaces of a namespace file or a process.
    Enter(Arc<OwnedFd>, ThreadNameSpaceType),
    /// mount(2).
    Mount {
        /// Device, directory or name.
        source: CString,
        /// Where.
        target: CString,
        /// File system; empty for binds and remounts.
        kind: CString,
        /// `MS_*`.
        flags: MountFlags,
        /// Options of the file system.
        options: CString,
    },
    /// A recursive bind.
    Bind(CString, CString),
    /// Makes an existing mount read-only (`MS_REMOUNT | MS_BIND | MS_RDONLY`).
    ReadOnly(CString),
    /// move_mount(2) of a detached mount.
    Attach(Arc<OwnedFd>, CString),
    /// mkdir(2); one that exists is fine.
    Mkdir(CString, u32),
    /// Makes an empty file to mount on; one that exists is fine.
    Touch(CString),
    /// symlink(2): target, link.
    Symlink(CString, CString),
    /// Writes a whole file, made with this mode if missing.
    Write(CString, Vec<u8>, u32),
    /// pivot_root(2) into a directory, leaving nothing of the old root.
    PivotRoot(CString),
    /// chdir(2).
    Chdir(CString),
    /// Becomes a session leader with these three as standard streams.
    Streams([Arc<OwnedFd>; 3]),
    /// Becomes a session leader with a new terminal, whose other side is sent over the socket.
    Terminal(Winsize),
    /// A user namespace of its own, in which it is this user and group.
    User {
        /// `uid_map`.
        uid_map: Vec<u8>,
        /// `gid_map`.
        gid_map: Vec<u8>,
        /// Whether only its parent may write these maps: they have more than one id.
        by_parent: bool,
    },
    /// These supplementary groups, and then this group.
    Groups(Vec<u32>, Option<u32>),
    /// Takes every capability out of the bounding set whose bit is not here.
    KeepCapabilities(u64),
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// setrlimit(2), soft and hard, but never above the hard limit that is.
    Limit(Resource, u64),
    /// Writes a setting of the kernel, and holds it to what it then says.
    Setting(CString, Vec<u8>),
    /// Refuses system calls from here on ([`Filter`]).
    Filter(Filter),
}

impl Step {
    /// What it does, in words, for an error.
    pub fn describe(&self) -> String {
        let text = |path: &CStr| path.to_string_lossy().into_owned();
        match self {
            Self::Join(_) => "enter the container's control group".to_owned(),
            Self::Enter(..) => "enter the pod's namespaces".to_owned(),
            Self::Mount { target, kind, .. } => format!("mount {} at {}", text(kind), text(target)),
            Self::Bind(source, target) => format!("bind {} to {}", text(source), text(target)),
            Self::ReadOnly(target) => format!("make {} read-only", text(target)),
            Self::Attach(_, target) => format!("mount a volume at {}", text(target)),
            Self::Mkdir(path, _) => format!("make the directory {}", text(path)),
            Self::Touch(path) => format!("make the file {}", text(path)),
            Self::Symlink(_, link) => format!("make the link {}", text(link)),
            Self::Write(path, ..) => format!("write {}", text(path)),
            Self::PivotRoot(_) => "change the root".to_owned(),
            Self::Chdir(path) => format!("change the directory to {}", text(path)),
            Self::Streams(_) => "set up the standard streams".to_owned(),
            Self::Terminal(_) => "make a terminal".to_owned(),
            Self::User { .. } => "become the container's user".to_owned(),
            Self::Groups(..) => "take the container's groups".to_owned(),
            Self::KeepCapabilities(_) => "drop capabilities".to_owned(),
            Self::NoNewPrivileges => "forbid new privileges".to_owned(),
            Self::Limit(resource, _) => format!("limit {resource:?}"),
            Self::Setting(path, _) => format!("set {}", text(path)),
            Self::Filter(_) => "refuse system calls".to_owned(),
        }
    }

    /// Does it. `status` is the socket to the parent. No allocation, no lock, no panic.
    pub(super) fn take(&self, status: BorrowedFd<'_>) -> rustix::io::Result<()> {
        match self {
            Step::Join(procs) => rustix::io::write(procs, b"0").map(drop),
            Step::Enter(fd, kinds) => rustix::thread::move_into_thread_name_spaces(fd.as_fd(), *kinds),
            Step::Mount {
                source,
                target,
                kind,
                flags,
                options,
            } => rustix::mount::mount(&**source, &**target, &**kind, *flags, Some(&**options)),
            Step::Bind(source, target) => rustix::mount::mount_bind_recursive(&**source, &**target),
            Step::ReadOnly(target) => {
                let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
                rustix::mount::mount_remount(&**target, flags, c"")
            }
            Step::Attach(fd, target) => {
                rustix::mount::move_mount(fd, c"", CWD, &**target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            }
            Step::Mkdir(path, mode) => match rustix::fs::mkdir(&**path, Mode::from_raw_mode(*mode)) {
                Err(rustix::io::Errno::EXIST) => Ok(()),
                answer => answer,
            },
            Step::Touch(path) => {
                match rustix::fs::mknodat(CWD, &**path, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
                    Err(rustix::io::Errno::EXIST) => Ok(()),
                    answer => answer,
                }
            }
            Step::Symlink(target, link) => rustix::fs::symlink(&**target, &**link),
            Step::Write(path, bytes, mode) => write(path, bytes, *mode),
            Step::PivotRoot(path) => pivot(path),
            Step::Chdir(path) => rustix::process::chdir(&**path),
            Step::Streams([stdin, stdout, stderr]) => {
                rustix::process::setsid()?;
                streams(stdin.as_fd(), stdout.as_fd(), stderr.as_fd())
            }
            Step::Terminal(size) => terminal(*size, status),
            Step::User {
                uid_map,
                gid_map,
                by_parent: false,
            } => user(uid_map, gid_map),
            Step::User { by_parent: true, .. } => user_by_parent(status),
            Step::Groups(more, own) => groups(more, *own),
            Step::KeepCapabilities(kept) => keep(*kept),
            Step::NoNewPrivileges => rustix::thread::set_no_new_privs(true),
            Step::Limit(resource, value) => limit(*resource, *value),
            Step::Setting(path, bytes) => setting(path, bytes),
            Step::Filter(filter) => filter.apply(),
        }
    }
}

pub(super) fn last_errno() -> rustix::io::Errno {
    // SAFETY: the thread's own errno.
    rustix::io::Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

fn limit(resource: Resource, value: u64) -> rustix::io::Result<()> {
    let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let value = Some(value.min(most));
    rustix::process::setrlimit(
        resource,
        Rlimit {
            current: value,
            maximum: value,
        },
    )
}

fn setting(path: &CStr, bytes: &[u8]) -> rustix::io::Result<()> {
    write(path, bytes, 0)?;
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut held = [0_u8; 32];
    let length = rustix::io::read(&file, &mut held)?;
    let held = held.get(..length).unwrap_or_default();
    if held.trim_ascii_end() == bytes {
        Ok(())
    } else {
        Err(rustix::io::Errno::NOTSUP)
    }
}

fn write(path: &CStr, bytes: &[u8], mode: u32) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(mode))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Stacks the new root on the old one and unmounts the lower: pivot_root(2), "pivot_root(".", ".")".
fn pivot(path: &CStr) -> rustix::io::Result<()> {
    rustix::process::chdir(path)?;
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

fn streams(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> rustix::io::Result<()> {
    for (from, onto) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
        // SAFETY: the child has no owner for its three standard descriptors.
        if unsafe { libc::dup2(from.as_raw_fd(), onto) } < 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}

fn terminal(size: Winsize, status: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let ours = rustix::fs::open(c"/dev/ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&ours)?;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::termios::tcsetwinsize(&theirs, size)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [ours.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(status, &[IoSlice::new(&[TERMINAL])], &mut control, SendFlags::NOSIGNAL)?;
    rustix::process::setsid()?;
    rustix::process::ioctl_tiocsctty(&theirs)?;
    streams(theirs.as_fd(), theirs.as_fd(), theirs.as_fd())
}

fn user(uid_map: &[u8], gid_map: &[u8]) -> rustix::io::Result<()> {
    // SAFETY: only CLONE_FILES would be a danger.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }?;
    write(c"/proc/self/setgroups", b"deny", 0)?;
    write(c"/proc/self/uid_map", uid_map, 0)?;
    write(c"/proc/self/gid_map", gid_map, 0)
}

fn user_by_parent(status: BorrowedFd<'_>) -> rustix::io::Result<()> {
    // SAFETY: only CLONE_FILES would be a danger.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }?;
    rustix::net::send(status, &[MAPS], SendFlags::NOSIGNAL)?;
    let mut answer = [0_u8; 1];
    rustix::io::read(status, &mut answer)?;
    match answer {
        [MAPS] => Ok(()),
        _ => Err(rustix::io::Errno::PERM),
    }
}

fn groups(more: &[u32], own: Option<u32>) -> rustix::io::Result<()> {
    // SAFETY: plain system calls of a process with one thread, on memory that outlives them; those of the C library would have
    // every thread of the node do the same.
    unsafe {
        if libc::syscall(libc::SYS_setgroups, more.len(), more.as_ptr()) != 0 {
            return Err(last_errno());
        }
        if let Some(own) = own
            && libc::syscall(libc::SYS_setresgid, own, own, own) != 0
        {
            return Err(last_errno());
        }
    }
    Ok(())
}

fn keep(kept: u64) -> rustix::io::Result<()> {
    for number in 0..64_u32 {
        if kept & (1 << number) != 0 {
            continue;
        }
        // SAFETY: a plain system call.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) } != 0 {
            return match last_errno() {
                // past the last capability this kernel knows
                rustix::io::Errno::INVAL => Ok(()),
                error => Err(error),
            };
        }
    }
    Ok(())
}
