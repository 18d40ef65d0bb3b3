//! The client of gRPC's health checking protocol, for probes.
//!
//! Source: gRPC's "GRPC Health Checking Protocol" (`grpc.health.v1.Health/Check`) and "gRPC over HTTP2".

use std::{net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::exchange::{Aborting, dial};

/// The most that is read of an answer, bytes: it is a message of two.
const READ: usize = 1 << 10;
/// `SERVING` of `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

/// Asks whether a service of a server is `SERVING`; the empty name is the server as a whole.
///
/// # Errors
/// That it is not, in the words that events have.
pub async fn check(ip: Ipv4Addr, port: u16, service: &str, limit: Duration) -> Result<(), String> {
    let limit_text = format!("{}s", limit.as_secs());
    let unreached =
        |why: &str| format!("timeout: failed to connect service \"{ip}:{port}\" within {limit_text}: {why}");
    let late = tokio::time::Instant::now() + limit;
    let stream = match tokio::time::timeout_at(late, dial(&ip.to_string(), port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return Err(unreached(&why)),
        Err(_) => return Err(unreached("context deadline exceeded")),
    };
    match tokio::time::timeout_at(late, ask(stream, &format!("{ip}:{port}"), service)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("timeout: health rpc did not complete within {limit_text}")),
    }
}

async fn ask(stream: tokio::net::TcpStream, authority: &str, service: &str) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("error: health rpc probe failed: {error}");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let _driver = Aborting(tokio::spawn(async move {
        // The exchange itself says what went wrong.
        let _ = connection.await;
    }));
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.33")
        .body(Full::new(Bytes::from(request(service))))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let (parts, body) = response.into_parts();
    if !parts.status.is_success() {
        let status = parts.status.as_u16();
        return Err(format!(
            "error: health rpc probe failed: unexpected HTTP status code {status}"
        ));
    }
    // A call that failed at once has its status in the head.
    judge_status(&parts.headers)?;
    let (message, trailers) = read(body).await.map_err(failed)?;
    judge_status(&trailers)?;
    match status(&message) {
        Some(SERVING) => Ok(()),
        Some(other) => Err(format!("service unhealthy (responded with \"{}\")", name(other))),
        None => Err("error: health rpc probe failed: the answer is no health check's".to_owned()),
    }
}

async fn read(mut body: Incoming) -> Result<(Vec<u8>, HeaderMap), hyper::Error> {
    let (mut message, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => message.extend_from_slice(&data[..data.len().min(READ.saturating_sub(message.len()))]),
            Err(frame) => {
                if let Ok(found) = frame.into_trailers() {
                    trailers = found;
                }
            }
        }
    }
    Ok((message, trailers))
}

/// What a call's `grpc-status` says, if there is one.
fn judge_status(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let message = || text("grpc-message").unwrap_or_default().to_owned();
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some("12") => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            message()
        )),
        Some(code) => {
            let code = match code {
                "1" => "Canceled",
                "2" => "Unknown",
                "4" => "DeadlineExceeded",
                "5" => "NotFound",
                "7" => "PermissionDenied",
                "13" => "Internal",
                "14" => "Unavailable",
                "16" => "Unauthenticated",
                other => other,
            };
            let message = message();
            Err(format!(
                "error: health rpc probe failed: rpc error: code = {code} desc = {message}"
            ))
        }
    }
}

fn name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

/// A `HealthCheckRequest` in its frame: no compression, length, and field 1.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(service.len() as u64, &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.append(&mut message);
    framed
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Field 1 of a framed `HealthCheckResponse`; a message without it says 0. `None` for what is none.
fn status(framed: &[u8]) -> Option<u64> {
    let [0, a, b, c, d, message @ ..] = framed else {
        return None;
    };
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    let mut rest = message.get(..length)?;
    let mut found = 0;
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => found = number(&mut rest)?,
            (_, 0) => drop(number(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let skipped = usize::try_from(number(&mut rest)?).ok()?;
                rest = rest.get(skipped..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(found)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_as_the_protocol_has_them() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(request(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
        for (framed, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 6, 0x12, 2, 1, 2, 8, 2], Some(2)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 9, 8, 1], None),
            (&[], None),
        ] {
            assert_eq!(status(framed), expected, "{framed:?}");
        }
    }

    #[test]
    fn a_call_that_failed_says_so() {
        let status = |code: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", code.parse().unwrap());
            headers.insert("grpc-message", "why".parse().unwrap());
            judge_status(&headers)
        };
        assert_eq!(status("0"), Ok(()));
        assert!(
            status("12")
                .unwrap_err()
                .contains("does not implement the grpc health protocol")
        );
        assert_eq!(
            status("5").unwrap_err(),
            "error: health rpc probe failed: rpc error: code = NotFound desc = why"
        );
        assert_eq!(judge_status(&HeaderMap::new()), Ok(()));
    }

    /// A gRPC server that answers every call with this message and status, once.
    async fn server(answer: &'static [u8], code: &'static str) -> u16 {
        use http_body_util::StreamBody;
        use hyper::{Response, body::Frame, service::service_fn};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |call: Request<Incoming>| async move {
                assert_eq!(call.uri().path(), "/grpc.health.v1.Health/Check");
                assert_eq!(call.headers()["content-type"], "application/grpc");
                let asked = call.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(asked[..], request("shop")[..]);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", code.parse().unwrap());
                let frames = [Frame::data(Bytes::from_static(answer)), Frame::trailers(trailers)];
                let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, std::convert::Infallible>)));
                Ok::<_, std::convert::Infallible>(Response::new(body))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
        port
    }

    #[tokio::test]
    async fn a_server_says_how_it_is() {
        let limit = Duration::from_secs(60);
        for (answer, code, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], "0", Ok(())),
            (
                &[0, 0, 0, 0, 2, 8, 2],
                "0",
                Err("service unhealthy (responded with \"NOT_SERVING\")"),
            ),
            (
                &[],
                "5",
                Err("error: health rpc probe failed: rpc error: code = NotFound desc = "),
            ),
        ] {
            let port = server(answer, code).await;
            let found = check(Ipv4Addr::LOCALHOST, port, "shop", limit).await;
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(bytes: Vec<u8>) {
            let _ = status(&bytes);
        }
    }
}
