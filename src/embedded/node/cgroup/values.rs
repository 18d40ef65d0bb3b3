//! What is written into a group for a pod's or a container's limits. Pure but for [`write_all`].

use std::{io, path::Path};

/// The period of `cpu.max`, microseconds, and the least of it. Source: the kubelet's `cm/helpers_linux.go`.
const PERIOD: u64 = 100_000;
const LEAST_QUOTA: u64 = 1000;
/// `cpu.shares` of version 1: least and most. Source: as above.
const SHARES: (u64, u64) = (2, 262_144);

/// What a pod or a container is given of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// `limits.memory`, bytes.
    pub memory: Option<u64>,
    /// `limits.cpu`, thousandths of a processor.
    pub cpu: Option<u64>,
    /// `requests.cpu`, thousandths of a processor: its share where processors are short.
    pub cpu_request: Option<u64>,
    /// How many processes and threads it may have at once.
    pub processes: Option<u32>,
}

/// Whose group it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Pod,
    Container,
}

/// A file of a group, and what is written to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value {
    file: &'static str,
    text: String,
    /// Whether every kernel with the controllers has it.
    everywhere: bool,
}

impl Resources {
    pub(super) fn values(&self, level: Level, cpu: bool) -> Vec<Value> {
        let mut all = Vec::new();
        let mut say = |file, text: String, everywhere| all.push(Value { file, text, everywhere });
        if let Some(bytes) = self.memory {
            say("memory.max", bytes.to_string(), true);
            // As the kubelet's NoSwap: not there on a kernel without swap.
            say("memory.swap.max", "0".to_owned(), false);
        }
        if level == Level::Container {
            // All of a container or nothing: the kubelet's default from 1.28 on.
            say("memory.oom.group", "1".to_owned(), false);
        }
        if let Some(most) = self.processes {
            say("pids.max", most.to_string(), true);
        }
        if cpu {
            if let Some(thousandths) = self.cpu {
                let quota = (thousandths.saturating_mul(PERIOD) / 1000).max(LEAST_QUOTA);
                say("cpu.max", format!("{quota} {PERIOD}"), true);
            }
            say("cpu.weight", weight(self.cpu_request).to_string(), true);
        }
        all
    }
}

/// `cpu.weight` of a request, by way of the `cpu.shares` that the kubelet makes of it.
///
/// Source: runc's `ConvertCPUSharesToCgroupV2Value`.
fn weight(request: Option<u64>) -> u64 {
    let (least, most) = SHARES;
    let shares = request.unwrap_or(0).saturating_mul(1024) / 1000;
    let shares = shares.clamp(least, most);
    1 + (shares - least) * 9999 / (most - least)
}

/// Processes that the kernel ended for want of memory, as `memory.events` counts them.
pub(super) fn oom_kills(events: &str) -> u64 {
    let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Writes them into a group.
pub(super) fn write_all(group: &Path, values: &[Value]) -> io::Result<()> {
    for value in values {
        match super::write(&group.join(value.file), &value.text) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !value.everywhere => {}
            answer => answer?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_what_kubernetes_makes_of_them() {
        let written = |resources: Resources, level, cpu| -> Vec<String> {
            let values = resources.values(level, cpu);
            values
                .iter()
                .map(|value| format!("{}={}", value.file, value.text))
                .collect()
        };
        let all = Resources {
            memory: Some(64 << 20),
            cpu: Some(500),
            cpu_request: Some(250),
            processes: Some(1024),
        };
        assert_eq!(
            written(all, Level::Container, true),
            [
                "memory.max=67108864",
                "memory.swap.max=0",
                "memory.oom.group=1",
                "pids.max=1024",
                "cpu.max=50000 100000",
                "cpu.weight=10"
            ]
        );
        assert_eq!(
            written(all, Level::Pod, false),
            ["memory.max=67108864", "memory.swap.max=0", "pids.max=1024"]
        );
        assert_eq!(written(Resources::default(), Level::Pod, false), [""; 0]);
        assert_eq!(written(Resources::default(), Level::Pod, true), ["cpu.weight=1"]);
        let least = Resources {
            cpu: Some(1),
            ..Resources::default()
        };
        assert_eq!(
            written(least, Level::Pod, true),
            ["cpu.max=1000 100000", "cpu.weight=1"]
        );
    }

    #[test]
    fn a_request_becomes_a_weight() {
        for (request, expected) in [
            (None, 1),
            (Some(0), 1),
            (Some(100), 4),
            (Some(1000), 39),
            (Some(256_000), 10_000),
            (Some(u64::MAX), 10_000),
        ] {
            assert_eq!(weight(request), expected, "{request:?}");
        }
    }

    #[test]
    fn kills_for_want_of_memory_are_counted() {
        let events = "low 0\nhigh 0\nmax 31\noom 1\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(oom_kills(events), 2);
        assert_eq!(oom_kills("oom 1\noom_kill 0\n"), 0);
        assert_eq!(oom_kills("nonsense"), 0);
    }
}
