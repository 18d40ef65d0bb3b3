//! TCP, as plainly as it goes.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpStream};

/// Opens a connection.
///
/// # Errors
/// What the system says.
pub async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}

/// Listens on a port of every address.
///
/// # Errors
/// When it is taken.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", port))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("listening on tcp port {port}: {error}")))
}
