//! A program's streams over SPDY, a stream each.
//!
//! The client opens `error`, and those of `stdin`, `stdout`, `stderr` and `resize` that it asked for; each says in its
//! header `streamtype` which it is. On `error` comes the program's end: from version 4 on as a `Status`, before as a text,
//! and only if it failed. Version 2 has no `resize`.
//!
//! Source: kubelet's `cri-client/pkg/remotecommand` (`createHTTPStreamStreams`), client-go's `tools/remotecommand`.

use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use super::{CHUNK, spdy, status, terminal_size};
use crate::kubelet_api::{ExecOptions, Streams};
use spdy::{Connection, Incoming, Opened, Outgoing};

/// Longest description of a terminal's size.
const MAX_SIZE: usize = 1024;

/// The streams that the client will open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    resize: bool,
    /// Whether the end is told as a `Status`.
    structured: bool,
}

impl Wanted {
    /// What follows from the request.
    pub fn of(options: &ExecOptions, protocol: &str) -> Self {
        Self {
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            resize: options.tty && protocol != "v2.channel.k8s.io",
            structured: !matches!(protocol, "v2.channel.k8s.io" | "v3.channel.k8s.io"),
        }
    }

    /// How many streams they are, with that of the end.
    fn count(self) -> usize {
        let asked = [self.stdin, self.stdout, self.stderr, self.resize];
        1 + asked.into_iter().filter(|asked| *asked).count()
    }
}

#[derive(Default)]
struct Client {
    error: Option<Opened>,
    stdin: Option<Opened>,
    stdout: Option<Opened>,
    stderr: Option<Opened>,
    resize: Option<Opened>,
}

impl Client {
    /// Waits until the client has opened as many as are wanted; `false` when it does not. Which they are is not asked, as the
    /// kubelet does not: a client that asks for a terminal and takes none opens standard error instead of `resize`.
    async fn open(&mut self, connection: &mut Connection, wanted: Wanted) -> bool {
        let mut missing = wanted.count();
        while missing > 0 || self.error.is_none() {
            let Some(opened) = connection.opened().await else {
                return false;
            };
            let kind = spdy::value(&opened.headers, "streamtype").unwrap_or_default();
            let place = match kind {
                "error" => &mut self.error,
                "stdin" => &mut self.stdin,
                "stdout" => &mut self.stdout,
                "stderr" => &mut self.stderr,
                "resize" => &mut self.resize,
                _ => {
                    tracing::debug!(kind, "a stream that nobody asked for");
                    opened.outgoing.reset();
                    continue;
                }
            };
            if place.is_some() {
                opened.outgoing.reset();
            } else {
                *place = Some(opened);
                missing = missing.saturating_sub(1);
            }
        }
        true
    }
}

/// Carries the streams until the program has ended and its output is sent, or the client is gone, or has not opened what it
/// asked for after `opening`.
pub async fn carry(
    mut connection: Connection,
    wanted: Wanted,
    opening: Duration,
    streams: Result<Streams, Box<Status>>,
) {
    let mut client = Client::default();
    let opened = tokio::time::timeout(opening, client.open(&mut connection, wanted)).await;
    if opened != Ok(true) {
        tracing::debug!("timed out waiting for client to create streams");
        return;
    }
    let Client {
        error: Some(Opened { outgoing: error, .. }),
        stdin,
        stdout,
        stderr,
        resize,
    } = client
    else {
        return;
    };
    let end = match streams {
        Ok(streams) => {
            tokio::select! {
                end = run(streams, stdin, stdout, stderr, resize) => end,
                // Dropping the streams closes the program's input and hangs it up.
                () = connection.gone() => return,
            }
        }
        Err(status) => serde_json::to_value(&*status).unwrap_or_default(),
    };
    let _ = error.send(&told(&end, wanted.structured)).await;
    drop(error);
    connection.close().await;
}

/// How the end is told.
fn told(end: &Value, structured: bool) -> Vec<u8> {
    if structured {
        return end.to_string().into_bytes();
    }
    let failed = end.get("status").and_then(Value::as_str) != Some("Success");
    let message = end.get("message").and_then(Value::as_str).unwrap_or("failed");
    if failed {
        message.as_bytes().to_vec()
    } else {
        Vec::new()
    }
}

async fn run(
    streams: Streams,
    stdin: Option<Opened>,
    stdout: Option<Opened>,
    stderr: Option<Opened>,
    resize: Option<Opened>,
) -> Value {
    let Streams {
        stdin: input,
        stdout: output,
        stderr: errors,
        resize: sizes,
        exit,
    } = streams;
    let Parts(stdin_in, _stdin_out) = stdin.into();
    let Parts(resize_in, _resize_out) = resize.into();
    // What the client sends on these is let go.
    let (Parts(_, stdout_out), Parts(_, stderr_out)) = (stdout.into(), stderr.into());
    let work = async { tokio::join!(forward(output, stdout_out), forward(errors, stderr_out), exit).2 };
    let serve = async {
        tokio::join!(feed(stdin_in, input), follow(resize_in, sizes));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        exit = work => status(&exit),
        () = serve => Value::Null,
    }
}

/// The two directions of a stream that may not be there.
struct Parts(Option<Incoming>, Option<Outgoing>);

impl From<Option<Opened>> for Parts {
    fn from(opened: Option<Opened>) -> Self {
        match opened {
            Some(opened) => Self(Some(opened.incoming), Some(opened.outgoing)),
            None => Self(None, None),
        }
    }
}

/// Copies a program's output to the client, and ends the stream with it.
async fn forward(source: Option<Box<dyn AsyncRead + Send + Unpin>>, to: Option<Outgoing>) {
    let (Some(mut source), Some(to)) = (source, to) else {
        return;
    };
    let mut buffer = vec![0; CHUNK];
    // A terminal whose other end is closed reads as an error (EIO): the end all the same.
    while let Ok(count @ 1..) = source.read(&mut buffer).await {
        if to.send(buffer.get(..count).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

/// Copies the client's input to a program, and closes the program's input with it.
async fn feed(from: Option<Incoming>, to: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    while let Ok(Some(bytes)) = from.next().await {
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            // The program closed its input; its output may still be coming, and so may input, which is let go.
            while let Ok(Some(_)) = from.next().await {}
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Applies the sizes that the client's terminal takes.
async fn follow(from: Option<Incoming>, to: Option<mpsc::Sender<(u16, u16)>>) {
    let Some(mut from) = from else { return };
    let mut line = Vec::new();
    while let Ok(Some(bytes)) = from.next().await {
        for size in sizes(&mut line, &bytes) {
            if let Some(to) = &to {
                let _ = to.send(size).await;
            }
        }
    }
}

/// The sizes in a stream of JSON objects that is cut anywhere; `line` keeps what is not whole yet. Pure.
fn sizes(line: &mut Vec<u8>, bytes: &Bytes) -> Vec<(u16, u16)> {
    let mut found = Vec::new();
    for byte in bytes {
        if line.len() < MAX_SIZE {
            line.push(*byte);
        }
        // The objects are flat.
        if *byte == b'}' {
            found.extend(terminal_size(line));
            line.clear();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_opens_follows_from_its_request_and_protocol() {
        let options = ExecOptions {
            stdin: true,
            stdout: true,
            tty: true,
            ..ExecOptions::default()
        };
        for (protocol, resize, structured) in [
            ("v5.channel.k8s.io", true, true),
            ("v4.channel.k8s.io", true, true),
            ("v3.channel.k8s.io", true, false),
            ("v2.channel.k8s.io", false, false),
        ] {
            let wanted = Wanted {
                stdin: true,
                stdout: true,
                stderr: false,
                resize,
                structured,
            };
            assert_eq!(Wanted::of(&options, protocol), wanted, "{protocol}");
        }
    }

    #[tokio::test]
    async fn who_opens_no_stream_is_hung_up_on() {
        let (mut near, far) = tokio::io::duplex(4096);
        let wanted = Wanted::of(&ExecOptions::default(), "v4.channel.k8s.io");
        let soon = Duration::from_millis(50);
        carry(spdy::serve(far), wanted, soon, Err(Box::default())).await;
        let mut said = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), near.read_to_end(&mut said)).await;
        read.expect("the connection ends").unwrap();
    }

    #[tokio::test]
    async fn who_wants_a_terminal_may_open_standard_error_for_the_sizes() {
        let (mut near, far) = tokio::io::duplex(4096);
        let options = ExecOptions {
            stdout: true,
            tty: true,
            ..ExecOptions::default()
        };
        let wanted = Wanted::of(&options, "v4.channel.k8s.io");
        let refused = Status {
            message: Some("no such program".to_owned()),
            ..Status::default()
        };
        let opened = spdy::opening(&["error", "stdout", "stderr"]);
        near.write_all(&opened).await.unwrap();
        let never = Duration::from_secs(3600);
        let serving = tokio::spawn(carry(spdy::serve(far), wanted, never, Err(Box::new(refused))));
        let mut said = Vec::new();
        let end = async {
            while !String::from_utf8_lossy(&said).contains("no such program") {
                assert!(near.read_buf(&mut said).await.unwrap() > 0, "hung up");
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(60), end).await;
        heard.expect("the server waits for another stream");
        drop(near);
        serving.await.unwrap();
    }

    #[test]
    fn old_protocols_hear_of_failures_only() {
        let failed = serde_json::json!({"status": "Failure", "message": "exit status 3"});
        let good = serde_json::json!({"status": "Success"});
        assert_eq!(told(&failed, false), b"exit status 3");
        assert_eq!(told(&good, false), b"");
        assert_eq!(told(&good, true), br#"{"status":"Success"}"#);
    }

    #[test]
    fn sizes_are_read_however_they_are_cut() {
        let text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":0}\n{\"Width\":1,\"Height\":2}\n";
        for piece in 1..text.len() {
            let mut line = Vec::new();
            let found: Vec<_> = text
                .chunks(piece)
                .flat_map(|piece| sizes(&mut line, &Bytes::copy_from_slice(piece)))
                .collect();
            assert_eq!(found, [(80, 24), (1, 2)], "{piece}");
        }
        let mut line = Vec::new();
        sizes(&mut line, &Bytes::from(vec![b' '; 1 << 20]));
        assert!(line.len() <= MAX_SIZE);
    }
}
