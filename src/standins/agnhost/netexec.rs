//! `agnhost netexec`: HTTP and UDP servers that say who answered and who asked, and ask others on request.

use std::{collections::HashMap, io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{NAME, dial, duration, hostname, tcp, udp};
use crate::standins::{
    http::server::{self, Ends},
    process,
};

/// The most of a command's output that is passed on, in bytes.
const MOST_OUTPUT: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port of the HTTP server
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Port of the UDP server; -1 for none
    #[arg(long, default_value_t = 8081, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..=65535))]
    udp_port: i32,
    /// SCTP is not in this stand-in: only -1, for none
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..=-1))]
    sctp_port: i32,
    /// Serve this path and query whatever is asked for
    #[arg(long, value_name = "PATH")]
    http_override: Option<String>,
    /// Seconds to go on serving after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    delay_shutdown: u64,
}

/// What the handlers share.
#[derive(Clone)]
struct Server {
    name: Arc<str>,
    /// How the program is to end: exit code and grace, sent by `/exit` and `/shutdown`.
    end: mpsc::Sender<(u8, Duration)>,
}

type Parameters = Query<HashMap<String, String>>;

/// Serves until SIGTERM, or until it is asked to end.
pub fn main(args: Args) -> ExitCode {
    let (end, mut asked) = mpsc::channel(1);
    let server = Server {
        name: hostname().into(),
        end,
    };
    let mut code = 0;
    let ended = process::serve(NAME, async |shutdown: CancellationToken| {
        let served = serve(&args, server, shutdown.clone());
        tokio::select! {
            ended = served => ended,
            Some((wanted, grace)) = asked.recv() => {
                code = wanted;
                shutdown.cancel();
                tokio::time::sleep(grace).await;
                Ok(())
            }
        }
    });
    if code == 0 { ended } else { ExitCode::from(code) }
}

async fn serve(args: &Args, server: Server, shutdown: CancellationToken) -> io::Result<()> {
    let listener = tcp::listen(args.http_port).await?;
    let ending = CancellationToken::new();
    let delayed = async {
        shutdown.cancelled().await;
        tokio::time::sleep(Duration::from_secs(args.delay_shutdown)).await;
        ending.cancel();
        Ok(())
    };
    let name = server.name.clone();
    let datagrams = async {
        match u16::try_from(args.udp_port) {
            Ok(port) => udp::serve(port, |question, peer| answer(question, peer, &name)).await,
            Err(_) => std::future::pending().await,
        }
    };
    let web = async {
        let routes = routes(server, args.http_override.clone());
        server::serve_silently(listener, routes, ending.clone()).await
    };
    tokio::select! {
        ended = datagrams => ended,
        ended = async { tokio::try_join!(web, delayed) } => ended.map(|_| ()),
    }
}

/// The UDP server's answer, if it has one.
fn answer(question: &[u8], peer: SocketAddr, name: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(question);
    let text = text.trim_end_matches(['\n', '\r', '\0']);
    match text.split_once(' ').unwrap_or((text, "")) {
        ("hostname" | "hostName", _) => Some(name.as_bytes().to_vec()),
        ("echo", message) => Some(message.as_bytes().to_vec()),
        ("clientip", _) => Some(peer.to_string().into_bytes()),
        _ => None,
    }
}

fn routes(server: Server, fixed: Option<String>) -> Router {
    let routes = Router::new()
        .route("/", any(async || format!("NOW: {}\n", jiff::Timestamp::now())))
        .route(
            "/clientip",
            any(async |ConnectInfo(ends): ConnectInfo<Ends>| ends.peer.to_string()),
        )
        .route(
            "/serverport",
            any(async |ConnectInfo(ends): ConnectInfo<Ends>| ends.local.port().to_string()),
        )
        .route("/header", any(one_header))
        .route(
            "/dial",
            any(async |Query(asked): Parameters| dial::answer(&asked).await),
        )
        .route("/echo", any(echo))
        .route("/exit", any(exit))
        .route("/shutdown", any(shut_down))
        .route("/healthz", get(async || "ok"))
        .route("/hostname", any(name))
        .route("/hostName", any(name))
        .route("/redirect", any(redirect))
        .route("/shell", any(shell))
        .route(
            "/upload",
            any(async || {
                (
                    StatusCode::NOT_IMPLEMENTED,
                    "/upload is not in ztlab's stand-in for agnhost\n",
                )
            }),
        )
        .with_state(server);
    let Some(fixed) = fixed.and_then(|path| path.parse::<http::Uri>().ok()) else {
        return routes;
    };
    let whatever = async move |mut request: axum::extract::Request| {
        *request.uri_mut() = fixed.clone();
        // the router's own error type has no values
        match tower::ServiceExt::oneshot(routes.clone(), request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    Router::new().fallback(whatever)
}

async fn name(State(server): State<Server>) -> String {
    server.name.to_string()
}

async fn one_header(Query(asked): Parameters, headers: HeaderMap) -> Response {
    let value = asked.get("key").and_then(|key| headers.get(key));
    value.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |value| value.as_bytes().to_vec().into_response(),
    )
}

fn bad(text: impl Into<String>) -> Response {
    (StatusCode::BAD_REQUEST, text.into()).into_response()
}

/// The parameter `code` as an HTTP status.
fn status(asked: &HashMap<String, String>, default: StatusCode) -> Option<StatusCode> {
    match asked.get("code").filter(|code| !code.is_empty()) {
        None => Some(default),
        Some(code) => StatusCode::from_u16(code.parse().ok()?).ok(),
    }
}

async fn echo(Query(asked): Parameters) -> Response {
    let Some(code) = status(&asked, StatusCode::OK) else {
        return bad("argument 'code' must be an HTTP status\n");
    };
    (code, asked.get("msg").cloned().unwrap_or_default()).into_response()
}

async fn redirect(Query(asked): Parameters) -> Response {
    let to = asked.get("location").and_then(|to| HeaderValue::try_from(to).ok());
    match (to, status(&asked, StatusCode::FOUND)) {
        (Some(to), Some(code)) => (code, [(header::LOCATION, to)]).into_response(),
        _ => bad("argument 'location' must be a URL and 'code' an HTTP status\n"),
    }
}

async fn exit(State(server): State<Server>, Query(asked): Parameters) -> Response {
    let code = asked.get("code").map_or(Ok(0), |code| code.parse::<u8>());
    let time = |name: &str| asked.get(name).map_or(Ok(Duration::ZERO), |text| duration::parse(text));
    let (Ok(code @ 0..=127), Ok(wait), Ok(grace)) = (code, time("wait"), time("timeout")) else {
        return bad("argument 'code' must be an integer [0-127], 'wait' and 'timeout' durations\n");
    };
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        let _ = server.end.send((code, grace)).await;
    });
    StatusCode::OK.into_response()
}

async fn shut_down(State(server): State<Server>) -> StatusCode {
    let _ = server.end.try_send((0, Duration::ZERO));
    StatusCode::OK
}

/// Runs a command in this container, which is what the endpoint is for.
async fn shell(Query(asked): Parameters) -> Response {
    let Some(command) = asked.get("shellCommand").or_else(|| asked.get("cmd")) else {
        return bad("argument 'cmd' or 'shellCommand' is missing\n");
    };
    let output = tokio::process::Command::new("sh").arg("-c").arg(command).output().await;
    let (output, error) = match output {
        Ok(output) => {
            let mut text = [output.stdout, output.stderr].concat();
            text.truncate(MOST_OUTPUT);
            let failed = (!output.status.success()).then(|| output.status.to_string());
            (String::from_utf8_lossy(&text).into_owned(), failed)
        }
        Err(error) => (String::new(), Some(error.to_string())),
    };
    let code = if error.is_none() {
        StatusCode::OK
    } else {
        StatusCode::EXPECTATION_FAILED
    };
    let mut answer = json!({"output": output});
    if let Some(error) = error {
        answer["error"] = json!(error);
    }
    (code, Json(answer)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn started(fixed: Option<&str>) -> (SocketAddr, mpsc::Receiver<(u8, Duration)>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, asked) = mpsc::channel(1);
        let server = Server {
            name: "pod-1".into(),
            end,
        };
        let routes = routes(server, fixed.map(str::to_owned));
        tokio::spawn(server::serve_silently(listener, routes, CancellationToken::new()));
        (address, asked)
    }

    async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
        let (status, body) = dial::fetch(address, path).await.unwrap();
        (status.as_u16(), body)
    }

    #[tokio::test]
    async fn endpoints_answer_as_described() {
        let (address, mut asked) = started(None).await;
        let answered = |code: u16, text: &str| (code, text.to_owned());
        assert_eq!(ask(address, "/hostname").await, answered(200, "pod-1"));
        assert_eq!(ask(address, "/hostName").await, answered(200, "pod-1"));
        assert_eq!(ask(address, "/echo?msg=hello%20you").await, answered(200, "hello you"));
        assert_eq!(ask(address, "/echo?msg=no&code=418").await, answered(418, "no"));
        assert_eq!(ask(address, "/echo?code=1").await.0, 400);
        assert_eq!(
            ask(address, "/serverport").await,
            answered(200, &address.port().to_string())
        );
        assert!(ask(address, "/clientip").await.1.starts_with("127.0.0.1:"));
        assert!(ask(address, "/").await.1.starts_with("NOW: 2"));
        assert_eq!(ask(address, "/healthz").await.0, 200);
        assert_eq!(ask(address, "/redirect?location=/echo&code=307").await.0, 307);
        assert_eq!(ask(address, "/upload").await.0, 501);
        assert_eq!(ask(address, "/nothing").await.0, 404);
        let (code, text) = ask(address, "/shell?cmd=echo%20out%3B%20exit%203").await;
        assert!(
            code == 417 && text.contains("out") && text.contains("error"),
            "{code} {text}"
        );
        assert_eq!(
            ask(address, "/shell?shellCommand=true").await,
            answered(200, r#"{"output":""}"#)
        );
        assert_eq!(ask(address, "/exit?code=200").await.0, 400);
        assert_eq!(ask(address, "/exit?code=7").await.0, 200);
        assert_eq!(asked.recv().await, Some((7, Duration::ZERO)));
    }

    #[tokio::test]
    async fn it_dials_others() {
        let (address, _) = started(None).await;
        let dial = |rest: &str| format!("/dial?host=127.0.0.1&port={}&{rest}", address.port());
        let answered = |code: u16, text: &str| (code, text.to_owned());
        let two = r#"{"responses":["pod-1","pod-1"]}"#;
        assert_eq!(
            ask(address, &dial("request=hostname&tries=2")).await,
            answered(200, two)
        );
        assert_eq!(ask(address, &dial("protocol=http")).await.0, 400, "without a request");
        assert_eq!(ask(address, &dial("request=hostname&protocol=sctp")).await.0, 400);
        let (code, text) = ask(address, &dial("request=hostname&protocol=udp")).await;
        assert!(code == 417 && text.starts_with(r#"{"errors":["#), "{code} {text}");
    }

    #[tokio::test]
    async fn one_path_can_answer_for_all() {
        let (address, _) = started(Some("/echo?msg=same")).await;
        assert_eq!(ask(address, "/hostname").await.1, "same");
        assert_eq!(ask(address, "/x/y?z").await.1, "same");
    }

    #[test]
    fn datagrams_are_commands() {
        let peer = "10.0.0.9:4000".parse().unwrap();
        for (question, expected) in [
            ("hostname", Some("pod-1")),
            ("hostname\n", Some("pod-1")),
            ("echo hello you\n", Some("hello you")),
            ("clientip", Some("10.0.0.9:4000")),
            ("nonsense", None),
            ("", None),
        ] {
            let found = answer(question.as_bytes(), peer, "pod-1");
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{question}");
        }
    }
}
