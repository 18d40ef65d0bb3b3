//! What can go wrong, with curl's exit codes.

use std::{io, path::PathBuf, time::Duration};

use thiserror::Error;

use crate::standins::tls::TlsError;

/// Why a transfer failed; the texts say what curl's say.
#[derive(Debug, Error)]
pub enum CurlError {
    /// Neither http nor https.
    #[error("Protocol \"{0}\" not supported")]
    Protocol(String),
    /// No URL.
    #[error("URL rejected: {0}")]
    Url(String),
    /// No header or method that HTTP could carry.
    #[error("{0}")]
    Request(String),
    /// No address.
    #[error("Could not resolve host: {0}")]
    Resolve(String),
    /// Nobody listens, or nobody can be reached.
    #[error("Failed to connect to {host} port {port}: {source}")]
    Connect {
        /// The host that was asked for.
        host: String,
        /// Its port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The body broke off.
    #[error("Transferred a partial file: {0}")]
    Partial(String),
    /// An HTTP error, with `-f`.
    #[error("The requested URL returned error: {0}")]
    Status(u16),
    /// The output cannot be written.
    #[error("Failure writing output to destination: {0}")]
    Write(io::Error),
    /// The data to send cannot be read.
    #[error("Failed to open {}: {source}", .name.display())]
    Read {
        /// The file.
        name: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Time is up.
    #[error("Operation timed out after {} milliseconds", .0.as_millis())]
    Timeout(Duration),
    /// The handshake failed.
    #[error("TLS connect error: {0}")]
    Handshake(String),
    /// Redirected in circles.
    #[error("Maximum (50) redirects followed")]
    Redirects,
    /// The connection ended before an answer.
    #[error("Empty reply from server")]
    Empty,
    /// The connection broke.
    #[error("Recv failure: {0}")]
    Receive(String),
    /// The server's certificate is not to be trusted.
    #[error("SSL certificate problem: {0}")]
    Certificate(String),
    /// The answer is no HTTP.
    #[error("Weird server reply: {0}")]
    Weird(String),
    /// TLS cannot be begun.
    #[error("{0}")]
    Tls(#[from] TlsError),
}

impl CurlError {
    /// curl's exit code (`man curl`, EXIT CODES).
    pub fn code(&self) -> u8 {
        match self {
            CurlError::Protocol(_) => 1,
            CurlError::Url(_) => 3,
            CurlError::Request(_) => 43,
            CurlError::Resolve(_) => 6,
            CurlError::Connect { .. } => 7,
            CurlError::Weird(_) => 8,
            CurlError::Partial(_) => 18,
            CurlError::Status(_) => 22,
            CurlError::Write(_) => 23,
            CurlError::Read { .. } => 26,
            CurlError::Timeout(_) => 28,
            CurlError::Handshake(_) => 35,
            CurlError::Redirects => 47,
            CurlError::Empty => 52,
            CurlError::Receive(_) => 56,
            CurlError::Tls(TlsError::Identity { .. }) => 58,
            CurlError::Certificate(_) => 60,
            CurlError::Tls(TlsError::Authorities { .. }) => 77,
            CurlError::Tls(TlsError::Library(_)) => 35,
        }
    }
}
