//! System calls that no container makes: a seccomp(2) filter.
//!
//! Of what Docker's and containerd's default profile refuses, the part that no namespace confines: keyrings belong to a user and
//! not to a container, and the rest acts on the whole machine or is where kernels were broken into.

use std::sync::Arc;

/// `AUDIT_ARCH_*` of linux/audit.h.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the filter of system calls is written for x86_64 and aarch64");
/// Numbers from here on are x86's third set of system calls (x32), which nothing uses.
const OTHER_NUMBERS: u32 = 0x4000_0000;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

const REFUSED: [libc::c_long; 25] = [
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_syslog,
    libc::SYS_move_pages,
];

/// A program of the kernel's packet filter over system calls.
#[derive(Debug, Clone)]
pub struct Filter(Arc<[libc::sock_filter]>);

const fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

impl Filter {
    /// Refuses, with "operation not permitted", what no container does. Programs of another architecture than this one's get
    /// "function not implemented" for everything: their numbers mean other calls.
    pub fn containers() -> Self {
        let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
        let answer = |action: u32| statement(libc::BPF_RET | libc::BPF_K, action, 0, 0);
        let refuse = |errno: libc::c_int| answer(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs());
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        let mut program = vec![
            load(ARCH),
            statement(equal, ARCHITECTURE, 1, 0),
            refuse(libc::ENOSYS),
            load(NUMBER),
            statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, OTHER_NUMBERS, 0, 1),
            refuse(libc::ENOSYS),
        ];
        for (at, number) in (0_u8..).zip(REFUSED) {
            // past the rest of the list and the allowing answer
            let rest = REFUSED.len() as u8 - at;
            program.push(statement(equal, number as u32, rest, 0));
        }
        program.push(answer(libc::SECCOMP_RET_ALLOW));
        program.push(refuse(libc::EPERM));
        Self(program.into())
    }

    /// Puts the calling thread under the filter, for good. It needs `CAP_SYS_ADMIN` in its user namespace, or no new privileges.
    /// Makes only a system call.
    pub(super) fn apply(&self) -> rustix::io::Result<()> {
        let program = libc::sock_fprog {
            len: self.0.len() as u16,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the kernel copies the program, which lives through the call, and never writes to it.
        let answer = unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
                &raw const program,
            )
        };
        if answer == 0 {
            Ok(())
        } else {
            // SAFETY: the thread's own errno.
            Err(rustix::io::Errno::from_raw_os_error(unsafe {
                *libc::__errno_location()
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's interpreter would answer.
    fn judge(filter: &Filter, architecture: u32, number: u32) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let one = filter.0[at];
            at += 1;
            match u32::from(one.code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    held = if one.k == ARCH { architecture } else { number };
                }
                code if code == libc::BPF_RET | libc::BPF_K => return one.k,
                code => {
                    let met = if code & 0xf0 == libc::BPF_JEQ {
                        held == one.k
                    } else {
                        held >= one.k
                    };
                    at += usize::from(if met { one.jt } else { one.jf });
                }
            }
        }
    }

    #[test]
    fn what_is_refused_and_nothing_else() {
        let filter = Filter::containers();
        let refused = |errno: libc::c_int| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
        for number in 0..600_u32 {
            let listed = REFUSED.contains(&libc::c_long::from(number));
            let expected = if listed {
                refused(libc::EPERM)
            } else {
                libc::SECCOMP_RET_ALLOW
            };
            assert_eq!(judge(&filter, ARCHITECTURE, number), expected, "{number}");
        }
        let keyctl = libc::SYS_keyctl as u32;
        assert_eq!(judge(&filter, 0x4000_0003, keyctl), refused(libc::ENOSYS), "32 bits");
        assert_eq!(
            judge(&filter, ARCHITECTURE, OTHER_NUMBERS | keyctl),
            refused(libc::ENOSYS),
            "x32"
        );
    }
}
