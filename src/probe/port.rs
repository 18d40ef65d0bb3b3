//! Sockets whose source port says that a probe asks.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rand::seq::SliceRandom;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::packet::PROBE_PORTS;

/// Ports that are tried before the system chooses one.
const TRIES: usize = 32;

fn candidates() -> impl Iterator<Item = u16> {
    let mut ports: Vec<u16> = PROBE_PORTS.collect();
    ports.shuffle(&mut rand::rng());
    // A probe that a capture cannot tell from the application is better than none.
    ports.into_iter().take(TRIES).chain([0])
}

fn any(peer: SocketAddr, port: u16) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

/// Whether another port may do: this one is in use, or its last connection to the same peer is not forgotten yet.
fn taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

/// Connects from one of [`PROBE_PORTS`].
pub(super) async fn connect(peer: SocketAddr) -> io::Result<TcpStream> {
    let mut last = None;
    for port in candidates() {
        let socket = match peer {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        match socket.bind(any(peer, port)) {
            Ok(()) => {}
            Err(error) if taken(&error) => {
                last = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        }
        match socket.connect(peer).await {
            Err(error) if taken(&error) && port != 0 => last = Some(error),
            done => return done,
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// A UDP socket that speaks with `peer` only, from one of [`PROBE_PORTS`].
pub(super) async fn udp(peer: SocketAddr) -> io::Result<UdpSocket> {
    let mut last = None;
    for port in candidates() {
        match UdpSocket::bind(any(peer, port)).await {
            Ok(socket) => {
                socket.connect(peer).await?;
                return Ok(socket);
            }
            Err(error) if taken(&error) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn probes_ask_from_ports_of_their_own() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let mut open = Vec::new();
        // Connections that stay open, and others that were just closed, take ports away from those that follow.
        for number in 0..40 {
            let stream = connect(peer).await.unwrap();
            let (served, from) = listener.accept().await.unwrap();
            assert!(PROBE_PORTS.contains(&from.port()), "{from}");
            if number % 2 == 0 {
                open.push((stream, served));
            }
        }
        let asked = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = udp(asked.local_addr().unwrap()).await.unwrap();
        assert!(PROBE_PORTS.contains(&socket.local_addr().unwrap().port()));
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        drop(listener);
        let refused = connect(peer).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
