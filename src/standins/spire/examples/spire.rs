//! Runs a stand-in outside of a pod: `spire server …`, `spire agent …` and `spire controller …`, with the arguments of
//! `spire-server`, `spire-agent` and `spire-controller-manager`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|name| name.to_str()) {
        Some("server") => ztlab_spire::cli::spire_server(args.collect()),
        Some("agent") => ztlab_spire::cli::spire_agent(args.collect()),
        Some("controller") => ztlab_spire::controller::main(args.collect()),
        _ => {
            eprintln!("usage: spire server|agent|controller [arguments]");
            ExitCode::from(2)
        }
    }
}
