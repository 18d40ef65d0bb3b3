//! Counts the processes of containers where the kernel does not (before Linux 6.14), and ends a container that has too many.
//!
//! A container is a PID namespace, so that ending its first process ends all of it. [`excess`] is pure.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal};

/// How often it counts. A flood grows by some thousands in that time, which the machine has room for.
const PERIOD: Duration = Duration::from_millis(250);

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// Its pid as the node sees it.
    pub(super) pid: i32,
    /// Its pid in its own namespace; 1 is the container's first.
    inner: i32,
    /// The namespace, as the kernel names it.
    pub(super) namespace: PathBuf,
    /// Its threads.
    threads: u32,
}

/// The first process of each container that has more than `most` processes and threads, and how many it has.
fn excess(processes: &[Process], most: u32) -> Vec<(&Process, u32)> {
    let mut sums: HashMap<&Path, u32> = HashMap::new();
    for process in processes {
        let sum = sums.entry(&process.namespace).or_default();
        *sum = sum.saturating_add(process.threads);
    }
    let first = processes.iter().filter(|process| process.inner == 1);
    first
        .filter_map(|process| Some((process, *sums.get(&*process.namespace)?)))
        .filter(|(_, sum)| *sum > most)
        .collect()
}

/// What `/proc/PID/status` says of a process that is not the node's own: its pid in its innermost namespace, and its threads.
fn read_status(text: &str) -> Option<(i32, u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let pids = field("NSpid:")?.split_whitespace().skip(1);
    let inner = pids.last()?.parse().ok()?;
    Some((inner, field("Threads:")?.trim().parse().ok()?))
}

/// A process, unless it has just ended or is the node's own.
pub(super) fn look(pid: i32) -> Option<Process> {
    let dir = Path::new("/proc").join(pid.to_string());
    let (inner, threads) = read_status(&fs::read_to_string(dir.join("status")).ok()?)?;
    let namespace = fs::read_link(dir.join("ns/pid")).ok()?;
    Some(Process {
        pid,
        inner,
        namespace,
        threads,
    })
}

/// Every process of a container.
pub(super) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(look).collect()
}

/// Ends a container through its first process, if that is still the same one: pids are used again.
fn end(first: &Process) {
    let Some(pid) = Pid::from_raw(first.pid) else { return };
    let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    let same = look(first.pid).is_some_and(|now| now.inner == 1 && now.namespace == first.namespace);
    if same {
        // One that has just ended needs no signal.
        let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
    }
}

/// Counts for as long as the node lives, on a thread of its own.
///
/// # Errors
/// When there is no room for a thread.
pub(super) fn start(most: u32) -> std::io::Result<()> {
    let count = move || {
        loop {
            std::thread::sleep(PERIOD);
            for (first, sum) in excess(&all(), most) {
                tracing::warn!(
                    pid = first.pid,
                    processes = sum,
                    most,
                    "a container has too many processes and is ended"
                );
                end(first);
            }
        }
    };
    let thread = std::thread::Builder::new().name("watchdog".to_owned());
    thread.spawn(count).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, inner: i32, namespace: &str, threads: u32) -> Process {
        Process {
            pid,
            inner,
            namespace: namespace.into(),
            threads,
        }
    }

    #[test]
    fn only_the_container_with_too_many_is_ended() {
        let processes = [
            process(10, 1, "pid:[1]", 2),
            process(11, 2, "pid:[1]", 2),
            process(20, 1, "pid:[2]", 3),
            process(21, 2, "pid:[2]", 1),
            process(22, 3, "pid:[2]", 1),
        ];
        let ended = |most| -> Vec<_> {
            let over = excess(&processes, most);
            over.into_iter().map(|(first, sum)| (first.pid, sum)).collect()
        };
        assert_eq!(ended(5), []);
        assert_eq!(ended(4), [(20, 5)]);
        assert_eq!(ended(3), [(10, 4), (20, 5)]);
    }

    #[test]
    fn status_is_read() {
        let text = "Name:\tsh\nNSpid:\t4711\t12\nThreads:\t3\n";
        assert_eq!(read_status(text), Some((12, 3)));
        assert_eq!(
            read_status("Name:\tnode\nNSpid:\t1\nThreads:\t3\n"),
            None,
            "the node's own"
        );
        assert_eq!(read_status(""), None);
    }
}
