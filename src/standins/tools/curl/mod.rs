//! `curl`: HTTP/1.1 and HTTPS from the command line, with the options and exit codes of curl that labs need.

mod args;
mod connection;
mod error;
mod transfer;
mod url;
mod write_out;

#[cfg(test)]
pub mod tests;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    process::ExitCode,
};

use self::args::{Instead, Options};
use self::write_out::Facts;
use crate::standins::process;

/// Fetches what the arguments name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let options = match args::parse(args) {
        Ok(options) => options,
        Err(Instead::Print(text)) => {
            let _ = process::print(&text);
            return ExitCode::SUCCESS;
        }
        Err(Instead::Refuse(why)) => {
            process::complain("curl", &why);
            return ExitCode::from(2);
        }
    };
    process::run("curl", async move {
        let mut output: Box<dyn Write> = match &options.output {
            Some(name) if name.as_os_str() != "-" => match File::create(name) {
                Ok(file) => Box::new(file),
                Err(error) => {
                    process::complain("curl", &format!("(23) {}: {error}", name.display()));
                    return 23;
                }
            },
            _ => Box::new(io::stdout()),
        };
        run(&options, output.as_mut(), &mut io::stdout(), &mut io::stderr()).await
    })
}

/// Fetches every URL; the last one's exit code.
async fn run(options: &Options, output: &mut dyn Write, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let mut code = 0;
    for url in &options.urls {
        let mut facts = Facts::default();
        let outcome = transfer::fetch(url, options, &mut facts, output, stderr).await;
        code = match &outcome {
            Ok(()) => 0,
            Err(error) => error.code(),
        };
        if let Err(error) = &outcome {
            facts.error = error.to_string();
            if options.say_errors {
                let _ = writeln!(stderr, "curl: ({code}) {error}");
            }
        }
        facts.exit_code = code;
        if let Some(format) = &options.write_out {
            let (text, unknown) = write_out::expand(format, &facts);
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            for name in unknown {
                let _ = writeln!(stderr, "curl: unknown --write-out variable: '{name}'");
            }
        }
    }
    code
}
