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
    ffi::CString,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
};

use rustix::{
    net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType},
    process::Pid,
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use super::{
    own,
    step::{MAPS, NO_MAPS, Step, TERMINAL, last_errno},
};

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
        if let Err(error) = step.take(status) {
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
