//! `ztlab lab verify`, `lint`, `new` and `schema`: for those who write labs.

use std::{
    cmp::Reverse,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::OnceLock,
};

use futures::future;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{
    error::{CliError, NOT_PASSED},
    ground::Place,
    output::{Output, Tint},
    session, trust,
};
pub use crate::author::NewLab;
use crate::{
    author::{self, Line, Proof, Proving},
    catalog,
    cluster::GroundKind,
    lab::schema as lab_schema,
    session::Topologies,
    text,
};

/// How many sessions of proofs one core carries: they mostly wait, for rollouts, for answers that do not come and for what is
/// to rotate. A build without optimisation takes eight times the processor's time, and waits less.
const A_CORE: usize = if cfg!(debug_assertions) { 4 } else { 6 };

/// How many sessions this machine lives at the same time. In a cluster that is somebody's they would meet.
fn at_once(ground: GroundKind, jobs: Option<NonZeroUsize>) -> usize {
    match (ground, jobs) {
        (GroundKind::Context, _) => 1,
        (GroundKind::Embedded, Some(jobs)) => jobs.get().min(Semaphore::MAX_PERMITS),
        (GroundKind::Embedded, None) => std::thread::available_parallelism().map_or(1, usize::from) * A_CORE,
    }
}

/// Labs in the order in which they begin: what takes longest must not come last.
fn longest_first(ids: &[String], cwd: Option<&Path>) -> Vec<usize> {
    let takes = |id: &String| {
        let found = catalog::find(id, cwd).ok()?;
        Some(author::takes(&found.load(&Topologies).ok()?))
    };
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_cached_key(|at| Reverse(takes(&ids[*at])));
    order
}

fn exit(passed: bool) -> ExitCode {
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_PASSED)
    }
}

/// Proves labs: those that are named, else every one of a directory, else every one that ships.
///
/// # Errors
/// When there is no such lab, or it cannot be run.
pub fn verify(
    ids: &[String],
    labs: Option<&Path>,
    jobs: Option<NonZeroUsize>,
    place: &Place,
    out: &Output,
) -> Result<ExitCode, CliError> {
    let ground = place.ground()?;
    let ground: GroundKind = if ground.is_empty() {
        GroundKind::Embedded
    } else {
        ground.parse()?
    };
    let context = place.context()?;
    let named = trust::named(labs, out)?;
    let ids = match (ids, &named) {
        ([], None) => catalog::shipped(),
        ([], Some(dir)) => {
            let found = catalog::in_directory(&catalog::trust::root(dir));
            found.into_iter().map(|lab| lab.id).collect()
        }
        (ids, _) => ids.to_vec(),
    };
    let cwd = named.or_else(|| std::env::current_dir().ok());
    let end = CancellationToken::new();
    let places = Semaphore::new(at_once(ground, jobs));
    let proving = Proving {
        cwd: cwd.as_deref(),
        ground,
        context,
        places: &places,
        end: &end,
    };
    let order = longest_first(&ids, cwd.as_deref());
    let started = order.iter().map(|at| prove(&ids[*at], &proving, ids.len() > 1, out));
    // All of them to their end, whatever comes of one: each deletes its clusters.
    let proving = future::join_all(started);
    let (proofs, signal) = session::block_on(async {
        let signal = OnceLock::new();
        let mut signals = Ends::new()?;
        let ending = async {
            let number = signals.next().await;
            // Set once: this is polled to its end at most once.
            let _ = signal.set(number);
            end.cancel();
            out.note("ending: what was made for the proof goes first");
            std::future::pending::<()>().await
        };
        let proofs = tokio::select! {
            proofs = proving => proofs,
            () = ending => Vec::new(),
        };
        Ok((proofs, signal.into_inner()))
    })?;
    if let Some(number) = signal {
        return Ok(ExitCode::from(128_u8.saturating_add(number)));
    }
    let mut proofs: Vec<(usize, Result<Proof, CliError>)> = order.into_iter().zip(proofs).collect();
    proofs.sort_by_key(|(at, _)| *at);
    let proofs: Vec<Proof> = proofs.into_iter().map(|(_, proof)| proof).collect::<Result<_, _>>()?;
    let proved = proofs.iter().all(|proof| proof.ok);
    match proofs.as_slice() {
        [proof] if out.json() => out.value(proof)?,
        proofs if out.json() => out.value(&serde_json::json!({ "ok": proved, "proofs": proofs }))?,
        proofs => {
            for proof in proofs {
                out.line(proof.to_string().trim_end())?;
            }
        }
    }
    Ok(exit(proved))
}

/// The signals that end a proof.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    fn new() -> Result<Ends, CliError> {
        let listen = |kind| signal(kind).map_err(|error| CliError::new(format!("cannot listen for signals: {error}")));
        Ok(Ends {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}

async fn prove(id: &str, proving: &Proving<'_>, among_others: bool, out: &Output) -> Result<Proof, CliError> {
    let name = if among_others {
        format!("{}  ", text::one_line(id))
    } else {
        String::new()
    };
    let mut told = |line: &Line| {
        let mark = if line.ok {
            out.tinted("✓", Tint::Good)
        } else {
            out.tinted("✗", Tint::Bad)
        };
        let what = text::one_line(&line.what);
        out.note(format!(
            "{mark} {name}run {}  {what}: {} ({} ms)",
            line.run,
            text::one_line(&line.expected),
            line.took_ms
        ));
        if !line.ok {
            out.note(format!("    found: {}", text::one_line(&line.found)));
        }
    };
    author::verify(id, proving, &mut told)
        .await
        .map_err(|error| match error.hint() {
            Some(hint) => CliError::with_hint(error, hint),
            None => CliError::new(error),
        })
}

/// Says everything that is wrong with lab files.
///
/// # Errors
/// When a file cannot be read.
pub fn lint(paths: &[PathBuf], out: &Output) -> Result<ExitCode, CliError> {
    let cwd = std::env::current_dir().ok();
    let linted = author::lint(paths, cwd.as_deref()).map_err(|error| match error.hint() {
        Some(hint) => CliError::with_hint(error, hint),
        None => CliError::new(error),
    })?;
    if out.json() {
        out.value(&linted)?;
    } else {
        out.line(linted.to_string().trim_end())?;
    }
    Ok(exit(linted.ok))
}

/// Makes a lab.
///
/// # Errors
/// When it cannot be made.
pub fn new(lab: &NewLab, out: &Output) -> Result<ExitCode, CliError> {
    let written = author::new(lab).map_err(|error| {
        let hint = error.hint();
        CliError::with_hint(error, hint)
    })?;
    if out.json() {
        let written: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        out.value(&serde_json::json!({ "id": lab.id, "written": written }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for path in &written {
        out.line(format!("wrote {}", path.display()))?;
    }
    out.line(format!(
        "`ztlab lab lint {}` looks for mistakes",
        lab.dir.join(&lab.id).display()
    ))?;
    out.line(if lab.dir == Path::new("labs") {
        format!(
            "`ztlab lab verify {}` proves it, `ztlab lab start {}` takes it",
            lab.id, lab.id
        )
    } else {
        let dir = lab.dir.display();
        format!("`ztlab lab verify {} --labs {dir}` proves it", lab.id)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the schema of lab files.
///
/// # Errors
/// When nobody reads.
pub fn schema(out: &Output) -> Result<ExitCode, CliError> {
    out.value(lab_schema::value())?;
    Ok(ExitCode::SUCCESS)
}
