//! One face's connection.

use std::{io, sync::Arc};

use futures::{SinkExt, StreamExt};
use tokio::{
    net::UnixStream,
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

use super::Host;
use crate::session::command::{PROTOCOL, Request, ServerLine};

/// The longest line a face may send, in bytes.
const LINE: usize = 64 * 1024;
/// Lines that may wait for a slow face.
const WAITING: usize = 16;
/// Commands of one face that may run at once.
const AT_ONCE: usize = 8;

/// Serves a face until it goes away.
///
/// # Errors
/// When it breaks off in the middle, or sends what is no request.
pub async fn serve(stream: UnixStream, host: Arc<Host>) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let mut requests = FramedRead::new(read, LinesCodec::new_with_max_length(LINE));
    let (sender, receiver) = mpsc::channel(WAITING);
    let hello = ServerLine::Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
    };
    // The channel was just made, and has room.
    let _ = sender.send(hello).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(write_lines(write, receiver));
    let running = Arc::new(Semaphore::new(AT_ONCE));
    let mut follows = false;
    while let Some(line) = requests.next().await {
        let line = line.map_err(io::Error::other)?;
        match serde_json::from_str(&line).map_err(io::Error::other)? {
            Request::Follow if follows => {}
            Request::Follow => {
                follows = true;
                tasks.spawn(send_snapshots(host.clone(), sender.clone()));
            }
            Request::Run { id, cwd, command } => {
                let (host, sender) = (host.clone(), sender.clone());
                let Ok(permit) = running.clone().acquire_owned().await else {
                    return Ok(());
                };
                // What a face asked for goes on when the face is gone.
                tokio::spawn(async move {
                    let reply = host.run(cwd, command).await;
                    drop(permit);
                    let _ = sender.send(ServerLine::Answer { id, reply }).await;
                });
            }
        }
    }
    Ok(())
}

async fn write_lines(write: tokio::net::unix::OwnedWriteHalf, mut lines: mpsc::Receiver<ServerLine>) {
    let mut write = FramedWrite::new(write, LinesCodec::new());
    while let Some(line) = lines.recv().await {
        let Ok(text) = serde_json::to_string(&line) else {
            continue;
        };
        if write.send(text).await.is_err() {
            return;
        }
    }
}

/// Sends the last snapshot whenever there is a new one; a slow face misses those between.
async fn send_snapshots(host: Arc<Host>, sender: mpsc::Sender<ServerLine>) {
    let mut snapshots = host.follow();
    // The state now, rather than the one last published.
    let mut snapshot = Box::new(host.snapshot());
    loop {
        if sender.send(ServerLine::Snapshot { snapshot }).await.is_err() || snapshots.changed().await.is_err() {
            return;
        }
        snapshot = Box::new(snapshots.borrow_and_update().as_ref().clone());
    }
}
