//! One connection: to an address, over TLS where asked, with everything that passes written down for `-v` and `-i`.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{args::Options, error::CurlError, url::Url};
use crate::standins::{
    tls::cause,
    tools::tls::{self, Demand, Trust},
};

/// How much of either direction is written down, in bytes: more than any head.
const WRITTEN_DOWN: usize = 64 * 1024;

/// Both directions of HTTP.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection.
pub struct Connection {
    /// What HTTP is spoken over.
    pub stream: Tap,
    /// What was sent and received over it so far.
    pub record: Arc<Mutex<Record>>,
    /// The two ends.
    pub ends: (SocketAddr, SocketAddr),
    /// Facts for `-v`.
    pub notes: Vec<String>,
    /// When names were resolved, when TCP and when TLS was up, since the start.
    pub times: [Duration; 3],
}

/// The beginning of either direction, as it was on the wire inside TLS.
#[derive(Default)]
pub struct Record {
    /// What was sent.
    pub sent: Vec<u8>,
    /// What was received.
    pub received: Vec<u8>,
}

/// A stream that writes down what passes.
pub struct Tap {
    inner: Box<dyn Stream>,
    record: Arc<Mutex<Record>>,
}

/// Connects to where `url` points.
///
/// # Errors
/// When there is no address, no listener, or no TLS.
pub async fn open(url: &Url, options: &Options, start: Instant) -> Result<Connection, CurlError> {
    let addresses = addresses(url, options).await?;
    let resolved = start.elapsed();
    let mut notes = Vec::new();
    let stream = connect(url, &addresses, &mut notes).await?;
    let connected = start.elapsed();
    let ends = (stream.local_addr(), stream.peer_addr());
    let ends = match ends {
        (Ok(local), Ok(peer)) => (local, peer),
        (Err(error), _) | (_, Err(error)) => return Err(CurlError::Receive(error.to_string())),
    };
    let inner: Box<dyn Stream> = if url.https {
        Box::new(handshake(url, options, stream, &mut notes).await?)
    } else {
        Box::new(stream)
    };
    let record = Arc::new(Mutex::new(Record::default()));
    Ok(Connection {
        stream: Tap {
            inner,
            record: record.clone(),
        },
        record,
        ends,
        notes,
        times: [resolved, connected, start.elapsed()],
    })
}

async fn addresses(url: &Url, options: &Options) -> Result<Vec<SocketAddr>, CurlError> {
    let given: Vec<_> = options
        .resolve
        .iter()
        .filter(|(host, port, _)| *host == url.host && *port == url.port)
        .map(|(_, port, address)| SocketAddr::new(*address, *port))
        .collect();
    if !given.is_empty() {
        return Ok(given);
    }
    match tokio::net::lookup_host((url.host.as_str(), url.port)).await {
        Ok(found) => Ok(found.collect()),
        Err(_) => Err(CurlError::Resolve(url.host.clone())),
    }
}

async fn connect(url: &Url, addresses: &[SocketAddr], notes: &mut Vec<String>) -> Result<TcpStream, CurlError> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
    for address in addresses {
        notes.push(format!("  Trying {address}..."));
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                notes.push(format!(
                    "Connected to {} ({}) port {}",
                    url.host,
                    address.ip(),
                    address.port()
                ));
                return Ok(stream);
            }
            Err(error) => {
                notes.push(format!("connect to {address} failed: {error}"));
                last = error;
            }
        }
    }
    Err(CurlError::Connect {
        host: url.host.clone(),
        port: url.port,
        source: last,
    })
}

async fn handshake(
    url: &Url,
    options: &Options,
    stream: TcpStream,
    notes: &mut Vec<String>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, CurlError> {
    let (config, judgement) = tls::client(Trust {
        authorities: options.cacert.as_deref(),
        identity: options
            .identity
            .as_ref()
            .map(|(certificate, key)| (certificate.as_path(), key.as_path())),
        demand: if options.insecure {
            Demand::Nothing
        } else {
            Demand::Full
        },
        versions: options.versions,
    })?;
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| CurlError::Url(format!("{} is no name that a certificate could have", url.host)))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| classify(&error))?;
    let (_, session) = stream.get_ref();
    let version = session
        .protocol_version()
        .and_then(|version| version.as_str().map(str::to_owned));
    let suite = session
        .negotiated_cipher_suite()
        .map(|suite| format!("{:?}", suite.suite()));
    notes.push(format!(
        "SSL connection using {} / {}",
        version.unwrap_or_else(|| "an unknown version".to_owned()),
        suite.unwrap_or_else(|| "an unknown suite".to_owned()),
    ));
    match judgement.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        Some(Ok(())) => notes.push("SSL certificate verify ok.".to_owned()),
        Some(Err(error)) => notes.push(format!("SSL certificate verify result: {error}, continuing anyway.")),
        None => {}
    }
    Ok(stream)
}

fn classify(error: &io::Error) -> CurlError {
    match cause(error) {
        Some(rustls::Error::InvalidCertificate(problem)) => CurlError::Certificate(problem.to_string()),
        Some(other) => CurlError::Handshake(other.to_string()),
        None => CurlError::Handshake(error.to_string()),
    }
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        write_down(&mut record.received, &buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, data);
        if let Poll::Ready(Ok(length)) = polled {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            write_down(&mut record.sent, &data[..length]);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn write_down(record: &mut Vec<u8>, data: &[u8]) {
    let room = WRITTEN_DOWN.saturating_sub(record.len());
    record.extend_from_slice(&data[..data.len().min(room)]);
}
