//! Where a service is called: in clear, or over TLS, with what the caller proved.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::server::TlsStream;

use crate::standins::tls::{Acceptor, Proved};

/// How many callers may be shaking hands at once; more wait.
const HANDSHAKES: usize = 64;

/// The two ends of a request's connection.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The caller's.
    pub peer: SocketAddr,
    /// The server's: where there are several, the one that was called.
    pub local: SocketAddr,
    /// What the caller proved in the TLS handshake.
    pub proved: Option<Arc<Proved>>,
}

/// Where a service is called.
pub struct Door {
    /// Where calls come in.
    pub listener: TcpListener,
    /// How they are encrypted, and what callers must prove; `None` is plain HTTP.
    pub tls: Option<Arc<Acceptor>>,
    /// Where the kubelet asks, in plain HTTP, whether the service is well.
    pub health: Option<TcpListener>,
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Door {
        Door {
            listener,
            tls: None,
            health: None,
        }
    }
}

/// A connection that was let in.
pub enum Stream {
    /// In clear.
    Plain(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn ends(&self, peer: SocketAddr) -> Ends {
        let (tcp, proved) = match self {
            Stream::Plain(tcp) => (tcp, None),
            Stream::Tls(tls) => {
                let (tcp, session) = tls.get_ref();
                (tcp, Proved::by(session.peer_certificates()))
            }
        };
        Ends {
            peer,
            local: tcp.local_addr().unwrap_or(peer),
            proved: proved.map(Arc::new),
        }
    }
}

macro_rules! either {
    ($self:ident, $poll:ident $(, $argument:expr)*) => {
        match $self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).$poll($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$poll($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, poll_write, cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown, cx)
    }
}

/// Connections as they come in. They send what is written at once: else a small answer may wait for the acknowledgement
/// of its head.
pub enum Arrivals {
    /// All.
    Plain(TcpListener),
    /// Those that have shaken hands.
    Tls(mpsc::Receiver<(Stream, SocketAddr)>, SocketAddr),
}

impl Arrivals {
    /// Those at `listener`, over TLS where it is spoken.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn at(listener: TcpListener, tls: Option<Arc<Acceptor>>) -> io::Result<Arrivals> {
        let Some(tls) = tls else {
            return Ok(Arrivals::Plain(listener));
        };
        let local = listener.local_addr()?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(shake_hands(listener, tls, sender));
        Ok(Arrivals::Tls(receiver, local))
    }
}

/// Shakes hands with every caller, each at its own pace, until nobody takes them any more.
async fn shake_hands(mut listener: TcpListener, tls: Arc<Acceptor>, arrived: mpsc::Sender<(Stream, SocketAddr)>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let (stream, peer) = tokio::select! {
            accepted = prompt(&mut listener) => accepted,
            () = arrived.closed() => return,
        };
        let (tls, arrived) = (tls.clone(), arrived.clone());
        tokio::spawn(async move {
            if let Some(stream) = tls.accept(stream, peer).await {
                // Nobody takes it when the service ends.
                let _ = arrived.send((Stream::Tls(Box::new(stream)), peer)).await;
            }
            drop(place);
        });
    }
}

async fn prompt(listener: &mut TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, peer) = Listener::accept(listener).await;
    let _ = stream.set_nodelay(true);
    (stream, peer)
}

impl Listener for Arrivals {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        match self {
            Arrivals::Plain(listener) => {
                let (stream, peer) = prompt(listener).await;
                (Stream::Plain(stream), peer)
            }
            Arrivals::Tls(arriving, _) => match arriving.recv().await {
                Some(arrived) => arrived,
                // Only when the runtime ends.
                None => std::future::pending().await,
            },
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Arrivals::Plain(listener) => listener.local_addr(),
            Arrivals::Tls(_, local) => Ok(*local),
        }
    }
}

impl Connected<IncomingStream<'_, Arrivals>> for Ends {
    fn connect_info(stream: IncomingStream<'_, Arrivals>) -> Ends {
        stream.io().ends(*stream.remote_addr())
    }
}
