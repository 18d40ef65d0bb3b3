//! The controller manager: pods and ClusterSPIFFEIDs become registration entries at the server.
//!
//! ```text
//!   watches (run) ──> Snapshot ──┐
//!                                ├── plan ──> create, update, delete ──> server's entry API
//!   server's entries ────────────┘      └───> status of each object
//! ```
//!
//! What is decided is decided by pure functions: [`spec`] reads an object, [`template`] and [`facts`] render a pod's names,
//! [`render`] makes its entry, [`plan`] compares all of them with what the server has. It answers the file and the kinds of
//! SPIRE's controller manager; a validating webhook, a leader election and federation it does not have.

mod config;
mod entry;
mod facts;
mod health;
mod kinds;
#[cfg(test)]
mod manifest_tests;
mod plan;
mod render;
mod run;
mod server;
mod spec;
mod status;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use config::Config;
pub use config::ConfigError;
use server::Server;

use crate::config::duration;

/// Where a pod finds how names are looked up.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Why the controller manager does not start.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// Its command line.
    #[error("{0}\nusage: spire-controller-manager -config FILE")]
    Usage(String),
    /// Its file cannot be read.
    #[error("unable to load the config file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its file is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The cluster cannot be reached as a pod does.
    #[error("no client of the Kubernetes API: {0}; run it in a pod with a service account, or with KUBECONFIG")]
    Cluster(String),
    /// No runtime, no signals.
    #[error("the system refuses what every program needs: {0}")]
    System(io::Error),
    /// The address of the health checks.
    #[error("health.healthProbeBindAddress {address}: {source}")]
    Health {
        /// Which.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The file that the command line names: `-config FILE`, `--config=FILE` and so on, as Go reads flags.
///
/// # Errors
/// When it names none, or something else.
fn config_of(arguments: impl IntoIterator<Item = OsString>) -> Result<PathBuf, ControllerError> {
    let usage = |why: String| ControllerError::Usage(why);
    let mut file = None;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        let flag = text.strip_prefix("--").or_else(|| text.strip_prefix('-'));
        let flag = flag.ok_or_else(|| usage(format!("unexpected argument `{text}`")))?;
        match flag.split_once('=') {
            Some(("config", value)) => file = Some(PathBuf::from(value)),
            None if flag == "config" => {
                let value = arguments.next();
                file = Some(
                    value
                        .ok_or_else(|| usage("flag needs an argument: -config".into()))?
                        .into(),
                );
            }
            _ => {
                return Err(usage(format!(
                    "this stand-in of the controller manager has no flag `{text}`"
                )));
            }
        }
    }
    file.ok_or_else(|| usage("no configuration: give one with -config".into()))
}

fn load(path: &Path) -> Result<Config, ControllerError> {
    let text = fs::read_to_string(path).map_err(|source| ControllerError::File {
        path: path.into(),
        source,
    })?;
    Ok(Config::parse(&text, || {
        cluster_domain(&fs::read_to_string(RESOLV_CONF).ok()?)
    })?)
}

/// The DNS domain of the cluster: in a pod's search list `svc.DOMAIN` stands.
fn cluster_domain(resolv_conf: &str) -> Option<String> {
    let search = resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("search "));
    let mut domains = search.flat_map(str::split_whitespace);
    domains
        .find_map(|domain| domain.strip_prefix("svc."))
        .map(str::to_owned)
}

/// The program `/spire-controller-manager`: its arguments without `argv[0]`, to its exit code.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "spire-controller-manager: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Vec<OsString>) -> Result<(), ControllerError> {
    let config = load(&config_of(arguments)?)?;
    let level = config.log_level.parse().unwrap_or(tracing::Level::INFO);
    // Where somebody logs already, as in a test, it stays so.
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .try_init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ControllerError::System)?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(ControllerError::System)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ControllerError::System)?;
        tokio::select! {
            result = run(&config) => result,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}

/// Keeps the server's entries in step with the cluster for ever.
///
/// # Errors
/// When there is no client of the Kubernetes API, or no door for health checks; never for want of the server, which is
/// waited for.
async fn run(config: &Config) -> Result<(), ControllerError> {
    let client = kube::Client::try_default()
        .await
        .map_err(|error| ControllerError::Cluster(error.to_string()))?;
    let ready = Arc::new(AtomicBool::new(false));
    if let Some(address) = &config.health {
        // Go writes every address as `:8083`.
        let bind = if address.starts_with(':') {
            format!("0.0.0.0{address}")
        } else {
            address.clone()
        };
        let listener = TcpListener::bind(&bind)
            .await
            .map_err(|source| ControllerError::Health {
                address: address.clone(),
                source,
            })?;
        tokio::spawn(health::serve(listener, Arc::clone(&ready)));
    }
    if config.scope.prefix.is_empty() {
        tracing::warn!("without entryIDPrefix every entry that no object declares is deleted, those made by hand too");
    }
    tracing::info!(
        trustDomain = %config.scope.cluster.trust_domain,
        clusterName = config.scope.cluster.name,
        entryIDPrefix = config.scope.prefix,
        socket = %config.socket.display(),
        "starting manager: a stand-in for SPIRE's controller manager"
    );
    let server = Server::at(config.socket.clone());
    run::keep(config, &client, &server, || ready.store(true, Ordering::Relaxed)).await;
    Ok(())
}
