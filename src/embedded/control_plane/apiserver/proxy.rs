//! The subresource `proxy` of Pods and Services: an HTTP request, passed on to a pod from where the API server stands.
//!
//! The way there is [`Addressee`]'s and [`location`]'s; what is passed on, and what is not, is [`request_headers`]'s and
//! [`answer_headers`]'s.
//!
//! Source: apimachinery's `util/net` (`SplitSchemeNamePort`) and `util/proxy`; kube-apiserver's `ResourceLocation` of pods
//! and services.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{ApiServer, Body, dispatch::Call, status::ApiError};
use crate::control_plane::storage::CollectionKey;

/// How long a pod may take to accept a connection, with TLS, and to begin its answer.
const CONNECTING: Duration = Duration::from_secs(30);
const ANSWERING: Duration = Duration::from_secs(60);

/// Headers of one hop (RFC 9110, 7.6.1), and those that tell the API server who asks: no pod learns a client's token.
const KEPT_BACK: [HeaderName; 10] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::HOST,
];

/// Whether a path's subresource is this one, whatever follows it.
pub fn is_meant(subresource: Option<&str>) -> bool {
    subresource.is_some_and(|text| text == "proxy" || text.starts_with("proxy/"))
}

/// Passes a request on, and its answer back.
///
/// # Errors
/// 400 for what cannot be an address, 404, 429, 503 when nobody answers there.
pub async fn answer(call: Call, uri: Uri) -> Result<Response<Body>, ApiError> {
    let id = call.name()?.to_owned();
    let (prefix, rest) = split(uri.path()).ok_or_else(ApiError::no_such_path)?;
    let reads = matches!(call.method, Method::GET | Method::HEAD);
    if rest.is_empty() && reads {
        // So that what a page names relatively is found below it.
        return Ok(redirect(prefix, uri.query()));
    }
    let addressee = Addressee::parse(&id).ok_or_else(|| {
        ApiError::bad_request(format!("invalid {} request {id:?}", call.resource.kind.to_lowercase()))
    })?;
    let address = location(&call, &addressee, &id)?;
    if !is_proxyable(address.ip()) {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let slot = call.server.stream_slot(&call.user)?;
    let host = call.headers.get(header::HOST).cloned();
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = call.method;
    *request.uri_mut() = target(rest, uri.query())?;
    *request.headers_mut() = request_headers(&call.headers, address, host, uri.path());
    let unreachable =
        |why: &dyn std::fmt::Display| ApiError::unavailable(format!("error trying to reach service: {why}"));
    let sent = send(request, address, addressee.scheme == "https");
    let answered = sent.await.map_err(|why| unreachable(&why))?;
    let (mut parts, body) = answered.into_parts();
    parts.headers = answer_headers(parts.headers, &address.to_string(), prefix);
    parts.version = http::Version::default();
    let body = body.map_err(io::Error::other).map_frame(move |frame| {
        // A place among the streams is taken until the answer has ended.
        let _ = &slot;
        frame
    });
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

/// A path up to and with its segment `proxy`, and what follows, as it was written.
fn split(path: &str) -> Option<(&str, &str)> {
    // api, version, namespaces, namespace, resource, name, proxy
    let mut segments = 0;
    let mut inside = false;
    for (at, byte) in path.bytes().enumerate() {
        if byte == b'/' {
            if inside && segments == 7 {
                return path.split_at_checked(at);
            }
            inside = false;
        } else if !inside {
            inside = true;
            segments += 1;
        }
    }
    (segments == 7).then_some((path, ""))
}

fn target(rest: &str, query: Option<&str>) -> Result<Uri, ApiError> {
    let path = if rest.is_empty() { "/" } else { rest };
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    text.parse::<Uri>()
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

fn redirect(path: &str, query: Option<&str>) -> Response<Body> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(super::reply::full(Bytes::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{path}/{query}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Whom a name in the path means: `name`, `name:port` or `scheme:name:port`.
#[derive(Debug, PartialEq, Eq)]
struct Addressee<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Addressee<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some(Self { scheme, name, port })
    }
}

fn location(call: &Call, addressee: &Addressee<'_>, id: &str) -> Result<SocketAddr, ApiError> {
    let found = call.server.read(&call.resource, call.namespace(), addressee.name)?;
    if call.resource.plural == "pods" {
        return of_pod(&found, addressee.port);
    }
    let slices = slices(&call.server, call.namespace(), addressee.name);
    let draw = rand::random_range(0..usize::MAX);
    of_service(&found, &slices, addressee, id, draw)
}

/// Where a pod listens. Pure.
fn of_pod(pod: &Value, port: &str) -> Result<SocketAddr, ApiError> {
    let address: Option<IpAddr> = pod
        .pointer("/status/podIP")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    let address = address.ok_or_else(|| ApiError::bad_request("address not allowed"))?;
    let port = if port.is_empty() {
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        let mut ports = containers.into_iter().flatten().filter_map(|container| {
            let first = container.pointer("/ports/0/containerPort")?.as_u64()?;
            u16::try_from(first).ok()
        });
        ports.next().unwrap_or(80)
    } else {
        let number = port.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| ApiError::bad_request(format!("unable to parse {port:?} as a port")))?
    };
    Ok(SocketAddr::new(address, port))
}

fn slices(server: &ApiServer, namespace: &str, service: &str) -> Vec<Arc<Value>> {
    let collection = CollectionKey::new("discovery.k8s.io", "endpointslices");
    let mut all = server.store().list(&collection, Some(namespace)).items;
    all.retain(|slice| {
        let label = slice.pointer("/metadata/labels/kubernetes.io~1service-name");
        label.and_then(Value::as_str) == Some(service)
    });
    all
}

/// One of the places where a Service's ready pods listen; `draw` says which. Pure.
fn of_service(
    service: &Value,
    slices: &[Arc<Value>],
    addressee: &Addressee<'_>,
    id: &str,
    draw: usize,
) -> Result<SocketAddr, ApiError> {
    let Addressee { name, port, .. } = *addressee;
    let mut wanted = port;
    if let Ok(number) = port.parse::<i64>() {
        let ports = service.pointer("/spec/ports").and_then(Value::as_array);
        let found = ports
            .into_iter()
            .flatten()
            .find(|port| port.get("port").and_then(Value::as_i64) == Some(number));
        let found = found
            .ok_or_else(|| ApiError::unavailable(format!("no service port {number} found for service {name:?}")))?;
        wanted = found.get("name").and_then(Value::as_str).unwrap_or_default();
    }
    let ready = |endpoint: &&Value| endpoint.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false);
    let list = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut places = Vec::new();
    let mut any = false;
    for slice in slices {
        let ports = list(slice, "ports");
        let port = ports
            .iter()
            .find(|port| port.get("name").and_then(Value::as_str).unwrap_or_default() == wanted)
            .and_then(|port| port.get("port")?.as_u64())
            .and_then(|port| u16::try_from(port).ok());
        for endpoint in list(slice, "endpoints").iter().filter(ready) {
            any = true;
            let address = endpoint.pointer("/addresses/0").and_then(Value::as_str);
            let address = address.and_then(|text| text.parse::<IpAddr>().ok());
            places.extend(address.zip(port).map(|(address, port)| SocketAddr::new(address, port)));
        }
    }
    let named = if any { id } else { name };
    let none = || ApiError::unavailable(format!("no endpoints available for service {named:?}"));
    let at = draw.checked_rem(places.len()).ok_or_else(none)?;
    places.get(at).copied().ok_or_else(none)
}

/// Addresses that mean the server itself, or nobody beyond a link, are not asked on a client's behalf.
fn is_proxyable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local)
}

fn is_kept_back(name: &HeaderName, connection: &[String]) -> bool {
    KEPT_BACK.contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || name.as_str().starts_with("impersonate-")
        || connection.iter().any(|named| named == name.as_str())
}

/// The headers that `Connection` names are of one hop, too.
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONNECTION).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

/// What a pod hears of a request's headers. Pure.
fn request_headers(headers: &HeaderMap, address: SocketAddr, host: Option<HeaderValue>, path: &str) -> HeaderMap {
    let connection = named_by_connection(headers);
    let mut passed = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| !is_kept_back(name, &connection)) {
        passed.append(name.clone(), value.clone());
    }
    let told = [
        (header::HOST, HeaderValue::from_str(&address.to_string()).ok()),
        (HeaderName::from_static("x-forwarded-host"), host),
        (
            HeaderName::from_static("x-forwarded-uri"),
            HeaderValue::from_str(path).ok(),
        ),
        (
            HeaderName::from_static("x-forwarded-proto"),
            Some(HeaderValue::from_static("https")),
        ),
    ];
    for (name, value) in told {
        passed.remove(&name);
        passed.extend(value.map(|value| (name, value)));
    }
    passed
}

/// What a client hears of an answer's headers: a redirect within the pod's site leads through the proxy again. Pure.
fn answer_headers(mut headers: HeaderMap, host: &str, prefix: &str) -> HeaderMap {
    let connection = named_by_connection(&headers);
    let length = headers.get(header::CONTENT_LENGTH).cloned();
    let all: Vec<HeaderName> = headers.keys().cloned().collect();
    for name in all.iter().filter(|name| is_kept_back(name, &connection)) {
        headers.remove(name);
    }
    headers.extend(length.map(|length| (header::CONTENT_LENGTH, length)));
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    if let Some(moved) = location.and_then(|location| moved(location, host, prefix))
        && let Ok(value) = HeaderValue::from_str(&moved)
    {
        headers.insert(header::LOCATION, value);
    }
    headers
}

/// The place that a redirect of the host names, as the proxy's client finds it; `None` when that is what it says.
fn moved(location: &str, host: &str, prefix: &str) -> Option<String> {
    let path = match location.split_once("://") {
        Some((_, rest)) => {
            let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at_checked(at)?;
            (authority == host || Some(authority) == host.strip_suffix(":80")).then_some(path)?
        }
        // another host's, by the same scheme
        None if location.starts_with("//") => return None,
        None if location.starts_with('/') => location,
        None => return None,
    };
    let already = path
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let slash = if path.starts_with('/') { "" } else { "/" };
    Some(if already {
        path.to_owned()
    } else {
        format!("{prefix}{slash}{path}")
    })
}

/// A connection to a pod.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

async fn send(
    request: Request<Full<Bytes>>,
    address: SocketAddr,
    tls: bool,
) -> Result<Response<hyper::body::Incoming>, String> {
    let connected = tokio::time::timeout(CONNECTING, connect(address, tls)).await;
    let wire = connected.map_err(|_| format!("dial tcp {address}: i/o timeout"))??;
    let shake = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(wire));
    let (mut sender, connection) = shake.await.map_err(|error| error.to_string())?;
    // It ends with the answer's body, or when nobody reads that any more.
    tokio::spawn(connection);
    let answered = tokio::time::timeout(ANSWERING, sender.send_request(request)).await;
    let answered = answered.map_err(|_| "net/http: timeout awaiting response headers".to_owned())?;
    answered.map_err(|error| error.to_string())
}

async fn connect(address: SocketAddr, tls: bool) -> Result<Box<dyn Wire>, String> {
    let connected = TcpStream::connect(address).await;
    let wire = connected.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {address}: connect: {why}")
    })?;
    if !tls {
        return Ok(Box::new(wire));
    }
    let config = client_config().map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let shaken = connector.connect(ServerName::from(address.ip()), wire).await;
    Ok(Box::new(shaken.map_err(|error| format!("remote error: tls: {error}"))?))
}

fn client_config() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let verifier = Arc::new(AnyCertificate(provider));
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Takes any certificate, as kube-apiserver does here: pods have no name that one could be for.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WEB: &str = "/api/v1/namespaces/a/services/web:80/proxy";

    #[test]
    fn a_path_is_cut_where_the_pods_own_begins() {
        for (path, expected) in [
            (WEB, Some((WEB, ""))),
            (&format!("{WEB}/"), Some((WEB, "/"))),
            (&format!("{WEB}/a%2Fb//c/"), Some((WEB, "/a%2Fb//c/"))),
            (&format!("{WEB}/proxy/proxy"), Some((WEB, "/proxy/proxy"))),
            (
                "//api/v1//namespaces/a/pods/p/proxy/x",
                Some(("//api/v1//namespaces/a/pods/p/proxy", "/x")),
            ),
            ("/api/v1/nodes/n/proxy", None),
            ("", None),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn a_name_says_scheme_and_port() {
        let addressee = |scheme, name, port| Some(Addressee { scheme, name, port });
        for (id, expected) in [
            ("web", addressee("", "web", "")),
            ("web:80", addressee("", "web", "80")),
            ("web:", addressee("", "web", "")),
            ("https:web:", addressee("https", "web", "")),
            ("http:web:http", addressee("http", "web", "http")),
            ("ftp:web:80", None),
            (":80", None),
            ("http::80", None),
            ("a:b:c:d", None),
            ("", None),
        ] {
            assert_eq!(Addressee::parse(id), expected, "{id}");
        }
    }

    #[test]
    fn a_pod_is_asked_at_its_address() {
        let pod = |status: Value| json!({"status": status, "spec": {"containers": [{}, {"ports": [{"containerPort": 8080}, {"containerPort": 9}]}]}});
        for (status, port, expected) in [
            (json!({"podIP": "10.244.0.5"}), "81", Ok("10.244.0.5:81")),
            (json!({"podIP": "10.244.0.5"}), "", Ok("10.244.0.5:8080")),
            (json!({}), "81", Err(400)),
            (json!({"podIP": "nonsense"}), "81", Err(400)),
            (json!({"podIP": "10.244.0.5"}), "0", Err(400)),
            (json!({"podIP": "10.244.0.5"}), "65536", Err(400)),
            (json!({"podIP": "10.244.0.5"}), "http", Err(400)),
        ] {
            let found = of_pod(&pod(status), port).map(|address| address.to_string());
            assert_eq!(
                found.as_deref().map_err(|error| error.code().as_u16()),
                expected,
                "{port}"
            );
        }
        let bare = json!({"status": {"podIP": "10.244.0.5"}, "spec": {"containers": [{}]}});
        assert_eq!(of_pod(&bare, "").unwrap().port(), 80);
    }

    #[test]
    fn a_service_is_asked_at_a_ready_endpoint_of_the_port() {
        let service = json!({"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 443, "name": "https"}]}});
        let slice = Arc::new(json!({
            "ports": [{"name": "http", "port": 8080}, {"name": "https", "port": 8443}],
            "endpoints": [
                {"addresses": ["10.244.0.5"], "conditions": {"ready": true}},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": false}},
                {"addresses": ["10.244.0.7"]},
            ],
        }));
        let ask = |id: &str, slices: &[Arc<Value>], draw| {
            let found = of_service(&service, slices, &Addressee::parse(id).unwrap(), id, draw);
            found
                .map(|address| address.to_string())
                .map_err(|error| error.0.message.clone().unwrap_or_default())
        };
        let some = [slice];
        for (id, slices, draw, expected) in [
            ("web:80", &some[..], 0, Ok("10.244.0.5:8080")),
            ("web:80", &some, 1, Ok("10.244.0.7:8080")),
            ("web:80", &some, usize::MAX, Ok("10.244.0.7:8080")),
            ("web:https", &some, 2, Ok("10.244.0.5:8443")),
            ("https:web:443", &some, 2, Ok("10.244.0.5:8443")),
            ("web:81", &some, 0, Err("no service port 81 found for service \"web\"")),
            (
                "web:other",
                &some,
                0,
                Err("no endpoints available for service \"web:other\""),
            ),
            ("web", &some, 0, Err("no endpoints available for service \"web\"")),
            ("web:80", &[], 0, Err("no endpoints available for service \"web\"")),
        ] {
            let found = ask(id, slices, draw);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{id} {draw}");
        }
    }

    #[test]
    fn nobody_is_asked_at_the_servers_own_addresses() {
        for (address, expected) in [
            ("10.244.0.5", true),
            ("10.96.0.10", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("0.0.0.0", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_proxyable(address.parse().unwrap()), expected, "{address}");
        }
    }

    fn headers(of: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in of {
            map.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        map
    }

    #[test]
    fn a_pod_learns_no_token_and_nothing_of_the_hop() {
        let asked = headers(&[
            ("host", "127.0.0.1:6443"),
            ("authorization", "Bearer secret"),
            ("impersonate-user", "jane"),
            ("impersonate-extra-scopes", "all"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("cookie", "a=b"),
            ("accept", "text/html"),
            ("accept", "*/*"),
            ("x-forwarded-host", "a lie"),
        ]);
        let address = "10.244.0.5:80".parse().unwrap();
        let host = asked.get(header::HOST).cloned();
        let found = request_headers(&asked, address, host, "/api/x");
        assert_eq!(
            found,
            headers(&[
                ("cookie", "a=b"),
                ("accept", "text/html"),
                ("accept", "*/*"),
                ("host", "10.244.0.5:80"),
                ("x-forwarded-host", "127.0.0.1:6443"),
                ("x-forwarded-uri", "/api/x"),
                ("x-forwarded-proto", "https"),
            ])
        );
    }

    #[test]
    fn a_redirect_within_the_site_leads_through_the_proxy() {
        for (location, expected) in [
            ("/login", Some(format!("{WEB}/login"))),
            ("/", Some(format!("{WEB}/"))),
            ("/a/?b=c#d", Some(format!("{WEB}/a/?b=c#d"))),
            ("http://10.244.0.5:80/login", Some(format!("{WEB}/login"))),
            ("http://10.244.0.5/login", Some(format!("{WEB}/login"))),
            ("http://10.244.0.5:80?b", Some(format!("{WEB}/?b"))),
            ("http://example.com/login", None),
            ("//example.com/login", None),
            ("login", None),
            ("", None),
            (&format!("{WEB}/there"), Some(format!("{WEB}/there"))),
        ] {
            assert_eq!(moved(location, "10.244.0.5:80", WEB), expected, "{location}");
        }
        let answered = headers(&[
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("location", "/x"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        ]);
        let expected = headers(&[
            ("content-length", "3"),
            ("location", &format!("{WEB}/x")),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        ]);
        assert_eq!(answer_headers(answered, "10.244.0.5:80", WEB), expected);
    }

    proptest::proptest! {
        #[test]
        fn no_path_and_no_location_is_too_strange(path in ".{0,60}", location in ".{0,60}") {
            if let Some((prefix, rest)) = split(&path) {
                proptest::prop_assert_eq!(format!("{prefix}{rest}"), path);
            }
            let _ = moved(&location, "10.244.0.5:80", WEB);
            let _ = Addressee::parse(&location);
        }
    }
}
