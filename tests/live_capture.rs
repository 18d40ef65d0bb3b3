//! The observer's two stages for real: libpcap and a probe, in a network namespace made for the test.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use ztlab::{
    evidence::{ProbeOutcome, ProbeResult},
    packet::{Dissector, LeakKind, LinkType, Message, Protocol, pcapfile::PcapReader},
    probe::{HttpProbe, ProbeKind, ProbeRequest},
};

const ZTLAB: &str = env!("CARGO_BIN_EXE_ztlab");

#[test]
fn the_observer_sees_and_probes() {
    let script = "ip link set lo up && exec \"$0\" --exact inside_a_namespace --ignored --nocapture";
    let exe = std::env::current_exe().unwrap();
    let able = Command::new("unshare")
        .args(["-Urn", "ip", "link", "set", "lo", "up"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !able {
        assert!(
            std::env::var_os("CI").is_none(),
            "no user and network namespaces here (or no unshare, no ip)"
        );
        eprintln!("SKIPPED: no user and network namespaces here (or no unshare, no ip)");
        return;
    }
    let inside = Command::new("unshare")
        .args(["-Urn", "sh", "-c", script])
        .arg(exe)
        .status()
        .unwrap();
    assert!(inside.success());
}

/// What a probe tells, as the observer runs it.
fn probe(request: &ProbeRequest) -> ProbeResult {
    let mut child = Command::new(ZTLAB)
        .args(["__observe", "probe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = serde_json::to_string(request).unwrap() + "\n";
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
}

/// A capture as the observer runs it: the child and the lines of its standard error.
fn capture(args: &[&str]) -> (Child, mpsc::Receiver<String>) {
    let mut child = Command::new(ZTLAB)
        .args(["__observe", "capture"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    let (sender, notes) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    (child, notes)
}

fn messages(file: &[u8]) -> Vec<Message> {
    let mut reader = PcapReader::default();
    reader.push(file);
    let (mut dissector, mut messages) = (Dissector::default(), Vec::new());
    let mut number = 0;
    while let Some(record) = reader.next_record().unwrap() {
        number += 1;
        assert_eq!(record.link, LinkType::LINUX_SLL2);
        messages.extend(dissector.feed(record.frame(number)));
    }
    reader.finish().unwrap();
    assert_eq!(dissector.stats().retransmissions, 0, "a packet of lo is seen once");
    messages.extend(dissector.finish());
    messages
}

#[test]
#[ignore = "run by the_observer_sees_and_probes in a namespace of its own"]
fn inside_a_namespace() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 4096];
        let count = stream.read(&mut asked).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            .unwrap();
        String::from_utf8_lossy(&asked[..count]).into_owned()
    });

    let (mut child, notes) = capture(&["--filter", &format!("tcp port {}", addr.port())]);
    let started = notes.recv().unwrap();
    assert!(
        started.contains("\"event\":\"started\"") && started.contains("\"name\":\"lo\""),
        "{started}"
    );

    let request = ProbeRequest::new(
        "shop",
        "mallory",
        ProbeKind::Http(HttpProbe {
            headers: vec![("authorization".into(), "Bearer not-a-real-token".into())],
            body: Some("{\"card\":\"4111 1111 1111 1111\"}".into()),
            ..HttpProbe::new("POST", format!("http://{addr}/charge"))
        }),
    );
    let result = probe(&request);
    assert_eq!(result.outcome.status(), Some(200), "{result:?}");
    assert_eq!((result.id.clone(), result.peer), (request.id.clone(), Some(addr)));
    assert!(server.join().unwrap().contains(&request.id.0));

    // The kernel gathers packets for some milliseconds; the file's end comes after all of them were read.
    thread::sleep(std::time::Duration::from_millis(300));
    drop(child.stdin.take());
    let mut file = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut file).unwrap();
    assert!(child.wait().unwrap().success());
    let last = notes.iter().last().unwrap();
    assert!(
        last.contains("\"event\":\"counters\"") && last.contains("\"dropped\":0"),
        "{last}"
    );

    let seen = messages(&file);
    let asked = seen
        .iter()
        .find(|message| message.summary.starts_with("POST /charge"))
        .expect("the request was seen");
    assert_eq!(asked.protocol, Protocol::Http);
    assert_eq!(asked.probe.as_deref(), Some(request.id.0.as_str()));
    assert_eq!(asked.to.addr, addr);
    assert!(asked.ts_ns >= result.started_ns && asked.ts_ns <= result.started_ns + result.took_us * 1000);
    let leaks: Vec<_> = asked.leaks.iter().map(|leak| leak.kind).collect();
    assert_eq!(leaks, [LeakKind::BearerToken, LeakKind::CardNumber]);
    assert!(seen.iter().any(|message| message.summary.starts_with("200 OK")));

    let kind = ProbeKind::Tcp {
        host: "127.0.0.1".into(),
        port: addr.port(),
    };
    let refused = ProbeRequest::new("shop", "mallory", kind);
    let result = probe(&refused);
    assert_eq!(result.outcome, ProbeOutcome::Refused);

    let (mut child, notes) = capture(&["--filter", "tcp prt 80"]);
    let told = notes.recv().unwrap();
    assert!(told.contains("bad-filter"), "{told}");
    child.wait().unwrap();

    let (mut child, notes) = capture(&["--duration-ms", "50"]);
    let _stdin = child.stdin.take();
    assert!(child.wait().unwrap().success());
    assert!(notes.iter().any(|note| note.contains("complete")));
}
