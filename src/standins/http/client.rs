//! A plain HTTP/1.1 client that opens a connection for every request, as services without a connection pool do.
//!
//! So whoever begins to listen at any time sees whole conversations.

use std::{future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::standins::tls::{self, Connector};

/// The largest answer, in bytes.
const LARGEST_ANSWER: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The URL cannot be called.
    #[error("{0} is not an http:// or https:// URL with a host")]
    Url(String),
    /// The URL asks for TLS, and nothing says whom to trust.
    #[error(
        "{0}: set TLS_UPSTREAM_CA_FILE to the certificate of the authority to trust, or with SVIDs TLS_UPSTREAM_AUTHORIZED_IDS"
    )]
    NoAuthority(String),
    /// The name did not resolve, or nobody took the connection.
    #[error("{authority}: {source}")]
    Connect {
        /// Host and port.
        authority: String,
        /// What the system said.
        source: io::Error,
    },
    /// There was no agreement on TLS: what one side says of the other.
    #[error("{authority}: TLS: {reason}")]
    Tls {
        /// Host and port.
        authority: String,
        /// What was wrong.
        reason: String,
    },
    /// Nothing within the time.
    #[error("{authority}: no answer within {} ms", .after.as_millis())]
    Timeout {
        /// Host and port.
        authority: String,
        /// The time it had.
        after: Duration,
    },
    /// The answer was no HTTP, or broke off.
    #[error("{authority}: {reason}")]
    Broken {
        /// Host and port.
        authority: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body as JSON; null where it is none.
    pub body: Value,
}

/// A base URL, checked once.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    authority: String,
    path: String,
    tls: Option<Arc<Connector>>,
}

impl Target {
    /// Reads `http://host[:port][/path]`, or `https://` where there is a way to speak it.
    ///
    /// # Errors
    /// [`ClientError::Url`] and [`ClientError::NoAuthority`].
    pub fn parse(url: &str, tls: Option<Connector>) -> Result<Target, ClientError> {
        let bad = || ClientError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let (port, tls) = match (uri.scheme_str(), tls) {
            (Some("http"), _) => (80, None),
            (Some("https"), Some(tls)) => (443, Some(Arc::new(tls))),
            (Some("https"), None) => return Err(ClientError::NoAuthority(url.to_owned())),
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        Ok(Target {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(port),
            authority: authority.to_string(),
            path: uri.path().trim_end_matches('/').to_owned(),
            tls,
        })
    }

    /// Sends `body` by POST to `path` below the base URL, on a connection of its own.
    ///
    /// # Errors
    /// [`ClientError`]; a status of any kind is an answer and no error.
    pub async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: &Value,
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        let broken = |error: &dyn std::error::Error| ClientError::Broken {
            authority: self.authority.clone(),
            reason: error.to_string(),
        };
        let mut request = Request::post(format!("{}{path}", self.path))
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| broken(&error))?;
        *request.headers_mut() = headers;
        let host = HeaderValue::try_from(&self.authority).map_err(|error| broken(&error))?;
        request.headers_mut().insert(header::HOST, host);
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
        within(timeout, &self.authority, self.exchange(request)).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let connection = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| ClientError::Connect {
                authority: self.authority.clone(),
                source,
            })?;
        match &self.tls {
            None => self.converse(connection, request).await,
            Some(tls) => {
                let connection = tls.connect(&self.host, connection).await;
                self.converse(connection.map_err(|error| self.broken(&error))?, request)
                    .await
            }
        }
    }

    /// What an error is. One of TLS may come as late as the answer: a server refuses a certificate of TLS 1.3 after the
    /// client's side of the handshake has ended.
    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        let (authority, reason) = (self.authority.clone(), tls::told(error));
        match tls::cause(error) {
            Some(_) => ClientError::Tls { authority, reason },
            None => ClientError::Broken { authority, reason },
        }
    }

    async fn converse(
        &self,
        connection: impl AsyncRead + AsyncWrite + Unpin,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, ClientError> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
            .await
            .map_err(|error| self.broken(&error))?;
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| self.broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER)
                .collect()
                .await
                .map_err(|error| self.broken(error.as_ref()))?
                .to_bytes();
            Ok(Answer {
                status,
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            })
        };
        // The connection must be driven for the answer to come; what ends it shows in the answer.
        let (answer, _) = tokio::join!(answer, connection);
        answer
    }
}

async fn within<T>(
    after: Duration,
    authority: &str,
    exchange: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(after, exchange).await.unwrap_or_else(|_| {
        Err(ClientError::Timeout {
            authority: authority.to_owned(),
            after,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_with_a_host_are_targets() {
        for (url, expected) in [
            ("http://orders-api", Some(("orders-api", 80, ""))),
            ("http://orders-api:8080/v1/", Some(("orders-api", 8080, "/v1"))),
            ("http://[::1]:81", Some(("::1", 81, ""))),
            ("ftp://orders-api", None),
            ("https://orders-api", None),
            ("orders-api", None),
            ("/orders", None),
            ("", None),
        ] {
            let target = Target::parse(url, None).ok();
            let found = target.as_ref().map(|t| (t.host.as_str(), t.port, t.path.as_str()));
            assert_eq!(found, expected, "{url}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_url_panics(url in ".*") {
            let _ = Target::parse(&url, None);
        }
    }
}
