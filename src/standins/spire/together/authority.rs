//! A client that names the socket's path as `:authority`, in raw frames, against the agent as it is served.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::world::{World, settings};
use crate::{api::health::health_server::HealthServer, server::health_api::HealthApi};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [.., l0, l1, l2] = payload.len().to_be_bytes();
    let mut bytes = vec![l0, l1, l2, kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

/// A call of FetchX509SVID as gRPC for Python makes it over a unix socket.
fn call() -> Vec<u8> {
    let mut encoder = loona_hpack::Encoder::new();
    let headers: [(&[u8], &[u8]); 7] = [
        (b":scheme", b"http"),
        (b":method", b"POST"),
        (b":authority", b"%2Frun%2Fspire%2Fagent-sockets%2Fspire-agent.sock"),
        (b":path", b"/SpiffeWorkloadAPI/FetchX509SVID"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"workload.spiffe.io", b"true"),
    ];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(HEADERS, 4, 1, &encoder.encode(headers)));
    bytes.extend(frame(0, 1, 1, &[0; 5]));
    bytes
}

/// The kind of the first frame that answers stream 1.
async fn first_answer(stream: &mut UnixStream) -> u8 {
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await.unwrap();
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        if header[8] == 1 {
            return header[3];
        }
    }
}

#[tokio::test]
async fn the_agent_answers_a_client_whose_authority_is_the_sockets_path() {
    let world = World::with(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    world.entry("/orders").await;
    world.svids().await;
    let mut stream = UnixStream::connect(world.socket()).await.unwrap();
    stream.write_all(&call()).await.unwrap();
    assert_eq!(first_answer(&mut stream).await, HEADERS);
}

/// The control: without the mending the same bytes are reset, so the test above can fail.
#[tokio::test]
async fn without_the_mending_such_a_client_is_reset() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // Any service will do: a stream that is reset reaches none.
    let service = HealthServer::new(HealthApi(Box::new(|| true)));
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(tokio_stream::once(Ok::<_, std::io::Error>(ours))),
    );
    theirs.write_all(&call()).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), first_answer(&mut theirs))
        .await
        .unwrap();
    assert_eq!(answer, RST_STREAM);
    server.abort();
}
