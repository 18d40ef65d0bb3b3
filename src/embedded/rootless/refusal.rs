//! Why a machine refuses a step, and what its owner can do: what `ztlab doctor` says.

use std::{fs, io};

use super::RootlessError;

/// The steps of entering a cluster's namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    UserNamespace,
    IdMap,
    Network,
    Others,
    Fork,
    Mounts,
    Proc,
}

/// What explains a refusal: read only after the fact, never to predict one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// `kernel.apparmor_restrict_unprivileged_userns`.
    pub(super) apparmor_restricts: bool,
    /// `user.max_user_namespaces`.
    pub(super) max_user_namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone` of Debian and hardened kernels is 0.
    pub(super) clone_forbidden: bool,
    /// `Seccomp` of /proc/self/status is 2: a filter is in force.
    pub(super) seccomp_filter: bool,
}

impl Facts {
    fn read() -> Self {
        let sysctl = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).map(|text| text.trim().to_owned());
        Self {
            apparmor_restricts: sysctl("kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|v| v == "1"),
            max_user_namespaces: sysctl("user/max_user_namespaces").ok().and_then(|v| v.parse().ok()),
            clone_forbidden: sysctl("kernel/unprivileged_userns_clone").is_ok_and(|v| v == "0"),
            seccomp_filter: fs::read_to_string("/proc/self/status").is_ok_and(|status| {
                status
                    .lines()
                    .any(|line| line.strip_prefix("Seccomp:").is_some_and(|v| v.trim() == "2"))
            }),
        }
    }
}

/// Turns the kernel's answer to a step into words.
pub(super) fn refused(step: Step) -> impl FnOnce(io::Error) -> RootlessError {
    move |error| {
        let program = std::env::current_exe().map_or_else(|_| "ztlab".to_owned(), |path| path.display().to_string());
        let (reason, hint) = explain(step, &error, &Facts::read(), &program);
        RootlessError::Refused { reason, hint }
    }
}

fn explain(step: Step, error: &io::Error, facts: &Facts, program: &str) -> (String, String) {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let userns = matches!(step, Step::UserNamespace | Step::IdMap | Step::Network | Step::Others);
    if userns && denied && facts.apparmor_restricts {
        return (
            "AppArmor on this machine does not let ordinary programs use user namespaces (Ubuntu 23.10 and later)"
                .to_owned(),
            format!(
                "allow it for this program: put `abi <abi/4.0>, include <tunables/global> profile ztlab {program} flags=(unconfined) {{ userns, }}` \
                 into /etc/apparmor.d/ztlab and run `sudo apparmor_parser -r /etc/apparmor.d/ztlab`; or, for every program, \
                 `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`; or run ztlab with sudo"
            ),
        );
    }
    if userns
        && (facts.max_user_namespaces == Some(0)
            || error.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()))
    {
        return (
            "this machine allows no more user namespaces (user.max_user_namespaces)".to_owned(),
            "`sudo sysctl user.max_user_namespaces=15000`".to_owned(),
        );
    }
    if userns && denied && facts.clone_forbidden {
        return (
            "this kernel does not let ordinary users make user namespaces".to_owned(),
            "`sudo sysctl kernel.unprivileged_userns_clone=1`".to_owned(),
        );
    }
    if userns && denied && facts.seccomp_filter {
        return (
            "a seccomp filter forbids user namespaces: this looks like a container or a devcontainer".to_owned(),
            "start the container with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`"
                .to_owned(),
        );
    }
    if step == Step::Proc {
        return (
            format!("mounting a /proc of its own was refused ({error}): parts of /proc are masked, as in a container"),
            "start the container with `--security-opt systempaths=unconfined`".to_owned(),
        );
    }
    let what = match step {
        Step::UserNamespace => "making a user namespace",
        Step::IdMap => "mapping this user into a user namespace",
        Step::Network => "making a network namespace",
        Step::Others => "making mount, PID, UTS and IPC namespaces",
        Step::Fork => "starting the first process of the cluster",
        Step::Mounts => "making the cluster's mounts private",
        Step::Proc => "mounting /proc",
    };
    (
        format!("{what} was refused: {error}"),
        "`ztlab doctor` tries each step; a kernel with CONFIG_USER_NS and CONFIG_NET_NS is needed".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_cause() {
        let denied = || io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error());
        let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let facts = Facts::default();
        for (step, error, facts, reason, hint) in [
            (
                Step::IdMap,
                denied(),
                Facts {
                    apparmor_restricts: true,
                    ..facts.clone()
                },
                "AppArmor",
                "profile ztlab /opt/ztlab",
            ),
            (
                Step::UserNamespace,
                full,
                Facts {
                    max_user_namespaces: Some(0),
                    ..facts.clone()
                },
                "no more user namespaces",
                "max_user_namespaces",
            ),
            (
                Step::UserNamespace,
                denied(),
                Facts {
                    seccomp_filter: true,
                    ..facts.clone()
                },
                "seccomp",
                "seccomp=unconfined",
            ),
            (
                Step::UserNamespace,
                denied(),
                Facts {
                    clone_forbidden: true,
                    ..facts.clone()
                },
                "ordinary users",
                "unprivileged_userns_clone=1",
            ),
            (Step::Proc, denied(), facts.clone(), "/proc", "systempaths=unconfined"),
            (Step::Network, denied(), facts, "network namespace", "doctor"),
        ] {
            let (said, advice) = explain(step, &error, &facts, "/opt/ztlab");
            assert!(said.contains(reason), "{said}");
            assert!(advice.contains(hint), "{advice}");
        }
    }
}
