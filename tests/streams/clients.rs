//! What clients do with streams.

use std::{
    io::{Read, Write},
    process::Stdio,
    time::Duration,
};

use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::{AttachParams, TerminalSize},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{Cluster, Forward, LONG, Peer, hash, noise, until};

#[track_caller]
fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "no {part:?} in:\n{text}");
}

#[test]
fn programs_are_run_and_files_copied_by_every_kubectl() {
    let Some(cluster) = Cluster::start("streams-exec") else {
        return;
    };
    let blob = noise(3_000_000);
    std::fs::write(cluster.home.path().join("blob"), &blob).unwrap();
    for peer in Cluster::peers() {
        let script = "echo out; echo err >&2; exit 3";
        let ended = cluster.run(peer, &["exec", "box", "--", "sh", "-c", script], b"");
        assert_eq!(ended.status.code(), Some(3), "{peer:?} {ended:?}");
        assert_eq!(ended.stdout, b"out\n", "{peer:?}");
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(stderr, "err\ncommand terminated with exit code 3\n", "{peer:?}");

        let echoed = cluster.ok(peer, &["exec", "-i", "box", "--", "cat"], &blob);
        assert_eq!(hash(&echoed), hash(&blob), "{peer:?}");
        // A program that does not want its input does not keep it waiting.
        assert_eq!(cluster.ok(peer, &["exec", "-i", "box", "--", "true"], &blob), b"");

        let missing = cluster.fails(peer, &["exec", "box", "--", "nope"]);
        contains(&missing, "error executing command in container");
        contains(&missing, "exec: \"nope\": executable file not found in $PATH");
        let other = cluster.fails(peer, &["exec", "box", "-c", "other", "--", "true"]);
        contains(&other, "container other is not valid for pod box");

        let there = format!("box:/tmp/{peer:?}");
        cluster.ok(peer, &["cp", "blob", &there], b"");
        let sum = cluster.text(peer, &["exec", "box", "--", "sha256sum", &format!("/tmp/{peer:?}")]);
        contains(&sum, &hash(&blob));
        let back = format!("back-{peer:?}");
        cluster.ok(peer, &["cp", &there, &back], b"");
        let copied = std::fs::read(cluster.home.path().join(&back)).unwrap();
        assert_eq!(hash(&copied), hash(&blob), "{peer:?}");

        // The container's own program: it answers, and goes on after the client has left.
        let word = format!("hello {peer:?}\n");
        let mut attached = cluster
            .kubectl(peer, &["attach", "-i", "echo"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        attached.stdin.as_mut().unwrap().write_all(word.as_bytes()).unwrap();
        let mut answer = vec![0; word.len()];
        attached.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), word);
        attached.kill().unwrap();
        attached.wait().unwrap();
    }
    assert_eq!(
        cluster.text(
            Peer::WebSocket,
            &["get", "pod", "echo", "-o", "jsonpath={.status.phase}"]
        ),
        "Running"
    );
}

/// However busy the machine is: a program that ended well has said what it said.
#[test]
fn many_programs_at_once_lose_nothing() {
    let Some(cluster) = Cluster::start("streams-many") else {
        return;
    };
    let busy = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        // Load, so that every client and the node are stopped at every place of what they do; not so much that kubectl gives
        // its own TLS handshake up, after 10 s.
        for _ in 0..3 {
            scope.spawn(|| {
                while busy.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        for peer in Cluster::peers() {
            let ask = |number: usize| {
                let said = format!("{peer:?} {number}");
                let args = ["exec", "box", "--", "echo", said.as_str()];
                let ended = cluster.run(peer, &args, b"");
                let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
                (
                    ended.status.success() && ended.stdout == format!("{said}\n").as_bytes(),
                    said,
                    stderr,
                )
            };
            let all: Vec<_> = std::thread::scope(|scope| {
                let asked: Vec<_> = (0..24).map(|number| scope.spawn(move || ask(number))).collect();
                asked.into_iter().map(|one| one.join()).collect()
            });
            for one in all {
                let Ok((well, said, stderr)) = one else {
                    busy.store(false, std::sync::atomic::Ordering::Relaxed);
                    panic!("a client could not be run");
                };
                if !well {
                    busy.store(false, std::sync::atomic::Ordering::Relaxed);
                }
                assert!(well, "{said}: {stderr}");
            }
        }
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn the_basic_verbs_work_with_an_old_kubectl() {
    let Some(cluster) = Cluster::start("streams-old") else {
        return;
    };
    if !Cluster::peers().contains(&Peer::Old) {
        return;
    }
    let old = |args: &[&str]| cluster.text(Peer::Old, args);
    contains(&old(&["version"]), "v1.20.");
    contains(&old(&["get", "pods", "-o", "wide"]), "1/1     Running");
    contains(&old(&["get", "deploy", "web", "-o", "yaml"]), "image: nginxdemos/hello");
    contains(&old(&["describe", "pod", "box"]), "Started container box");
    contains(&old(&["describe", "deploy", "web"]), "1 desired | 1 updated | 1 total");
    contains(&old(&["logs", "deploy/web"]), "listening on 0.0.0.0:80");
    let map = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1'}\n";
    let apply = |text: &[u8]| String::from_utf8(cluster.ok(Peer::Old, &["apply", "-f", "-"], text)).unwrap();
    assert_eq!(apply(map), "configmap/m created\n");
    assert_eq!(apply(map), "configmap/m unchanged\n");
    let changed = String::from_utf8_lossy(map).replace("'1'", "'2'");
    assert_eq!(apply(changed.as_bytes()), "configmap/m configured\n");
    assert_eq!(old(&["get", "cm", "m", "-o", "jsonpath={.data.a}"]), "2");
    assert_eq!(old(&["delete", "cm", "m"]), "configmap \"m\" deleted");
    assert_eq!(
        old(&["scale", "deploy", "web", "--replicas=2"]),
        "deployment.apps/web scaled"
    );
    contains(
        &old(&["rollout", "status", "deploy/web", "--timeout=60s"]),
        "successfully rolled out",
    );
    assert_eq!(
        cluster.fails(Peer::Old, &["get", "pod", "nobody"]),
        "Error from server (NotFound): pods \"nobody\" not found"
    );
}

/// A pod with many listeners, each of which sends a file to one client.
const SERVE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: serve}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: serve
    image: ztlab.dev/toolbox:1
    command: [sh, -c, 'seq 3000000 | head -c 20000000 > /tmp/large; head -c 3000000 /tmp/large > /tmp/small;
      for p in $(seq 9001 9003); do nc -N -l -p $p < /tmp/large & done;
      for p in $(seq 9101 9124); do nc -N -l -p $p < /tmp/small & done; wait; sleep 10000']
";

#[test]
fn ports_are_forwarded_by_every_kubectl() {
    let Some(cluster) = Cluster::start("streams-forward") else {
        return;
    };
    cluster.ok(Peer::WebSocket, &["apply", "-f", "-"], SERVE.as_bytes());
    cluster.ok(
        Peer::WebSocket,
        &["wait", "--for=condition=Ready", "pod/serve", "--timeout=60s"],
        b"",
    );
    let listening = ["exec", "serve", "--", "grep", "-c", " 0A ", "/proc/net/tcp"];
    until("the pod listens", || {
        cluster.run(Peer::WebSocket, &listening, b"").stdout == b"27\n"
    });
    let mut large: Vec<u8> = (1..=3_000_000)
        .flat_map(|n: u32| format!("{n}\n").into_bytes())
        .collect();
    large.truncate(20_000_000);
    let small = hash(&large[..3_000_000]);
    for (number, peer) in Cluster::peers().into_iter().enumerate() {
        // one large answer, and eight at a time through the same forward
        let mut ports = vec![format!(":{}", 9001 + number)];
        ports.extend((0..8).map(|n| format!(":{}", 9101 + 8 * number + n)));
        let forward = Forward::start(&cluster, peer, "pod/serve", &ports);
        assert_eq!(
            hash(&Forward::ask(forward.ports[0], b"").unwrap()),
            hash(&large),
            "{peer:?}"
        );
        let asking: Vec<_> = forward.ports[1..]
            .iter()
            .map(|port| {
                let port = *port;
                std::thread::spawn(move || hash(&Forward::ask(port, b"").unwrap()))
            })
            .collect();
        for answer in asking {
            assert_eq!(answer.join().unwrap(), small, "{peer:?}");
        }
        assert_eq!(forward.end(), "", "{peer:?}");

        // many connections, by way of a Service and a Deployment
        for (what, port) in [("svc/web", ":8080"), ("deploy/web", ":80")] {
            let forward = Forward::start(&cluster, peer, what, &[port.to_owned()]);
            let local = forward.ports[0];
            let asking: Vec<_> = (0..8)
                .map(|_| {
                    std::thread::spawn(move || {
                        for _ in 0..12 {
                            let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                            let answer = Forward::ask(local, request).unwrap();
                            assert!(
                                answer.starts_with(b"HTTP/1.1 200 OK"),
                                "{}",
                                String::from_utf8_lossy(&answer)
                            );
                        }
                    })
                })
                .collect();
            for asked in asking {
                asked.join().unwrap();
            }
            assert_eq!(forward.end(), "", "{peer:?} {what}");
        }

        let forward = Forward::start(&cluster, peer, "pod/box", &[":81".to_owned()]);
        let refused = Forward::ask(forward.ports[0], b"");
        assert!(!matches!(&refused, Ok(answer) if !answer.is_empty()), "{refused:?}");
        // Newer ones end with the first failure, older ones go on: either way the text comes first.
        forward.tells(&[
            "error forwarding port 81 to pod",
            "dial tcp4 127.0.0.1:81: connect: connection refused",
        ]);
    }
}

/// Begins a program, and ends its client without a word.
fn vanish(cluster: &Cluster, peer: Peer, args: &[&str], mark: &str, input: Stdio) {
    let mut client = cluster
        .kubectl(peer, args)
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the program runs", || !cluster.running(mark).is_empty());
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn a_client_that_vanishes_leaves_no_program_behind() {
    let Some(cluster) = Cluster::start("streams-gone") else {
        return;
    };
    let cluster = &cluster;
    // Each waits until the node has noticed, at the same time as the others.
    std::thread::scope(|scope| {
        for (number, peer) in Cluster::peers().into_iter().enumerate() {
            let mark = move |case: usize| cluster.mark(10 * number + case);
            scope.spawn(move || {
                let mark = mark(0);
                vanish(
                    cluster,
                    peer,
                    &["exec", "box", "--", "sleep", &mark],
                    &mark,
                    Stdio::null(),
                );
                cluster.until_gone(&mark);
            });
            // with its children, and while it waits for input that somebody else holds open
            scope.spawn(move || {
                let mark = mark(1);
                let script = format!("sleep {mark} & cat; wait");
                let exec = ["exec", "-i", "box", "--", "sh", "-c", &script];
                vanish(cluster, peer, &exec, &mark, Stdio::piped());
                cluster.until_gone(&mark);
            });
            // while there is input that the program does not read
            scope.spawn(move || {
                let mark = mark(2);
                let zeros = std::fs::File::open("/dev/zero").unwrap();
                vanish(
                    cluster,
                    peer,
                    &["exec", "-i", "box", "--", "sleep", &mark],
                    &mark,
                    zeros.into(),
                );
                cluster.until_gone(&mark);
            });
            // and one that reads its input sees its end, and may finish its work
            scope.spawn(move || {
                let done = format!("/tmp/done-{}", mark(3));
                let script = format!("cat > /dev/null; echo finished > {done}");
                let exec = ["exec", "-i", "box", "--", "sh", "-c", &script];
                vanish(cluster, peer, &exec, &done, Stdio::piped());
                cluster.until_gone(&done);
                let said = cluster.text(Peer::WebSocket, &["exec", "box", "--", "cat", &done]);
                assert_eq!(said, "finished", "{peer:?}");
            });
        }
    });
}

#[test]
fn a_slow_reader_does_not_grow_the_node() {
    let Some(cluster) = Cluster::start("streams-slow") else {
        return;
    };
    for peer in [Peer::WebSocket, Peer::Spdy] {
        let mark = cluster.mark(0);
        let before = cluster.memory();
        assert!(before > 0);
        let mut clients: Vec<_> = (0..4)
            .map(|_| {
                cluster
                    .kubectl(peer, &["exec", "box", "--", "head", "-c", &mark, "/dev/zero"])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for client in &mut clients {
            client.stdout.as_mut().unwrap().read_exact(&mut [0; 4096]).unwrap();
        }
        std::thread::sleep(Duration::from_secs(2));
        let grown = cluster.memory().saturating_sub(before);
        for client in &mut clients {
            client.kill().unwrap();
            client.wait().unwrap();
        }
        assert!(
            grown < 64 << 20,
            "{peer:?}: {grown} bytes for four readers that do not read"
        );
        cluster.until_gone(&mark);
    }
}

async fn client(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kube_crate_streams_too() {
    let Some(cluster) = Cluster::start("streams-kube") else {
        return;
    };
    let pods: Api<Pod> = Api::default_namespaced(client(&cluster).await);
    let all = async {
        // exec, with standard input that ends
        let params = AttachParams::default().stdin(true);
        let mut process = pods
            .exec("box", ["sh", "-c", "sha256sum; echo e >&2; exit 5"], &params)
            .await
            .unwrap();
        let blob = noise(3_000_000);
        let mut stdin = process.stdin().unwrap();
        let (mut stdout, mut stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
        let status = process.take_status().unwrap();
        stdin.write_all(&blob).await.unwrap();
        stdin.shutdown().await.unwrap();
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        stdout.read_to_string(&mut out).await.unwrap();
        stderr.read_to_string(&mut err).await.unwrap();
        assert_eq!((out, err.as_str()), (format!("{}  -\n", hash(&blob)), "e\n"));
        let status = status.await.unwrap();
        assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?}");

        // a terminal and its size
        let params = AttachParams::interactive_tty();
        let script = "until [ \"$(stty size)\" = '33 111' ]; do sleep 0.05; done; echo resized";
        let mut process = pods.exec("box", ["sh", "-c", script], &params).await.unwrap();
        let mut sizes = process.terminal_size().unwrap();
        let size = TerminalSize { width: 111, height: 33 };
        sizes.send(size).await.unwrap();
        let mut out = String::new();
        process.stdout().unwrap().read_to_string(&mut out).await.unwrap();
        assert_eq!(out, "resized\r\n");

        // attach
        let params = AttachParams::default().stdin(true).stderr(false);
        let mut process = pods.attach("echo", &params).await.unwrap();
        process.stdin().unwrap().write_all(b"to and fro\n").await.unwrap();
        let mut answer = [0; 11];
        process.stdout().unwrap().read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"to and fro\n");
        process.abort();

        // port-forward: several ports at once, one of them closed
        let web = pods
            .list(&kube::api::ListParams::default().labels("app=web"))
            .await
            .unwrap();
        let name = web.items[0].metadata.name.clone().unwrap();
        let mut forward = pods.portforward(&name, &[80, 81]).await.unwrap();
        let error = forward.take_error(81).unwrap();
        let mut port = forward.take_stream(80).unwrap();
        port.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 15];
        port.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let error = error.await.unwrap();
        assert!(
            error.contains("dial tcp4 127.0.0.1:81: connect: connection refused"),
            "{error}"
        );
        forward.abort();
    };
    tokio::time::timeout(2 * LONG, all)
        .await
        .expect("all of it within two minutes");
}
