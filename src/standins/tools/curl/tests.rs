use std::{ffi::OsString, net::SocketAddr, path::Path, sync::Arc};

use axum::{
    Router,
    http::HeaderMap,
    response::Redirect,
    routing::{any, get, post},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::TlsAcceptor;

use super::{args, run};

struct Ran {
    code: u8,
    stdout: String,
    stderr: String,
}

async fn curl(line: &str) -> Ran {
    let options = args::parse(line.split_whitespace().map(OsString::from).collect()).unwrap();
    let (mut body, mut after, mut stderr) = (Vec::new(), Vec::new(), Vec::new());
    let code = run(&options, &mut body, &mut after, &mut stderr).await;
    body.extend(after);
    Ran {
        code,
        stdout: String::from_utf8(body).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/echo", post(async |body: String| body))
        .route("/headers", any(async |headers: HeaderMap| format!("{headers:?}")))
        .route("/old", get(async || Redirect::temporary("/")))
        .route("/loop", get(async || Redirect::temporary("/loop")))
        .route("/slow", get(async || std::future::pending::<&str>().await));
    tokio::spawn(async { axum::serve(listener, routes).await });
    address
}

#[tokio::test]
async fn it_fetches_and_sends() {
    let at = server().await;
    let ran = curl(&format!("-s http://{at}/")).await;
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "hello\n", ""));
    let ran = curl(&format!("-s -d a=1 -d b=2 http://{at}/echo")).await;
    assert_eq!(ran.stdout, "a=1&b=2");
    let ran = curl(&format!("-sH Authorization:x -A me -u u:p {at}/headers")).await;
    assert!(ran.stdout.contains(r#""authorization": "x""#), "{}", ran.stdout);
    assert!(ran.stdout.contains(r#""user-agent": "me""#), "{}", ran.stdout);
    let ran = curl(&format!("-s -u u:p {at}/headers")).await;
    assert!(ran.stdout.contains("Basic dTpw"), "{}", ran.stdout);
    let ran = curl(&format!("-s --json {{\"x\":1}} {at}/headers")).await;
    assert!(
        ran.stdout.contains(r#""content-type": "application/json""#),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn heads_are_shown_as_they_were_on_the_wire() {
    let at = server().await;
    let ran = curl(&format!("-si http://{at}/")).await;
    assert!(
        ran.stdout.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/plain"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.ends_with("\r\n\r\nhello\n"), "{}", ran.stdout);
    let ran = curl(&format!("-sI http://{at}/")).await;
    assert!(ran.stdout.ends_with("\r\n\r\n"), "{}", ran.stdout);
    let ran = curl(&format!("-sv http://{at}/")).await;
    assert!(
        ran.stderr.contains("> GET / HTTP/1.1\n> Host: 127.0.0.1:"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("< HTTP/1.1 200 OK\n"), "{}", ran.stderr);
    let ran = curl(&format!("-s -w %{{http_code}}:%{{size_download}}\\n http://{at}/")).await;
    assert_eq!(ran.stdout, "hello\n200:6\n");
}

#[tokio::test]
async fn exit_codes_are_those_of_curl() {
    let at = server().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = silent.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = silent.accept().await {
            drop(stream);
        }
    });
    let babbling = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let weird = babbling.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = babbling.accept().await {
            let _ = stream.write_all(b"SSH-2.0-x\r\n\r\n").await;
        }
    });
    for (line, code, says) in [
        ("ftp://x/".to_owned(), 1, "(1) Protocol"),
        ("http://a:b/".to_owned(), 3, "(3) URL"),
        (
            "http://no-such-host.invalid/".to_owned(),
            6,
            "(6) Could not resolve host: no-such-host.invalid",
        ),
        (format!("http://{closed}/"), 7, "(7) Failed to connect to 127.0.0.1"),
        (format!("http://{weird}/"), 8, "(8) "),
        (
            format!("-f http://{at}/nope"),
            22,
            "(22) The requested URL returned error: 404",
        ),
        (
            format!("-m 0.05 http://{at}/slow"),
            28,
            "(28) Operation timed out after 50 milliseconds",
        ),
        (format!("-L http://{at}/loop"), 47, "(47) Maximum (50) redirects"),
        (
            format!("-d @/no/such/file http://{at}/"),
            26,
            "(26) Failed to open /no/such/file",
        ),
        (format!("http://{at}/nope"), 0, ""),
        (format!("-L http://{at}/old"), 0, ""),
    ] {
        let ran = curl(&line).await;
        assert_eq!(ran.code, code, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{line}: {}", ran.stderr);
    }
    let ran = curl(&format!("http://{mute}/")).await;
    assert!(matches!(ran.code, 52 | 56), "{}: {}", ran.code, ran.stderr);
    let ran = curl(&format!("-s http://{closed}/")).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (7, ""));
    let ran = curl(&format!(
        "--resolve shop:{}:127.0.0.1 http://shop:{}/",
        at.port(),
        at.port()
    ))
    .await;
    assert_eq!(ran.stdout, "hello\n");
}

/// A CA, and a server whose certificate it signed; `client_auth` asks for a client certificate of the same CA.
pub async fn tls_server(dir: &Path, client_auth: bool) -> SocketAddr {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        (certificate, key)
    };
    let (client, client_key) = signed("mallory");
    std::fs::write(dir.join("client.pem"), client.pem() + &client_key.serialize_pem()).unwrap();
    let (certificate, key) = signed("shop.test");
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if client_auth {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let acceptor = TlsAcceptor::from(Arc::new(
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap(),
    ));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut buffer = [0; 1024];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsecret\n")
                    .await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn certificates_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let at = tls_server(dir.path(), false).await;
    let ca = dir.path().join("ca.pem").display().to_string();
    let port = at.port();
    let url = format!("--resolve shop.test:{port}:127.0.0.1 https://shop.test:{port}/");
    for (options, code, says) in [
        (format!("-v --cacert {ca} {url}"), 0, "SSL certificate verify ok."),
        (format!("-v -k {url}"), 0, "SSL connection using TLSv1_3"),
        (
            format!("--cacert {ca} https://127.0.0.1:{port}/"),
            60,
            "(60) SSL certificate problem",
        ),
        (format!("--cacert /no/such {url}"), 77, "(77) "),
        (format!("--cacert {ca} --cert /no/such {url}"), 58, "(58) "),
        (format!("--cacert {ca} http://127.0.0.1:{port}/"), 8, "(8) "),
    ] {
        let ran = curl(&options).await;
        assert_eq!(ran.code, code, "{options}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{options}: {}", ran.stderr);
        assert_eq!(ran.stdout, if code == 0 { "secret\n" } else { "" });
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let at = tls_server(dir.path(), true).await;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let port = at.port();
    let url = format!(
        "--cacert {} --resolve shop.test:{port}:127.0.0.1 https://shop.test:{port}/",
        path("ca.pem")
    );
    let ran = curl(&format!("--cert {} {url}", path("client.pem"))).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "secret\n"), "{}", ran.stderr);
    let ran = curl(&url).await;
    assert_eq!(ran.code, 56, "{}", ran.stderr);
    assert!(ran.stderr.contains("CertificateRequired"), "{}", ran.stderr);
}
