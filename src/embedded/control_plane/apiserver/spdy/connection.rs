//! The I/O around a session: one task reads, one writes, and every stream is a pair of handles.
//!
//! What waits is bounded: received bytes by [`RECEIVED`] (the client is not read on until they have gone on), bytes to
//! send by [`TO_SEND`] (who sends waits).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    headers::Headers,
    session::{Event, MAX_STREAMS, Reset, Session},
};

/// Bytes of all of a connection's streams that may wait to be consumed.
const RECEIVED: usize = 1 << 20;
/// Bytes that may wait to be written to the client.
const TO_SEND: usize = 256 << 10;
/// How much is read at once.
const READ: usize = 32 << 10;
/// How often a client is asked for a sign of life: one that is gone without a word is noticed by what is written to it.
const PING: Duration = Duration::from_secs(10);
/// How long a client may take to close after a GOAWAY.
const CLOSING: Duration = Duration::from_secs(5);

struct Shared {
    session: Mutex<Session>,
    /// Bytes that have left the session and are being written.
    writing: AtomicUsize,
    /// There is something to write.
    wake: Notify,
    /// Something was written, a window has grown, or a stream has gone.
    moved: Notify,
    /// Cancelled when the client is gone, or the connection is to end.
    end: CancellationToken,
    /// Cancelled when the client has said, or shown, that it is gone.
    gone: CancellationToken,
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the session say something.
    fn say<T>(&self, what: impl FnOnce(&mut Session) -> T) -> T {
        let answer = what(&mut self.session());
        self.wake.notify_one();
        answer
    }
}

/// A stream that the client opened.
pub struct Opened {
    /// What it says of itself.
    pub headers: Headers,
    /// What the client sends.
    pub incoming: Incoming,
    /// What is sent to the client.
    pub outgoing: Outgoing,
}

enum Piece {
    Data(Bytes, OwnedSemaphorePermit),
    End,
}

/// The stream was reset, or the client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream was reset")]
pub struct Broken;

/// The client's direction of a stream.
pub struct Incoming {
    stream: u32,
    pieces: mpsc::UnboundedReceiver<Piece>,
    shared: Arc<Shared>,
    ended: bool,
}

impl Incoming {
    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// When the stream was reset.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.ended {
            return Ok(None);
        }
        match self.pieces.recv().await {
            Some(Piece::Data(bytes, permit)) => {
                drop(permit);
                self.shared.say(|session| session.consumed(self.stream, bytes.len()));
                Ok(Some(bytes))
            }
            Some(Piece::End) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(Broken),
        }
    }
}

/// This side's direction of a stream. Dropped, it ends.
pub struct Outgoing {
    stream: u32,
    shared: Arc<Shared>,
}

impl Outgoing {
    /// Sends bytes; waits while too many wait to be written, or the client's window is full.
    ///
    /// # Errors
    /// When the stream was reset, or the client is gone.
    pub async fn send(&self, mut bytes: &[u8]) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let moved = self.shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.shared.end.is_cancelled() {
                return Err(Broken);
            }
            let sent = {
                let mut session = self.shared.session();
                if session.pending() >= TO_SEND {
                    0
                } else {
                    session.send(self.stream, bytes).ok_or(Broken)?
                }
            };
            if sent > 0 {
                self.shared.wake.notify_one();
                bytes = bytes.get(sent..).unwrap_or_default();
                continue;
            }
            tokio::select! {
                () = moved => {}
                () = self.shared.end.cancelled() => return Err(Broken),
            }
        }
        Ok(())
    }

    /// Says that no more will be sent.
    pub fn finish(&self) {
        self.shared.say(|session| session.finish(self.stream));
    }

    /// Ends the stream at once, both ways.
    pub fn reset(&self) {
        self.shared.say(|session| session.reset(self.stream, Reset::Cancel));
    }

    /// Waits until the stream is gone: reset by the client, ended both ways, or the client has left.
    pub async fn closed(&self) {
        loop {
            let moved = self.shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.shared.end.is_cancelled() || !self.shared.session().has(self.stream) {
                return;
            }
            tokio::select! {
                () = moved => {}
                () = self.shared.end.cancelled() => return,
            }
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A connection that is being served; dropped, it ends at once.
pub struct Connection {
    opened: mpsc::Receiver<Opened>,
    shared: Arc<Shared>,
    _end: DropGuard,
}

impl Connection {
    /// The next stream that the client opens; `None` when it opens no more.
    pub async fn opened(&mut self) -> Option<Opened> {
        self.opened.recv().await
    }

    /// Waits until the client is gone.
    pub async fn gone(&self) {
        self.shared.gone.cancelled().await;
    }

    /// Says goodbye, and gives the client time to read what was sent before the connection ends.
    pub async fn close(self) {
        self.shared.say(Session::go_away);
        let _ = tokio::time::timeout(CLOSING, self.shared.gone.cancelled()).await;
    }
}

/// Serves SPDY on `io`.
pub fn serve<S>(io: S) -> Connection
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let end = CancellationToken::new();
    let shared = Arc::new(Shared {
        session: Mutex::new(Session::new()),
        writing: AtomicUsize::new(0),
        wake: Notify::new(),
        moved: Notify::new(),
        end: end.clone(),
        gone: CancellationToken::new(),
    });
    let (source, sink) = tokio::io::split(io);
    let (tell, opened) = mpsc::channel(MAX_STREAMS);
    tokio::spawn(write(sink, shared.clone()));
    tokio::spawn(read(source, shared.clone(), tell));
    Connection {
        opened,
        shared,
        _end: end.drop_guard(),
    }
}

async fn read<S: AsyncRead>(mut source: ReadHalf<S>, shared: Arc<Shared>, tell: mpsc::Sender<Opened>) {
    let mut reader = Reader {
        shared: shared.clone(),
        tell: Some(tell),
        streams: HashMap::new(),
        budget: Arc::new(Semaphore::new(RECEIVED)),
    };
    let mut buffer = vec![0; READ];
    let ended = async {
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            if !reader.take(buffer.get(..count).unwrap_or_default()).await {
                return;
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = shared.end.cancelled() => {}
    }
    shared.gone.cancel();
    shared.end.cancel();
}

struct Reader {
    shared: Arc<Shared>,
    /// Gone when the client opens no more.
    tell: Option<mpsc::Sender<Opened>>,
    streams: HashMap<u32, mpsc::UnboundedSender<Piece>>,
    budget: Arc<Semaphore>,
}

impl Reader {
    /// Takes bytes, and waits until their data fits; `false` ends the connection.
    async fn take(&mut self, bytes: &[u8]) -> bool {
        let events = match self.shared.say(|session| session.receive(bytes)) {
            Ok(events) => events,
            Err(error) => {
                tracing::debug!(%error, "a client broke SPDY");
                self.flushed(0).await;
                return false;
            }
        };
        for event in events {
            match event {
                Event::Opened { stream, headers } => self.open(stream, headers),
                Event::Data { stream, bytes } => self.data(stream, bytes).await,
                Event::Ended { stream } => {
                    if let Some(pieces) = self.streams.remove(&stream) {
                        let _ = pieces.send(Piece::End);
                    }
                    self.shared.moved.notify_waiters();
                }
                Event::Reset { stream } => {
                    self.streams.remove(&stream);
                    self.shared.moved.notify_waiters();
                }
                Event::Window => self.shared.moved.notify_waiters(),
                Event::GoAway => self.tell = None,
            }
        }
        // A client that asks and does not read the answers is not listened to.
        self.flushed(TO_SEND).await;
        true
    }

    fn open(&mut self, stream: u32, headers: Headers) {
        if self.streams.len() > MAX_STREAMS {
            // Streams that this side has let go of: the client need not have said anything since.
            self.streams.retain(|_, pieces| !pieces.is_closed());
        }
        let (pieces, receiver) = mpsc::unbounded_channel();
        let shared = self.shared.clone();
        let opened = Opened {
            headers,
            incoming: Incoming {
                stream,
                pieces: receiver,
                shared: shared.clone(),
                ended: false,
            },
            outgoing: Outgoing { stream, shared },
        };
        match self.tell.as_ref().map(mpsc::Sender::try_reserve) {
            Some(Ok(place)) => {
                // Answered before it is told of: who is told may end it at once, and a client waits for the answer all the same.
                self.shared.say(|session| session.accept(stream));
                self.streams.insert(stream, pieces);
                place.send(opened);
            }
            _ => self.shared.say(|session| session.reset(stream, Reset::RefusedStream)),
        }
    }

    async fn data(&mut self, stream: u32, bytes: Bytes) {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // Pieces are smaller than the budget: what is read at once bounds them.
        let permit = match self.streams.get(&stream) {
            Some(pieces) if !pieces.is_closed() => self.budget.clone().acquire_many_owned(size).await.ok(),
            _ => None,
        };
        let delivered = match (self.streams.get(&stream), permit) {
            (Some(pieces), Some(permit)) => pieces.send(Piece::Data(bytes, permit)).is_ok(),
            _ => false,
        };
        if !delivered {
            // Nobody reads this stream: what comes is let go.
            self.shared.say(|session| session.consumed(stream, size as usize));
        }
    }

    /// Waits until no more than `most` bytes wait to be written.
    async fn flushed(&self, most: usize) {
        loop {
            let moved = self.shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let unwritten = self.shared.session().pending() + self.shared.writing.load(Ordering::Acquire);
            if unwritten <= most {
                return;
            }
            moved.await;
        }
    }
}

async fn write<S: AsyncWrite>(mut sink: WriteHalf<S>, shared: Arc<Shared>) {
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let output = {
            let mut session = shared.session();
            shared.writing.store(session.pending(), Ordering::Release);
            session.take_output()
        };
        if output.is_empty() {
            tokio::select! {
                () = shared.wake.notified() => {}
                () = shared.end.cancelled() => break,
                _ = pings.tick() => shared.session().ping(),
            }
            continue;
        }
        let written = async {
            sink.write_all(&output).await?;
            sink.flush().await
        };
        tokio::select! {
            written = written => {
                if written.is_err() {
                    break;
                }
            }
            () = shared.end.cancelled() => break,
        }
        shared.writing.store(0, Ordering::Release);
        shared.moved.notify_waiters();
    }
    shared.end.cancel();
    shared.moved.notify_waiters();
    let _ = tokio::time::timeout(CLOSING, sink.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_stream_is_answered_before_it_is_ended() {
        for _ in 0..500 {
            let (mut near, far) = tokio::io::duplex(4096);
            let mut connection = serve(far);
            near.write_all(&super::super::opening(&["stdout"])).await.unwrap();
            drop(connection.opened().await.unwrap());
            let mut first = [0; 4];
            near.read_exact(&mut first).await.unwrap();
            // SYN_REPLY of version 3
            assert_eq!(first, [0x80, 3, 0, 2]);
        }
    }
}
