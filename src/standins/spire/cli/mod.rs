//! The commands of `spire-server` and `spire-agent`, with SPIRE's flags and outputs.

mod agent;
mod flags;
mod run;
mod server;
mod show;

use std::{ffi::OsString, io::Write, process::ExitCode};

use tonic::Status;

use flags::{Flag, FlagError, Flags, usage};

/// Where a command writes.
pub struct Output<'a> {
    /// Its standard output.
    pub out: &'a mut (dyn Write + Send),
    /// Its standard error.
    pub err: &'a mut (dyn Write + Send),
}

/// Why a command failed; what there was to print has been printed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Something to say.
    #[error("{0}")]
    Said(String),
    /// The server or agent refused.
    #[error("{}", rpc_error(.0))]
    Rpc(#[from] Box<Status>),
    /// Writing failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<Status> for CommandError {
    fn from(status: Status) -> Self {
        Self::Rpc(Box::new(status))
    }
}

impl From<FlagError> for CommandError {
    fn from(error: FlagError) -> Self {
        match error {
            FlagError::Help => said("flag: help requested"),
            FlagError::Wrong(what) => said(what),
        }
    }
}

fn said(what: impl Into<String>) -> CommandError {
    CommandError::Said(what.into())
}

/// Prints a message, or several as a list, where `-output json` asks for it; whether it did.
fn as_json(flags: &Flags, message: &impl serde::Serialize, output: &mut Output<'_>) -> Result<bool, CommandError> {
    if !flags.text("output").eq_ignore_ascii_case("json") {
        return Ok(false);
    }
    let line = crate::protojson::line(message).map_err(|error| said(error.to_string()))?;
    write!(output.out, "{line}")?;
    Ok(true)
}

/// How `-output` may be used.
const OUTPUT_HELP: &str = "Desired output format (pretty, json); default: pretty.";

/// A refusal as Go's gRPC prints it.
fn rpc_error(status: &Status) -> String {
    format!(
        "rpc error: code = {} desc = {}",
        show::code_name(status.code()),
        status.message()
    )
}

/// The program `spire-server`: its arguments without `argv[0]`, to its exit code.
pub fn spire_server(args: Vec<OsString>) -> ExitCode {
    program(
        "spire-server",
        args,
        server::COMMANDS,
        |name, flags, output| match name {
            "run" => run::server(flags),
            _ => run::block_on(server::run(name, flags, output)),
        },
    )
}

/// The program `spire-agent`: its arguments without `argv[0]`, to its exit code.
pub fn spire_agent(args: Vec<OsString>) -> ExitCode {
    program("spire-agent", args, agent::COMMANDS, |name, flags, output| match name {
        "run" => run::agent(flags),
        _ => run::block_on(agent::run(name, flags, output)),
    })
}

/// A command: its name of one word or more, what it does, and its flags.
type Command = (&'static str, &'static str, &'static [Flag]);

/// Finds the command and runs it; what the table does not name fails, naming the stand-in.
fn program(
    program: &str,
    args: Vec<OsString>,
    commands: &[Command],
    run: impl FnOnce(&str, &Flags, &mut Output<'_>) -> Result<(), CommandError>,
) -> ExitCode {
    let args: Vec<String> = args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut output = Output {
        out: &mut std::io::stdout(),
        err: &mut std::io::stderr(),
    };
    if args
        .first()
        .is_some_and(|arg| ["--version", "-version", "version"].contains(&arg.as_str()))
    {
        let _ = writeln!(
            output.err,
            "1.15.3 (a stand-in of ztlab's, {})",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::SUCCESS;
    }
    match dispatch(program, &args, commands, &mut output, run) {
        Ok(code) => code,
        Err(error) => {
            let prefix = if program == "spire-server" { "Error: " } else { "" };
            let _ = writeln!(output.err, "{prefix}{error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(
    program: &str,
    args: &[String],
    commands: &[Command],
    output: &mut Output<'_>,
    run: impl FnOnce(&str, &Flags, &mut Output<'_>) -> Result<(), CommandError>,
) -> Result<ExitCode, CommandError> {
    let words = args.iter().take_while(|arg| !arg.starts_with('-')).count();
    let asked = args[..words].join(" ");
    let Some((name, _, known)) = commands.iter().find(|(name, ..)| *name == asked) else {
        if !asked.is_empty() && !commands.iter().any(|(name, ..)| name.starts_with(&format!("{asked} "))) {
            writeln!(
                output.err,
                "`{program} {asked}`: this stand-in of SPIRE has no such command; it has"
            )?;
        } else {
            writeln!(
                output.err,
                "Usage: {program} [--version] [--help] <command> [<args>]\n\nAvailable commands are:"
            )?;
        }
        for (name, help, _) in commands {
            writeln!(output.err, "    {name:<28} {help}")?;
        }
        return Ok(ExitCode::from(127));
    };
    match Flags::parse(&args[words..], known) {
        Ok(flags) => {
            run(name, &flags, output)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(FlagError::Help) => {
            write!(output.err, "{}", usage(name, known))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(FlagError::Wrong(what)) => {
            write!(output.err, "{what}\n{}", usage(name, known))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// One command of `spire-server`, `run` excepted, as a test runs it.
#[cfg(test)]
pub async fn run_server(args: &[String], output: &mut Output<'_>) -> Result<(), CommandError> {
    let (name, flags) = found(args, server::COMMANDS)?;
    server::run(name, &flags, output).await
}

/// One command of `spire-agent`, `run` excepted, as a test runs it.
#[cfg(test)]
pub async fn run_agent(args: &[String], output: &mut Output<'_>) -> Result<(), CommandError> {
    let (name, flags) = found(args, agent::COMMANDS)?;
    agent::run(name, &flags, output).await
}

#[cfg(test)]
fn found(args: &[String], commands: &'static [Command]) -> Result<(&'static str, Flags), CommandError> {
    let words = args.iter().take_while(|arg| !arg.starts_with('-')).count();
    let asked = args[..words].join(" ");
    let (name, _, known) = commands
        .iter()
        .find(|(name, ..)| *name == asked)
        .ok_or_else(|| said("no such command"))?;
    Ok((name, Flags::parse(&args[words..], known)?))
}
