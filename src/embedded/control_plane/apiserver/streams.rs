//! A program's streams over one WebSocket.
//!
//! Each binary message begins with its channel: 0 standard input, 1 output, 2 error, 3 the final `Status`, 4 the
//! terminal's size; in version 5, 255 closes the channel that the next byte names.
//!
//! Source: RFC 6455; Kubernetes' `v4.channel.k8s.io` and `v5.channel.k8s.io` (KEP-4006).

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream::SplitStream};
use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{Body, dispatch::Call, reply, status::ApiError};
use crate::embedded::kubelet_api::{Exit, Streams};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Largest message taken from a client, and largest piece of output sent to it.
const MAX_MESSAGE: usize = 1024 * 1024;
const CHUNK: usize = 32 * 1024;
/// How long a client may take to answer the close.
const CLOSING: Duration = Duration::from_secs(5);

/// The protocols that are spoken, the preferred one first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// A request that asked for a WebSocket and may have one.
pub struct Upgrade {
    connection: OnUpgrade,
    protocol: &'static str,
    accept: HeaderValue,
}

impl Upgrade {
    /// Reads a WebSocket handshake.
    ///
    /// # Errors
    /// 400 when the request is none, or offers no protocol that is spoken.
    pub fn of(mut call: Call) -> Result<Self, ApiError> {
        let text = |name: header::HeaderName| call.headers.get(name).and_then(|value| value.to_str().ok());
        let wants = text(header::UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
        let key = call
            .headers
            .get(header::SEC_WEBSOCKET_KEY)
            .filter(|_| wants)
            .map(HeaderValue::as_bytes);
        let Some(key) = key else {
            return Err(ApiError::bad_request(
                "Upgrade request required: this server streams over WebSocket only (kubectl 1.31 or newer)",
            ));
        };
        let accept = derive_accept_key(key);
        let offered: Vec<&str> = call
            .headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let protocol = PROTOCOLS
            .into_iter()
            .find(|protocol| offered.contains(protocol))
            .ok_or_else(|| {
                ApiError::bad_request(format!(
                    "unable to negotiate a protocol: client supports {offered:?}, server supports {PROTOCOLS:?}"
                ))
            })?;
        let connection = call.extensions.remove::<OnUpgrade>();
        Ok(Self {
            connection: connection
                .ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded; use HTTP/1.1"))?,
            protocol,
            accept: HeaderValue::from_str(&accept).map_err(ApiError::internal)?,
        })
    }

    /// Says yes, and carries the streams, or why there are none, once the connection is a WebSocket.
    pub fn accept(self, streams: Result<Streams, Box<Status>>) -> Response<Body> {
        let mut response = Response::new(reply::full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        tokio::spawn(async move {
            match self.connection.await {
                Ok(connection) => {
                    let config = WebSocketConfig::default()
                        .max_message_size(Some(MAX_MESSAGE))
                        .max_frame_size(Some(MAX_MESSAGE));
                    let socket =
                        WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await;
                    match streams {
                        Ok(streams) => carry(socket, streams).await,
                        Err(status) => refuse(socket, &status).await,
                    }
                }
                Err(error) => tracing::debug!(%error, "a client went away before its WebSocket began"),
            }
        });
        response
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
    let writer = tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
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
    }
    input.abort();
    drop(outgoing);
    let _ = writer.await;
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

/// kubectl takes a close without a code for a failure.
fn normal_close() -> CloseFrame {
    CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
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

fn terminal_size(bytes: &[u8]) -> Option<(u16, u16)> {
    let size: Value = serde_json::from_slice(bytes).ok()?;
    let side = |name: &str| {
        size.get(name)
            .and_then(Value::as_u64)
            .and_then(|side| u16::try_from(side).ok())
    };
    Some((side("Width")?, side("Height")?))
}

fn status(exit: &Exit) -> Value {
    match exit {
        Exit::Code(0) => json!({"metadata": {}, "status": "Success"}),
        Exit::Code(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Exit::Failed(why) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {why}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": why}]},
            "code": 500,
        }),
    }
}
