//! Turns the `.proto` files into code, with a compiler in Rust: no `protoc` is needed on the machine.

use std::{error::Error, path::Path};

const FILES: &[&str] = &[
    "workload/workload.proto",
    "health/health.proto",
    "spire/api/types/types.proto",
    "spire/api/server/agent/v1/agent.proto",
    "spire/api/server/bundle/v1/bundle.proto",
    "spire/api/server/entry/v1/entry.proto",
    "spire/api/server/localauthority/v1/localauthority.proto",
    "spire/api/server/svid/v1/svid.proto",
    "spire/api/server/trustdomain/v1/trustdomain.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let root = Path::new("proto");
    let set = protox::compile(FILES.iter().map(|file| root.join(file)), [root])?;
    tonic_prost_build::configure().compile_fds(set)?;
    Ok(())
}
