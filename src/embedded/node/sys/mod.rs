//! The one room with unsafe code: system calls that no safe crate wraps, each behind a safe function.
#![allow(unsafe_code)]

mod child;
mod filter;
// Where programs are linked statically, nothing can be loaded later.
#[cfg(target_env = "gnu")]
mod libpcap;
mod memory;
mod step;

pub use child::{Child, Failure, Program, spawn};
pub use filter::Filter;
pub use memory::{give_back_heaps, keep_few_heaps, let_go_of_code};
pub use step::Step;

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use rustix::{process::Pid, thread::UnshareFlags};
use tokio::io::{Interest, unix::AsyncFd};

/// Moves the calling thread into new namespaces.
///
/// # Errors
/// The kernel's answer; `InvalidInput` for `CLONE_FILES`, which would split the process' file descriptors.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: only CLONE_FILES breaks Rust's view of file descriptors, and it is refused above.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Has the kernel reap the children of this process, those too that it inherits.
pub fn leave_children_to_the_kernel() {
    // SAFETY: no handler is set, so that nothing of this program runs at a signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Takes over a file descriptor that the parent process handed down by number.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is only borrowed to duplicate it, and a closed one gives EBADF.
    let copy = rustix::io::fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(fd) }, 3)?;
    Ok(copy)
}

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The parent, told the child's pid in its own PID namespace.
    Parent(Pid),
    /// The child.
    Child,
}

/// Forks a process that has one thread, so that the child may go on with ordinary code.
///
/// # Errors
/// The kernel's answer; `InvalidInput` when the process has more than one thread.
pub fn fork_single_threaded() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1) != 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the process already has several threads",
        ));
    }
    // SAFETY: with one thread, no lock can be held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid)
            .map(Fork::Parent)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// Attributes of mounts, for [`mount_setattr`] (`MOUNT_ATTR_*` of mount_setattr(2)).
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_RDONLY`.
    pub read_only: bool,
    /// `MOUNT_ATTR_NOSUID`.
    pub no_suid: bool,
    /// `MOUNT_ATTR_NODEV`.
    pub no_dev: bool,
}

/// Sets attributes of the mount behind `fd` (as `open_tree` gives it) and, recursively, of those below it.
///
/// # Errors
/// The kernel's answer; Linux 5.12 and later have it.
pub fn mount_setattr(fd: impl AsFd, attributes: MountAttributes) -> io::Result<()> {
    let mut set = 0;
    for (wanted, flag) in [
        (attributes.read_only, libc::MOUNT_ATTR_RDONLY),
        (attributes.no_suid, libc::MOUNT_ATTR_NOSUID),
        (attributes.no_dev, libc::MOUNT_ATTR_NODEV),
    ] {
        if wanted {
            set |= flag;
        }
    }
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string, the structure lives through the call and its size is given.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `ETHTOOL_STXCSUM` of linux/ethtool.h.
const ETHTOOL_STXCSUM: u32 = 0x17;

#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// Has a network device compute checksums before sending, which also ends segmentation offload: what a capture then shows
/// is what a wire would carry.
///
/// # Errors
/// The kernel's answer.
pub fn disable_transmit_offload(socket: impl AsFd, device: &CStr) -> io::Result<()> {
    let mut value = EthtoolValue {
        cmd: ETHTOOL_STXCSUM,
        data: 0,
    };
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = device.to_bytes();
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads and writes the ethtool value that ifr_data points to; both live through the call.
    let answer = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Duplicates `fd` onto the number `onto` (0, 1 or 2).
///
/// # Errors
/// The kernel's answer.
pub fn replace_stdio(fd: impl AsFd, onto: RawFd) -> io::Result<()> {
    if !(0..=2).contains(&onto) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: only the three standard descriptors are replaced, which no OwnedFd of this program owns.
    if unsafe { libc::dup2(fd.as_fd().as_raw_fd(), onto) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The processor time that this process has taken.
pub fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the structure, which lives through the call; the clock exists in every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// `SO_PEERPIDFD` of linux/socket.h, where libc does not name it yet.
const PEER_PIDFD: libc::c_int = 77;

/// A handle to the process that connected a Unix socket, which names no other even once it has ended (Linux 6.5).
///
/// # Errors
/// `ENOPROTOOPT` from a kernel that has none; the process has ended.
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut pidfd: libc::c_int = -1;
    let mut length = std::mem::size_of_val(&pidfd) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `pidfd`, which lives through the call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            PEER_PIDFD,
            (&raw mut pidfd).cast(),
            &raw mut length,
        )
    };
    if answer < 0 || pidfd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for this caller.
    Ok(unsafe { own(pidfd) })
}

/// Makes an owned descriptor of one the kernel has just made.
///
/// # Safety
/// Nobody else may own it.
unsafe fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Has the asynchronous runtime watch a descriptor for readiness.
///
/// # Errors
/// When the descriptor cannot be watched.
pub fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd gives the same descriptor, open, for as long as it lives.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(|error| io::Error::other(error.to_string()))
}
