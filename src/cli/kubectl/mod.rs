//! `ztlab kubectl …`: the machine's kubectl with the right kubeconfig; where there is none, a small one of our own.

mod attach;
mod grammar;
mod kinds;
mod read;
mod write;

use std::{io, os::unix::process::CommandExt, process::ExitCode};

use clap::Parser;
use kube::Client;

use self::{
    grammar::{Line, Verb},
    kinds::Kinds,
};
use super::{
    args::Kubectl,
    doctor,
    error::CliError,
    output::Output,
    session,
    shell::{self, Place},
};
use crate::cluster;

/// The exit status of a kubectl that failed.
const FAILED: u8 = 1;

/// Runs the command. Where the machine has a kubectl, this process becomes it: its exit status, its signals and its terminal are
/// as without `ztlab` before it.
///
/// # Errors
/// When there is no cluster to reach, or kubectl cannot be started.
pub fn run(args: &Kubectl, out: &Output) -> Result<ExitCode, CliError> {
    if out.json() {
        return Err(CliError::with_hint(
            "kubectl has no --json",
            "`ztlab kubectl get pods -o json` prints JSON",
        ));
    }
    let place = session::block_on(shell::place(args.cluster.as_deref()))?;
    if let Some(program) = doctor::find("kubectl") {
        let mut command = std::process::Command::new(&program);
        command.args(&args.line).env("KUBECONFIG", &place.kubeconfig);
        let error = command.exec();
        return Err(CliError::new(format!("cannot run {}: {error}", program.display())));
    }
    out.note(
        "note: there is no kubectl in PATH; this is ztlab's built-in one, for get, apply, delete, label, logs and exec",
    );
    let line = match Line::try_parse_from(std::iter::once("kubectl".into()).chain(args.line.iter().cloned())) {
        Ok(line) => line,
        Err(error) => {
            let failed = error.use_stderr();
            // A reader that went away is nothing to report.
            let _ = error.print();
            return Ok(ExitCode::from(if failed { FAILED } else { 0 }));
        }
    };
    session::block_on(async {
        let room = Room::enter(&place, line.namespace.clone(), out).await?;
        Ok(match room.answer(line.verb).await {
            Ok(code) => ExitCode::from(code),
            Err(Failure::Quiet) => ExitCode::SUCCESS,
            Err(failure) => {
                out.note(failure);
                ExitCode::from(FAILED)
            }
        })
    })
}

/// Why a verb fails, as kubectl says it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The server refused.
    #[error("Error from server ({reason}): {message}")]
    Server { reason: String, message: String },
    /// Anything else.
    #[error("error: {0}")]
    Other(String),
    /// Nobody reads any more.
    #[error("")]
    Quiet,
}

impl Failure {
    fn other(what: impl std::fmt::Display) -> Self {
        Self::Other(what.to_string())
    }

    /// Whether the object is not there.
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Server { reason, .. } if reason == "NotFound")
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Server {
                reason: status.reason.clone(),
                message: status.message.clone(),
            },
            other => Self::other(other),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Quiet,
            _ => Self::other(error),
        }
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        match error {
            CliError::Closed => Self::Quiet,
            CliError::Told { message, .. } => Self::Other(message),
        }
    }
}

impl From<cluster::ClusterError> for Failure {
    fn from(error: cluster::ClusterError) -> Self {
        Self::other(error)
    }
}

/// What every verb works with.
struct Room<'a> {
    client: Client,
    kinds: Kinds,
    namespace: String,
    out: &'a Output,
}

impl<'a> Room<'a> {
    async fn enter(place: &Place, namespace: Option<String>, out: &'a Output) -> Result<Self, CliError> {
        let client = cluster::connect(&place.kubeconfig).await?;
        let asked = Kinds::ask(&client).await;
        let kinds = asked.map_err(|error| {
            CliError::with_hint(
                format!("the cluster of {} does not answer: {error}", place.label),
                "`ztlab cluster list` shows which clusters run",
            )
        })?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        Ok(Self {
            client,
            kinds,
            namespace,
            out,
        })
    }

    async fn answer(&self, verb: Verb) -> Result<u8, Failure> {
        match verb {
            Verb::Get(get) => self.get(get).await,
            Verb::Apply(files) => self.apply(files).await,
            Verb::Delete(delete) => self.delete(delete).await,
            Verb::Label(label) => self.label(label).await,
            Verb::Logs(logs) => self.logs(logs).await,
            Verb::Exec(exec) => self.exec(exec).await,
        }
    }
}
