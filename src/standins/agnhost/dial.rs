//! `/dial` of netexec: asks another host and passes on what it answers.

use std::{collections::HashMap, io, net::SocketAddr, time::Duration};

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::lookup_host;

use super::{tcp, udp};

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is passed on, in bytes.
const LARGEST: usize = 64 << 10;
/// The most tries of one request.
const MOST_TRIES: u32 = 1000;

/// Does what the query asks for.
pub async fn answer(asked: &HashMap<String, String>) -> Response {
    let plan = match Plan::read(asked) {
        Ok(plan) => plan,
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let (mut responses, mut errors) = (Vec::new(), Vec::new());
    let mut last = false;
    for _ in 0..plan.tries {
        let tried = tokio::time::timeout(PATIENCE, plan.once()).await;
        let tried = tried.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
        last = tried.is_ok();
        match tried {
            Ok(text) => responses.push(Value::from(text)),
            Err(error) => errors.push(Value::from(error.to_string())),
        }
    }
    let mut found = Map::new();
    for (name, list) in [("responses", responses), ("errors", errors)] {
        if !list.is_empty() {
            found.insert(name.to_owned(), json!(list));
        }
    }
    let code = if last {
        StatusCode::OK
    } else {
        StatusCode::EXPECTATION_FAILED
    };
    (code, Json(found)).into_response()
}

struct Plan {
    host: String,
    port: u16,
    request: String,
    udp: bool,
    tries: u32,
}

impl Plan {
    fn read(asked: &HashMap<String, String>) -> Result<Self, String> {
        let given = |name: &str| asked.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let udp = match given("protocol").unwrap_or("http") {
            "http" => false,
            "udp" => true,
            other => {
                return Err(format!(
                    "protocol {other} is not in ztlab's stand-in for agnhost: http or udp\n"
                ));
            }
        };
        let tries = given("tries").unwrap_or("1");
        Ok(Self {
            host: given("host").ok_or("argument 'host' is missing\n")?.to_owned(),
            port: given("port")
                .and_then(|port| port.parse().ok())
                .ok_or("argument 'port' must be a port\n")?,
            request: given("request").ok_or("argument 'request' is missing\n")?.to_owned(),
            tries: tries
                .parse()
                .ok()
                .filter(|tries| (1..=MOST_TRIES).contains(tries))
                .ok_or_else(|| format!("argument 'tries' must be from 1 to {MOST_TRIES}\n"))?,
            udp,
        })
    }

    async fn once(&self) -> io::Result<String> {
        let address = lookup_host((self.host.as_str(), self.port)).await?.next();
        let address = address.ok_or_else(|| io::Error::other("no addresses"))?;
        if self.udp {
            let answer = udp::ask(address, self.request.as_bytes()).await?;
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        let path = format!("/{}", self.request.trim_start_matches('/'));
        let (status, text) = fetch(address, &path).await?;
        if status.is_success() || status.is_redirection() {
            Ok(text)
        } else {
            Err(io::Error::other(format!("{status}: {text}")))
        }
    }
}

/// GETs a path on a connection of its own.
///
/// # Errors
/// When there is no connection or no HTTP on it.
pub async fn fetch(address: SocketAddr, path: &str) -> io::Result<(StatusCode, String)> {
    let stream = tcp::open(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let request = http::Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST)
            .collect()
            .await
            .map_err(io::Error::other)?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    // the connection must be driven for the answer to come; what ends it shows in the answer
    let (answer, _) = tokio::join!(answer, connection);
    answer
}
