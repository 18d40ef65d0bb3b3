//! The network's side: TLS, HTTP/1.1 and HTTP/2 on one port, and the same door for components in the process.

use std::{convert::Infallible, io, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use super::{ApiServer, Body, MAX_BODY, UserInfo, authn, authz, dispatch, reply, status::ApiError};

/// How long a client may take over the TLS handshake, and over a request's head.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take over a request's body.
const BODY: Duration = Duration::from_secs(60);
/// Connections served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 512;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ApiServer {
    /// A client for a component in this process: the same requests and the same rules, as `user`, without a network.
    ///
    /// Must be called within a tokio runtime. It cannot upgrade connections (exec, attach): those are for clients
    /// outside the node.
    pub fn client(&self, user: UserInfo) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (server, user) = (server.clone(), user.clone());
            async move { Ok::<_, Infallible>(server.handle(request, move |_| Ok(user)).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Serves clients of `listener` until it fails.
    ///
    /// # Errors
    /// When the listener can take no more connections.
    pub async fn serve(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>) -> io::Result<()> {
        let acceptor = TlsAcceptor::from(tls);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (server, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                if let Err(error) = server.connection(stream, acceptor).await {
                    tracing::debug!(%error, "connection ended");
                }
                drop(slot);
            });
        }
    }

    async fn connection(&self, stream: TcpStream, acceptor: TlsAcceptor) -> Result<(), BoxError> {
        stream.set_nodelay(true)?;
        let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
        let user = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|certificate| UserInfo::from_certificate(certificate));
        let server = self.clone();
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let (server, user) = (server.clone(), user.clone());
            async move {
                let authenticate = |request: &http::request::Parts| {
                    let user = authn::authenticate(&server, user.as_ref(), &request.headers)?;
                    authn::impersonate(&server, user, &request.headers)
                };
                let writes = !matches!(*request.method(), http::Method::GET | http::Method::HEAD);
                let answer = server.handle(request, authenticate).await;
                if writes && answer.status().is_success() {
                    // What a client was told is done outlives a node that is killed.
                    server.store().persisted(server.store().revision()).await;
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .max_concurrent_streams(250);
        builder
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .await
    }

    /// Answers one request.
    pub(super) async fn handle<B>(
        &self,
        request: Request<B>,
        authenticate: impl FnOnce(&http::request::Parts) -> Result<UserInfo, ApiError>,
    ) -> Response<Body>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let user = match authenticate(&parts) {
            Ok(user) => user,
            Err(error) => return reply::failure(&error),
        };
        // Before the body is read: nobody fills the memory with what they may not send.
        let allowed = authz::attributes(&parts).and_then(|asked| self.authorize(&user, &asked));
        if let Err(error) = allowed {
            return reply::failure(&error);
        }
        let body = match tokio::time::timeout(BODY, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return reply::failure(&ApiError::too_large(MAX_BODY));
            }
            Ok(Err(error)) => return reply::failure(&ApiError::bad_request(format!("reading the body: {error}"))),
            Err(_) => return reply::failure(&ApiError::bad_request("reading the body: the client took too long")),
        };
        // A fault in one request must not take down the component or connection that made it.
        let answer = AssertUnwindSafe(dispatch::answer(self, parts, body, user)).catch_unwind();
        match answer.await {
            Ok(answer) => answer.unwrap_or_else(|error| reply::failure(&error)),
            Err(_) => {
                tracing::error!("a request made the API server panic; the message is above");
                reply::failure(&ApiError::internal("this request caused the API server to panic"))
            }
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS and ENOMEM have no stable kinds; a listener that is gone says EBADF or EINVAL.
    !matches!(error.raw_os_error(), Some(9 | 22))
}
