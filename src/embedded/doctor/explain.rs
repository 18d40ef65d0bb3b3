//! Why something failed and what to do about it, as a table over errors and facts. Pure.

use rustix::io::Errno;

use super::{Facts, Need, Outcome, Try};
use crate::node::cgroup::Hierarchy;

/// What a try means on a machine with these facts.
pub fn explain(tried: &Try, facts: &Facts) -> Outcome {
    let Some(errno) = tried.errno else {
        return Outcome::Works;
    };
    let errno = Errno::from_raw_os_error(errno);
    let (cause, advice) = cause(tried.need, errno, facts);
    let error = match &tried.detail {
        Some(detail) => format!("{detail}: {errno}"),
        None => errno.to_string(),
    };
    if tried.need.optional() {
        Outcome::Degraded { error, cause, advice }
    } else {
        Outcome::Missing { error, cause, advice }
    }
}

fn cause(need: Need, errno: Errno, facts: &Facts) -> (String, String) {
    let refused = matches!(errno, Errno::PERM | Errno::ACCESS);
    let told = |cause: &str, advice: &str| (cause.to_owned(), advice.to_owned());
    match need {
        Need::UserNamespace if errno == Errno::NOSPC || facts.max_user_namespaces == Some(0) => told(
            "user.max_user_namespaces allows no more user namespaces",
            "sudo sysctl user.max_user_namespaces=15000",
        ),
        Need::UserNamespace if refused && facts.unprivileged_userns_clone == Some(0) => told(
            "kernel.unprivileged_userns_clone=0 keeps user namespaces to root",
            "sudo sysctl kernel.unprivileged_userns_clone=1",
        ),
        // Ubuntu lets the namespace be made and takes every capability in it away, so any later step may be the first to fail.
        Need::PacketSocket if errno == Errno::NOENT => told(
            "libpcap, which reads packets, is not installed",
            "sudo apt install libpcap0.8, or what this distribution calls it",
        ),
        Need::PacketSocket => told(
            "a packet socket in a network namespace of one's own was refused",
            "load the module: sudo modprobe af_packet",
        ),
        Need::ProcessLimit => told(
            "the kernel does not hold a container to a number of processes; the node counts them, and ends one that has too many",
            "nothing needs to be done; Linux 6.14 or later refuses the process instead",
        ),
        Need::ControlGroups => control_groups(errno, facts.control_groups),
        Need::ControlGroupCpu => told(
            "processor time is not among the controllers that are handed on here",
            "put the lines [Service] and Delegate=cpu memory pids into /etc/systemd/system/user@.service.d/delegate.conf, run \
             `sudo systemctl daemon-reload`, and log in again",
        ),
        Need::Veth | Need::Nftables if !refused => module(need),
        _ if refused && facts.apparmor_restricts => (
            "AppArmor keeps user namespaces from programs without a profile (Ubuntu 23.10 and later)".to_owned(),
            apparmor_advice(&facts.program),
        ),
        _ if refused && facts.seccomp => told(
            "a seccomp filter is on this process, as containers have it",
            "start the container with --security-opt seccomp=unconfined --security-opt systempaths=unconfined",
        ),
        Need::UserNamespace if errno == Errno::INVAL => told(
            "this kernel has no user namespaces",
            "a kernel built with CONFIG_USER_NS",
        ),
        Need::Proc if refused => told(
            "parts of /proc are masked here, as containers have it",
            "start the container with --security-opt systempaths=unconfined; without it, pods see the outer /proc",
        ),
        Need::ReadOnlyBind if errno == Errno::NOSYS => (
            format!("kernel {} is older than 5.12", facts.kernel),
            "a kernel of 5.12 or later".to_owned(),
        ),
        Need::Veth | Need::Nftables => module(need),
        _ => (
            "no setting of this machine that ztlab knows explains it".to_owned(),
            "a security module or a container may forbid it: see the kernel's log (sudo dmesg)".to_owned(),
        ),
    }
}

fn control_groups(errno: Errno, hierarchy: Hierarchy) -> (String, String) {
    let (cause, advice) = match (hierarchy, errno) {
        (Hierarchy::V1 | Hierarchy::Hybrid, _) => (
            "this machine counts memory and processes with control groups of version 1",
            "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all for version 2",
        ),
        (Hierarchy::V2, Errno::ROFS) => (
            "control groups are mounted read-only, as containers have them",
            "start the container with --cgroupns=private and control groups that can be written (--privileged)",
        ),
        (Hierarchy::V2, Errno::BUSY) => (
            "the control group that this program is in has other processes, and those above it are not to be changed",
            "start the container with an init system, which gives every service a group of its own",
        ),
        (Hierarchy::V2, Errno::PERM | Errno::ACCESS) => (
            "no control group is delegated to this user here, as in a session over ssh",
            "create the cluster with `systemd-run --user --scope -p Delegate=yes ztlab cluster create`",
        ),
        _ => (
            "no control groups with memory and processes can be used here",
            "nothing needs to be done: a flood of processes or a full disk stays in its pod all the same",
        ),
    };
    (cause.to_owned(), advice.to_owned())
}

fn module(need: Need) -> (String, String) {
    let modules = if need == Need::Veth {
        "veth"
    } else {
        "nf_tables nft_chain_nat nf_nat nft_masq"
    };
    (
        "a kernel module is not loaded, and a user namespace may not load it".to_owned(),
        format!("sudo modprobe -a {modules}"),
    )
}

/// The AppArmor profile that lets the program at `program` make user namespaces.
pub fn apparmor_profile(program: &str) -> String {
    format!(
        "abi <abi/4.0>,\ninclude <tunables/global>\nprofile ztlab \"{program}\" flags=(unconfined) {{\n  userns,\n}}\n"
    )
}

fn apparmor_advice(program: &str) -> String {
    format!(
        "write this to /etc/apparmor.d/ztlab, then sudo apparmor_parser -r /etc/apparmor.d/ztlab:\n{}",
        apparmor_profile(program)
    )
}
