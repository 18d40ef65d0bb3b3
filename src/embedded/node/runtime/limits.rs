//! What bounds a container where no control group does.
//!
//! Processes: `kernel.pid_max`, which Linux 6.14 and later keep for each PID namespace. On older kernels it is the machine's, and
//! is never touched.

use rustix::{process::Resource, thread::UnshareFlags};

use crate::node::sys::{self, Failure, Program, Step};

/// Largest file of a container, bytes: none of the lab's file systems in memory is larger, and a volume on disk is not filled by
/// one file.
const FILE: u64 = 1 << 30;
/// Open files of a process.
const OPEN_FILES: u64 = 65_536;
/// No process is held to less memory than this: a program maps some for each of its threads before it does anything.
const LEAST_MEMORY: u64 = 128 << 20;
/// The setting. Whichever `/proc` it is written through, it is that of the writer's PID namespace.
const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// The limits of a process of a container.
pub(super) fn steps(memory: Option<u64>) -> Vec<Step> {
    let mut steps = vec![
        Step::Limit(Resource::Core, 0),
        Step::Limit(Resource::Fsize, FILE),
        Step::Limit(Resource::Nofile, OPEN_FILES),
    ];
    if let Some(memory) = memory {
        steps.push(Step::Limit(Resource::Data, memory.max(LEAST_MEMORY)));
    }
    steps
}

/// How readily its memory is taken back by ending it.
pub(super) fn oom_score(adjustment: i32) -> Step {
    Step::Write(
        c"/proc/self/oom_score_adj".to_owned(),
        adjustment.to_string().into_bytes(),
        0,
    )
}

/// Whether a kernel of this release keeps `pid_max` for each PID namespace.
///
/// Source: Linux 6.14, "pid: allow pid_max to be set per pid namespace".
pub fn counts_processes(release: &str) -> bool {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 14),
        _ => false,
    }
}

/// Tries, in a PID namespace that is thrown away, whether a bound on processes holds there and nowhere else.
///
/// # Errors
/// Why it does not, in words.
pub fn try_processes(most: u32) -> Result<(), String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if !counts_processes(&release) {
        return Err(format!(
            "kernel {release} keeps one pid_max for the whole machine; 6.14 and later keep one a container"
        ));
    }
    let read = || std::fs::read_to_string(PID_MAX).map_err(|error| format!("{PID_MAX}: {error}"));
    let before = read()?;
    let path = std::ffi::CString::new(PID_MAX).map_err(|error| error.to_string())?;
    let program = Program {
        steps: vec![Step::Setting(path, most.to_string().into_bytes())],
        // No program: what matters is how far it came.
        candidates: Vec::new(),
        argv: Vec::new(),
        env: Vec::new(),
    };
    let child = sys::spawn(program, UnshareFlags::NEWPID).map_err(|error| error.to_string())?;
    let pid = child.pid;
    let ended = child.executed();
    // It is this process' child, and dead: nobody else waits for it.
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    match ended {
        Err((_, Failure::Exec(_))) => {}
        Err((_, Failure::Step(step, error))) => return Err(format!("{step}: {error}")),
        _ => return Err("the trying process ended without a word".to_owned()),
    }
    if read()? != before {
        return Err("the setting is not the container's own".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_kernels_count() {
        for (release, counts) in [
            ("6.14.0", true),
            ("6.18.44-fc-v657", true),
            ("7.0", true),
            ("6.13.12-generic", false),
            ("5.15.0-91-generic", false),
            ("nonsense", false),
            ("", false),
        ] {
            assert_eq!(counts_processes(release), counts, "{release}");
        }
    }
}
