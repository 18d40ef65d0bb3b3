//! Whether the machine runs out of memory, disk or processes: the Node's conditions of pressure. Pure but for [`measure`].
//!
//! They inform; nothing is evicted for them, and no pod is kept away: the machine is its user's, and what pods can use up of it is
//! bounded anyway.
//!
//! Source: Kubernetes' "Node-pressure Eviction": signals, default hard thresholds, transition period. Kubernetes has no default for
//! processes; here it is what one container may have.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::node::runtime::PROCESSES;

/// `memory.available`, bytes.
const MEMORY: u64 = 100 << 20;
/// `nodefs.available` and `nodefs.inodesFree`, hundredths of all.
const DISK: u64 = 10;
const INODES: u64 = 5;
/// How long a condition holds after its last sign (`evictionPressureTransitionPeriod`).
const TRANSITION: Duration = Duration::from_secs(300);

/// How much there is of something, and how much of it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    free: u64,
    all: u64,
}

impl Room {
    fn below(self, hundredths: u64) -> bool {
        u128::from(self.free) * 100 < u128::from(self.all) * u128::from(hundredths)
    }
}

/// What was measured; what could not be is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signals {
    /// Memory that can be had, bytes.
    memory: Option<u64>,
    /// The file system that the cluster's directory is on.
    disk: Option<Room>,
    /// Files that it can hold; none where it has no such bound.
    inodes: Option<Room>,
    /// Processes and threads that can still be made.
    processes: Option<u64>,
}

/// Measures; the disk is the one that `dir` is on.
pub fn measure(dir: &Path) -> Signals {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let disk = rustix::fs::statvfs(dir).ok();
    Signals {
        memory: available(&read("/proc/meminfo")),
        disk: disk.as_ref().map(|disk| Room {
            free: disk.f_bavail,
            all: disk.f_blocks,
        }),
        inodes: disk.as_ref().filter(|disk| disk.f_files > 0).map(|disk| Room {
            free: disk.f_favail,
            all: disk.f_files,
        }),
        processes: left(
            &read("/proc/loadavg"),
            &[read("/proc/sys/kernel/pid_max"), read("/proc/sys/kernel/threads-max")],
        ),
    }
}

/// `MemAvailable` of `/proc/meminfo`, bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// What the smallest of the bounds leaves beside the threads that `/proc/loadavg` counts (`…/threads` in its fourth field).
fn left(loadavg: &str, bounds: &[String]) -> Option<u64> {
    let (_, threads) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    let threads: u64 = threads.parse().ok()?;
    let bounds = bounds.iter().filter_map(|bound| bound.trim().parse::<u64>().ok());
    Some(bounds.min()?.saturating_sub(threads))
}

/// Which of the three there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressures {
    /// Of memory.
    pub memory: bool,
    /// Of the disk.
    pub disk: bool,
    /// Of processes.
    pub pid: bool,
}

impl Signals {
    /// What they amount to at this moment.
    pub fn pressures(&self) -> Pressures {
        Pressures {
            memory: self.memory.is_some_and(|free| free < MEMORY),
            disk: self.disk.is_some_and(|room| room.below(DISK)) || self.inodes.is_some_and(|room| room.below(INODES)),
            pid: self.processes.is_some_and(|left| left < PROCESSES.into()),
        }
    }
}

/// The words of a condition, and of the event that tells of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// The condition's type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Its reason.
    pub reason: &'static str,
    /// Its message.
    pub message: &'static str,
    /// The event's reason.
    pub event: &'static str,
}

impl Pressures {
    /// The three conditions, as the kubelet words them.
    pub fn words(self) -> [Words; 3] {
        let word = |kind, holds, when: [&'static str; 3], otherwise: [&'static str; 3]| {
            let [reason, message, event] = if holds { when } else { otherwise };
            Words {
                kind,
                holds,
                reason,
                message,
                event,
            }
        };
        [
            word(
                "MemoryPressure",
                self.memory,
                [
                    "KubeletHasInsufficientMemory",
                    "kubelet has insufficient memory available",
                    "NodeHasInsufficientMemory",
                ],
                [
                    "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available",
                    "NodeHasSufficientMemory",
                ],
            ),
            word(
                "DiskPressure",
                self.disk,
                [
                    "KubeletHasDiskPressure",
                    "kubelet has disk pressure",
                    "NodeHasDiskPressure",
                ],
                [
                    "KubeletHasNoDiskPressure",
                    "kubelet has no disk pressure",
                    "NodeHasNoDiskPressure",
                ],
            ),
            word(
                "PIDPressure",
                self.pid,
                [
                    "KubeletHasInsufficientPID",
                    "kubelet has insufficient PID available",
                    "NodeHasInsufficientPID",
                ],
                [
                    "KubeletHasSufficientPID",
                    "kubelet has sufficient PID available",
                    "NodeHasSufficientPID",
                ],
            ),
        ]
    }
}

/// The conditions over time: one that begins does so at once, and ends only when there was no sign of it for a while.
#[derive(Debug, Default)]
pub struct Course {
    memory: Option<Instant>,
    disk: Option<Instant>,
    pid: Option<Instant>,
}

impl Course {
    /// Takes what there is now; gives what holds.
    pub fn take(&mut self, seen: Pressures, now: Instant) -> Pressures {
        let holds = |last: &mut Option<Instant>, seen: bool| {
            if seen {
                *last = Some(now);
            }
            last.is_some_and(|last| now.duration_since(last) < TRANSITION)
        };
        Pressures {
            memory: holds(&mut self.memory, seen.memory),
            disk: holds(&mut self.disk, seen.disk),
            pid: holds(&mut self.pid, seen.pid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_those_of_kubernetes() {
        let pressures = |signals: Signals| {
            let Pressures { memory, disk, pid } = signals.pressures();
            (memory, disk, pid)
        };
        let room = |free, all| Some(Room { free, all });
        let plenty = Signals {
            memory: Some(MEMORY),
            disk: room(10, 100),
            inodes: room(5, 100),
            processes: Some(1024),
        };
        for (signals, expected) in [
            (plenty, (false, false, false)),
            (Signals::default(), (false, false, false)),
            (
                Signals {
                    memory: Some(MEMORY - 1),
                    ..plenty
                },
                (true, false, false),
            ),
            (
                Signals {
                    disk: room(9, 100),
                    ..plenty
                },
                (false, true, false),
            ),
            (
                Signals {
                    inodes: room(4, 100),
                    ..plenty
                },
                (false, true, false),
            ),
            (
                Signals {
                    disk: room(u64::MAX / 20, u64::MAX),
                    ..plenty
                },
                (false, true, false),
            ),
            (
                Signals {
                    processes: Some(1023),
                    ..plenty
                },
                (false, false, true),
            ),
        ] {
            assert_eq!(pressures(signals), expected, "{signals:?}");
        }
    }

    #[test]
    fn files_of_the_kernel_are_read() {
        let meminfo = "MemTotal:       24684124 kB\nMemFree:         6197952 kB\nMemAvailable:   23587840 kB\n";
        assert_eq!(available(meminfo), Some(23_587_840 << 10));
        assert_eq!(available("MemTotal: 1 kB"), None);
        let bounds = ["4194304\n".to_owned(), "192000\n".to_owned()];
        assert_eq!(left("7.72 4.05 1.96 3/512 2765\n", &bounds), Some(191_488));
        assert_eq!(left("0 0 0 1/200 1\n", &["100".to_owned()]), Some(0));
        assert_eq!(left("0 0 0 1/200 1\n", &[String::new()]), None);
        assert_eq!(left("nonsense", &bounds), None);
        let here = measure(Path::new("/"));
        assert!(
            here.memory.is_some() && here.disk.is_some() && here.processes.is_some(),
            "{here:?}"
        );
    }

    #[test]
    fn a_condition_begins_at_once_and_ends_after_a_while() {
        let begin = Instant::now();
        let low = Pressures {
            memory: true,
            ..Pressures::default()
        };
        let mut course = Course::default();
        for (seconds, seen, expected) in [
            (0, Pressures::default(), Pressures::default()),
            (10, low, low),
            (20, Pressures::default(), low),
            (309, Pressures::default(), low),
            (310, Pressures::default(), Pressures::default()),
        ] {
            let now = begin + Duration::from_secs(seconds);
            assert_eq!(course.take(seen, now), expected, "{seconds}");
        }
    }

    #[test]
    fn conditions_are_worded_as_the_kubelet_does() {
        let none = Pressures::default().words();
        let all = Pressures {
            memory: true,
            disk: true,
            pid: true,
        };
        for (none, some) in none.iter().zip(all.words()) {
            assert!(!none.holds && some.holds && none.kind == some.kind);
            assert_ne!(none.reason, some.reason);
            assert_ne!(none.event, some.event);
        }
        assert_eq!(none[1].reason, "KubeletHasNoDiskPressure");
    }
}
