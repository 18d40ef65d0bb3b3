//! `ztlab report`: what a student did in a lab, for whom it may concern.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{error::CliError, output::Output, posture as measuring, session};
use crate::{
    cluster, paths,
    posture::{Matrix, Scope},
    report::{Measured, Progress, Report, html, junit, markdown},
    session::{
        export::{self, ExportError},
        posture::{LAST, START, keep},
        snapshot::{Phase, SessionView},
    },
};

/// `ztlab report …`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ztlab report\n  ztlab report wiretap --format html -o report.html\n  \
                  ztlab report wiretap --format junit -o wiretap.xml\n  \
                  ztlab report --progress handed-in.json\n\n\
                  Works for a lab that is stopped too. Secrets that were captured are masked."
)]
pub struct Args {
    /// The lab's id; without it, the lab that runs
    pub lab: Option<String>,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    pub format: Format,
    /// Write it to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Report on a student's document, as `ztlab lab export` writes it
    #[arg(long, value_name = "FILE", conflicts_with = "lab")]
    pub progress: Option<PathBuf>,
}

/// How `ztlab report` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A page of text
    Markdown,
    /// A page for a browser, with the topology drawn
    Html,
    /// The checks, for CI systems
    Junit,
    /// For a program
    Json,
}

/// The longest file that is read, in bytes.
const MAX: u64 = 32 << 20;

/// Runs the command.
///
/// # Errors
/// When there is no progress to report, or it cannot be written.
pub fn run(args: &Args, out: &Output) -> Result<ExitCode, CliError> {
    let report = match &args.progress {
        Some(file) => handed_in(file)?,
        None => session::block_on(own(args, out))?,
    };
    let format = if out.json() { Format::Json } else { args.format };
    let text = match format {
        Format::Markdown => markdown::markdown(&report),
        Format::Html => html::html(&report),
        Format::Junit => junit::junit(&report),
        Format::Json => {
            let json = serde_json::to_string_pretty(&report);
            json.map_err(|error| CliError::new(format!("the report does not become JSON: {error}")))? + "\n"
        }
    };
    measuring::give(args.output.as_deref(), &text, out)?;
    Ok(ExitCode::SUCCESS)
}

/// The report of a document that `ztlab lab export` wrote. Postures are not in it.
fn handed_in(file: &Path) -> Result<Report, CliError> {
    let failed = |why: String| {
        CliError::with_hint(
            format!("{}: {why}", file.display()),
            "`ztlab lab export` writes a student's progress",
        )
    };
    let text = read(file)
        .map_err(failed)?
        .ok_or_else(|| failed("there is no such file".to_owned()))?;
    Ok(Report {
        progress: Progress::read(&text).map_err(|error| failed(error.to_string()))?,
        before: None,
        after: None,
        notes: vec!["made from a document that was handed in, which holds no posture".to_owned()],
    })
}

/// The report of this user's own run.
async fn own(args: &Args, out: &Output) -> Result<Report, CliError> {
    let running = session::running().await?.map(|(_, session)| session);
    let id = match (&args.lab, &running) {
        (Some(id), _) => id.clone(),
        (None, Some(session)) => session.lab.id.clone(),
        (None, None) => {
            return Err(CliError::with_hint(
                "no lab is running, so say which one is meant",
                "`ztlab lab list` shows the labs and their scores, `ztlab report ID` reports on one",
            ));
        }
    };
    let state = paths::state_dir().map_err(|error| CliError::new(format!("the state directory: {error}")))?;
    let sessions = state.join("sessions");
    let document = export::of(&sessions, &id).map_err(|error| match &error {
        ExportError::Nothing(_) => CliError::with_hint(error, "`ztlab lab start ID` begins a lab"),
        _ => CliError::new(error),
    })?;
    let document = serde_json::to_value(&document)
        .map_err(|error| CliError::new(format!("the progress does not become JSON: {error}")))?;
    let progress = Progress::of(document).map_err(CliError::new)?;
    // The id is one of a lab that has progress by now, and leads nowhere else.
    let dir = sessions.join(&id);
    let mut notes = Vec::new();
    let before = stored(&dir.join(START), "the posture at the start", &mut notes);
    if before.is_none() {
        notes.push("the posture at the start was not measured".to_owned());
    }
    let here = running.filter(|session| session.lab.id == id && session.phase == Phase::Ready);
    let after = match here {
        Some(session) => match now(&session, &dir, out).await {
            Ok(matrix) => Some(matrix),
            Err(error) => {
                notes.push(format!("the posture now cannot be measured: {error}"));
                None
            }
        },
        None => {
            notes.push("the lab does not run: the posture after is the last one that was measured".to_owned());
            stored(&dir.join(LAST), "the last posture", &mut notes)
        }
    };
    Ok(Report {
        progress,
        before: before.map(Measured::from),
        after: after.map(Measured::from),
        notes,
    })
}

/// Measures the posture of a running lab, and keeps it for the time when it does not run any more.
async fn now(session: &SessionView, dir: &Path, out: &Output) -> Result<Matrix, String> {
    let kubeconfig = session.kubeconfig.as_ref().ok_or("the lab has no cluster yet")?;
    let told = |error: CliError| match error {
        CliError::Told { message, .. } => message,
        CliError::Closed => "nobody reads any more".to_owned(),
    };
    let edges = measuring::read_edges(&dir.join("lab.yaml")).map_err(told)?;
    let client = cluster::connect(&PathBuf::from(kubeconfig))
        .await
        .map_err(|error| error.to_string())?;
    let scope = Scope::of([&session.namespace]).with_edges(edges);
    let matrix = measuring::measure(&client, &scope, out).await.map_err(told)?;
    // What cannot be kept is still what was measured now.
    if let Err(error) = keep(&dir.join(LAST), &matrix) {
        out.note(format!("the posture is not kept for later: {error}"));
    }
    Ok(matrix)
}

/// A measurement on disk.
fn stored(path: &Path, what: &str, notes: &mut Vec<String>) -> Option<Matrix> {
    let read = read(path).and_then(|text| {
        text.map(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
            .transpose()
    });
    read.unwrap_or_else(|why| {
        notes.push(format!("{what} cannot be read: {why}"));
        None
    })
}

/// A file's text; `None` where there is none.
fn read(path: &Path) -> Result<Option<String>, String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    file.take(MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX {
        return Err(format!("longer than {MAX} bytes"));
    }
    Ok(Some(text))
}
