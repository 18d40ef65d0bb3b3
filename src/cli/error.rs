//! The error of a command: what went wrong, what to do next, and the exit status that says so.

use std::{fmt, io, process::ExitCode};

use crate::text;

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

    /// Prints the error on standard error, `hint:` on a line of its own, and gives the exit status.
    pub fn report(&self) -> ExitCode {
        match self {
            CliError::Closed => ExitCode::SUCCESS,
            CliError::Told { message, hint } => {
                // Nowhere to report a failure to report.
                let _ = self.write(&mut io::stderr().lock(), message, hint.as_deref());
                ExitCode::from(ERROR)
            }
        }
    }

    fn write(&self, err: &mut impl io::Write, message: &str, hint: Option<&str>) -> io::Result<()> {
        writeln!(err, "error: {}", text::clean(message))?;
        if let Some(hint) = hint {
            writeln!(err, "hint: {}", text::clean(hint))?;
        }
        Ok(())
    }
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
        error.write(&mut out, message, hint.as_deref()).unwrap();
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
