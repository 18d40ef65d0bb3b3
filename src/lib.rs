//! ztlab: zero-trust labs in a terminal.
//!
//! A module imports only from its own layer or below; `tests/architecture.rs` holds the code to this map.
//!
//! | layer | rooms |
//! |---|---|
//! | 6 faces | [`cli`] [`tui`] [`report`] [`author`] |
//! | 5 session | [`session`] |
//! | 4 observation | [`probe`] [`capture`] [`check`] [`posture`] [`spire`] |
//! | 3 cluster | [`cluster`] |
//! | 2 embedded | [`embedded`] |
//! | 1 instruments | [`catalog`] [`identity`] [`handshake`] |
//! | 0 vocabulary | [`lab`] [`evidence`] [`verdict`] [`score`] [`packet`] [`paths`] [`text`] |
//! | side | [`standins`] |
//!
//! The way of the data: a lab file becomes a validated [`lab`] model; [`session`] runs its checks by asking
//! [`probe`] and [`capture`] for evidence from inside the pods of a [`cluster`]; [`check`] judges the evidence
//! into a [`verdict`]; the faces draw the session's snapshots.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod author;
pub mod capture;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod cluster;
#[cfg(target_os = "linux")]
pub use ztlab_embedded as embedded;
pub mod evidence;
pub mod handshake;
pub use ztlab_identity as identity;
#[cfg(target_os = "linux")]
pub mod images;
pub mod lab;
pub use ztlab_packet as packet;
pub mod paths;
pub mod posture;
pub mod probe;
pub mod report;
pub mod score;
pub mod session;
pub mod spire;
pub mod standins;
pub mod text;
pub mod tui;
pub mod verdict;

use std::{ffi::OsString, process::ExitCode};

/// Runs the program: a re-exec stage if the arguments name one, else the command line.
///
/// Stages come first because entering a user namespace, and becoming a pod's program, cannot wait for a
/// multi-threaded runtime.
pub fn run(args: Vec<OsString>) -> ExitCode {
    #[cfg(target_os = "linux")]
    embedded::node::sys::keep_few_heaps();
    let program = args
        .first()
        .and_then(|arg| std::path::Path::new(arg).file_name())
        .and_then(|name| name.to_str())
        .unwrap_or("ztlab")
        .to_owned();
    let rest: Vec<OsString> = args.iter().skip(1).cloned().collect();
    if program != "ztlab" && standins::knows(&program) {
        return standins::main(&program, rest);
    }
    let stage = rest.first().and_then(|arg| arg.to_str()).unwrap_or("").to_owned();
    let stage_args = rest.get(1..).unwrap_or_default().to_vec();
    match stage.as_str() {
        #[cfg(target_os = "linux")]
        "__node" => embedded::rootless::node_stage(stage_args, images::registry()),
        #[cfg(target_os = "linux")]
        "__doctor" => embedded::doctor::doctor_stage(stage_args),
        #[cfg(target_os = "linux")]
        "__pause" => embedded::node::runtime::pause_stage(),
        #[cfg(target_os = "linux")]
        "__floor" => floor_stage(&stage_args),
        "__http-round-trips" => round_trips_stage(&stage_args),
        "__observe" => capture::observe_stage(stage_args),
        "__session-host" => {
            #[cfg(target_os = "linux")]
            if let Err(error) = embedded::node::memory::give_back_at_rest(|| {}) {
                eprintln!("ztlab: session host: memory is not given back: {error}");
            }
            session::host_stage(stage_args)
        }
        "__standin" => match stage_args.split_first() {
            Some((name, args)) => standins::main(&name.to_string_lossy(), args.to_vec()),
            None => ExitCode::from(2),
        },
        _ => cli::main(args),
    }
}

/// Prints the time of each of `count` HTTP round trips to `host:port`, in microseconds a line (for `make bench`).
fn round_trips_stage(args: &[OsString]) -> ExitCode {
    let text = |at: usize| args.get(at).and_then(|arg| arg.to_str());
    let count = text(1).and_then(|count| count.parse().ok()).unwrap_or(1000);
    match standins::http_round_trips(text(0).unwrap_or_default(), count) {
        Ok(times) => {
            for time in times {
                println!("{:.1}", time.as_secs_f64() * 1_000_000.0);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ztlab: {error}");
            ExitCode::from(2)
        }
    }
}

/// Prints what a pod costs at least on this machine, in milliseconds a line (for `make bench`).
#[cfg(target_os = "linux")]
fn floor_stage(args: &[OsString]) -> ExitCode {
    let runs = args.first().and_then(|arg| arg.to_str()?.parse().ok()).unwrap_or(20);
    match embedded::node::floor::measure(runs) {
        Ok(times) => {
            for time in times {
                println!("{:.3}", time.as_secs_f64() * 1000.0);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ztlab: {error}");
            ExitCode::from(2)
        }
    }
}
