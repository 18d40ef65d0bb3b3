//! `ztlab manifests`: the topologies built into this program, as files for `kubectl apply -f -`.

use std::{fmt::Write, process::ExitCode};

use super::{args::Manifests, error::CliError, output::Output};
use crate::{
    cluster::manifests::{self, Transform},
    session::{client, snapshot::SessionView},
};

/// The session that runs, if one does: where others use its cluster too, manifests say whose they are.
async fn running() -> Result<Option<SessionView>, CliError> {
    match client::connect().await? {
        Some(client) => Ok(super::session::snapshot(&client).await?.session),
        None => Ok(None),
    }
}

/// Runs the command.
///
/// # Errors
/// When there is no such topology, or standard output is closed.
pub fn run(args: &Manifests, out: &Output) -> Result<ExitCode, CliError> {
    let known: Vec<&str> = manifests::layers().collect();
    let Some(layer) = &args.topology else {
        if out.json() {
            out.value(&known)?;
        } else {
            out.line(
                "The topologies. Each of the shop adds to the one before; spiffe needs spire, which comes last here:",
            )?;
            for layer in known {
                out.line(format!("  {layer}"))?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    };
    let unknown = || {
        CliError::with_hint(
            format!("there is no topology `{}`", crate::text::one_line(layer)),
            format!("there are {}", known.join(", ")),
        )
    };
    let texts = manifests::texts(layer).ok_or_else(unknown)?;
    let objects = manifests::built_in(layer).ok_or_else(unknown)??;
    let session = super::session::block_on(running())?;
    let transform = session
        .as_ref()
        .and_then(|session| session.manifests.clone())
        .unwrap_or_default();
    let objects = transform.objects(objects);
    let made = if args.certificates {
        let made = manifests::certificates::for_services(&objects)?;
        if made.is_empty() {
            return Err(CliError::with_hint(
                format!("the services of `{layer}` need no certificates"),
                "leave out --certificates",
            ));
        }
        made
    } else {
        Vec::new()
    };
    if out.json() {
        let mut all = made;
        for object in &objects {
            all.push(serde_json::to_value(object).map_err(|error| CliError::new(error.to_string()))?);
        }
        out.value(&serde_json::json!({"apiVersion": "v1", "kind": "List", "items": all}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    if let Some(session) = session.filter(|_| transform != Transform::default()) {
        let [lab, ground] = [&session.lab.id, &session.ground].map(|name| crate::text::one_line(name));
        let _ = writeln!(
            text,
            "# As the lab {lab} has them on {ground}: `ztlab lab stop --delete` finds by these labels what the lab made."
        );
    }
    // The Secrets first: a pod that finds its Secret missing may wait for minutes before it looks again. JSON is YAML.
    for object in &made {
        let json = serde_json::to_string_pretty(object).map_err(|error| CliError::new(error.to_string()))?;
        let _ = writeln!(text, "---\n{json}");
    }
    for (name, content) in texts {
        let content = transform.file(name, content)?;
        let _ = writeln!(text, "---\n# manifests/{name}\n{}", content.trim_end());
    }
    out.line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
