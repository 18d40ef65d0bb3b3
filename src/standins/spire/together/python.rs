//! gRPC for Python as a workload of the agent, as it comes: the socket's path is the authority of its requests. Where the machine has it.

use std::process::Stdio;

use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use super::{
    peers::{PATIENCE, on_path},
    world::{World, context, settings},
};
use crate::api::workload::X509svidResponse;

const WORKLOAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/peers/python/workload.py");

fn workload(world: &World, command: &str) -> Option<Command> {
    let Some(python) = on_path("python-grpc") else {
        eprintln!("SKIPPED: this machine lacks gRPC for Python");
        return None;
    };
    let mut python = Command::new(python);
    python.args([WORKLOAD, command, &format!("unix:{}", world.socket().display())]);
    python.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    Some(python)
}

#[tokio::test]
async fn grpc_for_python_has_its_svid_and_the_next_one() {
    let world = World::now(settings(86_400, 3600)).await;
    let Some(mut python) = workload(&world, "x509") else {
        return;
    };
    tokio::spawn(world.agent().await);
    let id = world.entry("/orders").await;
    world.svids().await;
    let mut python = python.spawn().unwrap();
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
    let mut leaves = Vec::new();
    for _ in 0..2 {
        let line = timeout(PATIENCE, lines.next_line())
            .await
            .expect("Python tells nothing");
        let line = line.unwrap().expect("Python ended");
        let answer = BASE64_STANDARD.decode(&line).unwrap_or_else(|_| panic!("{line}"));
        let given = context(&X509svidResponse::decode(&*answer).unwrap(), world.clock.now());
        assert_eq!(given.default_svid().id().to_string(), "spiffe://shop.test/orders");
        leaves.push(given.default_svid().chain()[0].to_vec());
        world.changed(&id, "orders.shop").await;
    }
    assert_ne!(leaves[0], leaves[1]);
    drop(python.stdin.take());
    let ended = timeout(PATIENCE, python.wait()).await.expect("it does not end");
    assert!(ended.unwrap().success());
}

#[tokio::test]
async fn grpc_for_python_is_told_why_it_is_refused() {
    let world = World::now(settings(86_400, 3600)).await;
    let Some(mut python) = workload(&world, "bare") else {
        return;
    };
    tokio::spawn(world.agent().await);
    world.entry("/orders").await;
    world.svids().await;
    let output = super::peers::output(&mut python).await;
    assert_eq!(
        super::peers::text(&output.stdout),
        "INVALID_ARGUMENT security header missing from request\n"
    );
}
