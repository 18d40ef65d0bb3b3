//! How long the server waits for a client: for its next request, and for it to read what it asked for.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::Body;

/// Times after which a client is given up.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the TLS handshake, and for a request's head.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    /// For the next request on a connection with none under way; as kube-apiserver has it.
    pub idle: Duration,
    /// For a client to read anything of what is being sent to it. Long, since somebody may look at a pager.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(90),
            stall: Duration::from_secs(600),
        }
    }
}

/// What a connection is doing.
#[derive(Debug, Clone)]
pub struct Activity {
    state: Arc<Mutex<State>>,
    upgraded: Arc<AtomicBool>,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    /// When the last request ended, or the connection began.
    since: Instant,
    /// When the first byte of a request came whose head is not whole yet.
    begun: Option<Instant>,
    /// Whether the client speaks HTTP/2, where bytes may come that belong to no request.
    framed: bool,
}

impl State {
    /// When to look again; nothing is left where this client is given up.
    fn left(&self, patience: &Patience) -> Duration {
        match (self.under_way, self.begun) {
            (1.., _) => patience.idle,
            (0, Some(begun)) => patience.head.saturating_sub(begun.elapsed()),
            // A head may begin meanwhile.
            (0, None) => patience.idle.saturating_sub(self.since.elapsed()).min(patience.head),
        }
    }
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub struct Busy(Activity);

impl Activity {
    /// A connection that has just begun.
    pub fn begin() -> Self {
        let state = State {
            under_way: 0,
            since: Instant::now(),
            begun: None,
            framed: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            upgraded: Arc::default(),
        }
    }

    /// A request has come.
    pub fn request(&self) -> Busy {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.under_way += 1;
        state.begun = None;
        drop(state);
        Busy(self.clone())
    }

    /// Bytes have come.
    fn read(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.framed |= bytes.starts_with(b"PRI ");
        if state.under_way == 0 && !state.framed {
            state.begun.get_or_insert_with(Instant::now);
        }
    }

    /// The connection is no longer HTTP's: who has it now waits as long as they like.
    pub fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// Waits until no request came for longer than an idle connection may stay, or one began and did not come whole. An idle
    /// one stays much longer than a head may take: its client may be about to use it again, and would find it gone.
    pub async fn given_up(&self, patience: &Patience) {
        loop {
            let left = self.state.lock().unwrap_or_else(PoisonError::into_inner).left(patience);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.under_way -= 1;
        state.since = Instant::now();
    }
}

/// A response's body that keeps something until it is sent or given up.
pub struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T> Holding<T> {
    /// Keeps `held` as long as `body`.
    pub fn new(body: Body, held: T) -> Self {
        Self { body, _held: held }
    }
}

impl<T: Unpin> http_body::Body for Holding<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        http_body::Body::poll_frame(Pin::new(&mut self.body), cx)
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

/// A connection that fails when its reader takes nothing for too long, and tells when something comes.
pub struct Stalling<S> {
    stream: S,
    limit: Duration,
    activity: Activity,
    /// When the write that waits is given up.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Stalling<S> {
    /// `stream`, on which a write may wait for `limit`.
    pub fn new(stream: S, limit: Duration, activity: Activity) -> Self {
        Self {
            stream,
            limit,
            activity,
            until: None,
        }
    }

    fn judge<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() || self.activity.upgraded.load(Ordering::Relaxed) {
            self.until = None;
            return polled;
        }
        let limit = self.limit;
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match until.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(polled, cx)
    }
}
