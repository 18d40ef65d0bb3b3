//! `ztlab lab verify` and `ztlab lab lint`: for those who write labs.

use std::{path::Path, process::ExitCode};

use super::{
    error::{CliError, NOT_PASSED},
    ground::Place,
    output::{Output, Tint},
    session,
};
use crate::{
    author::{self, Line},
    catalog::CatalogError,
    cluster::GroundKind,
    text,
};

/// Proves a lab.
///
/// # Errors
/// When there is no such lab, or it cannot be run.
pub fn verify(id: &str, place: &Place, out: &Output) -> Result<ExitCode, CliError> {
    let cwd = std::env::current_dir().ok();
    let chosen = place.ground()?;
    let ground: GroundKind = if chosen.is_empty() {
        GroundKind::Embedded
    } else {
        chosen.parse()?
    };
    let context = place.context()?;
    let mut told = |line: &Line| {
        let mark = if line.ok {
            out.tinted("✓", Tint::Good)
        } else {
            out.tinted("✗", Tint::Bad)
        };
        let what = text::one_line(&line.what);
        out.note(format!(
            "{mark} run {}  {what}: {} ({} ms)",
            line.run,
            text::one_line(&line.expected),
            line.took_ms
        ));
        if !line.ok {
            out.note(format!("    found: {}", text::one_line(&line.found)));
        }
    };
    let proof = session::block_on(async {
        author::verify(id, cwd.as_deref(), (ground, context), &mut told)
            .await
            .map_err(|error| match error.hint() {
                Some(hint) => CliError::with_hint(error, hint),
                None => CliError::new(error),
            })
    })?;
    if out.json() {
        out.value(&proof)?;
    } else {
        out.line(proof.to_string().trim_end())?;
    }
    Ok(if proof.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_PASSED)
    })
}

/// Reads a lab file and says what is wrong with it.
///
/// # Errors
/// When the file cannot be read.
pub fn lint(path: &Path, out: &Output) -> Result<ExitCode, CliError> {
    match author::lint(path) {
        Ok(message) if out.json() => {
            out.value(&serde_json::json!({ "ok": true, "message": message, "problems": [] }))?
        }
        Ok(message) => out.line(message)?,
        Err(CatalogError::Broken { error, .. }) => {
            if out.json() {
                out.value(&serde_json::json!({ "ok": false, "file": error.file, "problems": error.problems }))?;
            } else {
                out.line(error)?;
            }
            return Ok(ExitCode::from(NOT_PASSED));
        }
        Err(error) => {
            return Err(match error.hint() {
                Some(hint) => CliError::with_hint(error, hint),
                None => CliError::new(error),
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}
