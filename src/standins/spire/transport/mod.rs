//! Connections: unix sockets and mutual TLS, as streams that gRPC is served on, each knowing who is at its other end.

mod authority;
mod channel;
mod tls;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

pub use authority::{Mended, fuzz as fuzz_authority};
pub use channel::{over_tls, over_unix};
pub use tls::{Identity, Peer, Trust, client_config, peer_of, server_config};

/// Most connections of one listener at a time; more wait.
const MOST_CONNECTIONS: usize = 1024;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that were accepted and are not served yet.
const BACKLOG: usize = 16;

/// A connection and what is known of it.
pub struct Connection<I, P> {
    io: I,
    info: P,
    _permit: OwnedSemaphorePermit,
}

/// Connections as they come.
pub type Incoming<I, P> = ReceiverStream<io::Result<Connection<I, P>>>;

impl<I, P: Clone + Send + Sync + 'static> Connected for Connection<I, P> {
    type ConnectInfo = P;

    fn connect_info(&self) -> P {
        self.info.clone()
    }
}

impl<I: AsyncRead + Unpin, P: Unpin> AsyncRead for Connection<I, P> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Connection<I, P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Accepts on a unix socket; `inform` says what is known of a connection, and one of which it fails is closed.
pub fn accept_unix<P: Send + 'static>(
    listener: UnixListener,
    inform: impl Fn(&UnixStream) -> io::Result<P> + Send + 'static,
) -> Incoming<Mended<UnixStream>, P> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    tokio::spawn(async move {
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let connection = accepted.and_then(|(stream, _)| {
                let info = inform(&stream)?;
                Ok(Connection {
                    io: Mended::new(stream),
                    info,
                    _permit: permit,
                })
            });
            match connection {
                Ok(connection) => {
                    if sender.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    // Out of file descriptors, accepting fails at once each time.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Accepts TLS; handshakes do not wait for each other.
pub fn accept_tls(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
) -> Incoming<TlsStream<tokio::net::TcpStream>, Option<Peer>> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            // Answers are several small writes: held back for the peer's acknowledgement they would take 40 ms each.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::warn!(%address, %error, "a connection ended at once");
                continue;
            }
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(io)) => {
                        let info = peer_of(io.get_ref().1.peer_certificates());
                        let _ = sender
                            .send(Ok(Connection {
                                io,
                                info,
                                _permit: permit,
                            }))
                            .await;
                    }
                    Ok(Err(error)) => tracing::warn!(%address, %error, "a TLS handshake failed"),
                    Err(_) => tracing::warn!(%address, "a TLS handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// Listens on a unix socket at `path` in the place of one that a process before left behind; anybody may connect if
/// `for_all`, else its owner and group only.
pub fn listen_unix(path: &std::path::Path, for_all: bool) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let mode = if for_all { 0o777 } else { 0o770 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}
