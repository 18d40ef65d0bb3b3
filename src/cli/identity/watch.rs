//! Watching until a workload shows another certificate than before.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use kube::ResourceExt;
use serde::Serialize;

use super::{Place, Watched, columns};
use crate::{
    cli::{
        error::{CliError, NOT_PASSED},
        output::Output,
    },
    posture::words,
    spire::{self, SvidView, text},
};

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long after the end of the first one a last look is taken.
const GRACE: Duration = Duration::from_secs(5);

/// A line of the stream with `--json`.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
enum Event<'a> {
    /// What it showed at first.
    First { svid: &'a SvidView },
    /// What it showed next.
    Rotated {
        svid: &'a SvidView,
        after_s: u64,
        /// Whether it is of the same id and lives longer.
        newer: bool,
    },
    /// Nothing else was seen.
    Ended { because: String },
}

/// Asks until another certificate is shown, the time is over, or ctrl-c.
pub(super) async fn watch(
    place: &Place,
    first: Watched,
    longest: Option<Duration>,
    out: &Output,
) -> Result<ExitCode, CliError> {
    let began = Instant::now();
    let left = first.svid.not_after.saturating_sub(first.svid.seen_s);
    let until = longest.unwrap_or(Duration::from_secs(u64::try_from(left).unwrap_or(0)) + GRACE);
    if out.json() {
        out.value_line(&Event::First { svid: &first.svid })?;
    } else {
        out.line(format!("{}/{}", first.namespace, first.pod))?;
        out.line(text::shown(&first.svid, first.world.now_s, columns()).trim_end())?;
        out.note(format!(
            "watching for {} at most; ctrl-c ends it",
            words::lasting(until)
        ));
    }
    let pod = first
        .world
        .pods
        .iter()
        .find(|pod| pod.name_any() == first.pod && pod.namespace().as_deref() == Some(&first.namespace))
        .ok_or_else(|| CliError::new("the pod is gone"))?;
    let services = spire::services(&place.client, std::slice::from_ref(&first.namespace)).await?;
    let workloads = spire::workloads(&first.world.pods, &services);
    let bundles = first
        .world
        .answers
        .bundles
        .as_ref()
        .ok()
        .map(|all| spire::bundle_set(all));
    let key = (first.namespace.clone(), first.pod.clone());
    let mut because = "it still shows the same one".to_owned();
    while began.elapsed() < until {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {
                "interrupted".clone_into(&mut because);
                break;
            }
            () = tokio::time::sleep(EVERY) => {}
        }
        let mut seen = spire::look(&place.client, &[pod], &workloads, bundles.as_ref()).await;
        let Some(sight) = seen.remove(&key) else { continue };
        match sight.svids.iter().find(|svid| svid.port == first.svid.port) {
            Some(svid) if !svid.is(&first.svid) => return rotated(&first.svid, svid, began.elapsed(), out),
            Some(_) => "it still shows the same one".clone_into(&mut because),
            None => because = format!("it shows none any more: {}", sight.because),
        }
    }
    let because = format!(
        "no other certificate was seen in {}: {because}",
        words::lasting(began.elapsed())
    );
    if out.json() {
        out.value_line(&Event::Ended { because })?;
    } else {
        out.line(because)?;
    }
    Ok(ExitCode::from(NOT_PASSED))
}

fn rotated(old: &SvidView, new: &SvidView, after: Duration, out: &Output) -> Result<ExitCode, CliError> {
    let newer = old.spiffe_id == new.spiffe_id && new.spiffe_id.is_some() && new.not_after > old.not_after;
    if out.json() {
        out.value_line(&Event::Rotated {
            svid: new,
            after_s: after.as_secs(),
            newer,
        })?;
    } else {
        let what = if newer {
            "a newer SVID of the same id"
        } else {
            "another certificate, and no newer SVID of the same id"
        };
        out.line(format!("\nafter {}: {what}", words::lasting(after)))?;
        out.line(text::shown(new, new.seen_s, columns()).trim_end())?;
    }
    Ok(if newer {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_PASSED)
    })
}
