//! A plain HTTP/1.1 client that opens a connection for every request, as services without a connection pool do.
//!
//! So whoever begins to listen at any time sees whole conversations.

use std::{future::Future, io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpStream;

/// The largest answer, in bytes.
const LARGEST_ANSWER: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The URL cannot be called.
    #[error("{0} is not an http:// URL with a host")]
    Url(String),
    /// The name did not resolve, or nobody took the connection.
    #[error("{authority}: {source}")]
    Connect {
        /// Host and port.
        authority: String,
        /// What the system said.
        source: io::Error,
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
#[derive(Debug, Clone)]
pub struct Target {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Target {
    /// Reads `http://host[:port][/path]`.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn parse(url: &str) -> Result<Target, ClientError> {
        let bad = || ClientError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("http") {
            return Err(bad());
        }
        let authority = uri.authority().ok_or_else(bad)?;
        Ok(Target {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: authority.to_string(),
            path: uri.path().trim_end_matches('/').to_owned(),
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
        let broken = |reason: String| ClientError::Broken {
            authority: self.authority.clone(),
            reason,
        };
        let connection = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| ClientError::Connect {
                authority: self.authority.clone(),
                source,
            })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
            .await
            .map_err(|error| broken(error.to_string()))?;
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| broken(error.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER)
                .collect()
                .await
                .map_err(|error| broken(error.to_string()))?
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
            ("https://orders-api", None),
            ("orders-api", None),
            ("/orders", None),
            ("", None),
        ] {
            let target = Target::parse(url).ok();
            let found = target.as_ref().map(|t| (t.host.as_str(), t.port, t.path.as_str()));
            assert_eq!(found, expected, "{url}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_url_panics(url in ".*") {
            let _ = Target::parse(&url);
        }
    }
}
