//! The programs that run inside pods as images: the payments shop, the tool box, agnhost, SPIRE (`ztlab-spire`).
//!
//! Each answers the protocol, and the documented part of the command line, of what it stands for; anything else
//! fails and names the stand-in, so that nobody takes it for the product. [`images`] lists them, and `ztlab images`
//! prints that list.
//!
//! A program runs alone in a container, often as PID 1: it is single-threaded, starts at once, ends on SIGTERM, and
//! is configured by its environment and arguments only. It knows nothing of clusters, labs or captures.

mod agnhost;
mod http;
mod images;
mod log;
mod process;
mod settings;
mod shop;
mod tls;
mod tools;

use std::{ffi::OsString, process::ExitCode};

pub use http::round_trips::measure as http_round_trips;
pub use images::{ALL, Image};

/// A program: its arguments without `argv[0]`, to its exit code.
type Program = fn(Vec<OsString>) -> ExitCode;

/// Every program by the name that it is called by.
const PROGRAMS: &[(&str, Program)] = &[
    ("agnhost", agnhost::main),
    ("curl", tools::curl::main),
    ("curl-entrypoint", tools::entrypoint::main),
    ("dig", tools::dig::main),
    ("env", tools::printenv::env),
    ("frontend", shop::frontend::main),
    ("hello", tools::hello::main),
    ("idle", tools::idle::main),
    ("ledger", shop::ledger::main),
    ("nc", tools::nc::main),
    ("nslookup", tools::nslookup::main),
    ("orders-api", shop::orders_api::main),
    ("payments-api", shop::payments_api::main),
    ("printenv", tools::printenv::main),
    ("psql", tools::psql::main),
    ("reach", tools::reach::main),
    ("sleep", tools::sleep::main),
    #[cfg(target_os = "linux")]
    ("spire-agent", ztlab_spire::cli::spire_agent),
    #[cfg(target_os = "linux")]
    ("spire-controller-manager", ztlab_spire::controller::main),
    #[cfg(target_os = "linux")]
    ("spire-server", ztlab_spire::cli::spire_server),
    ("ztls", tools::ztls::main),
];

/// The HTTP header by which a measurement of ztlab marks its own requests, so that access logs tell them from the
/// student's.
pub const PROBE_HEADER: &str = "x-ztlab-probe";

/// Whether `program` is one of the programs of [`ALL`].
pub fn knows(program: &str) -> bool {
    PROGRAMS.iter().any(|(name, _)| *name == program)
}

/// Runs the program `program`; 127, as a shell says it, if there is none of that name.
pub fn main(program: &str, args: Vec<OsString>) -> ExitCode {
    match PROGRAMS.iter().find(|(name, _)| *name == program) {
        Some((_, run)) => run(args),
        None => {
            let known: Vec<&str> = PROGRAMS.iter().map(|(name, _)| *name).collect();
            process::complain(
                "ztlab",
                &format!("no stand-in named `{program}`; there are {}", known.join(", ")),
            );
            ExitCode::from(127)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program that was started by its path is called by.
    fn base_name(path: &str) -> &str {
        path.rsplit('/').next().unwrap_or(path)
    }

    #[test]
    fn every_program_of_an_image_exists_and_every_program_is_in_an_image() {
        for image in ALL {
            for program in image.programs {
                assert!(knows(base_name(program)), "{} lists {program}", image.name);
            }
            let start = image.entrypoint.first().or(image.cmd.first());
            let start = start.unwrap_or_else(|| panic!("{} has nothing to run", image.name));
            assert!(image.programs.contains(start), "{} starts {start}", image.name);
        }
        for (program, _) in PROGRAMS {
            assert!(
                ALL.iter()
                    .flat_map(|image| image.programs)
                    .any(|one| base_name(one) == *program),
                "no image has {program}"
            );
        }
    }

    #[test]
    fn no_two_images_answer_for_one_repository() {
        let mut seen = std::collections::BTreeSet::new();
        for repository in ALL.iter().flat_map(|image| image.repositories) {
            assert!(seen.insert(*repository), "{repository} twice");
        }
    }

    #[test]
    fn an_unknown_program_is_refused() {
        assert!(!knows("ztlab"));
        let code = main("no-such-program", Vec::new());
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(127)));
    }
}
