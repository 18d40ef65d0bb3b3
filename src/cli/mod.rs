//! The command line: parses the arguments, sends commands to the session, prints what comes back.
//!
//! Knows no lab logic. Results go to standard output, everything else to standard error; the exit status is
//! 0 for passed, 1 for not passed, 2 for an error.

pub mod args;
mod author;
mod capture;
mod cluster;
pub mod doctor;
pub mod error;
mod export;
mod ground;
mod identity;
mod images;
mod kubectl;
mod lab;
mod manifests;
mod mistyped;
pub mod output;
mod packets;
mod posture;
mod report;
mod session;
pub mod shell;
mod trust;

use std::{ffi::OsString, io::IsTerminal, process::ExitCode};

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use error::{CliError, ERROR};
use output::Output;

use crate::tui;

/// Parses the arguments and runs the command.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let failed = error.use_stderr();
            // A reader that went away (`--help | head`) is nothing to report.
            let _ = mistyped::suggest(error, &Cli::command()).print();
            return if failed {
                ExitCode::from(ERROR)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let out = Output::new(cli.json);
    match dispatch(cli.command, &out) {
        Ok(code) => code,
        Err(error) => {
            out.clear_progress();
            error.report(out.json())
        }
    }
}

fn dispatch(command: Option<Command>, out: &Output) -> Result<ExitCode, CliError> {
    match command {
        None => interface(out),
        Some(Command::Images) => images::run(out),
        Some(Command::Manifests(args)) => manifests::run(&args, out),
        Some(Command::Doctor) => doctor::run(out),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Lab(command)) => lab::run(command, out),
        Some(Command::Cluster(command)) => cluster::run(command, out),
        Some(Command::Shell(args)) => shell::run(&args, out),
        Some(Command::Kubectl(args)) => kubectl::run(&args, out),
        Some(Command::Capture(args)) => capture::run(&args, out),
        Some(Command::Packets(args)) => packets::run(&args, out),
        Some(Command::Posture(args)) => posture::run(&args, out),
        Some(Command::Identity(args)) => identity::run(&args, out),
        Some(Command::Report(args)) => report::run(&args, out),
    }
}

fn interface(out: &Output) -> Result<ExitCode, CliError> {
    if out.json() {
        return Err(CliError::with_hint(
            "--json needs a command",
            "`ztlab lab list --json`, `ztlab lab status --json`; `ztlab --help` shows the others",
        ));
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(CliError::with_hint(
            "the terminal interface needs a terminal, and standard input or output is none",
            "headless: `ztlab lab list`, `ztlab lab start ID`, `ztlab lab check`; `ztlab --help` shows the others",
        ));
    }
    let ended = tui::run().map_err(|error| {
        CliError::with_hint(
            format!("the terminal failed: {error}"),
            "headless: `ztlab lab list`, `ztlab lab start ID`, `ztlab lab check`",
        )
    })?;
    match ended {
        tui::Ended::Quit { lab: true } => {
            out.note("The lab goes on in the background: `ztlab` comes back to it, `ztlab lab stop` ends it.");
            Ok(ExitCode::SUCCESS)
        }
        tui::Ended::Quit { lab: false } => Ok(ExitCode::SUCCESS),
        tui::Ended::Signal(number) => Ok(ExitCode::from(128_u8.saturating_add(number))),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ztlab", &mut script);
    use std::io::Write;
    std::io::stdout()
        .lock()
        .write_all(&script)
        .map_err(CliError::from_stdout)?;
    Ok(ExitCode::SUCCESS)
}
