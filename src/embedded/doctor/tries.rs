//! The child that tries: every need by doing it, in namespaces that go with the process.

use std::{
    env,
    ffi::OsString,
    fs, io,
    net::Ipv4Addr,
    process::{Command, ExitCode},
};

use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, OpenTreeFlags},
    thread::UnshareFlags,
};

use super::{Need, Try};
use crate::node::{
    cgroup::{self, Lack},
    kube_proxy::KubeProxy,
    netlink::{self, Batch},
    runtime::{self, PROCESSES},
    sys,
};

/// The child of [`examine`]: tries every need in order and prints a line of JSON for each.
pub fn doctor_stage(args: Vec<OsString>) -> ExitCode {
    if args.first().is_some_and(|arg| arg == "proc") {
        // Told whatever comes of it: the parent reads each line for itself.
        let proc = tell(Need::Proc, mount_proc());
        tell(Need::ProcessLimit, bound_processes());
        return proc;
    }
    try_out();
    ExitCode::SUCCESS
}

fn tell(need: Need, result: Result<(), Failure>) -> ExitCode {
    let (errno, detail) = match result {
        Ok(()) => (None, None),
        Err(Failure { errno, detail }) => (Some(errno.raw_os_error()), detail),
    };
    let worked = errno.is_none();
    if let Ok(line) = serde_json::to_string(&Try { need, errno, detail }) {
        use std::io::Write;
        // The parent is the only reader; without it there is nobody to tell.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }
    if worked { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Failure {
    errno: Errno,
    detail: Option<String>,
}

impl Failure {
    /// The kernel's answer somewhere among the causes of `error`.
    fn of(error: &(dyn std::error::Error + 'static)) -> Failure {
        let mut cause = Some(error);
        while let Some(this) = cause {
            if let Some(errno) = this.downcast_ref::<io::Error>().and_then(Errno::from_io_error) {
                return errno.into();
            }
            cause = this.source();
        }
        Failure {
            errno: Errno::IO,
            detail: Some(error.to_string()),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure { errno, detail: None }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Failure {
                errno: Errno::IO,
                detail: Some(error.to_string()),
            },
        }
    }
}

type Step<'a> = dyn Fn() -> Result<(), Failure> + 'a;

/// Tries, in this process, what a node does; stops where what follows cannot be tried.
fn try_out() {
    // First, as a node does: in the namespaces that follow it could not go back.
    try_control_groups();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let steps: [(Need, &Step<'_>); 6] = [
        (Need::UserNamespace, &|| unshare(UnshareFlags::NEWUSER)),
        (Need::IdMap, &|| map_ids(uid, gid)),
        (Need::NetworkNamespace, &|| unshare(UnshareFlags::NEWNET)),
        (Need::OtherNamespaces, &|| {
            unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)
        }),
        (Need::Tmpfs, &mount_tmpfs),
        (Need::ReadOnlyBind, &bind_read_only),
    ];
    for (need, step) in steps {
        if tell(need, step()) != ExitCode::SUCCESS {
            return;
        }
    }
    for (need, step) in [
        (Need::Veth, make_veth as fn() -> Result<(), Failure>),
        (Need::Nftables, make_rules),
        (Need::PacketSocket, capture_packets),
    ] {
        tell(need, step());
    }
    // The next child is PID 1 of the new PID namespace, which mounting its /proc takes.
    if let Err(error) = env::current_exe().and_then(|exe| Command::new(exe).args(["__doctor", "proc"]).status()) {
        tell(Need::Proc, Err(error.into()));
    }
}

fn try_control_groups() {
    let tried = cgroup::try_out();
    let cpu = match &tried {
        Ok(groups) if groups.cpu() => Ok(()),
        Ok(_) => Err(Errno::NOTSUP.into()),
        Err(_) => {
            // There is nothing to say of a part of what is not there.
            tell(Need::ControlGroups, tried.map(drop).map_err(|why| lacking(&why)));
            return;
        }
    };
    tell(Need::ControlGroups, Ok(()));
    tell(Need::ControlGroupCpu, cpu);
}

fn lacking(why: &Lack) -> Failure {
    let detail = match why {
        Lack::Hierarchy(_) => None,
        Lack::Refused { group, .. } => Some(group.display().to_string()),
    };
    Failure {
        errno: why.os_error().map_or(Errno::NOTSUP, Errno::from_raw_os_error),
        detail,
    }
}

fn unshare(flags: UnshareFlags) -> Result<(), Failure> {
    Ok(sys::unshare(flags)?)
}

fn map_ids(uid: u32, gid: u32) -> Result<(), Failure> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(())
}

/// A directory every machine has, to mount over in a mount namespace that is thrown away.
const PLACE: &str = "/tmp";

fn mount_tmpfs() -> Result<(), Failure> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(rustix::mount::mount(
        "tmpfs",
        PLACE,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        None,
    )?)
}

fn bind_read_only() -> Result<(), Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, "/usr", flags)?;
    let attributes = sys::MountAttributes {
        read_only: true,
        ..sys::MountAttributes::default()
    };
    Ok(sys::mount_setattr(&tree, attributes)?)
}

/// `RTM_NEWLINK`, `IFLA_LINKINFO`, `IFLA_INFO_KIND` of rtnetlink(7).
const RTM_NEWLINK: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

fn make_veth() -> Result<(), Failure> {
    let mut batch = Batch::default();
    // An empty ifinfomsg: the kernel chooses index and names.
    batch.message(
        RTM_NEWLINK,
        netlink::CREATE | netlink::EXCL,
        &[0; 16],
        "make a pair of virtual Ethernet devices",
    );
    batch.nest(IFLA_LINKINFO, |batch| batch.text(IFLA_INFO_KIND, "veth"));
    netlink::Socket::route()
        .and_then(|socket| socket.send(&batch))
        .map_err(|error| error.source.into())
}

fn make_rules() -> Result<(), Failure> {
    KubeProxy::start(Ipv4Addr::LOCALHOST)
        .map(|_| ())
        .map_err(|error| Failure::of(&error))
}

fn capture_packets() -> Result<(), Failure> {
    let opened = pcap::Capture::from_device("any").and_then(|capture| capture.timeout(1).open());
    opened.map(|_| ()).map_err(|error| {
        let detail = error.to_string();
        let errno = if detail.contains("not installed") {
            Errno::NOENT
        } else {
            Errno::PERM
        };
        Failure {
            errno,
            detail: Some(detail),
        }
    })
}

fn mount_proc() -> Result<(), Failure> {
    Ok(rustix::mount::mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )?)
}

fn bound_processes() -> Result<(), Failure> {
    runtime::try_processes(PROCESSES).map_err(|detail| Failure {
        errno: Errno::NOTSUP,
        detail: Some(detail),
    })
}
