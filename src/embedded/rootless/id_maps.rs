//! The ids of a cluster's user namespace: one user, and as many groups as this machine lets it have.
//!
//! User 0 inside is the user outside, and no other: everything that a cluster writes is that user's. Groups are another matter: a pod's
//! `fsGroup` and `supplementalGroups` are numbers that files are marked with and nothing else, so that a range of groups that nobody
//! on the machine has is mapped to 1, 2, … where that is allowed: to root, and to a user who has such a range (`/etc/subgid`,
//! newgidmap).
//!
//! Source: user_namespaces(7), subgid(5), newgidmap(1).

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
};

use rustix::{process::WaitOptions, thread::UnshareFlags};

use crate::node::sys::{self, Fork};

/// Groups that root takes where `/etc/subgid` gives it none: below 2^31 and above what systemd gives to containers.
const OF_ROOT: u32 = 1_900_000_000;
/// As many as are mapped at most: all of 16 bits.
const MOST: u32 = 65_535;

/// A range of groups of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// The range that this user may map, if any.
fn range(uid: u32) -> Option<Range> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let given = given(&read("/etc/subgid"), &read("/etc/passwd"), uid);
    given.or((uid == 0).then_some(Range {
        first: OF_ROOT,
        count: MOST,
    }))
}

/// The first range that `/etc/subgid` gives to a user, who is there by name or number. Pure.
fn given(subgid: &str, passwd: &str, uid: u32) -> Option<Range> {
    let number = uid.to_string();
    let mut names = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    let name = names.next();
    subgid.lines().find_map(|line| {
        let mut fields = line.split(':');
        let whose = fields.next()?;
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        let ours = whose == number || Some(whose) == name;
        (ours && first > 0 && count > 0).then_some(Range {
            first,
            count: count.min(MOST),
        })
    })
}

/// Enters a new user namespace, in which the process is root.
///
/// # Errors
/// The kernel's answer, and whether it is to the namespace itself (`false`) or to its maps.
pub(super) fn enter(uid: u32, gid: u32) -> Result<(), (bool, io::Error)> {
    let helper = range(uid).and_then(|range| Helper::start(range, uid, gid).ok());
    sys::unshare(UnshareFlags::NEWUSER).map_err(|error| (false, error))?;
    let maps = || {
        if !helper.is_some_and(Helper::map) {
            // A group that others deny something to must not be left, who cannot be given another.
            write("setgroups", "deny")?;
            write("gid_map", &format!("0 {gid} 1"))?;
        }
        write("uid_map", &format!("0 {uid} 1"))
    };
    maps().map_err(|error| (true, error))
}

fn write(file: &str, text: &str) -> io::Result<()> {
    // these files take one write and cannot be truncated
    fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/{file}"))?
        .write_all(text.as_bytes())
}

/// A process that stays outside of the namespace: only from there may more than one group be mapped.
struct Helper {
    process: rustix::process::Pid,
    told: UnixStream,
}

impl Helper {
    fn start(range: Range, uid: u32, gid: u32) -> io::Result<Self> {
        let of = rustix::process::getpid().as_raw_nonzero().get();
        let (ours, mut theirs) = UnixStream::pair()?;
        match sys::fork_single_threaded()? {
            Fork::Parent(process) => Ok(Self { process, told: ours }),
            Fork::Child => {
                drop(ours);
                let mut word = [0];
                // Nothing more is asked of it where the other is gone.
                let asked = theirs.read_exact(&mut word).is_ok();
                let mapped = asked && map(of, range, uid, gid);
                std::process::exit(i32::from(!mapped));
            }
        }
    }

    /// Has the groups mapped; says whether they are.
    fn map(mut self) -> bool {
        let asked = self.told.write_all(b"m").is_ok();
        drop(self.told);
        let ended = rustix::process::waitpid(Some(self.process), WaitOptions::empty());
        let status = ended.ok().flatten().and_then(|(_, status)| status.exit_status());
        asked && status == Some(0)
    }
}

fn map(of: i32, range: Range, uid: u32, gid: u32) -> bool {
    let Range { first, count } = range;
    if uid == 0 {
        let text = format!("0 {gid} 1\n1 {first} {count}\n");
        return fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/{of}/gid_map"))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .is_ok();
    }
    let arguments = [of.to_string(), "0".to_owned(), gid.to_string(), "1".to_owned()];
    let more = ["1".to_owned(), first.to_string(), count.to_string()];
    Command::new("newgidmap")
        .args(arguments.into_iter().chain(more))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_given_by_name_or_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        let range = |first, count| Some(Range { first, count });
        for (subgid, uid, expected) in [
            ("ann:100000:65536\n", 1000, range(100_000, MOST)),
            ("bob:1:2\n1000:200000:1000\n", 1000, range(200_000, 1000)),
            ("ann:100000:65536\n", 1001, None),
            ("ann:100000\nann:x:1\nann:0:5\nann:7:0\n", 1000, None),
            ("", 0, None),
            ("root:300000:65536", 0, range(300_000, MOST)),
        ] {
            assert_eq!(given(subgid, passwd, uid), expected, "{subgid} {uid}");
        }
    }
}
