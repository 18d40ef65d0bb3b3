//! A real Envoy that has its SVID from the agent's secret discovery, where the machine has one.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use ztlab_identity::{Authorizer, Live, Source, SpiffeId, X509Context, tls::MutualTls, x509::Leaf};

use super::world::{World, context, entry, settings};
use crate::{
    api::types,
    workload::{Address, WorkloadSource},
};

/// The first Envoy on the `PATH`; says loudly when there is none. No distribution packages it, so that CI may lack it too.
fn envoy() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("envoy"))
        .find(|program| {
            // Other programs have the name too.
            let said = Command::new(program).arg("--version").output();
            said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("version: "))
        });
    if found.is_none() {
        eprintln!("SKIPPED: this machine lacks envoy");
    }
    found
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// More than any machine takes for what is waited for here: a test that waits for ever says nothing.
const PATIENCE: Duration = Duration::from_secs(60);

impl Running {
    /// Waits a moment before something is looked at again; fails, with Envoy's log, when it ended or `since` is too long ago.
    async fn again(&mut self, since: Instant, log: &Path) {
        let ended = self.0.try_wait().unwrap();
        assert!(
            ended.is_none() && since.elapsed() < PATIENCE,
            "Envoy ended with {ended:?}, or what was waited for did not come:\n{}",
            std::fs::read_to_string(log).unwrap()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A secret of the agent's by name, in Envoy's configuration.
fn secret(name: &str) -> Value {
    json!({"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": {
        "api_type": "GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "spire_agent"}}]}}})
}

/// As SPIRE's documents show it: a listener with mutual TLS whose SVID and bundle come from the agent, and which lets
/// `client` in only.
fn configuration(socket: &Path, bundle: &str, client: &str) -> Value {
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [secret("default")],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names":
                    [{"san_type": "URI", "matcher": {"exact": client}}]},
                "validation_context_sds_secret_config": secret(bundle)}}});
    let http = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "orders",
        // Who reads to the end would wait a second for it.
        "delayed_close_timeout": "0s",
        "route_config": {"virtual_hosts": [{"name": "orders", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "orders"}}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]});
    let anywhere = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    json!({
        "node": {"id": "orders", "cluster": "orders"},
        "admin": {"address": anywhere},
        "static_resources": {
            "listeners": [{"name": "orders", "address": anywhere, "filter_chains": [{
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]}]}],
            "clusters": [{"name": "spire_agent", "connect_timeout": "1s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}},
                "load_assignment": {"cluster_name": "spire_agent", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"pipe": {"path": socket}}}}]}]}}]}})
}

/// What the admin interface answers, from the body on.
async fn ask(admin: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default())
}

/// The port of the listener, once it has its secrets and a worker has it: only then does anybody listen.
async fn port(envoy: &mut Running, dir: &Path) -> u16 {
    let since = Instant::now();
    loop {
        if let Ok(admin) = std::fs::read_to_string(dir.join("admin"))
            && let Ok(given) = ask(
                &admin,
                "/stats?filter=listener_manager.listener_create_success&format=json",
            )
            .await
            && given.contains("\"value\":1")
            && let Ok(listeners) = ask(&admin, "/listeners?format=json").await
            && let Some(port) = port_in(&listeners)
        {
            return port;
        }
        envoy.again(since, &dir.join("envoy.log")).await;
    }
}

fn port_in(listeners: &str) -> Option<u16> {
    // Bodies come in chunks: the JSON begins at the first brace and ends at the last.
    let json = listeners.get(listeners.find('{')?..=listeners.rfind('}')?)?;
    let listeners: Value = serde_json::from_str(json).ok()?;
    let port = &listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"];
    port.as_u64()?.try_into().ok()
}

/// How many peers Envoy refused for their certificate: its id, or that no bundle knows who signed it.
async fn refused(dir: &Path) -> u64 {
    let admin = std::fs::read_to_string(dir.join("admin")).unwrap();
    let stats = ask(&admin, "/stats?filter=^listener\\.127.*ssl\\.fail_verify_(san|error)$")
        .await
        .unwrap();
    let counts = stats
        .lines()
        .filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
    counts.sum()
}

/// A handshake with the listener, and what is answered to a request on it.
async fn call(port: u16, tls: &MutualTls) -> std::io::Result<(Leaf, String)> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.client().unwrap()));
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut stream: TlsStream<TcpStream> = connector.connect("orders".try_into().unwrap(), stream).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let leaf = Leaf::read(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap();
    Ok((leaf, answer))
}

fn only(id: &str) -> Authorizer {
    Authorizer::deny_all().allow(id.parse().unwrap())
}

/// Envoy, with its files in `dir`.
fn start(program: &Path, dir: &Path, configuration: &Value) -> Running {
    std::fs::write(dir.join("envoy.json"), configuration.to_string()).unwrap();
    let log = std::fs::File::create(dir.join("envoy.log")).unwrap();
    let envoy = Command::new(program)
        .args(["--config-path", "envoy.json", "--admin-address-path", "admin"])
        // Two of them at a time are not to know each other, and one thread does.
        .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Running(envoy)
}

const ORDERS: &str = "spiffe://shop.test/orders";

#[tokio::test]
async fn a_real_envoy_speaks_mutual_tls_with_its_svid_and_takes_the_next_one() {
    let Some(program) = envoy() else { return };
    let world = World::now(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    let id = world.entry("/orders").await;
    world.svids().await;
    let address: Address = format!("unix:{}", world.socket().display()).parse().unwrap();
    let source = WorkloadSource::start(address);
    source.ready().await.unwrap();
    let shown: Arc<dyn Source> = Arc::new(source);
    for bundle in ["ROOTCA", "ALL", "spiffe://shop.test"] {
        let dir = tempfile::tempdir().unwrap();
        let mut envoy = start(&program, dir.path(), &configuration(&world.socket(), bundle, ORDERS));
        let port = port(&mut envoy, dir.path()).await;
        let tls = MutualTls::new(Arc::clone(&shown), only(ORDERS));
        let (first, answer) = call(port, &tls).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("orders"),
            "{answer}"
        );
        assert_eq!(first.id(), &SpiffeId::parse(ORDERS).unwrap());
        refuses_others(&world, port).await;
        assert_eq!(refused(dir.path()).await, 2, "for their certificates");
        // Whatever changes in its entry, the workload gets another SVID.
        let dns_name = bundle.replace("spiffe://", "").to_lowercase();
        world.changed(&id, &dns_name).await;
        let since = Instant::now();
        loop {
            let (next, answer) = call(port, &tls).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "not one request fails: {answer}");
            if next.serial() != first.serial() {
                break;
            }
            envoy.again(since, &dir.path().join("envoy.log")).await;
        }
    }
}

/// One who is of the trust domain and not let in, and one whom no bundle knows.
async fn refuses_others(world: &World, port: u16) {
    let another = world
        .entry_of(types::Entry {
            selectors: vec![types::Selector {
                r#type: "unix".into(),
                value: "uid:8".into(),
            }],
            ..entry("/mallory")
        })
        .await;
    let before = std::mem::take(&mut *world.workload.0.lock().unwrap());
    world
        .workload
        .0
        .lock()
        .unwrap()
        .insert(crate::store::Selector::new("unix", "uid:8"));
    let (answer, _) = world.svids().await;
    *world.workload.0.lock().unwrap() = before;
    world.delete(another).await;
    let mallory = context(&answer, world.clock.now());
    assert_eq!(mallory.default_svid().id().to_string(), "spiffe://shop.test/mallory");
    let other = World::now(settings(86_400, 3600)).await;
    let _agent = other.agent().await;
    other.entry("/orders").await;
    let (answer, _) = other.svids().await;
    let stranger = context(&answer, other.clock.now());
    for svid in [mallory.default_svid(), stranger.default_svid()] {
        let peer = X509Context::new(vec![svid.clone()], mallory.bundles().clone()).unwrap();
        let tls = MutualTls::new(Arc::new(Live::new(Some(peer))), only(ORDERS));
        // In TLS 1.3 the refusal is read after the handshake.
        assert!(call(port, &tls).await.is_err(), "{}", svid.id());
    }
}
