//! What no kubectl would send.

use std::time::Duration;

use futures::future::join_all;
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{Cluster, LONG, Peer, noise};

type Raw = TokioIo<hyper::upgrade::Upgraded>;

async fn client(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.unwrap();
    // A refusal is shown, not waited out.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// An upgraded connection, raw; or the refusal.
async fn upgrade(client: &Client, path: &str, headers: &[(&str, &str)]) -> Result<Raw, (StatusCode, String)> {
    let method = if headers[0].1 == "websocket" { "GET" } else { "POST" };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("connection", "Upgrade");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.send(request.body(Body::empty()).unwrap()).await.unwrap();
    let code = response.status();
    if code == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(TokioIo::new(hyper::upgrade::on(response).await.unwrap()));
    }
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    Err((code, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

const POD: &str = "/api/v1/namespaces/default/pods/box";
const KEY: (&str, &str) = ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");

fn spdy(protocol: &str) -> [(&str, &str); 2] {
    [("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", protocol)]
}

fn websocket(protocol: &str) -> [(&str, &str); 4] {
    [
        ("upgrade", "websocket"),
        KEY,
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", protocol),
    ]
}

/// Everything until the server closes, which it must.
async fn until_closed(connection: &mut Raw) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LONG, connection.read_to_end(&mut answer)).await;
    // a reset is an end, too
    let _ = read.expect("the server closes");
    answer
}

/// A masked WebSocket frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | 126];
    bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_end_their_connection_and_nothing_else() {
    let Some(cluster) = Cluster::start("streams-frames") else {
        return;
    };
    let client = client(&cluster).await;
    let mark = cluster.mark(0);
    let exec = format!("{POD}/exec?command=sleep&command={mark}&stdin=true&stdout=true");
    let forward = format!("{POD}/portforward");

    // what cannot be upgraded is refused with a text
    for (path, headers, code, text) in [
        (&exec, &spdy("channel.k8s.io")[..], 403, "unable to negotiate protocol"),
        (&exec, &[("upgrade", "h2c")], 400, "Upgrade request required"),
        (&exec, &websocket("nothing"), 400, "unable to negotiate protocol"),
        (&forward, &websocket("v4.channel.k8s.io"), 400, "ports"),
        (
            &format!("{forward}?ports=0"),
            &websocket("v4.channel.k8s.io"),
            400,
            "unable to parse",
        ),
    ] {
        let (found, said) = upgrade(&client, path, headers).await.err().unwrap();
        assert_eq!(found, code, "{said}");
        assert!(said.contains(text), "{said}");
    }

    // SPDY: a version that is not spoken, a frame too large, an even stream, a broken header block, noise
    let bad: [Vec<u8>; 5] = [
        vec![0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
        vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        vec![
            0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff,
        ],
        vec![0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9, 9],
        [vec![0xff; 8], noise(100_000)].concat(),
    ];
    for (path, protocol) in [(&exec, "v4.channel.k8s.io"), (&forward, "portforward.k8s.io")] {
        for bytes in &bad {
            let mut connection = upgrade(&client, path, &spdy(protocol)).await.unwrap();
            let _ = connection.write_all(bytes).await;
            let answer = until_closed(&mut connection).await;
            // GOAWAY, PROTOCOL_ERROR
            assert_eq!(
                answer,
                [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
                "{path} {:?}",
                &bytes[..8]
            );
        }
        // one that is cut off in the middle of a frame
        let mut connection = upgrade(&client, path, &spdy(protocol)).await.unwrap();
        connection.write_all(&[0x80, 3, 0, 6, 0]).await.unwrap();
        connection.shutdown().await.unwrap();
        until_closed(&mut connection).await;
    }

    // WebSocket: reserved bits, an unknown opcode, no mask, a message without end, SPDY noise inside the tunnel
    let tunnel = "SPDY/3.1+portforward.k8s.io";
    for (path, protocol) in [
        (&exec, "v5.channel.k8s.io"),
        (&forward, tunnel),
        (&format!("{forward}?ports=80"), "v4.channel.k8s.io"),
    ] {
        for bytes in [
            vec![0xf2, 0x80, 0, 0, 0, 0],
            vec![0x8b, 0x80, 0, 0, 0, 0],
            vec![0x82, 0x01, 0],
            vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ] {
            let mut connection = upgrade(&client, path, &websocket(protocol)).await.unwrap();
            let _ = connection.write_all(&bytes).await;
            until_closed(&mut connection).await;
        }
    }
    let mut connection = upgrade(&client, &forward, &websocket(tunnel)).await.unwrap();
    connection.write_all(&frame(0x82, &[0xff; 4000])).await.unwrap();
    let answer = until_closed(&mut connection).await;
    let goaway = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1];
    assert!(answer.windows(16).any(|window| window == goaway), "{answer:?}");

    // Nothing of it is left, and the server serves.
    cluster.until_gone(&mark);
    assert_eq!(cluster.text(Peer::Spdy, &["exec", "box", "--", "echo", "well"]), "well");

    // Channels and sizes that make no sense are let go.
    let cat = format!("{POD}/exec?command=cat&stdin=true&stdout=true&tty=true");
    let mut connection = upgrade(&client, &cat, &websocket("v5.channel.k8s.io")).await.unwrap();
    for payload in [
        &b""[..],
        b"\x09x",
        b"\x04{\"Width\":-1}",
        b"\x04\xff",
        b"\xff",
        b"\xff\x07",
        b"\x00still\n",
    ] {
        connection.write_all(&frame(0x82, payload)).await.unwrap();
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.windows(5).any(|window| window == b"still") {
        let read = tokio::time::timeout(LONG, connection.read(&mut buffer)).await;
        let count = read.expect("an answer").unwrap();
        assert!(count > 0, "{:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..count]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded() {
    let Some(cluster) = Cluster::start("streams-bounds") else {
        return;
    };
    let client = client(&cluster).await;
    let forward = format!("{POD}/portforward");
    let headers = spdy("portforward.k8s.io");
    let open = join_all((0..257).map(|_| upgrade(&client, &forward, &headers))).await;
    let refused: Vec<_> = open.iter().filter_map(|one| one.as_ref().err()).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].0, StatusCode::TOO_MANY_REQUESTS);
    drop(open);
    let begin = std::time::Instant::now();
    loop {
        if upgrade(&client, &forward, &headers).await.is_ok() {
            break;
        }
        assert!(begin.elapsed() < LONG, "places are given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
