//! `ztlab lab export`: a student's progress as a document.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};

use super::{error::CliError, output::Output, session};
use crate::{
    paths,
    session::export::{self, ExportError},
};

/// Runs the command.
///
/// # Errors
/// When there is no progress, or the file cannot be written.
pub fn run(id: Option<String>, output: Option<&Path>, out: &Output) -> Result<ExitCode, CliError> {
    let id = match id {
        Some(id) => id,
        None => {
            let running = session::block_on(session::running())?;
            let (_, session) = running.ok_or_else(|| {
                CliError::with_hint(
                    "no lab is running, so say whose progress is meant",
                    "`ztlab lab list` shows the labs and their scores, `ztlab lab export ID` writes one",
                )
            })?;
            session.lab.id
        }
    };
    let state = paths::state_dir().map_err(|error| CliError::new(format!("state directory: {error}")))?;
    let document = export::of(&state.join("sessions"), &id).map_err(|error| match &error {
        ExportError::Nothing(_) => CliError::with_hint(error, "`ztlab lab start ID` begins a lab"),
        _ => CliError::new(error),
    })?;
    let Some(path) = output else {
        out.value(&document)?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut text = serde_json::to_string_pretty(&document).map_err(|error| CliError::new(format!("write: {error}")))?;
    text.push('\n');
    write(path, text.as_bytes()).map_err(|error| CliError::new(format!("{}: {error}", path.display())))?;
    if out.json() {
        out.value(&serde_json::json!({ "lab": id, "file": path, "score": document.score }))?;
    } else {
        out.line(format!(
            "progress in {id} ({}) written to {}",
            document.score,
            path.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a file so that it is whole or as it was, and for its owner's eyes.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let new = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)
        });
    if written.is_err() {
        // Nothing half written is left where it was to go.
        let _ = fs::remove_file(&new);
    }
    written
}
