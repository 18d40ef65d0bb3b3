//! How many packets a second a live capture takes without losing one: datagrams from pod to pod on the embedded cluster at growing
//! rates, captured in the receiver's pod, through the API server, to this process; as packets, and dissected. `make bench` runs it
//! on the release build. Nothing here passes or fails.
//!
//! The sender is this program, started in the pod's network namespace (`nsenter` of util-linux).
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Bench, Row, print};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions::is_pod_running},
};
use serde_json::json;
use ztlab::capture::{CaptureEvent, CaptureRequest, Names, TrafficEvent, start, traffic};

const CLUSTER: &str = "bench-capture";
const PORT: u16 = 9999;
/// Bytes of a datagram.
const PAYLOAD: usize = 100;
/// How long each rate is kept up.
const LASTS: Duration = Duration::from_secs(3);
/// Packets a second that are asked of the sender.
const RATES: [u64; 5] = [50_000, 100_000, 150_000, 200_000, 400_000];
/// Nothing arrives for so long: all has.
const QUIET: Duration = Duration::from_millis(1500);

/// Datagrams handed to the kernel at once.
const TOGETHER: usize = 64;

/// Sends datagrams at a rate, evenly in each millisecond; says how many and how fast.
#[cfg(target_os = "linux")]
fn flood(to: SocketAddr, rate: u64) {
    use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(to).unwrap();
    let payload = [b'x'; PAYLOAD];
    let bytes = [std::io::IoSlice::new(&payload)];
    let mut nothing: Vec<_> = (0..TOGETHER).map(|_| SendAncillaryBuffer::default()).collect();
    let mut datagrams: Vec<_> = nothing.iter_mut().map(|none| MMsgHdr::new(&bytes, none)).collect();
    let (begun, mut sent, mut due) = (Instant::now(), 0_u64, 0_u64);
    while begun.elapsed() < LASTS {
        due = (begun.elapsed().as_micros() as u64 * rate / 1_000_000).max(due);
        while sent < due && begun.elapsed() < LASTS {
            let count = (due - sent).min(TOGETHER as u64) as usize;
            // What the kernel has no room for is tried again.
            sent += sendmmsg(&socket, &mut datagrams[..count], SendFlags::empty()).unwrap_or_default() as u64;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    println!("{sent} {}", begun.elapsed().as_micros());
}

#[cfg(not(target_os = "linux"))]
fn flood(_: SocketAddr, _: u64) {}

/// The process whose command line holds all of these words.
fn process(words: &[&str]) -> Option<u32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let pid = entry.file_name().to_str()?.parse().ok()?;
        words.iter().all(|word| line.contains(word)).then_some(pid)
    })
}

/// This program, in the network of the pod that runs `sleep MARK`.
fn inside(bench: &Bench, mark: &str, args: &[&str]) -> Child {
    let node = process(&["__node", bench.home.to_str().unwrap()]).expect("the node's process");
    let pod = process(&["sleep", mark]).expect("the pod's process");
    Command::new("nsenter")
        .arg("--preserve-credentials")
        .arg(format!("--user=/proc/{node}/ns/user"))
        .arg(format!("--net=/proc/{pod}/ns/net"))
        .arg(std::env::current_exe().unwrap())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter of util-linux")
}

async fn client(bench: &Bench) -> Client {
    let config = Kubeconfig::read_from(PathBuf::from(bench.kubeconfig(CLUSTER))).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// A pod that does nothing; its address.
async fn pod(client: &Client, name: &str, mark: &str) -> String {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({ "metadata": { "name": name }, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{ "name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", mark] }] } });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    await_condition(pods.clone(), name, is_pod_running()).await.unwrap();
    pods.get(name).await.unwrap().status.unwrap().pod_ip.unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Packets,
    Dissected,
}

/// Packets sent, seen and dropped, and how many a second were sent.
async fn captured(bench: &Bench, client: &Client, to: &str, rate: u64, how: How) -> (u64, u64, u64, u64) {
    let request = CaptureRequest {
        filter: Some(format!("udp port {PORT}")),
        ..CaptureRequest::pod("default", "receiver")
    };
    let (mut seen, mut dropped) = (0, 0);
    let events = match how {
        How::Packets => start(client, request)
            .await
            .unwrap()
            .map(|event| match event.unwrap() {
                CaptureEvent::Packet(_) => (1, None),
                CaptureEvent::Dropped(dropped) => (0, Some(dropped)),
                _ => (0, None),
            })
            .boxed(),
        How::Dissected => traffic(client, request, Names::watch(client).await)
            .await
            .unwrap()
            .map(|event| match event.unwrap() {
                TrafficEvent::Message(_) => (1, None),
                TrafficEvent::Counters { dropped, .. } => (0, Some(dropped)),
                _ => (0, None),
            })
            .boxed(),
    };
    // What came together is counted together.
    let mut events = events.ready_chunks(1024);
    let rate = rate.to_string();
    let sender = inside(bench, "100001", &["flood", &format!("{to}:{PORT}"), &rate]);
    let sender = tokio::task::spawn_blocking(move || sender.wait_with_output().unwrap());
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(QUIET, events.next()).await {
            Ok(Some(events)) => {
                for (packets, lost) in events {
                    seen += packets;
                    dropped = lost.unwrap_or(dropped);
                }
            }
            Ok(None) => break,
            Err(_) if begun.elapsed() > LASTS => break,
            Err(_) => {}
        }
    }
    let said = String::from_utf8(sender.await.unwrap().stdout).unwrap();
    let mut said = said.split_whitespace().map(|word| word.parse::<u64>().unwrap());
    let (sent, micros) = (said.next().unwrap(), said.next().unwrap());
    (sent, seen, dropped, sent * 1_000_000 / micros)
}

#[cfg(target_os = "linux")]
fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "flood", to, rate] => return flood(to.parse().unwrap(), rate.parse().unwrap()),
        [_, "sink"] => {
            let _socket = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
            // Until nobody wants it any more.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            return;
        }
        _ => {}
    }
    let bench = Bench::new("capture");
    bench.ztlab(&["cluster", "create", CLUSTER]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut rows = Vec::new();
    runtime.block_on(async {
        let client = client(&bench).await;
        pod(&client, "sender", "100001").await;
        let to = pod(&client, "receiver", "100002").await;
        // Without somebody who listens, each datagram is answered by an ICMP error.
        let mut sink = inside(&bench, "100002", &["sink"]);
        for how in [How::Packets, How::Dissected] {
            for rate in RATES {
                let (sent, seen, dropped, reached) = captured(&bench, &client, &to, rate, how).await;
                let what = match how {
                    How::Packets => "packets",
                    How::Dissected => "dissected",
                };
                rows.push(Row {
                    what: format!("live capture, {what}, {rate} a second asked"),
                    measured: format!("{reached} a second sent, {seen} of {sent} seen"),
                    spread: format!("{dropped} dropped"),
                    aim: if rate == 100_000 { "0 dropped" } else { "-" },
                });
            }
        }
        sink.kill().unwrap();
        sink.wait().unwrap();
    });
    bench.ztlab(&["cluster", "delete", CLUSTER]);
    print(&rows);
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("bench: live capture is measured on Linux only");
}
