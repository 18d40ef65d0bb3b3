//! `run`: a program that serves until it is told to stop.

use std::{collections::BTreeMap, future::Future, path::PathBuf, sync::Arc};

use futures::{FutureExt, future::Shared};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::{CommandError, flags::Flags, said};
use crate::{
    agent::{
        Agent,
        attestor::{All, NodeAttestor, NodePods, UnixAttestor, WorkloadAttestor},
    },
    clock::{SharedClock, SystemClock},
    config::{AgentConfig, ConfigError, HealthChecks, ServerConfig, WorkloadProof},
    server::{
        self, Core,
        attestation::{self, k8s_psat},
        notifier,
    },
    transport,
};

/// Where the embedded cluster's node answers whose connection it is, in a pod with `hostPID`.
const NODE_SOCKET: &str = "/run/ztlab/peers/attest.sock";
/// Which node this is: set by the pod from `spec.nodeName`.
const NODE_NAME: [&str; 2] = ["MY_NODE_NAME", "NODE_NAME"];

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| said(format!("no runtime can be made: {error}")))?
        .block_on(future)
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        said(error.to_string())
    }
}

fn config_path(flags: &Flags, default: &str) -> PathBuf {
    match flags.text("config") {
        "" => default.into(),
        path => path.into(),
    }
}

/// Logs as lines of text to the standard error, from `level` on.
fn log(level: &str) {
    let level = match level.to_uppercase().as_str() {
        "DEBUG" | "TRACE" => tracing::Level::DEBUG,
        "WARN" | "WARNING" => tracing::Level::WARN,
        "ERROR" | "FATAL" | "PANIC" => tracing::Level::ERROR,
        _ => tracing::Level::INFO,
    };
    // Where somebody logs already, as in a test, it stays so.
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}

/// Ready when the program is told to stop.
fn stop() -> Result<Shared<impl Future<Output = ()> + Send>, CommandError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    .shared())
}

async fn kube_client() -> Result<kube::Client, CommandError> {
    kube::Client::try_default().await.map_err(|error| {
        said(format!(
            "the API server cannot be reached from here, which is no pod with a service account: {error}"
        ))
    })
}

/// `spire-server run`.
pub fn server(flags: &Flags) -> Result<(), CommandError> {
    if flags.on("expandEnv") {
        return Err(said("-expandEnv: this stand-in does not expand environment variables"));
    }
    let config = ServerConfig::load(&config_path(flags, "conf/server/server.conf"))?;
    log(&config.log_level);
    tracing::info!(trust_domain = %config.settings.trust_domain, "this is a stand-in of ztlab's for SPIRE's server");
    block_on(serve(config))
}

/// The API server of the cluster that this runs in, once somebody needs it.
async fn own_cluster(known: &mut Option<kube::Client>) -> Result<kube::Client, CommandError> {
    if known.is_none() {
        *known = Some(kube_client().await?);
    }
    known
        .clone()
        .ok_or_else(|| said("no client of the API server was made"))
}

async fn serve(config: ServerConfig) -> Result<(), CommandError> {
    let stop = stop()?;
    let mut own = None;
    let mut attestors = attestation::Attestors::new();
    if let Some(configured) = config.clusters {
        let mut clusters = BTreeMap::new();
        for (name, cluster) in configured {
            let api: Arc<dyn k8s_psat::ApiServer> = match &cluster.kube_config {
                Some(path) => Arc::new(k8s_psat::ByFile(path.clone())),
                None => Arc::new(k8s_psat::InCluster(own_cluster(&mut own).await?)),
            };
            clusters.insert(name, (cluster, api));
        }
        let psat = k8s_psat::Psat {
            trust_domain: config.settings.trust_domain.clone(),
            clusters,
        };
        attestors.insert(k8s_psat::TYPE.into(), Box::new(psat));
    }
    if let Some(directory) = config.places.state.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let clock: SharedClock = Arc::new(SystemClock);
    let core = Core::new(config.settings, config.places, attestors, clock).map_err(|error| said(error.to_string()))?;
    if let Some(into) = config.notifier {
        let client = if into.kube_config_file_path.as_os_str().is_empty() {
            own_cluster(&mut own).await?
        } else {
            k8s_psat::client_by_file(&into.kube_config_file_path)
                .await
                .map_err(said)?
        };
        tokio::spawn(notifier::notify(Arc::clone(&core), client, into));
    }
    if let Some(checks) = config.health {
        serve_health(checks, || true).await?;
    }
    server::serve(core, &config.doors, stop)
        .await
        .map_err(|error| said(error.to_string()))
}

/// `spire-agent run`.
pub fn agent(flags: &Flags) -> Result<(), CommandError> {
    if flags.on("expandEnv") {
        return Err(said("-expandEnv: this stand-in does not expand environment variables"));
    }
    let token = (!flags.text("joinToken").is_empty()).then(|| flags.text("joinToken").to_owned());
    let mut config = AgentConfig::load(&config_path(flags, "conf/agent/agent.conf"), token)?;
    if flags.on("disableSDSAPI") {
        config.secrets = None;
    }
    log(&config.log_level);
    tracing::info!(trust_domain = %config.trust_domain, "this is a stand-in of ztlab's for SPIRE's agent");
    block_on(attest_and_serve(config))
}

async fn attest_and_serve(config: AgentConfig) -> Result<(), CommandError> {
    let stop = stop()?;
    let attestor = All(attestors(&config.workloads).await?);
    let (socket, checks) = (config.serves().then(|| config.socket.clone()), config.health.clone());
    let agent =
        Agent::new(config, Arc::new(attestor), Arc::new(SystemClock)).map_err(|error| said(error.to_string()))?;
    if let Some(checks) = checks {
        serve_health(checks, agent.is_ready()).await?;
    }
    let Some(socket) = socket else {
        return agent.follow(stop).await.map_err(|error| said(error.to_string()));
    };
    let listener =
        transport::listen_unix(&socket, true).map_err(|error| said(format!("{}: {error}", socket.display())))?;
    let served = agent.serve(listener, stop).await;
    // The socket of an agent that ended answers nobody.
    let _ = std::fs::remove_file(&socket);
    served.map_err(|error| said(error.to_string()))
}

async fn attestors(proofs: &[WorkloadProof]) -> Result<Vec<Box<dyn WorkloadAttestor>>, CommandError> {
    let mut attestors: Vec<Box<dyn WorkloadAttestor>> = Vec::new();
    for proof in proofs {
        attestors.push(match proof {
            WorkloadProof::Unix => Box::new(UnixAttestor),
            WorkloadProof::K8s => {
                let node = NODE_NAME
                    .iter()
                    .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
                    .ok_or_else(|| {
                        said(format!(
                            "{} is not set: give it to the container from spec.nodeName",
                            NODE_NAME[0]
                        ))
                    })?;
                let pods = NodePods::follow(kube_client().await?, &node);
                Box::new(NodeAttestor::new(NODE_SOCKET.into(), Box::new(pods)))
            }
        });
    }
    Ok(attestors)
}

/// Answers 200 to the liveness check, and to the readiness check while `ready` says so.
async fn serve_health(
    checks: HealthChecks,
    ready: impl Fn() -> bool + Send + Clone + 'static + std::marker::Sync,
) -> Result<(), CommandError> {
    use axum::{Router, http::StatusCode, routing::get};
    let listener = TcpListener::bind((checks.host.as_str(), checks.port))
        .await
        .map_err(|error| said(format!("health checks on {}:{}: {error}", checks.host, checks.port)))?;
    let answer = move || async move {
        if ready() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let router = if checks.live == checks.ready {
        Router::new().route(&checks.live, get(answer))
    } else {
        Router::new()
            .route(&checks.live, get(|| async { StatusCode::OK }))
            .route(&checks.ready, get(answer))
    };
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "health checks ended");
        }
    });
    Ok(())
}
