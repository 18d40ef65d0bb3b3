//! The probe itself, inside the pod.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Uri, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    HttpProbe, ProbeKind, ProbeRequest, port,
    resolve::{Resolver, Unresolved},
    tls,
};
use crate::evidence::{PROBE_HEADER, Phase, ProbeOutcome, ProbeResult};

/// Bytes of an answer's body that are kept.
const BODY_BYTES: usize = 64 << 10;
/// Headers of an answer that are kept.
const HEADERS: usize = 64;
/// Longest time any probe may take.
const LONGEST: Duration = Duration::from_secs(60);

/// A result that has measured nothing yet.
pub(super) fn result(request: &ProbeRequest, outcome: ProbeOutcome) -> ProbeResult {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    ProbeResult {
        id: request.id.clone(),
        namespace: request.namespace.clone(),
        pod: request.pod.clone(),
        target: request.target(),
        outcome,
        resolved: Vec::new(),
        peer: None,
        local: None,
        tls: None,
        started_ns: since.as_nanos() as u64,
        took_us: 0,
    }
}

/// Runs a probe here and now.
pub(super) async fn ask(request: &ProbeRequest) -> ProbeResult {
    let blank = result(
        request,
        ProbeOutcome::NotRun {
            reason: "it has not begun".to_owned(),
        },
    );
    let mut asking = Asking {
        result: blank,
        phase: Phase::Resolve,
        at: request.at,
    };
    let began = Instant::now();
    let timeout = request.timeout.min(LONGEST);
    let outcome = match tokio::time::timeout(timeout, asking.run(request)).await {
        Ok(Ok(outcome) | Err(outcome)) => outcome,
        Err(_) => ProbeOutcome::TimedOut { phase: asking.phase },
    };
    asking.result.outcome = outcome;
    asking.result.took_us = began.elapsed().as_micros() as u64;
    asking.result
}

pub(super) struct Asking {
    pub(super) result: ProbeResult,
    pub(super) phase: Phase,
    at: Option<IpAddr>,
}

impl Asking {
    /// An early end is an outcome like any other.
    async fn run(&mut self, request: &ProbeRequest) -> Result<ProbeOutcome, ProbeOutcome> {
        match &request.kind {
            ProbeKind::Dns { name } => {
                let addresses = self.resolve(name).await?;
                Ok(ProbeOutcome::Resolved {
                    answers: addresses.iter().map(IpAddr::to_string).collect(),
                })
            }
            ProbeKind::Tcp { host, port } => {
                self.connect(host, *port).await?;
                Ok(ProbeOutcome::Connected)
            }
            ProbeKind::Http(http) => self.http(http, request).await,
            ProbeKind::Tls(tls) => self.tls(tls, request).await,
        }
    }

    async fn resolve(&mut self, name: &str) -> Result<Vec<IpAddr>, ProbeOutcome> {
        self.phase = Phase::Resolve;
        let resolver = Resolver::of_this_machine();
        let addresses = resolver.addresses(name).await.map_err(|error| match error {
            Unresolved::NoSuchName => ProbeOutcome::NoSuchHost,
            Unresolved::NoAnswer => ProbeOutcome::TimedOut { phase: Phase::Resolve },
            Unresolved::Failed(reason) => ProbeOutcome::DnsFailed { reason },
        })?;
        self.result.resolved.clone_from(&addresses);
        Ok(addresses)
    }

    pub(super) async fn connect(&mut self, host: &str, port: u16) -> Result<TcpStream, ProbeOutcome> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = match (self.at, host.parse()) {
            (Some(addr), _) | (None, Ok(addr)) => vec![addr],
            (None, Err(_)) => self.resolve(host).await?,
        };
        self.phase = Phase::Connect;
        let mut outcome = ProbeOutcome::NoSuchHost;
        for addr in addresses {
            let peer = SocketAddr::new(addr, port);
            self.result.peer = Some(peer);
            match port::connect(peer).await {
                Ok(stream) => {
                    self.result.local = stream.local_addr().ok();
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => outcome = broken(&error, Phase::Connect),
            }
        }
        Err(outcome)
    }

    async fn http(&mut self, http: &HttpProbe, request: &ProbeRequest) -> Result<ProbeOutcome, ProbeOutcome> {
        let wrong = |reason: String| ProbeOutcome::NotRun { reason };
        let uri: Uri = http
            .url
            .parse()
            .map_err(|error| wrong(format!("{:?} is no URL: {error}", http.url)))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => {
                return Err(wrong(format!(
                    "{:?}: only http:// and https:// can be probed",
                    http.url
                )));
            }
        };
        let authority = uri
            .authority()
            .ok_or_else(|| wrong(format!("{:?} names no host", http.url)))?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut builder = Request::builder()
            .method(http.method.as_str())
            .uri(target)
            .header(hyper::header::HOST, authority.as_str())
            .header(PROBE_HEADER, request.id.0.as_str());
        for (name, value) in &http.headers {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let body = Full::new(Bytes::from(http.body.clone().unwrap_or_default()));
        let asked = builder
            .body(body)
            .map_err(|error| wrong(format!("not a request: {error}")))?;
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = self.connect(authority.host(), port).await?;
        if secure {
            let stream = self.session(stream, authority.host(), &http.tls).await?;
            return self.exchange(stream, asked).await;
        }
        self.exchange(stream, asked).await
    }

    /// Sends a request and reads the answer.
    async fn exchange(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        asked: Request<Full<Bytes>>,
    ) -> Result<ProbeOutcome, ProbeOutcome> {
        self.phase = Phase::Send;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unanswered(&error, Phase::Send))?;
        let driver = tokio::spawn(connection);
        self.phase = Phase::Receive;
        let answer = sender
            .send_request(asked)
            .await
            .map_err(|error| unanswered(&error, Phase::Receive));
        let outcome = match answer {
            Ok(answer) => self.answer(answer).await,
            Err(outcome) => Err(outcome),
        };
        driver.abort();
        outcome
    }

    async fn answer(&mut self, answer: hyper::Response<hyper::body::Incoming>) -> Result<ProbeOutcome, ProbeOutcome> {
        let status = answer.status().as_u16();
        let headers = answer
            .headers()
            .iter()
            .take(HEADERS)
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let mut body = Limited::new(answer.into_body(), BODY_BYTES);
        let (mut bytes, mut truncated) = (Vec::new(), false);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                // What had come by then is still an answer.
                Err(error) => {
                    truncated = true;
                    if !error.is::<LengthLimitError>() && bytes.is_empty() {
                        return Err(ProbeOutcome::Reset { phase: Phase::Receive });
                    }
                    break;
                }
            }
        }
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(ProbeOutcome::Answered {
            status,
            headers,
            body,
            truncated,
        })
    }
}

/// What an error of the socket says about the network.
pub(super) fn broken(error: &io::Error, phase: Phase) -> ProbeOutcome {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => ProbeOutcome::Refused,
        Kind::TimedOut => ProbeOutcome::TimedOut { phase },
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => ProbeOutcome::Reset { phase },
        _ => ProbeOutcome::Unreachable {
            reason: error.to_string(),
        },
    }
}

/// What an error of the HTTP client says about the peer.
fn unanswered(error: &hyper::Error, phase: Phase) -> ProbeOutcome {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return tls::refused(io, phase).unwrap_or_else(|| broken(io, phase));
        }
        source = cause.source();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return ProbeOutcome::ProtocolError {
            reason: "the peer closed the connection without an answer".to_owned(),
        };
    }
    ProbeOutcome::ProtocolError {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn http(url: String) -> ProbeRequest {
        let kind = ProbeKind::Http(HttpProbe::new("GET", url));
        ProbeRequest {
            timeout: Duration::from_millis(500),
            ..ProbeRequest::new("ns", "pod", kind)
        }
    }

    /// Serves one connection with these bytes; gives its port and what was asked.
    async fn serve(answer: &'static [u8]) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).await.unwrap();
            if answer == b"(silence)" {
                std::future::pending::<()>().await;
            }
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        (port, served)
    }

    #[tokio::test]
    async fn an_answer_is_told_as_it_came() {
        let (port, served) = serve(b"HTTP/1.1 403 Forbidden\r\nX-Why: no\r\nContent-Length: 2\r\n\r\nno").await;
        let request = http(format!("http://127.0.0.1:{port}/charge?a=1"));
        let result = ask(&request).await;
        let asked = served.await.unwrap();
        assert!(asked.starts_with("GET /charge?a=1 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("x-ztlab-probe: {}\r\n", request.id)), "{asked}");
        assert!(asked.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{asked}");
        let ProbeOutcome::Answered {
            status,
            headers,
            body,
            truncated,
        } = &result.outcome
        else {
            panic!("{:?}", result.outcome)
        };
        assert_eq!((*status, body.as_str(), *truncated), (403, "no", false));
        assert!(headers.contains(&("x-why".into(), "no".into())));
        assert_eq!(result.peer.map(|peer| peer.port()), Some(port));
        assert!(result.local.is_some() && result.took_us > 0);
    }

    #[tokio::test]
    async fn a_large_body_is_cut() {
        let body: &'static [u8] = Box::leak(
            [
                &b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"[..],
                &[b'a'; 200_000],
            ]
            .concat()
            .into_boxed_slice(),
        );
        let (port, _served) = serve(body).await;
        let result = ask(&http(format!("http://127.0.0.1:{port}/"))).await;
        let ProbeOutcome::Answered { body, truncated, .. } = result.outcome else {
            panic!("{:?}", result.outcome)
        };
        assert!(truncated && !body.is_empty() && body.len() <= BODY_BYTES);
    }

    #[tokio::test]
    async fn what_goes_wrong_has_its_own_name() {
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let refused = ask(&http(format!("http://127.0.0.1:{closed}/"))).await;
        assert_eq!(refused.outcome, ProbeOutcome::Refused);
        let (port, _served) = serve(b"(silence)").await;
        let silent = ask(&http(format!("http://127.0.0.1:{port}/"))).await;
        assert_eq!(silent.outcome, ProbeOutcome::TimedOut { phase: Phase::Receive });
        let (port, _served) = serve(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
        let other = ask(&http(format!("http://127.0.0.1:{port}/"))).await;
        assert!(
            matches!(other.outcome, ProbeOutcome::ProtocolError { .. }),
            "{:?}",
            other.outcome
        );
        let (port, _served) = serve(b"").await;
        let closed = ask(&http(format!("http://127.0.0.1:{port}/"))).await;
        assert!(
            matches!(closed.outcome, ProbeOutcome::ProtocolError { .. }),
            "{:?}",
            closed.outcome
        );
        for bad in ["ftp://127.0.0.1/", "not a url", "/path"] {
            let result = ask(&http(bad.to_owned())).await;
            assert!(!result.outcome.measured(), "{bad}: {:?}", result.outcome);
        }
        let (port, _served) = serve(b"").await;
        let kind = ProbeKind::Tcp {
            host: "127.0.0.1".into(),
            port,
        };
        assert_eq!(
            ask(&ProbeRequest::new("ns", "pod", kind)).await.outcome,
            ProbeOutcome::Connected
        );
    }

    #[test]
    fn results_survive_the_way_back() {
        let request = http("http://a/".into());
        for outcome in [
            ProbeOutcome::Refused,
            ProbeOutcome::TimedOut { phase: Phase::Connect },
            ProbeOutcome::Answered {
                status: 200,
                headers: vec![],
                body: "x".into(),
                truncated: false,
            },
        ] {
            let before = result(&request, outcome);
            let json = serde_json::to_string(&before).unwrap();
            assert_eq!(serde_json::from_str::<ProbeResult>(&json).unwrap(), before);
        }
    }
}
