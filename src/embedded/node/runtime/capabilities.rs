//! Capabilities by their names.

use super::RuntimeError;

/// Names by number. Source: linux/capability.h.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// What a container has by default. Source: containerd's default OCI specification.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];
/// What a container of this runtime never gets: with these it could undo its read-only mounts, which are the host's files.
const REFUSED: [&str; 3] = ["SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO"];

fn bit(name: &str) -> Result<u64, RuntimeError> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|known| *known == bare)
        .map(|number| 1 << number)
        .ok_or_else(|| RuntimeError::Invalid(format!("unknown capability {name:?}")))
}

/// The set of capabilities that remains of the default after `add` and `drop`, as bits.
///
/// # Errors
/// An unknown name, or one that no container here may have.
pub(super) fn set(add: &[String], drop: &[String]) -> Result<u64, RuntimeError> {
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let mut set = 0;
    if !all(drop) {
        for name in DEFAULT {
            set |= bit(name)?;
        }
    }
    if all(add) {
        for name in NAMES.iter().filter(|name| !REFUSED.contains(name)) {
            set |= bit(name)?;
        }
    }
    for name in drop.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        set &= !bit(name)?;
    }
    for name in add.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        let bit = bit(name)?;
        for refused in REFUSED {
            if bit == self::bit(refused)? {
                return Err(RuntimeError::Invalid(format!(
                    "capability {refused} is not given by the embedded cluster: use kind for this"
                )));
            }
        }
        set |= bit;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn added_and_dropped() {
        let default = set(&[], &[]).unwrap();
        assert_eq!(default.count_ones(), 14);
        assert_eq!(set(&names(&["NET_ADMIN"]), &[]).unwrap(), default | 1 << 12);
        assert_eq!(set(&names(&["cap_net_raw"]), &names(&["ALL"])).unwrap(), 1 << 13);
        assert_eq!(set(&[], &names(&["CAP_KILL"])).unwrap(), default & !(1 << 5));
        assert!(set(&names(&["SYS_ADMIN"]), &[]).is_err());
        assert!(set(&names(&["NONSENSE"]), &[]).is_err());
        assert_eq!(set(&names(&["ALL"]), &[]).unwrap() & (1 << 21), 0);
    }
}
