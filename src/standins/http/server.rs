//! Serving HTTP with an access log.

use std::{io, net::SocketAddr};

use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State, connect_info::Connected},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
    serve::{IncomingStream, Listener},
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::standins::{
    PROBE_HEADER,
    log::{Access, Log, bounded},
};

/// The largest request body, in bytes.
const LARGEST_BODY: usize = 64 * 1024;

/// What a request's caller proved about itself; a handler puts it into its response's extensions for the access log.
#[derive(Clone)]
pub struct Caller(pub &'static str);

/// The two ends of a request's connection.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The caller's.
    pub peer: SocketAddr,
    /// The server's: where there are several, the one that was called.
    pub local: SocketAddr,
}

/// Accepts connections that send what is written at once: else a small answer may wait for the acknowledgement of
/// its head.
struct Prompt(TcpListener);

impl Listener for Prompt {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        let _ = stream.set_nodelay(true);
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Prompt>> for Ends {
    fn connect_info(stream: IncomingStream<'_, Prompt>) -> Ends {
        let peer = *stream.remote_addr();
        Ends {
            peer,
            local: stream.io().local_addr().unwrap_or(peer),
        }
    }
}

/// Serves `routes` on `listener` until `shutdown`, with `GET /healthz` and an access log.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, routes: Router, log: Log, shutdown: CancellationToken) -> io::Result<()> {
    log.info(&format!("listening on {}", listener.local_addr()?));
    let routes = routes
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .fallback(async || fail(StatusCode::NOT_FOUND, "no such path"))
        .method_not_allowed_fallback(async || fail(StatusCode::METHOD_NOT_ALLOWED, "no such method on this path"))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(log, record));
    axum::serve(Prompt(listener), routes.into_make_service_with_connect_info::<Ends>())
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// Serves `routes` on `listener` until `shutdown`, without a log.
///
/// # Errors
/// When the listener fails.
pub async fn serve_silently(listener: TcpListener, routes: Router, shutdown: CancellationToken) -> io::Result<()> {
    axum::serve(Prompt(listener), routes.into_make_service_with_connect_info::<Ends>())
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// An error as the shop answers it.
pub fn fail(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}

/// The id of the measurement that a request belongs to.
pub fn probe(headers: &HeaderMap) -> Option<String> {
    text(headers, PROBE_HEADER)
}

async fn record(
    State(log): State<Log>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    request: Request,
    next: Next,
) -> Response {
    let mut access = Access {
        method: bounded(request.method().as_str()),
        path: bounded(&request.uri().to_string()),
        probe: probe(request.headers()),
        user_agent: text(request.headers(), header::USER_AGENT.as_str()),
        ..Access::by(ends.peer)
    };
    let response = next.run(request).await;
    if let Some(Caller(caller)) = response.extensions().get() {
        access.caller = (*caller).to_owned();
    }
    access.status = response.status().as_u16();
    if !is_healthy_probe_of_the_kubelet(&access) {
        log.access(&access);
    }
    response
}

/// The kubelet asks every second and says so in its user agent: that would bury the log.
fn is_healthy_probe_of_the_kubelet(access: &Access) -> bool {
    access.path == "/healthz"
        && access.status == 200
        && access
            .user_agent
            .as_deref()
            .is_some_and(|agent| agent.starts_with("kube-probe/"))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(bounded(&String::from_utf8_lossy(value.as_bytes())))
}
