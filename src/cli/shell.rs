//! The student's own shell, with the lab's cluster in reach: KUBECONFIG set, ztlab in PATH, a mark in the prompt.

mod lines;

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

pub use lines::Lines;

use super::{
    args::Shell,
    cluster::{kubeconfig, no_cluster},
    error::CliError,
    output::Output,
    session,
};
use crate::{
    cluster::{self, ClusterState, GroundKind},
    paths,
};

/// What a shell is told about where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The kubeconfig of the cluster.
    pub kubeconfig: PathBuf,
    /// What to show in the prompt: the lab, or the cluster.
    pub label: String,
    /// Where an interactive shell opens: the lab's work directory.
    pub work: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When there is no cluster to reach, or the shell cannot be started.
pub fn run(args: &Shell, out: &Output) -> Result<ExitCode, CliError> {
    if out.json() {
        return Err(CliError::with_hint(
            "a shell does not speak JSON",
            "`ztlab cluster kubeconfig NAME --json` gives a program what it needs",
        ));
    }
    let place = session::block_on(place(args.cluster.as_deref()))?;
    let mut command = match args.command.split_first() {
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest);
            environment(&mut command, &place);
            command
        }
        None => {
            out.note(greeting(&place));
            shell(&place)
        }
    };
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| {
        CliError::with_hint(
            format!("cannot run `{program}`: {error}"),
            "SHELL names the shell that is opened",
        )
    })?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::from(super::error::ERROR), ExitCode::from))
}

/// The cluster asked for, else the running lab's, else the only one there is.
///
/// # Errors
/// When there is no such cluster, or more than one to choose from.
pub async fn place(asked: Option<&str>) -> Result<Place, CliError> {
    if asked.is_none()
        && let Some((_, session)) = session::running().await?
        && let Some(kubeconfig) = session.kubeconfig
    {
        return Ok(Place {
            kubeconfig: kubeconfig.into(),
            label: session.lab.id,
            work: Some(session.work).filter(|work| !work.is_empty()).map(PathBuf::from),
        });
    }
    let ground = cluster::ground(GroundKind::Embedded)?;
    let name = match asked {
        Some(name) => name.to_owned(),
        None => only_cluster().await?,
    };
    Ok(Place {
        kubeconfig: kubeconfig(ground.as_ref(), &name).await?,
        label: name,
        work: None,
    })
}

/// The one running cluster there is.
///
/// # Errors
/// When there is none, or more than one.
pub async fn only_cluster() -> Result<String, CliError> {
    let clusters = cluster::ground(GroundKind::Embedded)?.list().await?;
    let running: Vec<_> = clusters
        .iter()
        .filter(|cluster| cluster.state == ClusterState::Running)
        .collect();
    match running.as_slice() {
        [] => Err(CliError::with_hint(
            "no lab and no cluster is running",
            "`ztlab lab start ID` starts a lab, `ztlab cluster create NAME` a cluster",
        )),
        [cluster] => Ok(cluster.name.clone()),
        [..] => Err(match no_cluster("", &clusters) {
            CliError::Told { hint, .. } => CliError::Told {
                message: "more than one cluster is running: name one with --cluster".to_owned(),
                hint,
            },
            closed @ CliError::Closed => closed,
        }),
    }
}

/// What to say before the prompt comes.
pub fn greeting(place: &Place) -> String {
    let kubectl = match super::doctor::find("kubectl") {
        Some(_) => "kubectl speaks to it",
        None => "there is no kubectl in PATH; ztlab itself needs none",
    };
    let at = match &place.work {
        Some(work) => format!(" in {}", work.display()),
        None => String::new(),
    };
    format!(
        "A shell{at} with KUBECONFIG set to the cluster of {}: {kubectl}. `exit` or ctrl-d goes back.",
        place.label
    )
}

/// The student's shell, in the lab's work directory.
fn program(place: &Place) -> Command {
    let program = env::var_os("SHELL")
        .filter(|shell| Path::new(shell).is_absolute() && Path::new(shell).exists())
        .unwrap_or_else(|| OsString::from("/bin/sh"));
    let mut command = Command::new(&program);
    environment(&mut command, place);
    // One that is gone would keep the shell from opening at all.
    if let Some(work) = place.work.as_ref().filter(|work| work.is_dir()) {
        command.current_dir(work);
    }
    command
}

/// The student's shell, interactive.
pub fn shell(place: &Place) -> Command {
    let mut command = program(place);
    let program = command.get_program().to_owned();
    // Without its mark in the prompt a shell is as useful.
    let _ = prompt(&mut command, &program, place);
    command
}

fn environment(command: &mut Command, place: &Place) {
    command.env("KUBECONFIG", &place.kubeconfig).env("ZTLAB", &place.label);
    if let Ok(dir) = own_directory() {
        let path = env::var_os("PATH").unwrap_or_default();
        let paths = env::split_paths(&path).filter(|part| part != &dir);
        if let Ok(path) = env::join_paths([dir.clone()].into_iter().chain(paths)) {
            command.env("PATH", path);
        }
    }
}

/// A directory that holds this program as `ztlab` and nothing else.
fn own_directory() -> io::Result<PathBuf> {
    let dir = paths::private_dir(paths::runtime_dir()?.join("bin"))?;
    let program = env::current_exe()?;
    let link = dir.join("ztlab");
    if fs::read_link(&link).ok().as_deref() != Some(program.as_path()) {
        let fresh = dir.join(format!(".ztlab-{}", std::process::id()));
        // A leftover of a process with the same id, if any.
        let _ = fs::remove_file(&fresh);
        std::os::unix::fs::symlink(&program, &fresh)?;
        fs::rename(&fresh, &link)?;
    }
    Ok(dir)
}

/// Puts `(ztlab wiretap)` before the prompt, after the student's own start-up files have run.
fn prompt(command: &mut Command, shell: &OsStr, place: &Place) -> io::Result<()> {
    let mark = format!("(ztlab {}) ", plain(&place.label));
    let dir = paths::private_dir(paths::runtime_dir()?.join("shell"))?;
    match Path::new(shell).file_name().and_then(OsStr::to_str) {
        Some("bash") => {
            let file = dir.join("bashrc");
            fs::write(
                &file,
                format!(
                    "[ -r /etc/bash.bashrc ] && . /etc/bash.bashrc\n[ -r ~/.bashrc ] && . ~/.bashrc\nPS1='{mark}'\"$PS1\"\n{}",
                    after_rc(place)
                ),
            )?;
            command.arg("--rcfile").arg(file).arg("-i");
        }
        Some("zsh") => {
            let own = env::var_os("ZDOTDIR")
                .or_else(|| env::var_os("HOME"))
                .unwrap_or_default();
            fs::write(
                dir.join(".zshrc"),
                format!(
                    "ZDOTDIR=\"$ZTLAB_ZDOTDIR\"\n[ -r \"$ZDOTDIR/.zshrc\" ] && . \"$ZDOTDIR/.zshrc\"\nPROMPT='{mark}'\"$PROMPT\"\n{}",
                    after_rc(place)
                ),
            )?;
            command.env("ZDOTDIR", &dir).env("ZTLAB_ZDOTDIR", own);
        }
        Some("fish") => {
            command.arg("-C").arg(format!(
                "functions -q fish_prompt; and functions -c fish_prompt _ztlab_prompt; \
                 function fish_prompt; echo -n '{mark}'; functions -q _ztlab_prompt; and _ztlab_prompt; end"
            ));
        }
        _ => {
            command.env("PS1", format!("{mark}$ "));
        }
    }
    Ok(())
}

/// Start-up files may set what this shell is for; it is set again after them.
fn after_rc(place: &Place) -> String {
    let quoted = place.kubeconfig.display().to_string().replace('\'', r"'\''");
    format!("export KUBECONFIG='{quoted}'\n")
}

/// A label that no shell takes for anything but text.
fn plain(label: &str) -> String {
    label
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_run_anything_in_a_prompt() {
        assert_eq!(plain("wire'$(reboot)`x`\\tap"), "wirerebootxtap");
    }

    #[test]
    fn start_up_files_do_not_lose_the_cluster() {
        let place = Place {
            kubeconfig: "/home/o'neil/kubeconfig".into(),
            label: "wiretap".to_owned(),
            work: None,
        };
        assert_eq!(after_rc(&place), "export KUBECONFIG='/home/o'\\''neil/kubeconfig'\n");
    }
}
