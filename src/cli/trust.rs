//! `ztlab lab trust` and `--labs DIR`: directories of labs that the user names.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    error::{CliError, NOT_PASSED},
    output::Output,
};
use crate::{
    catalog::{
        self, Found,
        trust::{Mark, Standing, Trust, TrustError},
    },
    text,
};

/// What a lab is able to do, once it is started: said before anybody is asked for trust.
const ABLE: &str = "A lab that you start from there can\n\
                    \x20 * apply manifests into the lab's cluster (one of its own, or the one you name with --ground context)\n\
                    \x20 * run programs inside that cluster's pods, and send requests from them\n\
                    \x20 * put files into the lab's work directory\n\
                    It cannot run anything on this machine: commands in its instructions are run by nobody but you.";

impl From<TrustError> for CliError {
    fn from(error: TrustError) -> Self {
        let hint = error.hint();
        CliError::with_hint(error, hint)
    }
}

/// The directory that `--labs` names, once it is trusted.
///
/// # Errors
/// When it is not trusted and nobody can be asked, or the answer is no.
pub fn named(dir: Option<&Path>, out: &Output) -> Result<Option<PathBuf>, CliError> {
    let Some(dir) = dir else { return Ok(None) };
    let mut trust = Trust::open()?;
    let standing = trust.standing(dir)?;
    if standing != Standing::Trusted {
        if !ask(dir, &standing, out)? {
            return Err(not_trusted(dir, &standing));
        }
        trust.add(dir)?;
    }
    let path = std::fs::canonicalize(dir).map_err(|error| CliError::new(format!("{}: {error}", dir.display())))?;
    Ok(Some(path))
}

fn not_trusted(dir: &Path, standing: &Standing) -> CliError {
    let dir = dir.display();
    let message = match standing {
        Standing::Changed => format!("{dir}: the labs in it have changed since you trusted them"),
        Standing::Unknown | Standing::Trusted => format!("{dir}: the labs in it are not trusted"),
    };
    CliError::with_hint(
        message,
        format!("look at them, then: `ztlab lab trust {dir}` (with --yes where nobody can be asked)"),
    )
}

/// Asks whether a directory is to be trusted; an error where nobody can be asked.
fn ask(dir: &Path, standing: &Standing, out: &Output) -> Result<bool, CliError> {
    if out.json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(not_trusted(dir, standing));
    }
    let labs = catalog::in_directory(&catalog::trust::root(dir));
    out.note(introduction(dir, standing, &labs));
    let mut err = io::stderr().lock();
    // Nowhere to report a failure to ask; then the answer is no.
    let _ = write!(err, "Trust these labs? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

fn introduction(dir: &Path, standing: &Standing, labs: &[Found]) -> String {
    let ids: Vec<String> = labs.iter().map(|lab| text::one_line(&lab.id)).collect();
    let changed = match standing {
        Standing::Changed => "They have changed since you trusted them.\n",
        Standing::Unknown | Standing::Trusted => "",
    };
    format!("{} holds the labs {}.\n{changed}{ABLE}", dir.display(), ids.join(", "))
}

/// Trusts a directory, asking unless told not to.
///
/// # Errors
/// When it holds no labs, nobody can be asked, or the trust cannot be remembered.
pub fn add(dir: &Path, yes: bool, out: &Output) -> Result<ExitCode, CliError> {
    let mut trust = Trust::open()?;
    let standing = trust.standing(dir)?;
    if standing != Standing::Trusted {
        if yes {
            let labs = catalog::in_directory(&catalog::trust::root(dir));
            out.note(introduction(dir, &standing, &labs));
        } else if !ask(dir, &standing, out)? {
            out.note("not trusted");
            return Ok(ExitCode::from(NOT_PASSED));
        }
    }
    let trusted = trust.add(dir)?;
    if out.json() {
        out.value(&trusted)?;
    } else {
        let until = match &trusted.mark {
            Mark::Remote(url) => format!("as long as it is a checkout of {url}"),
            Mark::Hash(_) => "until a lab in it changes".to_owned(),
        };
        out.line(format!("{}: trusted, {until}", trusted.path.display()))?;
        out.line("`ztlab lab list` shows its labs beside the others")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists the trusted directories.
///
/// # Errors
/// When they cannot be looked up.
pub fn list(out: &Output) -> Result<ExitCode, CliError> {
    let trust = Trust::open()?;
    if out.json() {
        let entries = trust.entries().iter();
        let entries: Vec<_> = entries
            .map(|entry| {
                serde_json::json!({
                    "path": entry.path, "mark": entry.mark, "state": state(&trust, &entry.path),
                })
            })
            .collect();
        out.value(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    if trust.entries().is_empty() {
        out.line("no directory is trusted; `ztlab lab trust DIR` trusts one")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = trust
        .entries()
        .iter()
        .map(|entry| {
            let known_by = match &entry.mark {
                Mark::Remote(url) => text::one_line(url),
                Mark::Hash(hash) => hash.chars().take(12).collect(),
            };
            vec![
                entry.path.display().to_string(),
                state(&trust, &entry.path).to_owned(),
                known_by,
            ]
        })
        .collect();
    out.table(&["DIRECTORY", "STATE", "KNOWN BY"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn state(trust: &Trust, dir: &Path) -> &'static str {
    match trust.standing(dir) {
        Ok(Standing::Trusted) => "trusted",
        Ok(_) => "changed",
        Err(_) => "gone",
    }
}

/// Trusts a directory no longer.
///
/// # Errors
/// When it was not trusted, or that cannot be remembered.
pub fn remove(dir: &Path, out: &Output) -> Result<ExitCode, CliError> {
    if !Trust::open()?.remove(dir)? {
        return Err(CliError::with_hint(
            format!("{}: was not trusted", dir.display()),
            "`ztlab lab trust --list` shows the directories that are",
        ));
    }
    if out.json() {
        out.value(&serde_json::json!({ "removed": dir }))?;
    } else {
        out.line(format!("{}: trusted no longer", dir.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
