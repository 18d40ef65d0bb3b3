//! The agent: attests to the server and serves the SPIFFE Workload API, and Envoy's Secret Discovery Service beside it.

pub mod attestor;
mod bundles;
mod cache;
mod callers;
mod keys;
mod sds;
mod server;
mod sync;
mod workload_api;

use std::{future::Future, io, path::PathBuf, sync::Arc};

use futures::FutureExt;
use tokio::{net::UnixListener, sync::watch};
use tonic::{Status, transport::Server as GrpcServer};

use attestor::{Caller, WorkloadAttestor};
pub use bundles::{BundleMessageError, bundle_message_of, bundle_of};
use cache::Snapshot;
use callers::Callers;
pub use sds::Names as SecretNames;
use sds::SecretDiscovery;
use server::Server;
use sync::Sync;
use workload_api::WorkloadApi;

use crate::{
    api::{
        health::health_server::HealthServer, secret::secret_discovery_service_server::SecretDiscoveryServiceServer,
        workload::spiffe_workload_api_server::SpiffeWorkloadApiServer,
    },
    clock::SharedClock,
    config::AgentConfig,
    server::health_api::HealthApi,
    transport,
};

/// Largest message of a workload, in bytes: audiences and tokens are small.
const LARGEST_MESSAGE: usize = 64 * 1024;
/// Largest message of an Envoy, in bytes: it tells in the first one of all its extensions, some 100 KiB.
const LARGEST_OF_ENVOY: usize = 1 << 20;

/// Why the agent does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A file is missing or unusable.
    #[error("{}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The server refused.
    #[error("the server answered {}: {}", .0.code(), .0.message())]
    Rpc(#[from] Box<Status>),
    /// The agent was banned.
    #[error("the agent was banned: {0}")]
    Banned(String),
    /// The socket.
    #[error("{}: {source}", path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Serving.
    #[error("serving ended: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<Status> for AgentError {
    fn from(status: Status) -> Self {
        Self::Rpc(Box::new(status))
    }
}

/// An agent that was set up.
pub struct Agent {
    sync: Sync,
    api: Option<WorkloadApi>,
    secrets: Option<SecretDiscovery>,
    ready: watch::Receiver<Arc<Snapshot>>,
}

impl Agent {
    /// Sets an agent up; nothing is asked yet.
    pub fn new(
        config: AgentConfig,
        attestor: Arc<dyn WorkloadAttestor>,
        clock: SharedClock,
    ) -> Result<Self, AgentError> {
        let (publish, cache) = watch::channel(Arc::new(Snapshot::default()));
        let (serves_api, secrets) = (config.serves_workload_api, config.secrets.clone());
        let server = Arc::new(Server::new(config, Arc::clone(&clock))?);
        let sync = Sync::new(Arc::clone(&server), Arc::clone(&clock), publish);
        let ready = cache.clone();
        let callers = Callers { attestor, cache };
        let secrets = secrets.map(|names| SecretDiscovery {
            callers: callers.clone(),
            names,
            clock: Arc::clone(&clock),
        });
        let api = serves_api.then(|| WorkloadApi {
            callers,
            server,
            clock,
            tokens: std::sync::Mutex::default(),
        });
        Ok(Self {
            sync,
            api,
            secrets,
            ready,
        })
    }

    /// Whether the agent has something to give, as its health checks say.
    pub fn is_ready(&self) -> impl Fn() -> bool + Send + Clone + use<> {
        let ready = self.ready.clone();
        move || ready.borrow().bundle.is_some()
    }

    /// Follows the server without serving anybody, until `stop` is ready or the agent has to end.
    pub async fn follow(self, stop: impl Future<Output = ()> + Send) -> Result<(), AgentError> {
        tokio::select! {
            error = self.sync.run() => Err(error),
            () = stop => Ok(()),
        }
    }

    /// Serves the Workload API and secret discovery on `listener` until `stop` is ready or the agent has to end.
    pub async fn serve(self, listener: UnixListener, stop: impl Future<Output = ()> + Send) -> Result<(), AgentError> {
        let stop = stop.shared();
        let is_ready = self.is_ready();
        let ready = std::sync::Mutex::new(is_ready);
        let health = HealthApi(Box::new(move || {
            ready.lock().unwrap_or_else(std::sync::PoisonError::into_inner)()
        }));
        let incoming = transport::accept_unix(listener, |stream| Caller::of(stream));
        let workload_api = self
            .api
            .map(|api| SpiffeWorkloadApiServer::new(api).max_decoding_message_size(LARGEST_MESSAGE));
        let secrets = self
            .secrets
            .map(|secrets| SecretDiscoveryServiceServer::new(secrets).max_decoding_message_size(LARGEST_OF_ENVOY));
        let serving = GrpcServer::builder()
            .add_optional_service(workload_api)
            .add_optional_service(secrets)
            .add_service(HealthServer::new(health))
            .serve_with_incoming_shutdown(incoming, stop.clone());
        tokio::select! {
            error = self.sync.run() => Err(error),
            served = serving => Ok(served?),
            // Streams of the Workload API end with their workloads: like SPIRE's, the agent does not wait for them, and
            // renews nothing meanwhile.
            () = stop => Ok(()),
        }
    }
}
