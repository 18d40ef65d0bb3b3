//! The network's side: TLS, HTTP/1.1 and HTTP/2 on one port.

use std::{convert::Infallible, io, net::IpAddr, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use super::{
    ApiServer, Body, MAX_BODY, UserInfo,
    authn::{self, Certified},
    authz, dispatch,
    flow::{Seat, Shares},
    patience::{Activity, Holding, Patience, Stalling},
    reply,
    status::ApiError,
};

/// Connections served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Connections of one address; one pod leaves room for others and for the host.
const MAX_CONNECTIONS_OF_ONE: usize = 512;
/// A request's head may have this many bytes: line and headers.
const MAX_HEAD: usize = 64 * 1024;
/// Requests at once on one connection; as kube-apiserver has it.
const MAX_CONCURRENT: u32 = 250;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ApiServer {
    /// Serves clients of `listener` until it fails.
    ///
    /// # Errors
    /// When the listener can take no more connections.
    pub async fn serve(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>) -> io::Result<()> {
        self.serve_with(listener, tls, Patience::default()).await
    }

    async fn serve_with(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        patience: Patience,
    ) -> io::Result<()> {
        let acceptor = TlsAcceptor::from(tls);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let addresses = Shares::<IpAddr>::new(MAX_CONNECTIONS_OF_ONE);
        loop {
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(share) = addresses.take(peer.ip()) else {
                tracing::debug!(address = %peer.ip(), "too many connections of one address");
                continue;
            };
            let (server, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                if let Err(error) = server.connection(stream, acceptor, patience).await {
                    tracing::debug!(%error, "connection ended");
                }
                drop((slot, share));
            });
        }
    }

    async fn connection(&self, stream: TcpStream, acceptor: TlsAcceptor, patience: Patience) -> Result<(), BoxError> {
        stream.set_nodelay(true)?;
        let stream = tokio::time::timeout(patience.head, acceptor.accept(stream)).await??;
        let certified = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|certificate| Certified::of(certificate));
        self.converse(stream, certified, patience).await
    }

    /// Serves one client, who showed a certificate or none, until they go or try the server's patience.
    pub(super) async fn converse<S>(
        &self,
        stream: S,
        certified: Option<Certified>,
        patience: Patience,
    ) -> Result<(), BoxError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::begin();
        let (server, busy) = (self.clone(), activity.clone());
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let (server, certified, activity) = (server.clone(), certified.clone(), busy.clone());
            async move {
                let busy = activity.request();
                let writes = !matches!(*request.method(), http::Method::GET | http::Method::HEAD);
                let enter = |parts: &Parts| server.enter(certified.as_ref(), parts);
                let answer = server.handle(request, patience.body, enter).await;
                if writes && answer.status().is_success() {
                    // What a client was told is done outlives a node that is killed.
                    server.store().persisted(server.store().revision()).await;
                }
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    activity.upgrade();
                }
                Ok::<_, Infallible>(answer.map(|body| Holding::new(body, busy)))
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            // It would count from the end of the last request, and end connections that are only idle.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .max_header_list_size(MAX_HEAD as u32)
            .max_concurrent_streams(MAX_CONCURRENT);
        let stream = Stalling::new(stream, patience.stall, activity.clone());
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        tokio::select! {
            done = connection.as_mut() => return done,
            () = activity.given_up(&patience) => connection.as_mut().graceful_shutdown(),
        }
        tokio::time::timeout(patience.head, connection).await?
    }

    /// Who makes a request over the network, and their place; they may do what they ask for.
    ///
    /// # Errors
    /// 400, 401, 403, 429.
    fn enter(&self, certified: Option<&Certified>, parts: &Parts) -> Result<(UserInfo, Option<Seat>), ApiError> {
        let now = jiff::Timestamp::now().as_second();
        let user = authn::authenticate(self, certified, &parts.headers, now)?;
        let user = authn::impersonate(self, user, &parts.headers)?;
        let asked = authz::attributes(parts)?;
        let seat = self.inner.flow.admit(&user, &asked)?;
        self.authorize(&user, &asked)?;
        Ok((user, seat))
    }

    /// Answers one request, whose body may take `patience` to come. `enter` says who makes it, and refuses who may not: before the
    /// body is read, so that nobody fills the memory with what they may not send.
    pub(super) async fn handle<B>(
        &self,
        request: Request<B>,
        patience: Duration,
        enter: impl FnOnce(&Parts) -> Result<(UserInfo, Option<Seat>), ApiError>,
    ) -> Response<Body>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let (user, seat) = match enter(&parts) {
            Ok(entered) => entered,
            Err(error) => return reply::failure(&error),
        };
        let body = match tokio::time::timeout(patience, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return reply::failure(&ApiError::too_large(MAX_BODY));
            }
            Ok(Err(error)) => return reply::failure(&ApiError::bad_request(format!("reading the body: {error}"))),
            Err(_) => {
                let why = "reading the body: the client took too long";
                return reply::failure(&ApiError::new(StatusCode::REQUEST_TIMEOUT, "Timeout", why));
            }
        };
        // A fault in one request must not take down the component or connection that made it.
        let answer = AssertUnwindSafe(dispatch::answer(self, parts, body, user)).catch_unwind();
        match answer.await {
            Ok(answer) => {
                let answer = answer.unwrap_or_else(|error| reply::failure(&error));
                match seat {
                    Some(seat) => answer.map(|body| Holding::new(body, seat).boxed_unsync()),
                    None => answer,
                }
            }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const FOREVER: Duration = Duration::from_secs(3600);
    const SOON: Duration = Duration::from_millis(200);
    const PATIENT: Patience = Patience {
        head: FOREVER,
        body: FOREVER,
        idle: FOREVER,
        stall: FOREVER,
    };

    type Served = tokio::task::JoinHandle<Result<(), BoxError>>;

    /// A connection of `user`, and how it ends at the server.
    fn connect(server: &ApiServer, user: UserInfo, buffer: usize, patience: Patience) -> (DuplexStream, Served) {
        let (near, far) = tokio::io::duplex(buffer);
        let certified = Certified {
            user,
            not_after: i64::MAX,
        };
        let server = server.clone();
        let served = tokio::spawn(async move { server.converse(far, Some(certified), patience).await });
        (near, served)
    }

    fn admin() -> UserInfo {
        UserInfo::master("admin")
    }

    /// All that the server says until it hangs up.
    async fn said(mut stream: DuplexStream) -> String {
        let mut text = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut text)).await;
        // A connection that is cut says so, after what it has said.
        let _ = read.expect("the server must end the connection");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// One request on a connection of its own.
    async fn ask(server: &ApiServer, user: &UserInfo, request: &str) -> String {
        let (mut stream, _served) = connect(server, user.clone(), 1 << 20, PATIENT);
        stream.write_all(request.as_bytes()).await.unwrap();
        said(stream).await
    }

    #[tokio::test]
    async fn who_says_nothing_or_half_a_word_is_hung_up_on() {
        let server = super::super::tests::server();
        // Neither HTTP/1.1 nor HTTP/2 yet; the last may say good-bye for as long as a head may take.
        let idle = Patience {
            idle: SOON,
            head: SOON,
            ..PATIENT
        };
        for beginning in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let (mut stream, served) = connect(&server, admin(), 4096, idle);
            stream.write_all(beginning.as_bytes()).await.unwrap();
            said(stream).await;
            let _ = served.await.unwrap();
        }
        let head = Patience { head: SOON, ..PATIENT };
        let (mut stream, _served) = connect(&server, admin(), 4096, head);
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        said(stream).await;
    }

    #[tokio::test]
    async fn an_idle_connection_may_be_used_again_later_than_a_head_may_take() {
        let server = super::super::tests::server();
        let (mut stream, _served) = connect(&server, admin(), 4096, Patience { head: SOON, ..PATIENT });
        for _ in 0..2 {
            stream
                .write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
                .await
                .unwrap();
            let mut said = Vec::new();
            while !said.ends_with(b"}") && !said.ends_with(b"}\n") {
                let read = stream.read_buf(&mut said).await.unwrap();
                assert!(read > 0, "hung up on: {}", String::from_utf8_lossy(&said));
            }
            tokio::time::sleep(3 * SOON).await;
        }
        // But half a word is no word, however the last one was.
        stream.write_all(b"GET /version HTTP/1.1\r\n").await.unwrap();
        said(stream).await;
    }

    #[tokio::test]
    async fn a_connection_with_a_request_under_way_is_not_idle() {
        let server = super::super::tests::server();
        let (mut stream, _served) = connect(&server, admin(), 1 << 20, Patience { idle: SOON, ..PATIENT });
        let watch = "GET /api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=3 HTTP/1.1\r\nHost: x\r\n\r\n";
        let asked = std::time::Instant::now();
        stream.write_all(watch.as_bytes()).await.unwrap();
        let said = said(stream).await;
        assert!(asked.elapsed() >= Duration::from_secs(3), "{said}");
        assert!(
            said.ends_with("\r\n0\r\n\r\n"),
            "the watch must come to its own end: {said}"
        );
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_a_timeout() {
        let server = super::super::tests::server();
        let (mut stream, _served) = connect(&server, admin(), 4096, Patience { body: SOON, ..PATIENT });
        let post = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: \
                    10\r\n\r\n{";
        stream.write_all(post.as_bytes()).await.unwrap();
        let said = said(stream).await;
        assert!(
            said.starts_with("HTTP/1.1 408") && said.contains("\"reason\":\"Timeout\""),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let server = super::super::tests::server();
        let get = |bytes: usize| {
            let header = "x".repeat(bytes);
            format!("GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {header}\r\n\r\n")
        };
        assert!(
            ask(&server, &admin(), &get(MAX_HEAD / 2))
                .await
                .starts_with("HTTP/1.1 200")
        );
        assert!(ask(&server, &admin(), &get(MAX_HEAD)).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn who_reads_nothing_of_what_they_asked_for_is_given_up() {
        let server = super::super::tests::server();
        let get =
            "GET /apis/rbac.authorization.k8s.io/v1/clusterroles HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let stall = Patience { stall: SOON, ..PATIENT };
        let (mut stream, served) = connect(&server, admin(), 1024, stall);
        stream.write_all(get.as_bytes()).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), served).await;
        assert!(ended.expect("given up").unwrap().is_err());
        // Who reads is not, however small their buffer is.
        let (mut stream, served) = connect(&server, admin(), 1024, stall);
        stream.write_all(get.as_bytes()).await.unwrap();
        assert!(said(stream).await.contains("\"system:kube-scheduler\""));
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_has_too_much_under_way_is_told_when_to_come_again() {
        let server = super::super::tests::server();
        let jane = UserInfo::new("jane", &[]);
        let get = "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let asked = crate::control_plane::rbac::Attributes::default();
        let mut seats = Vec::new();
        while let Ok(seat) = server.inner.flow.admit(&jane, &asked) {
            seats.push(seat);
        }
        let refused = ask(&server, &jane, get).await;
        assert!(
            refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: 1\r\n"),
            "{refused}"
        );
        assert!(
            refused.contains("Too many requests, please try again later."),
            "{refused}"
        );
        assert!(ask(&server, &admin(), get).await.starts_with("HTTP/1.1 200"));
        // A request gives its place back, as often as it is made.
        seats.pop();
        for _ in 0..3 {
            assert!(ask(&server, &jane, get).await.starts_with("HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn one_address_leaves_room_for_others() {
        let server = super::super::tests::server();
        let tls = crate::control_plane::pki::Pki::create().unwrap();
        let tls = tls.server_config(&[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move { server.serve_with(listener, tls, PATIENT).await });
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS_OF_ONE {
            held.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        let ends = |mut stream: TcpStream| async move {
            let read = stream.read(&mut [0]).await;
            assert!(matches!(read, Ok(0) | Err(_)), "nothing is said: {read:?}");
        };
        let one_more = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), ends(one_more))
            .await
            .unwrap();
        for stream in &held {
            let read = stream.try_read(&mut [0]);
            assert!(
                matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
                "{read:?}"
            );
        }
        // Another address has room.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let other = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        assert!(tokio::time::timeout(SOON, ends(other)).await.is_err());
        serving.abort();
    }
}
