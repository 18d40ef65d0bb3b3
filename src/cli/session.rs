//! Talking to the session host from a command: send, show progress meanwhile, stop waiting on ctrl-c.

use futures::StreamExt;

use super::{error::CliError, output::Output};
use crate::session::{
    client::{self, Client},
    command::{Command, Reply},
    snapshot::{LabSummary, SessionView, Snapshot},
};

/// Runs `work` on a runtime of its own.
///
/// # Errors
/// What `work` fails with, or that no runtime can be started.
pub fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(work);
    // A blocking read of standard input may still wait; the process is about to end anyway.
    runtime.shutdown_background();
    result
}

/// What a command gave.
pub struct Done {
    /// What happened, as a sentence.
    pub message: String,
    /// The state after it.
    pub snapshot: Snapshot,
}

/// Sends `command` and waits until it has finished, showing the session's progress meanwhile.
///
/// # Errors
/// When the host refuses the command or goes away, or the user interrupts the waiting.
pub async fn run(client: &Client, command: Command, out: &Output) -> Result<Done, CliError> {
    match reply(client, command, out).await? {
        Reply::Done { message, snapshot } => Ok(Done {
            message,
            snapshot: *snapshot,
        }),
        Reply::Refused(refusal) => Err(refusal.into()),
        Reply::Labs { .. } => Err(CliError::new(
            "the session host answered something else than it was asked",
        )),
    }
}

async fn reply(client: &Client, command: Command, out: &Output) -> Result<Reply, CliError> {
    let mut snapshots = client.follow().await?.fuse();
    let mut told = String::new();
    let answer = client.send(command);
    tokio::pin!(answer);
    loop {
        tokio::select! {
            reply = &mut answer => {
                out.clear_progress();
                return Ok(reply?);
            }
            Some(snapshot) = snapshots.next() => {
                if let Some(line) = snapshot.session.as_ref().and_then(progress) && line != told {
                    out.progress(&line);
                    told = line;
                }
            }
            _ = tokio::signal::ctrl_c() => {
                return Err(CliError::with_hint(
                    "interrupted; the session goes on with what it was doing",
                    "`ztlab lab status` shows how far it is, `ztlab lab stop` ends it",
                ));
            }
        }
    }
}

/// A session's progress as one line.
pub fn progress(session: &SessionView) -> Option<String> {
    let progress = session.progress.as_ref()?;
    let mut line = progress.phase.clone();
    if progress.total > 0 {
        line.push_str(&format!(" {}/{}", progress.done, progress.total));
    }
    if !progress.detail.is_empty() {
        line.push_str(": ");
        line.push_str(&progress.detail);
    }
    Some(line)
}

/// The labs there are.
///
/// # Errors
/// When the host cannot be asked.
pub async fn labs(client: &Client) -> Result<Vec<LabSummary>, CliError> {
    match client.send(Command::Labs).await? {
        Reply::Labs { labs } => Ok(labs),
        Reply::Done { .. } => Err(CliError::new("the session host answered another question")),
        Reply::Refused(refusal) => Err(refusal.into()),
    }
}

/// The state of the session host.
///
/// # Errors
/// When the host cannot be asked.
pub async fn snapshot(client: &Client) -> Result<Snapshot, CliError> {
    match client.send(Command::Status).await? {
        Reply::Done { snapshot, .. } => Ok(*snapshot),
        Reply::Refused(refusal) => Err(refusal.into()),
        Reply::Labs { .. } => Err(CliError::new(
            "the session host answered something else than it was asked",
        )),
    }
}

/// The running session, if a host runs and has one; never starts a host.
///
/// # Errors
/// When a host runs and cannot be asked.
pub async fn running() -> Result<Option<(Client, SessionView)>, CliError> {
    let Some(client) = client::connect().await? else {
        return Ok(None);
    };
    let session = snapshot(&client).await?.session;
    Ok(session.map(|session| (client, session)))
}

/// The error of a command that needs a running lab.
pub fn no_lab() -> CliError {
    CliError::with_hint(
        "no lab is running",
        "`ztlab lab list` shows the labs, `ztlab lab start ID` starts one",
    )
}
