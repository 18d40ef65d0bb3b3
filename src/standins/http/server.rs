//! Serving HTTP with an access log.

use std::io;

use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::door::{Arrivals, Door};
use crate::standins::{
    PROBE_HEADER,
    log::{Access, Log, bounded},
};

pub use super::door::Ends;

/// The largest request body, in bytes.
const LARGEST_BODY: usize = 64 * 1024;

/// What a request's caller proved about itself; a handler puts it into its response's extensions for the access log.
#[derive(Clone)]
pub struct Caller(pub &'static str);

/// Serves `routes` at `door` until `shutdown`, with `GET /healthz` and an access log.
///
/// # Errors
/// When a listener fails.
pub async fn serve(door: impl Into<Door>, routes: Router, log: Log, shutdown: CancellationToken) -> io::Result<()> {
    let door = door.into();
    let with = if door.tls.is_some() { " with TLS" } else { "" };
    log.info(&format!("listening on {}{with}", door.listener.local_addr()?));
    let health = health(door.health, log.clone(), shutdown.clone());
    let routes = complete(routes, log);
    let main = axum::serve(
        Arrivals::at(door.listener, door.tls)?,
        routes.into_make_service_with_connect_info::<Ends>(),
    )
    .with_graceful_shutdown(shutdown.cancelled_owned());
    let (main, health) = tokio::join!(main.into_future(), health);
    main.and(health)
}

/// Answers `GET /healthz` in plain HTTP on `listener`, if there is one, until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn health(listener: Option<TcpListener>, log: Log, shutdown: CancellationToken) -> io::Result<()> {
    let Some(listener) = listener else {
        return Ok(());
    };
    log.info(&format!("health checks on {}, without TLS", listener.local_addr()?));
    serve_silently(listener, complete(Router::new(), log), shutdown).await
}

fn complete(routes: Router, log: Log) -> Router {
    routes
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .fallback(async || fail(StatusCode::NOT_FOUND, "no such path"))
        .method_not_allowed_fallback(async || fail(StatusCode::METHOD_NOT_ALLOWED, "no such method on this path"))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(log, record))
}

/// Serves `routes` on `listener` until `shutdown`, without a log.
///
/// # Errors
/// When the listener fails.
pub async fn serve_silently(listener: TcpListener, routes: Router, shutdown: CancellationToken) -> io::Result<()> {
    axum::serve(
        Arrivals::Plain(listener),
        routes.into_make_service_with_connect_info::<Ends>(),
    )
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
    let bearer = response.extensions().get().map(|Caller(caller)| *caller);
    access.certificate = ends.proved.as_ref().map(|proved| proved.shown.clone());
    access.caller = match (ends.proved.map(|proved| proved.text()), bearer) {
        (None, None) => access.caller,
        (None, Some(bearer)) => bearer.to_owned(),
        (Some(certificate), None) => certificate,
        (Some(certificate), Some(bearer)) => format!("{certificate} and {bearer}"),
    };
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
