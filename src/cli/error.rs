//! The error of a command: what went wrong, what to do next, and the exit status that says so.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    capture::CaptureError,
    cluster::ClusterError,
    session::{client::ClientError, command::Refusal},
    text,
};

/// A lab, or a check, is not passed.
pub const NOT_PASSED: u8 = 1;
/// The command could not do what it was asked.
pub const ERROR: u8 = 2;

/// Why a command ends otherwise than well.
#[derive(Debug)]
pub enum CliError {
    /// Something is wrong, and the user is told.
    Told {
        /// Lower case, names the suspect, no final period.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// The reader of standard output went away, as `| head` does: nothing to say.
    Closed,
}

impl CliError {
    /// An error without a hint.
    pub fn new(message: impl fmt::Display) -> CliError {
        CliError::Told {
            message: message.to_string(),
            hint: None,
        }
    }

    /// An error and what to do about it.
    pub fn with_hint(message: impl fmt::Display, hint: impl fmt::Display) -> CliError {
        CliError::Told {
            message: message.to_string(),
            hint: Some(hint.to_string()),
        }
    }

    /// What a failed write to standard output means.
    pub fn from_stdout(error: io::Error) -> CliError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            CliError::Closed
        } else {
            CliError::new(format!("cannot write to standard output: {error}"))
        }
    }

    /// Prints the error on standard error, `hint:` on a line of its own or as one JSON object, and gives the exit
    /// status.
    pub fn report(&self, json: bool) -> ExitCode {
        match self {
            CliError::Closed => ExitCode::SUCCESS,
            CliError::Told { message, hint } => {
                let mut err = io::stderr().lock();
                // Nowhere to report a failure to report.
                let _ = if json {
                    writeln!(err, "{}", serde_json::json!({ "error": message, "hint": hint }))
                } else {
                    Self::write(&mut err, message, hint.as_deref())
                };
                ExitCode::from(ERROR)
            }
        }
    }

    fn write(err: &mut impl io::Write, message: &str, hint: Option<&str>) -> io::Result<()> {
        writeln!(err, "error: {}", text::clean(message))?;
        if let Some(hint) = hint {
            writeln!(err, "hint: {}", text::clean(hint))?;
        }
        Ok(())
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        CliError::Told {
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}

impl From<ClusterError> for CliError {
    fn from(error: ClusterError) -> CliError {
        CliError::Told {
            message: chain(&error),
            hint: error.hint(),
        }
    }
}

impl From<CaptureError> for CliError {
    fn from(error: CaptureError) -> CliError {
        CliError::with_hint(chain(&error), error.hint())
    }
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> CliError {
        CliError::Told {
            message: refusal.message,
            hint: refusal.hint,
        }
    }
}

/// An error with what it came from, each told once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !message.contains(&cause_text) {
            message = format!("{message}: {cause_text}");
        }
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_and_its_hint_stand_on_lines_of_their_own_without_escapes() {
        let error = CliError::with_hint("no lab `x\x1b[2J`", "`ztlab lab list` shows them");
        let CliError::Told { message, hint } = &error else {
            panic!()
        };
        let mut out = Vec::new();
        CliError::write(&mut out, message, hint.as_deref()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "error: no lab `x␛[2J`\nhint: `ztlab lab list` shows them\n"
        );
    }

    #[test]
    fn a_closed_pipe_is_nothing_to_complain_about() {
        assert!(matches!(
            CliError::from_stdout(io::Error::from(io::ErrorKind::BrokenPipe)),
            CliError::Closed
        ));
        assert!(matches!(
            CliError::from_stdout(io::Error::from(io::ErrorKind::StorageFull)),
            CliError::Told { .. }
        ));
    }
}
