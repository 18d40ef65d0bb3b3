//! `ztlab posture`: who reaches whom, who reads it, who proves what, and the level that follows.

use std::time::Duration;
use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use serde_json::Value;

use super::{
    error::{CliError, NOT_PASSED},
    output::{Output, columns},
    session, shell,
};
use crate::{
    cluster::{self, GroundKind, Progress, ProgressEvent},
    paths,
    posture::{self, Edge, LevelReport, Matrix, PostureError, Scope},
};

/// `ztlab posture …`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ztlab posture\n  ztlab posture --at-least 1\n  \
                  ztlab posture --namespace shop --cluster demo --format html -o posture.html\n  \
                  ztlab posture --namespace shop --context staging --edges edges.yaml\n  \
                  ztlab posture --rotation 45s\n\n\
                  In a running lab it looks at the lab's namespace, with the calls that the lab declares. Elsewhere the\n\
                  Services say who may call them: the annotation ztlab.dev/callers. Works on any cluster; it adds an observer\n\
                  to the pods, opens connections, and asks ports for GET /.\n\n\
                  Exit status: 0 when it was measured, 1 when the level is lower than --at-least, 2 for an error.")]
pub struct Args {
    /// A namespace to look at; several times for several [default: the lab's]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// The cluster; the lab's when a lab runs
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// A context of the kubeconfig, for clusters that ztlab did not make
    #[arg(long, value_name = "NAME", conflicts_with = "cluster")]
    pub context: Option<String>,
    /// The calls that the application declares: a YAML list of from, to and port, or a lab file
    #[arg(long, value_name = "FILE")]
    pub edges: Option<PathBuf>,
    /// Watch SVIDs until they rotate, for so long at most; level 3 asks for it
    #[arg(long, value_name = "TIME", value_parser = super::args::duration)]
    pub rotation: Option<Duration>,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Write it to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Exit with 1 when the level is lower than this
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=4))]
    pub at_least: Option<u8>,
}

/// How `ztlab posture` shows a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a terminal
    Text,
    /// For a program
    Json,
    /// For a page under version control
    Markdown,
    /// For a browser, with the topology drawn
    Html,
}

/// The longest file of edges that is read, in bytes.
const MAX: u64 = 1 << 20;

/// Runs the command.
///
/// # Errors
/// When there is no cluster, nothing to look at in it, or the result cannot be written.
pub fn run(args: &Args, out: &Output) -> Result<ExitCode, CliError> {
    let matrix = session::block_on(async {
        let place = place(args).await?;
        measure(&place.client, &place.scope, out).await
    })?;
    write(args, &matrix, out)?;
    let level = matrix.level();
    match args.at_least {
        Some(wanted) if !level.level.reaches(wanted) => {
            out.note(format!("level {wanted} was asked for: {}", level.because));
            Ok(ExitCode::from(NOT_PASSED))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Where to look, and what is declared there.
struct Place {
    client: kube::Client,
    scope: Scope,
}

async fn place(args: &Args) -> Result<Place, CliError> {
    let edges = args.edges.as_deref().map(read_edges).transpose()?;
    let lab = match (&args.cluster, &args.context) {
        (None, None) => session::running().await?.map(|(_, session)| session),
        _ => None,
    };
    if let Some(session) = lab.filter(|session| session.kubeconfig.is_some()) {
        let kubeconfig = PathBuf::from(session.kubeconfig.unwrap_or_default());
        let own = args.namespace.is_empty() || args.namespace == [session.namespace.clone()];
        let namespaces = if own {
            vec![session.namespace]
        } else {
            args.namespace.clone()
        };
        let edges = match edges {
            None if own => Some(read_edges(&pinned(&session.lab.id)?)?),
            edges => edges,
        };
        return Ok(Place {
            client: cluster::connect(&kubeconfig).await?,
            scope: Scope::of(namespaces)
                .with_edges(edges.unwrap_or_default())
                .watching(args.rotation.unwrap_or_default()),
        });
    }
    if args.namespace.is_empty() {
        return Err(CliError::with_hint(
            "no lab is running, and no namespace is named",
            "name what to look at: `ztlab posture --namespace shop`",
        ));
    }
    let client = match &args.context {
        Some(context) => cluster::ground(GroundKind::Context)?.get(context).await?.client,
        None => cluster::connect(&shell::place(args.cluster.as_deref()).await?.kubeconfig).await?,
    };
    Ok(Place {
        client,
        scope: Scope::of(args.namespace.clone())
            .with_edges(edges.unwrap_or_default())
            .watching(args.rotation.unwrap_or_default()),
    })
}

/// The lab's file as it was when the session began.
fn pinned(lab: &str) -> Result<PathBuf, CliError> {
    let state = paths::state_dir().map_err(|error| CliError::new(format!("the state directory: {error}")))?;
    Ok(state.join("sessions").join(lab).join("lab.yaml"))
}

/// Measures, with progress on standard error.
pub(super) async fn measure(client: &kube::Client, scope: &Scope, out: &Output) -> Result<Matrix, CliError> {
    let last: Arc<Mutex<Option<ProgressEvent>>> = Arc::default();
    let told = Arc::clone(&last);
    let progress: Progress = Arc::new(move |event| *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(event));
    let measuring = posture::measure(client, scope, &progress);
    tokio::pin!(measuring);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(200));
    let mut phase = String::new();
    let result = loop {
        tokio::select! {
            result = &mut measuring => break result,
            _ = tick.tick() => {
                let event = last.lock().unwrap_or_else(PoisonError::into_inner).take();
                // A line each is enough where there is no terminal to write over.
                if let Some(event) = event.filter(|event| out.on_terminal() || event.phase != phase) {
                    out.progress(&line(&event));
                    phase = event.phase;
                }
            }
        }
    };
    out.clear_progress();
    Ok(result?)
}

fn line(event: &ProgressEvent) -> String {
    match event.total {
        0 => format!("{}: {}", event.phase, event.detail),
        total => format!("{} {}/{total}: {}", event.phase, event.done, event.detail),
    }
}

impl From<PostureError> for CliError {
    fn from(error: PostureError) -> CliError {
        CliError::with_hint(&error, error.hint())
    }
}

/// The JSON of a measurement: the level beside the matrix it follows from.
#[derive(Serialize)]
struct Document<'a> {
    level: LevelReport,
    matrix: &'a Matrix,
}

fn write(args: &Args, matrix: &Matrix, out: &Output) -> Result<(), CliError> {
    let format = if out.json() { Format::Json } else { args.format };
    let text = match format {
        Format::Text => posture::text::text(matrix, columns()),
        Format::Markdown => posture::markdown::markdown(matrix, 1),
        Format::Html => posture::html::html(matrix),
        Format::Json => {
            let document = Document {
                level: matrix.level(),
                matrix,
            };
            let mut json = serde_json::to_string_pretty(&document)
                .map_err(|error| CliError::new(format!("the result does not become JSON: {error}")))?;
            json.push('\n');
            json
        }
    };
    give(args.output.as_deref(), &text, out)
}

/// Writes a document to a file, or to standard output.
pub(super) fn give(file: Option<&Path>, text: &str, out: &Output) -> Result<(), CliError> {
    let Some(path) = file else {
        return out.line(text.trim_end());
    };
    File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|error| CliError::new(format!("cannot write {}: {error}", path.display())))?;
    out.note(format!("written to {}", path.display()));
    Ok(())
}

/// Reads the declared calls of a file.
pub(super) fn read_edges(path: &Path) -> Result<Vec<Edge>, CliError> {
    let failed = |why: String| {
        CliError::with_hint(
            format!("{}: {why}", path.display()),
            "a file of edges is a YAML list such as `- { from: orders-api, to: payments-api, port: 80 }`, or a lab file",
        )
    };
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX + 1).read_to_string(&mut text))
        .map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > MAX {
        return Err(failed(format!("longer than {MAX} bytes")));
    }
    parse_edges(&text).map_err(failed)
}

/// The declared calls of a text: a list, the same under `edges`, or a lab.
fn parse_edges(text: &str) -> Result<Vec<Edge>, String> {
    let mut document: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let is_lab = document.get("spec").is_some();
    let list = if document.is_array() {
        Some(document)
    } else if is_lab {
        document.pointer_mut("/spec/edges").map(Value::take)
    } else {
        document.get_mut("edges").map(Value::take)
    };
    match list {
        Some(list) => serde_json::from_value(list).map_err(|error| format!("its edges: {error}")),
        None if is_lab => Ok(Vec::new()),
        None => Err("it holds no list of edges".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_read_from_a_list_a_field_and_a_lab() {
        let one = "{ from: web, to: api, port: 80 }";
        for text in [
            format!("- {one}\n"),
            format!("edges:\n  - {one}\n"),
            format!("apiVersion: ztlab.dev/v1\nkind: Lab\nspec:\n  title: x\n  edges:\n    - {one}\n"),
        ] {
            let edges = parse_edges(&text).unwrap();
            assert_eq!(
                (edges[0].from.as_str(), edges[0].to.as_str(), edges[0].port),
                ("web", "api", Some(80)),
                "{text}"
            );
        }
        assert!(parse_edges("spec: {}\n").unwrap().is_empty());
        let lab = include_str!("../../labs/wiretap/lab.yaml");
        assert_eq!(parse_edges(lab).unwrap().len(), 3);
        for text in [
            "",
            "web\n",
            "- { from: web }\n",
            "- { from: web, to: api, porrt: 80 }\n",
            "- { from: a, to: b, port: 70000 }\n",
        ] {
            assert!(parse_edges(text).is_err(), "{text}");
        }
    }
}
