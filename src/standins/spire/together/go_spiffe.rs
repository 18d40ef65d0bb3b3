//! go-spiffe as a workload of the agent: its SVIDs, tokens and bundles, and mutual TLS with our own, where the machine has Go.

use std::{path::PathBuf, process::Stdio, sync::Arc};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use ztlab_identity::{Authorizer, tls::MutualTls};

use super::{
    peers::{PATIENCE, output, peer, text},
    world::{World, entry, settings},
};
use crate::{
    api::types,
    workload::{Address, WorkloadSource},
};

const ORDERS: &str = "spiffe://shop.test/orders";

/// The world by the system's own time, and go-spiffe's program in it.
struct Go {
    world: World,
    program: PathBuf,
}

impl Go {
    async fn start() -> Option<Self> {
        let program = peer("spiffe-peers", "go")?;
        let world = World::now(settings(86_400, 3600)).await;
        tokio::spawn(world.agent().await);
        Some(Self { world, program })
    }

    fn address(&self) -> String {
        format!("unix://{}", self.world.socket().display())
    }

    fn command(&self, name: &str, rest: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["go-spiffe", name, &self.address()])
            .args(rest)
            .kill_on_drop(true);
        command
    }

    /// The one line that a command prints, or its error.
    async fn told(&self, name: &str, rest: &[&str]) -> Result<Value, String> {
        let output = output(&mut self.command(name, rest)).await;
        if !output.status.success() {
            return Err(text(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Our own side's identity: go-spiffe's process and this one are the same workload.
    async fn ours(&self, authorized: &str) -> MutualTls {
        let address: Address = self.address().parse().unwrap();
        let source = WorkloadSource::start(address);
        source.ready().await.unwrap();
        MutualTls::new(
            Arc::new(source),
            Authorizer::deny_all().allow(authorized.parse().unwrap()),
        )
    }
}

/// A command that goes on, and its lines.
struct Going {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Going {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("go-spiffe tells nothing");
        let line = line.unwrap().expect("go-spiffe ended");
        serde_json::from_str(&line).unwrap()
    }
}

#[tokio::test]
async fn go_spiffe_believes_what_the_workload_api_gives() {
    let Some(go) = Go::start().await else { return };
    let world = &go.world;
    world.entry("/orders").await;
    let second = types::Entry {
        hint: "internal".into(),
        ..entry("/second")
    };
    world.entry_of(second).await;
    // Until the agent has both.
    let (_, mut answers) = world.svids().await;
    loop {
        let (first, _) = world.try_svids().await.unwrap();
        if first.svids.len() == 2 {
            break;
        }
        answers.message().await.unwrap();
    }
    drop(answers);
    let told = go.told("x509", &[]).await.unwrap();
    assert_eq!(told["bundles"], json!({"shop.test": 1}));
    let mut svids = told["svids"].as_array().unwrap().clone();
    svids.sort_by_key(|svid| svid["id"].to_string());
    assert_eq!(
        svids,
        [
            json!({"id": ORDERS, "hint": "", "chain": 1}),
            json!({"id": "spiffe://shop.test/second", "hint": "internal", "chain": 1}),
        ]
    );
}

#[tokio::test]
async fn go_spiffe_believes_our_tokens_and_is_told_who_has_none() {
    let Some(go) = Go::start().await else { return };
    let id = go.world.entry("/orders").await;
    go.world.svids().await;
    let told = go.told("jwt", &["payments"]).await.unwrap();
    assert_eq!((&told["here"], &told["there"]), (&json!(ORDERS), &json!(ORDERS)));
    let refused = told["refused"].as_str().unwrap();
    assert!(refused.contains("InvalidArgument"), "for another audience: {refused}");
    go.world.delete(id).await;
    // Until the agent has heard of it.
    while go.world.try_svids().await.is_ok() {
        tokio::task::yield_now().await;
    }
    let refused = go.told("x509", &[]).await.unwrap_err();
    assert!(
        refused.contains("PermissionDenied") && refused.contains("no identity issued"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_source_of_go_spiffe_follows_a_rotation() {
    let Some(go) = Go::start().await else { return };
    let id = go.world.entry("/orders").await;
    go.world.svids().await;
    let mut following = Going::start(go.command("follow", &[]));
    let first = following.next().await;
    assert_eq!(first["id"], ORDERS);
    go.world.changed(&id, "orders.shop").await;
    let mut next = following.next().await;
    // It tells each update, that of a bundle too.
    while next["serial"] == first["serial"] {
        next = following.next().await;
    }
    assert_eq!(next["id"], ORDERS);
    drop(following.child.stdin.take());
    let ended = timeout(PATIENCE, following.child.wait())
        .await
        .expect("it does not end");
    assert!(ended.unwrap().success());
}

#[tokio::test]
async fn go_spiffe_calls_our_mutual_tls() {
    let Some(go) = Go::start().await else { return };
    go.world.entry("/orders").await;
    go.world.svids().await;
    for (authorized, let_in) in [(ORDERS, true), ("spiffe://shop.test/another", false)] {
        let (tell, told_why) = std::sync::mpsc::channel();
        let tls = go
            .ours(authorized)
            .await
            .telling(move |refusal| tell.send(refusal.to_string()).unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls.server().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let served = tokio::spawn(async move {
            let stream = listener.accept().await.unwrap().0;
            let mut lines = BufReader::new(acceptor.accept(stream).await?).lines();
            let line = lines.next_line().await?.unwrap_or_default();
            lines.get_mut().write_all(format!("{line} to you\n").as_bytes()).await
        });
        let told = go.told("call", &[&at, ORDERS]).await;
        let served = served.await.unwrap();
        if let_in {
            served.unwrap();
            assert_eq!(told.unwrap()["answer"], "hello to you\n");
        } else {
            served.unwrap_err();
            let refused = told_why.recv().unwrap();
            assert!(refused.contains(ORDERS), "our side tells whom it refused: {refused}");
            let told = told.unwrap_err();
            assert!(told.contains("access denied"), "the alert that fits: {told}");
        }
    }
}

#[tokio::test]
async fn our_mutual_tls_calls_go_spiffe() {
    let Some(go) = Go::start().await else { return };
    go.world.entry("/orders").await;
    go.world.svids().await;
    let tls = go.ours(ORDERS).await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.client().unwrap()));
    for (authorized, let_in) in [(ORDERS, true), ("spiffe://shop.test/another", false)] {
        let mut serving = Going::start(go.command("serve", &[authorized]));
        let at = serving.next().await["at"].as_str().unwrap().to_owned();
        let stream = TcpStream::connect(at).await.unwrap();
        let stream = connector.connect("orders".try_into().unwrap(), stream).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        lines.get_mut().write_all(b"hello\n").await.unwrap();
        // In TLS 1.3 the refusal is read after the handshake.
        let answer = lines.next_line().await;
        let told = serving.next().await;
        if let_in {
            assert_eq!(answer.unwrap().as_deref(), Some("hello"));
            assert_eq!(told["peer"], ORDERS);
        } else {
            assert!(answer.is_err(), "{answer:?}");
            assert!(told["refused"].as_str().unwrap().contains("unexpected ID"), "{told}");
        }
    }
}
