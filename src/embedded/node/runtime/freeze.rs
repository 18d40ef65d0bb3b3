//! Containers whose processes stand still for a moment, so that what they write to is of that moment.
//!
//! By SIGSTOP, which no process can refuse and which every kernel has: control groups, which could do it unseen, are not everywhere.
//! What its user stopped stays so. A system call that is under way is done to its end, so that no write is cut.

use std::{
    collections::HashSet,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::watchdog::{self, Process};

/// How long it may take until all stand still.
const PATIENCE: Duration = Duration::from_secs(2);
/// The distance of two looks.
const LOOK: Duration = Duration::from_micros(200);

/// Processes that stand still until this is dropped.
#[derive(Debug, Default)]
pub struct Frozen {
    stopped: Vec<(i32, OwnedFd)>,
}

fn namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(Path::new("/proc").join(pid.to_string()).join("ns/pid")).ok()
}

/// Whether a process does nothing, as `/proc/PID/stat` has it: it is stopped, traced, or has ended.
fn is_still(pid: i32) -> bool {
    let stat = fs::read(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    // Its name, in brackets, may hold anything.
    let after = stat.iter().rposition(|byte| *byte == b')').unwrap_or(stat.len());
    stat.get(after + 2).is_none_or(|state| b"TtZXx".contains(state))
}

impl Frozen {
    /// Has all processes of the containers stand still whose first processes these are. Blocks.
    ///
    /// # Errors
    /// One does not within two seconds; then all go on.
    pub fn freeze(first: &[i32]) -> Result<Self, String> {
        let of: HashSet<PathBuf> = first.iter().filter_map(|pid| namespace(*pid)).collect();
        if of.is_empty() {
            return Ok(Self::default());
        }
        let end = Instant::now() + PATIENCE;
        let mut frozen = Self::default();
        let mut known: HashSet<i32> = HashSet::new();
        // Twice, for who is made during one look by a process that has not stopped yet may not be seen in it.
        let mut looks = 0;
        loop {
            let all = watchdog::all();
            let mut still = true;
            for process in all.iter().filter(|process| of.contains(&process.namespace)) {
                let is_still = is_still(process.pid);
                still &= is_still;
                if known.insert(process.pid) && !is_still {
                    frozen.stop(process);
                }
            }
            looks = if still { looks + 1 } else { 0 };
            if looks == 2 {
                return Ok(frozen);
            }
            if Instant::now() > end {
                return Err(format!(
                    "programs in pods that use volumes did not stand still within {PATIENCE:?}: try again"
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn stop(&mut self, process: &Process) {
        let Some(pid) = Pid::from_raw(process.pid) else { return };
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        // Pids are used again.
        let same = watchdog::look(process.pid).is_some_and(|now| now.namespace == process.namespace);
        if same && rustix::process::pidfd_send_signal(&handle, Signal::STOP).is_ok() {
            self.stopped.push((process.pid, handle));
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Children before their parents, which would else see them stopped.
        self.stopped.sort_by_key(|(pid, _)| std::cmp::Reverse(*pid));
        for (_, handle) in &self.stopped {
            // One that was killed meanwhile needs no signal.
            let _ = rustix::process::pidfd_send_signal(handle, Signal::CONT);
        }
    }
}
