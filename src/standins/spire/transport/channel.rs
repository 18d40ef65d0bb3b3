//! gRPC clients over unix sockets and over mutual TLS.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// A client of the unix socket at `path`; it connects at the first call, and again after a connection ended.
pub fn over_unix(path: PathBuf) -> Channel {
    // The authority is what Envoy, Go and Rust clients send over a unix socket.
    Endpoint::from_static("http://localhost")
        .connect_timeout(CONNECT)
        .connect_with_connector_lazy(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
}

/// A client of `host:port` by TLS; whom it believes is in `config`, not in the name.
pub fn over_tls(host: String, port: u16, config: Arc<rustls::ClientConfig>) -> Channel {
    let connector = TlsConnector::from(config);
    Endpoint::from_static("http://spire-server")
        .connect_timeout(CONNECT)
        .connect_with_connector_lazy(service_fn(move |_: Uri| {
            let (host, connector) = (host.clone(), connector.clone());
            async move {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}` is no host name")))?;
                let stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        }))
}
