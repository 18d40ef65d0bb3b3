//! One HTTP request to a container, as probes and hooks make it: no proxy, and no judgement of certificates.
//!
//! Source: Kubernetes' `HTTPGetAction`.

use std::{net::Ipv4Addr, sync::Arc};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// The most that is read of an answer, bytes.
const READ: usize = 10 << 10;

/// The number of a port that is given by number or by a name of the container's.
///
/// # Errors
/// There is no such port.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| match port {
            IntOrString::Int(number) => format!("invalid port number: {number}"),
            IntOrString::String(name) => format!("couldn't find port: {name}"),
        })
}

/// A request that is yet to be made.
#[derive(Debug, Clone)]
pub struct Get {
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
    tls: bool,
}

impl Get {
    /// What the action asks for, with `ip` as the host where it names none, from a client of this name (`kube-probe`).
    ///
    /// # Errors
    /// There is no such port.
    pub fn new(action: &HTTPGetAction, ip: Ipv4Addr, container: &Container, client: &str) -> Result<Self, String> {
        let port = port(&action.port, container)?;
        let host = action.host.clone().filter(|host| !host.is_empty());
        let path = action.path.clone().unwrap_or_default();
        let mut headers: Vec<(String, String)> = Vec::new();
        for header in action.http_headers.iter().flatten() {
            headers.push((header.name.clone(), header.value.clone()));
        }
        let named = |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let agent = (!named("user-agent")).then(|| ("user-agent", format!("{client}/1.33")));
        let accept = (!named("accept")).then(|| ("accept", "*/*".to_owned()));
        let more: Vec<_> = agent.into_iter().chain(accept).collect();
        headers.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Ok(Self {
            host: host.unwrap_or_else(|| ip.to_string()),
            port,
            path: if path.starts_with('/') {
                path
            } else {
                format!("/{path}")
            },
            // An empty `Accept` takes the default one away.
            headers: headers.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
            tls: action.scheme.as_deref() == Some("HTTPS"),
        })
    }

    /// Where it goes.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.path)
    }

    /// Makes the request; gives the answer's status, whatever it is.
    ///
    /// # Errors
    /// In the words that events have.
    pub async fn send(&self) -> Result<StatusCode, String> {
        let failed = |error: &dyn std::fmt::Display| format!("Get \"{}\": {error}", self.url());
        let stream = dial(&self.host, self.port).await.map_err(|error| failed(&error))?;
        if self.tls {
            let name = ServerName::try_from(self.host.clone()).map_err(|error| failed(&error))?;
            let stream = connector().connect(name, stream).await;
            self.exchange(stream.map_err(|error| failed(&error))?).await
        } else {
            self.exchange(stream).await
        }
        .map_err(|error| failed(&error))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<StatusCode, String> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let _driver = Aborting(tokio::spawn(async move {
            // The exchange itself says what went wrong.
            let _ = connection.await;
        }));
        let mut request = Request::get(&self.path).header("connection", "close");
        let host = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = host.map_or_else(|| format!("{}:{}", self.host, self.port), |(_, value)| value.clone());
        request = request.header("host", host);
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            let value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
            if name != "host" {
                request = request.header(name, value);
            }
        }
        let request = request.body(Empty::<bytes::Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| told(&error))?;
        let status = response.status();
        drain(response).await;
        Ok(status)
    }
}

/// Reads an answer, so that the program does not see it cut short.
async fn drain(response: Response<Incoming>) {
    let mut body = response.into_body();
    let mut left = READ;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, bytes::Bytes::len);
        if size >= left {
            return;
        }
        left -= size;
    }
}

fn told(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Connects.
///
/// # Errors
/// In the words that events have.
pub async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
            std::io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {host}:{port}: connect: {why}")
    })
}

fn connector() -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    // The provider has what the defaults need, or no TLS of this program works.
    let config = match builder {
        Ok(builder) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth(),
        Err(_) => ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth(),
    };
    TlsConnector::from(Arc::new(config))
}

/// Takes any certificate: a probe asks whether the program answers, not who it is.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A task that ends with its holder.
pub struct Aborting(pub tokio::task::JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container() -> Container {
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "http", "containerPort": 8080}]})).unwrap()
    }

    #[test]
    fn ports_are_found_by_name_or_number() {
        for (wanted, expected) in [
            (IntOrString::Int(80), Some(80)),
            (IntOrString::String("http".into()), Some(8080)),
            (IntOrString::String("9090".into()), Some(9090)),
            (IntOrString::String("nope".into()), None),
            (IntOrString::Int(70000), None),
            (IntOrString::Int(0), None),
        ] {
            assert_eq!(port(&wanted, &container()).ok(), expected, "{wanted:?}");
        }
    }

    #[test]
    fn a_request_is_what_the_action_says() {
        let get = |action: serde_json::Value| {
            let action = serde_json::from_value(action).unwrap();
            Get::new(&action, Ipv4Addr::new(10, 1, 2, 3), &container(), "kube-probe").unwrap()
        };
        let plain = get(json!({"port": "http"}));
        assert_eq!(plain.url(), "http://10.1.2.3:8080/");
        assert!(plain.headers.contains(&("user-agent".into(), "kube-probe/1.33".into())));
        let whole = get(json!({"port": 1, "host": "h", "path": "a?b", "scheme": "HTTPS",
            "httpHeaders": [{"name": "User-Agent", "value": "me"}, {"name": "Accept", "value": ""}]}));
        assert_eq!(whole.url(), "https://h:1/a?b");
        assert_eq!(whole.headers, [("User-Agent".to_owned(), "me".to_owned())]);
    }
    #[tokio::test]
    async fn a_certificate_of_nobody_is_good_enough() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = i32::from(listener.local_addr().unwrap().port());
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8_lossy(&head[..length]).into_owned()
        });
        let action = json!({"port": port, "scheme": "HTTPS", "path": "/x", "httpHeaders": [
            {"name": "Host", "value": "shop"}, {"name": "X-Who", "value": "me"}]});
        let action = serde_json::from_value(action).unwrap();
        let get = Get::new(&action, Ipv4Addr::LOCALHOST, &container(), "kube-probe").unwrap();
        assert_eq!(get.send().await.unwrap(), 503);
        let head = server.await.unwrap();
        for line in [
            "GET /x HTTP/1.1",
            "host: shop",
            "x-who: me",
            "user-agent: kube-probe/1.33",
        ] {
            assert!(head.lines().any(|one| one == line), "{line}:\n{head}");
        }
    }
}
