//! A byte stream inside the binary messages of a WebSocket.
//!
//! Source: KEP-4006, "Proposal: `kubectl port-forward`": SPDY frames tunnelled through WebSocket messages, cut anywhere.

use std::time::Duration;

use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{CHUNK, CLOSING, normal_close};

/// Bytes on their way in each direction.
const BUFFER: usize = 64 << 10;

/// What is inside the messages of `socket`.
pub fn bytes<S>(socket: WebSocketStream<S>) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (near, far) = duplex(BUFFER);
    let (sink, source) = socket.split();
    let (reader, writer) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut input = tokio::spawn(unwrap(source, writer));
        tokio::select! {
            // What is inside has ended: the client is told, and may answer.
            () = wrap(reader, sink) => {
                let _ = tokio::time::timeout(CLOSING, &mut input).await;
            }
            _ = &mut input => {}
        }
        input.abort();
    });
    near
}

async fn unwrap<S>(mut source: SplitStream<WebSocketStream<S>>, mut writer: WriteHalf<DuplexStream>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = source.next().await {
        match message {
            Message::Binary(bytes) if writer.write_all(&bytes).await.is_err() => {
                // Nobody reads any more; the client's close is still awaited.
                while let Some(Ok(_)) = source.next().await {}
                return;
            }
            // SPDY is no text: the client is confused, and the connection ends.
            Message::Text(_) | Message::Close(_) => break,
            _ => {}
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), writer.shutdown()).await;
}

async fn wrap<S>(mut reader: ReadHalf<DuplexStream>, mut sink: SplitSink<WebSocketStream<S>, Message>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        let bytes = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        if sink.send(Message::Binary(bytes)).await.is_err() {
            return;
        }
    }
    let _ = sink.send(Message::Close(Some(normal_close()))).await;
}
