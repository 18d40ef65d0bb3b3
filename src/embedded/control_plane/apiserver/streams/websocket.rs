//! A program's streams over one WebSocket, a channel each.
//!
//! Each binary message begins with its channel: 0 standard input, 1 output, 2 error, 3 the final `Status`, 4 the
//! terminal's size; in version 5, 255 closes the channel that the next byte names.
//!
//! Source: RFC 6455; Kubernetes' `v4.channel.k8s.io` and `v5.channel.k8s.io` (KEP-4006).

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream::SplitStream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{CHUNK, CLOSING, normal_close, status, terminal_size};
use crate::kubelet_api::Streams;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// How often a client is asked for a sign of life: one that is gone without a word is noticed by what is written to it.
const PING: Duration = Duration::from_secs(10);

/// How long a client may take to read the last of a program's output, which is bounded.
const DRAINING: Duration = Duration::from_secs(60);

/// Carries a program's streams, or says why there are none.
pub async fn carry_or_refuse<S>(socket: WebSocketStream<S>, streams: Result<Streams, Box<Status>>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match streams {
        Ok(streams) => carry(socket, streams).await,
        Err(status) => refuse(socket, &status).await,
    }
}

/// Carries the streams until the program has ended and its output is sent, or the client is gone.
async fn carry<S>(socket: WebSocketStream<S>, streams: Streams)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sink, source) = socket.split();
    let (outgoing, mut messages) = mpsc::channel::<Message>(16);
    // One writer, so that output, pongs and the status do not interleave within a message.
    let mut writer = tokio::spawn(async move {
        let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                _ = pings.tick() => Some(Message::Ping(Bytes::new())),
            };
            let Some(message) = message else { break };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    });
    let Streams {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    } = streams;
    // An empty message on the lowest channel tells the client that the streams are there.
    let first = if stdout.is_some() { STDOUT } else { ERROR };
    if first == STDOUT {
        let _ = outgoing.send(message(first, &[])).await;
    }
    let mut input = tokio::spawn(receive(source, stdin, resize, outgoing.clone()));
    let output = async {
        tokio::join!(
            forward(stdout, STDOUT, &outgoing),
            forward(stderr, STDERR, &outgoing),
            exit
        )
        .2
    };
    tokio::select! {
        exit = output => {
            let status = status(&exit).to_string();
            let _ = outgoing.send(message(ERROR, status.as_bytes())).await;
            let _ = outgoing.send(Message::Close(Some(normal_close()))).await;
            // The client answers the close; reading on until then keeps the last bytes from being cut off by a reset.
            let _ = tokio::time::timeout(CLOSING, &mut input).await;
        }
        _ = &mut input => {}
        _ = &mut writer => {}
    }
    input.abort();
    drop(outgoing);
    if !writer.is_finished() && tokio::time::timeout(DRAINING, &mut writer).await.is_err() {
        writer.abort();
    }
}

async fn refuse<S>(mut socket: WebSocketStream<S>, status: &Status)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let text = serde_json::to_vec(status).unwrap_or_default();
    if socket.send(message(ERROR, &text)).await.is_ok() && socket.close(Some(normal_close())).await.is_ok() {
        // Until the client has answered the close, so that a reset does not overtake the text.
        let _ = tokio::time::timeout(CLOSING, async { while let Some(Ok(_)) = socket.next().await {} }).await;
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut data = Vec::with_capacity(bytes.len() + 1);
    data.push(channel);
    data.extend_from_slice(bytes);
    Message::Binary(data.into())
}

async fn forward(source: Option<Box<dyn AsyncRead + Send + Unpin>>, channel: u8, outgoing: &mpsc::Sender<Message>) {
    let Some(mut source) = source else {
        return;
    };
    let mut buffer = vec![0; CHUNK];
    // A terminal whose other end is closed reads as an error (EIO): the end all the same.
    while let Ok(count @ 1..) = source.read(&mut buffer).await {
        if outgoing.send(message(channel, &buffer[..count])).await.is_err() {
            return;
        }
    }
}

/// Takes the client's messages until it is gone.
async fn receive<S>(
    mut source: SplitStream<WebSocketStream<S>>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    resize: Option<mpsc::Sender<(u16, u16)>>,
    outgoing: mpsc::Sender<Message>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    while let Some(Ok(received)) = source.next().await {
        let data = match received {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            _ => continue,
        };
        match data.split_first() {
            Some((&STDIN, bytes)) => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(bytes).await.is_err() || writer.flush().await.is_err())
                {
                    // The program closed its input; its output may still be coming.
                    stdin = None;
                }
            }
            Some((&CLOSE, [STDIN, ..])) => {
                if let Some(mut writer) = stdin.take() {
                    let _ = writer.shutdown().await;
                }
            }
            Some((&RESIZE, bytes)) => {
                if let (Some(resize), Some(size)) = (&resize, terminal_size(bytes)) {
                    let _ = resize.send(size).await;
                }
            }
            _ => {}
        }
        if outgoing.is_closed() {
            return;
        }
    }
}
