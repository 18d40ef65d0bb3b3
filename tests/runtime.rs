//! The container runtime and the pod network in real namespaces, as this user and, where this is root, as an ordinary one.
//!
//! Each scenario is a process of its own: this program re-executes itself, enters a cluster's namespaces while it has one
//! thread, and runs the scenario as PID 1. Inside pods it is also the program that scenarios speak through ([`in_pod`]).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "runtime/hardening.rs"]
mod hardening;
#[path = "runtime/in_pod.rs"]
mod in_pod;
#[path = "runtime/network.rs"]
mod network;
#[path = "runtime/policies.rs"]
mod policies;
#[path = "runtime/scenarios.rs"]
mod scenarios;

use std::{
    ffi::OsString,
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use ztlab::embedded::rootless::{RootlessError, enter_namespaces};

/// A user that no machine has, so that nothing is owned by it.
const ORDINARY: u32 = 61_234;
/// A scenario's answer that the machine does not let it run.
const REFUSED: u8 = 77;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .unwrap_or_default();
    if let Some(code) = in_pod::main(called, &args) {
        return code;
    }
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some("--scenario") => scenario(&args),
        Some("--list") => {
            for (name, _) in scenarios::ALL {
                println!("{name}: test");
            }
            ExitCode::SUCCESS
        }
        _ => run_all(&args),
    }
}

/// `--scenario NAME DIR`: PID 1 of a cluster's namespaces.
fn scenario(args: &[OsString]) -> ExitCode {
    let name = args[2].to_str().unwrap();
    let dir = PathBuf::from(&args[3]);
    let (_, run) = scenarios::ALL.iter().find(|(known, _)| *known == name).unwrap();
    let killed = dir.clone();
    let outer = |pid: rustix::process::Pid| {
        if name == "a_killed_node_leaves_nothing" {
            return hardening::kill_node(pid, &killed);
        }
        let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        let code = status.ok().flatten().and_then(|(_, status)| status.exit_status());
        code.map_or(70, |code| code as u8)
    };
    match enter_namespaces(outer) {
        Ok(()) => {}
        Err(RootlessError::Refused { reason, hint }) => {
            eprintln!("{reason}; {hint}");
            return ExitCode::from(REFUSED);
        }
        Err(error) => panic!("{error}"),
    }
    // a harness that fails takes its node with it
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let run_dir = dir.join("run");
    fs::create_dir_all(&run_dir).unwrap();
    rustix::mount::mount("ztlab", &run_dir, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(run_dir));
    ExitCode::SUCCESS
}

fn run_all(args: &[OsString]) -> ExitCode {
    let filters: Vec<&str> = args
        .iter()
        .skip(1)
        .filter_map(|arg| arg.to_str())
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let root = rustix::process::geteuid().is_root();
    let users: &[Option<u32>] = if root { &[None, Some(ORDINARY)] } else { &[None] };
    let mut failed = 0;
    for (name, _) in scenarios::ALL {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        for &user in users {
            let label = match user {
                None => format!("{name} (as uid {})", rustix::process::geteuid().as_raw()),
                Some(user) => format!("{name} (as uid {user})"),
            };
            let output = child(name, user);
            match output.status.code() {
                Some(0) => println!("test {label} ... ok"),
                Some(code) if code == i32::from(REFUSED) && std::env::var_os("CI").is_none() => {
                    println!("test {label} ... SKIPPED: {}", String::from_utf8_lossy(&output.stderr));
                }
                code => {
                    failed += 1;
                    println!("test {label} ... FAILED ({code:?})");
                    println!(
                        "{}{}",
                        String::from_utf8_lossy(&output.stdout),
                        String::from_utf8_lossy(&output.stderr)
                    );
                }
            }
            if std::env::var_os("SHOW").is_some() {
                std::io::stdout().write_all(&output.stderr).unwrap();
            }
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one scenario in a process of its own, with a copy of this program that `user` can read.
fn child(name: &str, user: Option<u32>) -> std::process::Output {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("scenario");
    let this = std::env::current_exe().unwrap();
    // Copied by a process of its own: a file that this process has open for writing while another test forks cannot be executed.
    if fs::hard_link(&this, &program).is_err() {
        assert!(Command::new("cp").args([&this, &program]).status().unwrap().success());
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["--scenario", name])
        .arg(&work)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    if let Some(user) = user {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&work, Some(user), Some(user)).unwrap();
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(work.to_str().unwrap()), "{name} left mounts: {mounts}");
    assert_eq!(
        hardening::marked(&hardening::seconds(&work)),
        0,
        "{name} left processes"
    );
    let left = processes_of(&program);
    assert!(left.is_empty(), "{name} left processes: {left:?}");
    output
}

/// Processes that execute `program`, whatever they are called.
fn processes_of(program: &Path) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let exe = fs::read_link(entry.path().join("exe")).ok()?;
            let same = exe.as_os_str().as_bytes().starts_with(program.as_os_str().as_bytes());
            same.then(|| format!("{} {}", entry.file_name().display(), exe.display()))
        })
        .collect()
}
