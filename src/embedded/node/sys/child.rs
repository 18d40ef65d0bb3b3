//! Making a process in other namespaces.
//!
//! The node has many threads, so a child of it may neither allocate nor take a lock before it executes its program:
//! another thread may hold the allocator's lock at the moment of the clone, for ever. It runs in the node's own memory where
//! the kernel allows that, while the thread that made it waits (as vfork(2) does): a copy of the node's memory map costs
//! more than all the steps together, and every page that the node writes to afterwards one more. Everything the child needs is
//! therefore laid out beforehand as a [`Program`], a list of [`Step`]s over C strings that the child works off with plain
//! system calls. What fails is told over a socket, as the step's number and the error; end of file says that the program
//! runs.

use std::{
    ffi::{CStr, CString},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
    sync::Arc,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    mount::{MountFlags, MoveMountFlags, UnmountFlags},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType,
    },
    process::{Pid, Resource, Rlimit},
    pty::OpenptFlags,
    termios::Winsize,
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use super::{Filter, own};

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
}

/// What a child does and becomes.
#[derive(Debug, Clone)]
pub struct Program {
    /// Done in order.
    pub steps: Vec<Step>,
    /// Where to look for the program, in order.
    pub candidates: Vec<CString>,
    /// Its arguments.
    pub argv: Vec<CString>,
    /// Its environment as `NAME=value`.
    pub env: Vec<CString>,
}

/// Why a program does not run.
#[derive(Debug)]
pub enum Failure {
    /// This step failed.
    Step(String, io::Error),
    /// execve(2) failed for every candidate; `NotFound` where none exists.
    Exec(io::Error),
    /// The child died without a word.
    Silent,
}

/// A child on its way to its program.
#[derive(Debug)]
pub struct Child {
    /// Its pid as the calling process sees it.
    pub pid: Pid,
    /// Its process file descriptor.
    pub pidfd: OwnedFd,
    status: OwnedFd,
    steps: Vec<Step>,
}

const EXEC_FAILED: u32 = u32::MAX;
const TERMINAL: u8 = b'T';
/// A child asks for the maps of its user namespace, and hears that it has them, or not.
const MAPS: u8 = b'M';
const NO_MAPS: u8 = b'N';

impl Child {
    /// Waits until the program runs. Blocks; a step's work is what it waits for.
    ///
    /// # Errors
    /// Why it does not run. Its end is still to be waited for.
    pub fn executed(self) -> Result<(Pid, OwnedFd, Option<OwnedFd>), (OwnedFd, Failure)> {
        let mut terminal = None;
        loop {
            let mut bytes = [0_u8; 8];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let received = rustix::net::recvmsg(&self.status, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC);
            let length = match received {
                Ok(message) => message.bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err((self.pidfd, Failure::Exec(error.into()))),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    terminal = fds.into_iter().next().or(terminal);
                }
            }
            match length {
                0 => return Ok((self.pid, self.pidfd, terminal)),
                8 => {
                    let [a, b, c, d, e, f, g, h] = bytes;
                    let step = u32::from_ne_bytes([a, b, c, d]);
                    let error = io::Error::from_raw_os_error(i32::from_ne_bytes([e, f, g, h]));
                    let failure = match step {
                        EXEC_FAILED => Failure::Exec(error),
                        step => match self.steps.get(step as usize) {
                            Some(step) => Failure::Step(step.describe(), error),
                            None => Failure::Silent,
                        },
                    };
                    return Err((self.pidfd, failure));
                }
                1 if bytes.first() == Some(&TERMINAL) => {}
                1 if bytes.first() == Some(&MAPS) => {
                    let answer = if self.write_maps().is_ok() { MAPS } else { NO_MAPS };
                    // A child that is gone is told of by what follows.
                    let _ = rustix::net::send(&self.status, &[answer], SendFlags::NOSIGNAL);
                }
                _ => return Err((self.pidfd, Failure::Silent)),
            }
        }
    }
}

impl Child {
    /// Writes the maps of the user namespace that the child is in by now.
    fn write_maps(&self) -> io::Result<()> {
        let maps = self.steps.iter().find_map(|step| match step {
            Step::User {
                uid_map,
                gid_map,
                by_parent: true,
            } => Some([("uid_map", uid_map), ("gid_map", gid_map)]),
            _ => None,
        });
        for (file, text) in maps.into_iter().flatten() {
            let path = format!("/proc/{}/{file}", self.pid.as_raw_nonzero());
            io::Write::write_all(&mut std::fs::File::options().write(true).open(path)?, text)?;
        }
        Ok(())
    }
}

/// Makes a child in new namespaces of the kinds in `namespaces`, as a child of the calling thread that dies with it.
///
/// # Errors
/// The kernel's answer to clone3(2).
pub fn spawn(program: Program, namespaces: UnshareFlags) -> io::Result<Child> {
    let (status, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let argv = pointers(&program.argv);
    let env = pointers(&program.env);
    let plan = Plan {
        program: &program,
        argv: &argv,
        env: &env,
        status: theirs.as_fd(),
    };
    let (pid, pidfd) = if may_share_memory(&program) {
        clone_in_memory(&plan, namespaces)
    } else {
        clone_with_copy(&plan, namespaces)
    }?;
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { own(pidfd) };
    Ok(Child {
        pid: Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?,
        pidfd,
        status,
        steps: program.steps,
    })
}

/// What a child works off.
struct Plan<'a> {
    program: &'a Program,
    argv: &'a [*const libc::c_char],
    env: &'a [*const libc::c_char],
    status: BorrowedFd<'a>,
}

/// Whether the child may run in the node's memory until its program does. Not where it is to be in a user namespace of its own or
/// of another: the kernel refuses that to who shares memory (unshare(2)), and marks the memory as not to be looked at.
fn may_share_memory(program: &Program) -> bool {
    !program.steps.iter().any(|step| match step {
        Step::User { .. } => true,
        Step::Enter(_, kinds) => kinds.contains(ThreadNameSpaceType::USER),
        _ => false,
    })
}

/// Bytes of stack that a child has in the node's memory.
const STACK: usize = 256 * 1024;

/// A child that shares the node's memory; returns when its program runs or it has failed.
fn clone_in_memory(plan: &Plan<'_>, namespaces: UnshareFlags) -> io::Result<(i32, RawFd)> {
    extern "C" fn begin(plan: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the parent passes a plan, and is suspended for as long as this child is in its memory.
        let plan = unsafe { &*plan.cast::<Plan<'_>>() };
        run(plan)
    }
    let mut stack = vec![0_u128; STACK / 16];
    let mut pidfd: RawFd = -1;
    let flags =
        namespaces.bits().cast_signed() | libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: CLONE_VFORK suspends this thread until the child has executed its program or ended, so that everything the plan
    // borrows and the stack outlive the child's use of them, and the thread's own variables (errno) are used by one of the two
    // only. Signals are blocked meanwhile, so that no handler of the node runs in the child. The stack grows downwards from
    // its aligned end.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = libc::clone(
            begin,
            stack.as_mut_ptr().add(stack.len()).cast(),
            flags,
            ptr::from_ref(plan).cast_mut().cast(),
            &raw mut pidfd,
        );
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        if pid < 0 { Err(error) } else { Ok((pid, pidfd)) }
    }
}

/// A child with a copy of the node's memory.
fn clone_with_copy(plan: &Plan<'_>, namespaces: UnshareFlags) -> io::Result<(i32, RawFd)> {
    let mut pidfd: RawFd = -1;
    let arguments = libc::clone_args {
        flags: u64::from(namespaces.bits()) | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: a clone without CLONE_VM and without a stack behaves as fork. The child touches only memory laid out in the plan,
    // makes only system calls, and never returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match i32::try_from(pid) {
        Ok(0) => run(plan),
        Ok(pid) if pid > 0 => Ok((pid, pidfd)),
        _ => Err(io::Error::last_os_error()),
    }
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// The child's whole life before its program. No allocation, no lock, no panic.
fn run(plan: &Plan<'_>) -> ! {
    let Plan {
        program,
        argv,
        env,
        status,
    } = *plan;
    reset_signals();
    for (number, step) in program.steps.iter().enumerate() {
        if let Err(error) = take(step, status) {
            fail(status, number as u32, error);
        }
    }
    // SAFETY: a plain system call; whatever the node left open closes at the exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let mut answer = rustix::io::Errno::NOENT;
    for candidate in &program.candidates {
        // SAFETY: both arrays end with a null pointer and point to C strings that outlive the call.
        unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        let error = last_errno();
        if error != rustix::io::Errno::NOENT && error != rustix::io::Errno::NOTDIR {
            answer = error;
        }
    }
    fail(status, EXEC_FAILED, answer)
}

fn last_errno() -> rustix::io::Errno {
    // SAFETY: the thread's own errno.
    rustix::io::Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

fn reset_signals() {
    // SAFETY: plain system calls on local memory. CLONE_CLEAR_SIGHAND leaves ignored signals ignored, and Rust ignores
    // SIGPIPE.
    unsafe {
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

fn fail(status: BorrowedFd<'_>, step: u32, error: rustix::io::Errno) -> ! {
    let [a, b, c, d] = step.to_ne_bytes();
    let [e, f, g, h] = error.raw_os_error().to_ne_bytes();
    let _ = rustix::net::send(status, &[a, b, c, d, e, f, g, h], SendFlags::NOSIGNAL);
    // SAFETY: ends the process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

fn take(step: &Step, status: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match step {
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
