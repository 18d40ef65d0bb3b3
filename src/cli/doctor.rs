//! `ztlab doctor`: shows what [`crate::embedded::doctor`] tried, with a cause and an advice for what failed.

use std::{env, path::PathBuf, process::ExitCode};

use serde::Serialize;

use super::{
    error::{CliError, NOT_PASSED},
    output::{Output, Tint},
};

/// A program outside of ztlab, which a student may want.
#[derive(Debug, Serialize)]
struct Program {
    name: &'static str,
    path: Option<PathBuf>,
    used_for: &'static str,
}

const PROGRAMS: &[(&str, &str)] = &[
    ("kubectl", "talking to the lab's cluster yourself"),
    ("openssl", "making certificates in the labs about mutual TLS"),
    ("tcpdump", "capturing by hand"),
];

fn programs() -> Vec<Program> {
    PROGRAMS
        .iter()
        .map(|&(name, used_for)| Program {
            name,
            path: find(name),
            used_for,
        })
        .collect()
}

/// The first executable file called `name` in `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
}

/// Runs the command.
///
/// # Errors
/// When the trying process cannot be run.
#[cfg(target_os = "linux")]
pub fn run(out: &Output) -> Result<ExitCode, CliError> {
    use crate::embedded::doctor::{self, Outcome, examine};

    let (facts, findings) = examine().map_err(|error| {
        CliError::with_hint(
            format!("cannot try what the embedded cluster needs: {error}"),
            "is the program's file still there, and may it be executed?",
        )
    })?;
    let runs = findings.iter().all(|finding| match finding.outcome {
        Outcome::Works | Outcome::Degraded { .. } => true,
        Outcome::NotTried => finding.need.optional(),
        Outcome::Missing { .. } => false,
    });
    let state = directory(crate::paths::state_dir());
    let sockets = directory(crate::paths::runtime_dir());
    let runs = runs && state.error.is_none() && sockets.error.is_none();
    let programs = programs();
    let limits = doctor::limits(&findings);
    if out.json() {
        out.value(&serde_json::json!({
            "embedded": runs, "facts": facts, "needs": findings, "limits": limits,
            "state_directory": state, "runtime_directory": sockets, "programs": programs,
        }))?;
    } else {
        out.line(out.bold(&format!("The embedded cluster (kernel {})", facts.kernel)))?;
        for finding in &findings {
            let title = finding.need.title();
            match &finding.outcome {
                Outcome::Works => row(out, Tint::Good, "✓ works", title)?,
                Outcome::NotTried => row(out, Tint::Quiet, "· not tried", title)?,
                Outcome::Degraded { error, cause, advice } => {
                    row(out, Tint::Unsure, "? with less", &format!("{title}: {error}"))?;
                    because(out, cause, advice)?;
                }
                Outcome::Missing { error, cause, advice } => {
                    row(out, Tint::Bad, "✗ missing", &format!("{title}: {error}"))?;
                    because(out, cause, advice)?;
                }
            }
        }
        for (title, dir) in [("state directory", &state), ("socket directory", &sockets)] {
            match (&dir.path, &dir.error) {
                (Some(path), _) => row(out, Tint::Good, "✓ works", &format!("{title} {}", path.display()))?,
                (None, error) => row(
                    out,
                    Tint::Bad,
                    "✗ missing",
                    &format!("{title}: {}", error.as_deref().unwrap_or("unknown")),
                )?,
            }
        }
        out.line("")?;
        out.line(out.bold("Programs that no lab depends on"))?;
        for program in &programs {
            match &program.path {
                Some(path) => row(out, Tint::Good, "✓ found", &path.display().to_string())?,
                None => row(
                    out,
                    Tint::Quiet,
                    "· absent",
                    &format!("{}, for {}", program.name, program.used_for),
                )?,
            }
        }
        out.line("")?;
        if runs {
            out.line("The embedded cluster can run here.")?;
        } else {
            out.line("The embedded cluster cannot run here until what is missing above is mended.")?;
        }
        for line in holding(&limits) {
            out.line(line)?;
        }
        out.line("It is a lab, and no security boundary against an attack on the kernel; pods do not see your")?;
        out.line("home, /run and /var.")?;
    }
    Ok(if runs {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_PASSED)
    })
}

/// What of a pod's limits holds on this machine, and why not more.
#[cfg(target_os = "linux")]
fn holding(limits: &crate::embedded::doctor::Limits) -> Vec<String> {
    use crate::embedded::doctor::Holds;
    let memory = match limits.memory {
        Holds::Container => "memory holds the container (OOMKilled beyond it)",
        _ => "memory holds each process of a container (RLIMIT_DATA), not the container",
    };
    let cpu = match limits.cpu {
        Holds::Container => "processor time holds the container",
        _ => "processor time holds nothing",
    };
    let mut lines = vec![
        format!("Of a pod's limits, {memory};"),
        format!("{cpu}. A flood of processes and a full disk stay in their pod."),
    ];
    if let Some(why) = &limits.why_not_more {
        lines.push(format!("It is not more because {why}."));
    }
    lines
}

/// Runs the command where the embedded cluster is not compiled.
///
/// # Errors
/// When standard output is closed.
#[cfg(not(target_os = "linux"))]
pub fn run(out: &Output) -> Result<ExitCode, CliError> {
    let programs = programs();
    if out.json() {
        out.value(&serde_json::json!({ "embedded": false, "programs": programs }))?;
    } else {
        out.line("The embedded cluster needs Linux; use a kind cluster or a kubeconfig's context here.")?;
        for program in &programs {
            row(out, Tint::Quiet, "·", &format!("{}: {:?}", program.name, program.path))?;
        }
    }
    Ok(ExitCode::from(NOT_PASSED))
}

#[derive(Debug, Serialize)]
struct Directory {
    path: Option<PathBuf>,
    error: Option<String>,
}

fn directory(result: std::io::Result<PathBuf>) -> Directory {
    match result {
        Ok(path) => Directory {
            path: Some(path),
            error: None,
        },
        Err(error) => Directory {
            path: None,
            error: Some(error.to_string()),
        },
    }
}

fn row(out: &Output, tint: Tint, verdict: &str, what: &str) -> Result<(), CliError> {
    out.line(format!("  {} {what}", out.tinted(&format!("{verdict:<11}"), tint)))
}

fn because(out: &Output, cause: &str, advice: &str) -> Result<(), CliError> {
    out.line(format!("      cause: {cause}"))?;
    let mut lines = advice.lines();
    out.line(format!("      hint:  {}", lines.next().unwrap_or_default()))?;
    for line in lines {
        out.line(format!("        {line}"))?;
    }
    Ok(())
}
