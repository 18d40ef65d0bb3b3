//! `hello`: stands in for the image `nginxdemos/hello`, a web server that says which pod answered.

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use axum::{
    Extension, Router,
    extract::{ConnectInfo, Request},
    http::{HeaderMap, header},
    response::{Html, IntoResponse, Response},
};

use crate::standins::{
    http::server::{self, Ends},
    log::Log,
    process, settings,
};

/// The pod's name, as its host name says it.
#[derive(Clone)]
struct ServerName(Arc<str>);

/// Serves on port 80.
pub fn main(_args: Vec<OsString>) -> ExitCode {
    process::serve("hello", async |shutdown| {
        let listener = settings::listener(80).await?;
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        server::serve(listener, routes(name), Log::stdout("hello"), shutdown).await
    })
}

/// Every path answers the same page.
fn routes(server_name: String) -> Router {
    Router::new()
        .route("/", axum::routing::any(page))
        .route("/{*path}", axum::routing::any(page))
        .layer(Extension(ServerName(server_name.into())))
}

async fn page(
    Extension(name): Extension<ServerName>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let rows = [
        ("Server address", ends.local.to_string()),
        ("Server name", name.0.to_string()),
        (
            "Date",
            jiff::Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
        ),
        ("URI", request.uri().to_string()),
        ("Request ID", format!("{:032x}", rand::random::<u128>())),
    ];
    if wants_html(&headers) {
        Html(html(&rows)).into_response()
    } else {
        let text: String = rows.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        ([(header::CONTENT_TYPE, "text/plain")], text).into_response()
    }
}

/// A browser names `text/html`; a command-line client takes anything, and is better served with lines.
fn wants_html(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| {
        accept
            .as_bytes()
            .windows(9)
            .any(|part| part.eq_ignore_ascii_case(b"text/html"))
    })
}

fn html(rows: &[(&str, String)]) -> String {
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(value)))
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Hello World</title></head>\n\
         <body>\n<h1>Hello</h1>\n<p>ztlab's stand-in for nginxdemos/hello</p>\n<dl>\n{rows}</dl>\n</body>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
