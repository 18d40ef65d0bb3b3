//! Whether this machine can run the embedded cluster: every need is tried by doing it, in a child process that
//! throws its namespaces away, and what failed is explained from the error and from what the kernel's settings say.
//!
//! Trying and explaining are separate: [`tries`] touches the kernel, [`explain()`] is a pure table.

mod explain;
mod tries;

pub use explain::{apparmor_profile, explain};
pub use tries::doctor_stage;

use std::{
    env, fs, io,
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::node::cgroup::Hierarchy;

/// Something the embedded cluster needs of the machine, in the order it needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// A user namespace of one's own.
    UserNamespace,
    /// Its user and group map.
    IdMap,
    /// A network namespace.
    NetworkNamespace,
    /// Mount, PID, UTS and IPC namespaces.
    OtherNamespaces,
    /// A new tmpfs, the root of every pod.
    Tmpfs,
    /// A bind mount made read-only recursively (`mount_setattr`, Linux 5.12).
    ReadOnlyBind,
    /// A new `/proc` in the PID namespace.
    Proc,
    /// A pair of virtual Ethernet devices.
    Veth,
    /// nftables with network address translation.
    Nftables,
    /// Reading packets from a device.
    PacketSocket,
    /// A bound on the processes of one container (`pid_max` per PID namespace, Linux 6.14).
    ProcessLimit,
    /// Control groups of version 2 in which memory and processes of a container are counted.
    ControlGroups,
    /// Processor time among what they count.
    ControlGroupCpu,
}

impl Need {
    /// Every need, in order.
    pub const ALL: [Need; 13] = [
        Need::UserNamespace,
        Need::IdMap,
        Need::NetworkNamespace,
        Need::OtherNamespaces,
        Need::Tmpfs,
        Need::ReadOnlyBind,
        Need::Proc,
        Need::Veth,
        Need::Nftables,
        Need::PacketSocket,
        Need::ProcessLimit,
        Need::ControlGroups,
        Need::ControlGroupCpu,
    ];

    /// What it is, for a table.
    pub fn title(self) -> &'static str {
        match self {
            Need::UserNamespace => "user namespace",
            Need::IdMap => "user and group map",
            Need::NetworkNamespace => "network namespace",
            Need::OtherNamespaces => "mount, PID, UTS and IPC namespaces",
            Need::Tmpfs => "tmpfs mount",
            Need::ReadOnlyBind => "recursive read-only bind mount",
            Need::Proc => "new /proc",
            Need::Veth => "virtual Ethernet pair",
            Need::Nftables => "nftables with NAT",
            Need::PacketSocket => "packet capture",
            Need::ProcessLimit => "bound on a container's processes",
            Need::ControlGroups => "control groups with memory and processes",
            Need::ControlGroupCpu => "control groups with processor time",
        }
    }

    /// Whether a cluster can run, with less, where this is missing.
    pub fn optional(self) -> bool {
        matches!(
            self,
            Need::Proc | Need::ProcessLimit | Need::ControlGroups | Need::ControlGroupCpu
        )
    }
}

/// How a try went, as the child tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// What was tried.
    pub need: Need,
    /// The kernel's error number, or none where it worked.
    pub errno: Option<i32>,
    /// The error's text, where it has one beyond its number.
    pub detail: Option<String>,
}

/// Settings and facts that explain a failure; read, never relied on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    pub apparmor_restricts: bool,
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, a Debian patch.
    pub unprivileged_userns_clone: Option<u64>,
    /// A seccomp filter is on this process (`Seccomp: 2`).
    pub seccomp: bool,
    /// Which control groups the machine has.
    pub control_groups: Hierarchy,
    /// This program's path, for an AppArmor profile.
    pub program: String,
}

/// What became of a need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// It was done, and worked.
    Works,
    /// It failed, and the cluster runs with less.
    Degraded {
        /// What the kernel said.
        error: String,
        /// Why, as far as the machine's settings tell.
        cause: String,
        /// What to do about it.
        advice: String,
    },
    /// It failed, and no cluster can run.
    Missing {
        /// What the kernel said.
        error: String,
        /// Why, as far as the machine's settings tell.
        cause: String,
        /// What to do about it.
        advice: String,
    },
    /// It could not be tried, since something before it failed.
    NotTried,
}

/// A need and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The need.
    pub need: Need,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Tries every need in a child process and explains what failed.
///
/// # Errors
/// When the child cannot be started or says nothing that can be read.
pub fn examine() -> io::Result<(Facts, Vec<Finding>)> {
    let facts = facts();
    let findings = judge(&run_child()?, &facts);
    Ok((facts, findings))
}

/// What a try of every need means on a machine with these facts. Pure.
fn judge(tries: &[Try], facts: &Facts) -> Vec<Finding> {
    let tried = |need: Need| tries.iter().find(|tried| tried.need == need);
    let counted = tried(Need::ControlGroups).is_some_and(|tried| tried.errno.is_none());
    let outcome = |need: Need| match tried(need) {
        // Who is counted one way needs no other.
        Some(_) if need == Need::ProcessLimit && counted => Outcome::Works,
        Some(tried) => explain(tried, facts),
        None => Outcome::NotTried,
    };
    Need::ALL
        .into_iter()
        .map(|need| Finding {
            need,
            outcome: outcome(need),
        })
        .collect()
}

/// To what a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// The container as a whole.
    Container,
    /// Each of its processes for itself.
    Process,
    /// Nothing.
    Nothing,
}

/// What of a pod's limits holds on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// `limits.memory`.
    pub memory: Holds,
    /// `limits.cpu`.
    pub cpu: Holds,
    /// The number of processes and threads.
    pub processes: Holds,
    /// The file systems that it writes to.
    pub disk: Holds,
    /// Why it is not more, where it could be.
    pub why_not_more: Option<String>,
}

/// What follows from the findings for a pod's limits. Pure.
pub fn limits(findings: &[Finding]) -> Limits {
    let of = |need: Need| findings.iter().find(|finding| finding.need == need);
    let works = |need: Need| of(need).is_some_and(|finding| finding.outcome == Outcome::Works);
    let holds = |need: Need, otherwise: Holds| if works(need) { Holds::Container } else { otherwise };
    let lacking = [Need::ControlGroups, Need::ControlGroupCpu].into_iter().filter_map(of);
    let causes = lacking.filter_map(|finding| match &finding.outcome {
        Outcome::Degraded { cause, .. } => Some(cause.clone()),
        _ => None,
    });
    Limits {
        memory: holds(Need::ControlGroups, Holds::Process),
        cpu: holds(Need::ControlGroupCpu, Holds::Nothing),
        // By the kernel or by the node, which counts where the kernel does not; and by the size of a tmpfs.
        processes: Holds::Container,
        disk: Holds::Container,
        why_not_more: causes.into_iter().next(),
    }
}

fn run_child() -> io::Result<Vec<Try>> {
    let output = Command::new(env::current_exe()?)
        .arg("__doctor")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let tries: Vec<Try> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if tries.is_empty() {
        return Err(io::Error::other(format!(
            "the trying process ended with {} and tried nothing",
            output.status
        )));
    }
    Ok(tries)
}

fn facts() -> Facts {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    Facts {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1),
        max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
        unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
        seccomp: fs::read_to_string("/proc/self/status")
            .is_ok_and(|status| status.lines().any(|line| line.replace('\t', " ") == "Seccomp: 2")),
        control_groups: Hierarchy::of_this_machine(),
        program: env::current_exe().map_or_else(|_| "ztlab".to_owned(), |path| path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn failed(need: Need, errno: Errno) -> Try {
        Try {
            need,
            errno: Some(errno.raw_os_error()),
            detail: None,
        }
    }

    #[test]
    fn failures_are_explained_from_the_facts() {
        let plain = Facts {
            program: "/opt/ztlab".to_owned(),
            kernel: "5.10.0".to_owned(),
            ..Facts::default()
        };
        let ubuntu = Facts {
            apparmor_restricts: true,
            ..plain.clone()
        };
        let container = Facts {
            seccomp: true,
            ..plain.clone()
        };
        let debian = Facts {
            unprivileged_userns_clone: Some(0),
            ..plain.clone()
        };
        for (tried, facts, advice) in [
            (
                failed(Need::UserNamespace, Errno::NOSPC),
                &plain,
                "user.max_user_namespaces",
            ),
            (
                failed(Need::UserNamespace, Errno::PERM),
                &debian,
                "unprivileged_userns_clone=1",
            ),
            (
                failed(Need::UserNamespace, Errno::PERM),
                &container,
                "seccomp=unconfined",
            ),
            (
                failed(Need::IdMap, Errno::PERM),
                &ubuntu,
                "profile ztlab \"/opt/ztlab\"",
            ),
            (
                failed(Need::NetworkNamespace, Errno::PERM),
                &ubuntu,
                "/etc/apparmor.d/ztlab",
            ),
            (failed(Need::ReadOnlyBind, Errno::NOSYS), &plain, "5.12"),
            (failed(Need::Veth, Errno::OPNOTSUPP), &plain, "modprobe -a veth"),
            (failed(Need::Nftables, Errno::NOENT), &plain, "nf_tables"),
            (failed(Need::PacketSocket, Errno::NOENT), &plain, "libpcap0.8"),
            (failed(Need::PacketSocket, Errno::PERM), &plain, "af_packet"),
            (failed(Need::Nftables, Errno::PERM), &ubuntu, "/etc/apparmor.d/ztlab"),
            (failed(Need::UserNamespace, Errno::PERM), &plain, "dmesg"),
        ] {
            match explain(&tried, facts) {
                Outcome::Missing { advice: found, .. } => {
                    assert!(found.contains(advice), "{tried:?}: {found}");
                }
                other => panic!("{tried:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_a_cluster_runs_without_is_no_reason_to_give_up() {
        for need in [
            Need::Proc,
            Need::ProcessLimit,
            Need::ControlGroups,
            Need::ControlGroupCpu,
        ] {
            assert!(matches!(
                explain(&failed(need, Errno::PERM), &Facts::default()),
                Outcome::Degraded { .. }
            ));
        }
    }

    #[test]
    fn what_control_groups_lack_is_explained() {
        for (hierarchy, errno, expected) in [
            (Hierarchy::V1, Errno::NOTSUP, "cgroup_no_v1=all"),
            (Hierarchy::Hybrid, Errno::NOTSUP, "cgroup_no_v1=all"),
            (Hierarchy::V2, Errno::ACCESS, "systemd-run --user --scope"),
            (Hierarchy::V2, Errno::PERM, "systemd-run --user --scope"),
            (Hierarchy::V2, Errno::ROFS, "--privileged"),
            (Hierarchy::V2, Errno::BUSY, "init system"),
            (Hierarchy::None, Errno::NOTSUP, "nothing needs to be done"),
        ] {
            let facts = Facts {
                control_groups: hierarchy,
                ..Facts::default()
            };
            match explain(&failed(Need::ControlGroups, errno), &facts) {
                Outcome::Degraded { advice, .. } => assert!(advice.contains(expected), "{hierarchy:?}: {advice}"),
                other => panic!("{hierarchy:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_holds_follows_from_what_works() {
        let worked = |need| Try {
            need,
            errno: None,
            detail: None,
        };
        let old = failed(Need::ProcessLimit, Errno::NOTSUP);
        let facts = Facts {
            control_groups: Hierarchy::Hybrid,
            ..Facts::default()
        };
        for (tries, memory, cpu, why) in [
            (
                vec![old.clone(), worked(Need::ControlGroups), worked(Need::ControlGroupCpu)],
                Holds::Container,
                Holds::Container,
                None,
            ),
            (
                vec![
                    old.clone(),
                    worked(Need::ControlGroups),
                    failed(Need::ControlGroupCpu, Errno::NOTSUP),
                ],
                Holds::Container,
                Holds::Nothing,
                Some("processor time is not among"),
            ),
            (
                vec![old.clone(), failed(Need::ControlGroups, Errno::NOTSUP)],
                Holds::Process,
                Holds::Nothing,
                Some("version 1"),
            ),
        ] {
            let findings = judge(&tries, &facts);
            let found = limits(&findings);
            assert_eq!((found.memory, found.cpu), (memory, cpu), "{tries:?}");
            assert_eq!((found.processes, found.disk), (Holds::Container, Holds::Container));
            let said = found.why_not_more.unwrap_or_default();
            assert!(said.contains(why.unwrap_or_default()), "{said}");
            assert_eq!(said.is_empty(), why.is_none(), "{said}");
            let counted = findings
                .iter()
                .find(|finding| finding.need == Need::ProcessLimit)
                .unwrap();
            assert_eq!(
                counted.outcome == Outcome::Works,
                memory == Holds::Container,
                "{tries:?}"
            );
        }
    }

    #[test]
    fn what_worked_works() {
        let tried = Try {
            need: Need::Veth,
            errno: None,
            detail: None,
        };
        assert_eq!(explain(&tried, &Facts::default()), Outcome::Works);
    }
}
