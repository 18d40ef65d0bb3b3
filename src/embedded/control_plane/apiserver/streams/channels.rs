//! Port-forward over WebSocket channels, as the `kube` crate has it: two channels for every port of the query, data and
//! error, each begun by the server with the port as two bytes, the low one first.
//!
//! Source: kubelet's `portforward` (`websocketStreamHandler`).

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{CHUNK, CLOSING, Forwarder, normal_close};

/// Most ports of one request: a channel is one byte, and each port has two.
pub const MAX_PORTS: usize = 128;
/// Messages of a client that wait for one port.
const WAITING: usize = 16;

fn message(channel: usize, bytes: &[u8]) -> Message {
    let mut data = Vec::with_capacity(bytes.len() + 1);
    data.push(u8::try_from(channel).unwrap_or(u8::MAX));
    data.extend_from_slice(bytes);
    Message::Binary(data.into())
}

/// Forwards until every port's connection has ended, or the client is gone.
pub async fn carry<S>(socket: WebSocketStream<S>, ports: Vec<u16>, forwarder: Forwarder)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sink, mut source) = socket.split();
    let (outgoing, mut messages) = mpsc::channel::<Message>(WAITING);
    let mut running = JoinSet::new();
    let mut inputs = Vec::new();
    for (number, port) in ports.into_iter().take(MAX_PORTS).enumerate() {
        let (input, incoming) = mpsc::channel(WAITING);
        inputs.push(input);
        running.spawn(forward(forwarder.clone(), port, 2 * number, incoming, outgoing.clone()));
    }
    drop(outgoing);
    let mut receive = tokio::spawn(async move {
        while let Some(Ok(message)) = source.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Close(_) => return,
                _ => continue,
            };
            let Some((channel, _)) = data.split_first() else {
                continue;
            };
            let input = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
            if let Some(input) = input {
                // A port whose connection has ended takes no more.
                let _ = input.send(data.slice(1..)).await;
            }
        }
    });
    let send = async {
        // Ends when every port's connection has ended.
        while let Some(message) = messages.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        if sink.send(Message::Close(Some(normal_close()))).await.is_ok() {
            tokio::time::sleep(CLOSING).await;
        }
    };
    tokio::select! {
        () = send => {}
        _ = &mut receive => {}
    }
    receive.abort();
}

async fn forward(
    forwarder: Forwarder,
    port: u16,
    channel: usize,
    mut incoming: mpsc::Receiver<Bytes>,
    outgoing: mpsc::Sender<Message>,
) {
    for channel in [channel, channel + 1] {
        let _ = outgoing.send(message(channel, &port.to_le_bytes())).await;
    }
    let connection = match forwarder.connect(port).await {
        Ok(connection) => connection,
        Err(text) => {
            let _ = outgoing.send(message(channel + 1, text.as_bytes())).await;
            return;
        }
    };
    let (mut from_pod, mut to_pod) = connection.into_split();
    let inwards = async {
        while let Some(bytes) = incoming.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let outwards = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
            let message = message(channel, buffer.get(..count).unwrap_or_default());
            if outgoing.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
    }
}
