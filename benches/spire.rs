//! What SPIRE's stand-ins claim about speed: SVIDs a second and the server's memory, beside a real `spire-server` where the machine
//! has one (in PATH, or named by ZTLAB_BENCH_SPIRE_SERVER); and how soon a new pod has its first SVID on the embedded cluster.
//! `make bench` runs it on the release build. Nothing here passes or fails.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use common::{Bench, Row, memory, ms, print, row, time};
use futures::{AsyncBufReadExt, TryStreamExt, future::join_all};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, LogParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use tonic::transport::{Channel, Endpoint};
use ztlab_spire::api::svid::{MintX509svidRequest, svid_client::SvidClient};

/// Requests that are on their way at once.
const AT_ONCE: usize = 8;
/// Requests of each of them.
const EACH: usize = 250;
const PODS: usize = 10;
const CLUSTER: &str = "bench-spire";

/// A server of the trust domain `bench.test`, without agents.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start(mut command: Command, dir: &Path, kubeconfig: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let socket = dir.join("api.sock");
        let conf = dir.join("server.conf");
        let text = format!(
            r#"server {{
                bind_address = "127.0.0.1"
                bind_port = "18081"
                socket_path = "{socket}"
                trust_domain = "bench.test"
                data_dir = "{dir}"
                log_level = "ERROR"
            }}
            plugins {{
                DataStore "sql" {{
                    plugin_data {{
                        database_type = "sqlite3"
                        connection_string = "{dir}/db.sqlite3"
                    }}
                }}
                KeyManager "disk" {{
                    plugin_data {{
                        keys_path = "{dir}/keys.json"
                    }}
                }}
                NodeAttestor "k8s_psat" {{
                    plugin_data {{
                        clusters = {{
                            "bench" = {{
                                service_account_allow_list = ["spire:spire-agent"]
                                kube_config_file = "{kubeconfig}"
                            }}
                        }}
                    }}
                }}
            }}"#,
            socket = socket.display(),
            dir = dir.display()
        );
        fs::write(&conf, text).unwrap();
        // The stand-in takes its kubeconfig from where kubectl does.
        command
            .env("KUBECONFIG", kubeconfig)
            .args(["run", "-config"])
            .arg(&conf);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            if child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                eprintln!("bench: {command:?} did not start: its rows are left out");
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self { child, socket })
    }

    fn client(&self) -> SvidClient<Channel> {
        let path = self.socket.clone();
        let endpoint = Endpoint::from_static("http://localhost");
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        });
        SvidClient::new(endpoint.connect_with_connector_lazy(connect))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request for a certificate, made once: keys are the callers' work, not the server's.
fn request() -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let id = "spiffe://bench.test/ns/shop/sa/orders-api".try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(id)];
    let key = rcgen::KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

async fn minted(server: &Server, csr: &[u8]) {
    let callers = (0..AT_ONCE).map(|_| async {
        let mut client = server.client();
        for _ in 0..EACH {
            let request = MintX509svidRequest {
                csr: csr.to_vec(),
                ttl: 0,
            };
            client.mint_x509svid(request).await.unwrap();
        }
    });
    join_all(callers).await;
}

fn server(name: &str, command: Command, binary: &Path, bench: &Bench, rows: &mut Vec<Row>) {
    let Some(server) = Server::start(command, &bench.home.join(name), &bench.kubeconfig(CLUSTER)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let csr = request();
    runtime.block_on(minted(&server, &csr));
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            let took = time(|| runtime.block_on(minted(&server, &csr)));
            f64::from(u32::try_from(AT_ONCE * EACH).unwrap()) / took.as_secs_f64()
        })
        .collect();
    let middle = common::median(&mut rates);
    rows.push(Row {
        what: format!("{name}: X.509-SVIDs signed by the server, {AT_ONCE} callers"),
        measured: format!("{middle:.0} a second"),
        spread: format!("{:.0} to {:.0}", rates.first().unwrap(), rates.last().unwrap()),
        aim: "-",
    });
    let (mib, _) = memory(binary, Some(server.child.id()));
    rows.push(Row {
        what: format!("{name}: memory of the server after that (PSS)"),
        measured: format!("{mib:.1} MiB"),
        spread: String::new(),
        aim: "-",
    });
}

fn servers(bench: &Bench, rows: &mut Vec<Row>) {
    let mut ours = Command::new(&bench.ztlab);
    ours.arg0("spire-server");
    server("stand-in", ours, &bench.ztlab, bench, rows);
    let named = std::env::var_os("ZTLAB_BENCH_SPIRE_SERVER").map(PathBuf::from);
    let found = named.or_else(|| {
        let path = std::env::var_os("PATH")?;
        let mut programs = std::env::split_paths(&path).map(|dir| dir.join("spire-server"));
        programs.find(|program| program.is_file())
    });
    match found {
        Some(program) => server("spire-server", Command::new(&program), &program, bench, rows),
        None => eprintln!("bench: no spire-server on this machine: its rows are left out"),
    }
}

fn apply(bench: &Bench, text: &str) {
    let file = bench.home.join("apply.yaml");
    fs::write(&file, text).unwrap();
    kubectl(bench, &["apply", "-f", file.to_str().unwrap()]);
}

fn kubectl(bench: &Bench, args: &[&str]) {
    bench.ztlab(&[&["kubectl", "--cluster", CLUSTER], args].concat());
}

fn layer(bench: &Bench, name: &str) -> String {
    String::from_utf8(bench.ztlab(&["manifests", name]).stdout).unwrap()
}

/// A pod that asks the Workload API for its SVID and logs it.
fn pod(name: &str) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": "frontend"}},
        "spec": {"serviceAccountName": "frontend", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "ztlab.dev/shop/frontend:1", "env": [
                {"name": "ORDERS_URL", "value": "https://orders-api"},
                {"name": "SPIFFE_ENDPOINT_SOCKET", "value": "unix:///spiffe-workload-api/spire-agent.sock"},
                {"name": "TLS_AUTHORIZED_IDS", "value": "none"},
                {"name": "TLS_UPSTREAM_AUTHORIZED_IDS", "value": "spiffe://ztlab.example/ns/shop/sa/orders-api"}],
                "volumeMounts": [{"name": "api", "mountPath": "/spiffe-workload-api", "readOnly": true}]}],
            "volumes": [{"name": "api", "csi": {"driver": "csi.spiffe.io", "readOnly": true}}]}
    }))
    .unwrap()
}

/// When the pod logged its SVID, by the clock of this machine.
async fn logged(pods: &Api<Pod>, name: &str) -> SystemTime {
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut lines = pods.log_stream(name, &follow).await.unwrap().lines();
    while let Some(line) = lines.try_next().await.unwrap() {
        if line.contains("X.509-SVID spiffe://") {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let at: jiff::Timestamp = line["ts"].as_str().unwrap().parse().unwrap();
            return at.into();
        }
    }
    panic!("the pod {name} ended without an SVID");
}

async fn first_svids(kubeconfig: &str) -> (Vec<f64>, Vec<f64>) {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(Client::try_from(config).unwrap(), "shop");
    let (mut running, mut svid) = (Vec::new(), Vec::new());
    for index in 0..PODS {
        let name = format!("bench-{index}");
        let watch = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = Box::pin(pods.watch(&watch, "0").await.unwrap());
        let (start, began) = (Instant::now(), SystemTime::now());
        pods.create(&PostParams::default(), &pod(&name)).await.unwrap();
        while let Some(event) = events.try_next().await.unwrap() {
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
                && pod.status.and_then(|status| status.phase).as_deref() == Some("Running")
            {
                break;
            }
        }
        running.push(ms(start.elapsed()));
        // The log counts in milliseconds: one that was cut off may lie before the beginning.
        svid.push(ms(logged(&pods, &name).await.duration_since(began).unwrap_or_default()));
        pods.delete(&name, &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
    }
    (running, svid)
}

fn pods(bench: &Bench, rows: &mut Vec<Row>) {
    apply(bench, &layer(bench, "flat"));
    apply(bench, &layer(bench, "spire"));
    let kubeconfig = bench.kubeconfig(CLUSTER);
    let ready = |object: &str, namespace: &str| {
        let mut command = bench.command("kubectl");
        command.env("KUBECONFIG", &kubeconfig);
        command.args(["rollout", "status", "-n", namespace, object, "--timeout=90s"]);
        command
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !ready("statefulset/spire-server", "spire") || !ready("daemonset/spire-agent", "spire") {
        eprintln!("bench: SPIRE did not come up, or there is no kubectl to wait for it: the rows of pods are left out");
        return;
    }
    apply(bench, &layer(bench, "spiffe"));
    ready("deploy/frontend", "shop");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (running, svid) = runtime.block_on(first_svids(&kubeconfig));
    rows.push(row("a pod of the shop, from POST to Running", running, "-"));
    rows.push(row("the same, from POST to its first SVID", svid, "100 ms"));
}

fn main() {
    let bench = Bench::new("spire");
    let mut rows = Vec::new();
    bench.ztlab(&["cluster", "create", CLUSTER]);
    servers(&bench, &mut rows);
    pods(&bench, &mut rows);
    print(&rows);
    let _ = bench
        .command(&bench.ztlab)
        .args(["cluster", "delete", CLUSTER])
        .output();
}
