//! `ztlab images`: the stand-ins, so that no one takes one for the product it stands for.

use std::process::ExitCode;

use super::{error::CliError, output::Output};
use crate::standins;

/// Runs the command.
///
/// # Errors
/// When standard output is closed.
pub fn run(out: &Output) -> Result<ExitCode, CliError> {
    if out.json() {
        let images: Vec<_> = standins::ALL
            .iter()
            .map(|image| {
                serde_json::json!({
                    "name": image.name, "images": image.repositories, "summary": image.summary,
                    "supports": image.supports, "programs": image.programs,
                })
            })
            .collect();
        out.value(&images)?;
        return Ok(ExitCode::SUCCESS);
    }
    out.line("Stand-ins built into ztlab. Each answers the protocol of the image it stands for, and the part of its")?;
    out.line("command line listed here; everything else fails and says so.")?;
    for image in standins::ALL {
        out.line("")?;
        out.line(format!("{}  {}", out.bold(image.name), image.summary))?;
        out.line(format!("  images    {}", image.repositories.join(", ")))?;
        if !image.programs.is_empty() {
            out.line(format!("  programs  {}", image.programs.join(", ")))?;
        }
        for item in image.supports {
            out.line(format!("  - {item}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
