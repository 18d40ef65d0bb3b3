//! Which container a Unix connection comes from, by what the kernel says of who made it.
//!
//! Source: unix(7), `SO_PEERCRED`; Linux 6.5, `SO_PEERPIDFD`; sock_diag(7).

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::process::{Pid, PidfdFlags};

use crate::node::{
    netlink::{Socket, attributes},
    sys,
};

use super::{RuntimeError, thread::Node};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `AF_UNIX`.
const UNIX: u8 = 1;
/// `UDIAG_SHOW_PEER`.
const SHOW_PEER: u32 = 4;
/// `UNIX_DIAG_PEER`.
const PEER: u16 = 2;
/// Bytes of a `unix_diag_msg`.
const DIAG: usize = 16;

/// Whose a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The sandbox's id: by custom the pod's uid.
    pub sandbox: String,
    /// The container's id.
    pub container: String,
}

/// A process that cannot be mistaken for a later one of the same number.
struct Process {
    pidfd: OwnedFd,
    /// Whether it is the one that connected; else it only has the number that one had.
    certain: bool,
}

impl Process {
    /// Who made this connection. An older kernel tells a number only, which may be another's by now.
    fn of(connection: &OwnedFd, named: bool) -> Result<Self, String> {
        if !named {
            return Self::by_number(connection);
        }
        match sys::peer_pidfd(connection) {
            Ok(pidfd) => Ok(Self { pidfd, certain: true }),
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Self::by_number(connection),
            Err(error) => Err(format!("the process that connected has ended ({error})")),
        }
    }

    fn by_number(connection: &OwnedFd) -> Result<Self, String> {
        let peer = rustix::net::sockopt::socket_peercred(connection).map_err(|error| error.to_string())?;
        let pidfd = rustix::process::pidfd_open(peer.pid, PidfdFlags::empty())
            .map_err(|error| format!("the process that connected has ended ({error})"))?;
        Ok(Self { pidfd, certain: false })
    }

    fn pid(&self) -> Option<Pid> {
        pid_of(&self.pidfd)
    }
}

/// The number that a process has here; `None` once it is gone.
fn pid_of(pidfd: &OwnedFd) -> Option<Pid> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // A process that has ended has the number -1.
    Pid::from_raw(line.trim().parse().ok().filter(|pid| *pid > 0)?)
}

/// What tells a mount namespace from all others.
fn mount_namespace(pid: Pid) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::stat(format!("/proc/{}/ns/mnt", pid.as_raw_nonzero()))?;
    Ok((stat.st_dev, stat.st_ino))
}

impl Node {
    /// The container whose process made this connection. Containers are told by their mount namespaces: a process may make
    /// one of its own and is in no container then, but it enters no other's, whose processes it neither sees nor has rights over.
    pub(super) fn owner(&self, connection: &OwnedFd) -> Result<Owner, String> {
        let process = Process::of(connection, self.names_peers())?;
        self.owner_of(connection, &process)
    }

    fn owner_of(&self, connection: &OwnedFd, process: &Process) -> Result<Owner, String> {
        let gone = || "the process that connected has ended".to_owned();
        let pid = process.pid().ok_or_else(gone)?;
        let namespace = mount_namespace(pid).map_err(|error| format!("look at the process that connected: {error}"))?;
        let found = self
            .entries()
            .find(|(_, _, pidfd)| pid_of(pidfd).and_then(|pid| mount_namespace(pid).ok()) == Some(namespace));
        let (container, sandbox, _) =
            found.ok_or_else(|| "the process that connected is in no container".to_owned())?;
        if !process.certain && !self.holds(pid, sandbox, connection)? {
            return Err("the process that connected cannot be told from a later one of the same number".to_owned());
        }
        // Still there: what was read is of this process and of no later one of its number.
        process.pid().ok_or_else(gone)?;
        Ok(Owner {
            sandbox: sandbox.to_owned(),
            container: container.to_owned(),
        })
    }

    /// Whether a process of a sandbox holds the other end of a connection.
    fn holds(&self, pid: Pid, sandbox: &str, connection: &OwnedFd) -> Result<bool, String> {
        let here = rustix::fs::fstat(connection).map_err(|error| error.to_string())?.st_ino;
        let socket = self
            .in_network(sandbox, Socket::diagnostics)
            .map_err(|error: RuntimeError| error.to_string())?
            .map_err(|error| error.to_string())?;
        let Some(there) = other_end(&socket, here).map_err(|error| {
            format!("{error}: a kernel before Linux 6.5 needs its module unix_diag to tell who connected")
        })?
        else {
            return Ok(false);
        };
        let wanted = format!("socket:[{there}]");
        let held = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).map_err(|error| error.to_string())?;
        let links = held.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        Ok(links.into_iter().any(|link| link.as_os_str() == wanted.as_str()))
    }
}

/// The inode of the other end of a Unix connection, both in the network namespace of this socket.
fn other_end(socket: &Socket, inode: u64) -> Result<Option<u32>, String> {
    let mut request = vec![UNIX, 0, 0, 0];
    for word in [u32::MAX, 0, SHOW_PEER, u32::MAX, u32::MAX] {
        request.extend_from_slice(&word.to_ne_bytes());
    }
    let all = socket
        .dump(BY_FAMILY, &request, "list the unix sockets")
        .map_err(|error| error.to_string())?;
    let word = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    let found = all
        .iter()
        .find(|one| one.get(4..8).and_then(word).map(u64::from) == Some(inode));
    let peer = found.and_then(|one| {
        let mut attributes = attributes(one.get(DIAG..)?);
        attributes
            .find(|(kind, _)| *kind == PEER)
            .and_then(|(_, value)| word(value))
    });
    Ok(peer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_kernel_names_who_connected() {
        let (one, other) = UnixStream::pair().unwrap();
        let connection = OwnedFd::from(one);
        let own = i32::try_from(std::process::id()).unwrap();
        for named in [true, false] {
            let process = Process::of(&connection, named).unwrap();
            assert_eq!(process.pid().unwrap().as_raw_nonzero().get(), own);
        }
        let child = std::process::Command::new("true").spawn();
        let mut child = child.unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        assert_eq!(pid_of(&pidfd), None);
        drop(other);
    }

    #[test]
    fn the_other_end_is_found() {
        let socket = Socket::diagnostics().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let inode = |socket: &UnixStream| rustix::fs::fstat(socket).unwrap().st_ino;
        match other_end(&socket, inode(&one)) {
            Ok(found) => assert_eq!(found.map(u64::from), Some(inode(&other))),
            Err(why) => panic!("{why}"),
        }
        assert_eq!(other_end(&socket, u64::from(u32::MAX)), Ok(None));
    }
}
