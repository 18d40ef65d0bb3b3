//! The controllers: they bring what is there to what the objects say, through the API server only.
//!
//! Each has a pure half (what to do, what the status is) and a half that watches and applies.

mod certificate;
mod cluster_role;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
pub(crate) mod endpoints;
mod follow;
mod garbage;
mod job;
mod namespace;
mod node_lifecycle;
pub(crate) mod owner;
mod pods;
mod replica_set;
mod resource_quota;
mod revision;
mod revisions;
mod root_ca;
mod service_account;
mod service_account_token;
mod stateful_set;
mod taint_eviction;
mod volumes;

use std::{path::PathBuf, sync::Arc};

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    control_plane::pki::{Signer, TokenKey},
    events::Recorder,
    informer::Informers,
    tasks::Tasks,
};

/// Gives out clients by the name of a service account in `kube-system`.
pub type Clients = Arc<dyn Fn(&str) -> Client + Send + Sync>;

/// What every controller is given.
#[derive(Clone)]
pub struct Context {
    /// kube-controller-manager's client, and in the hands of a controller with an account of its own that controller's.
    pub client: Client,
    /// The clients of the controllers.
    pub clients: Clients,
    /// The shared caches.
    pub informers: Informers,
    /// Writes events.
    pub recorder: Recorder,
    /// The cluster CA's certificate in PEM, for `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Signs the certificates that are asked for.
    pub signer: Arc<Signer>,
    /// Signs the tokens that stand in Secrets.
    pub token_key: Arc<TokenKey>,
    /// Where the directories of PersistentVolumes are.
    pub volumes: PathBuf,
    /// The controllers' tasks.
    pub tasks: Tasks,
    /// Cancelled when the node stops.
    pub stop: CancellationToken,
}

impl Context {
    /// The context of the controller with this service account.
    fn of(&self, account: &str) -> Self {
        let client = (self.clients)(account);
        Self {
            recorder: self.recorder.by(&client),
            client,
            ..self.clone()
        }
    }
}

type Start = fn(&Context);

/// Every controller that has a service account of its own, by the account. Kubernetes' names: a controller's own may be another.
const CONTROLLERS: &[(&str, Start)] = &[
    ("deployment-controller", deployment::start),
    ("replicaset-controller", replica_set::start),
    ("statefulset-controller", stateful_set::start),
    ("daemon-set-controller", daemon_set::start),
    ("job-controller", job::start),
    ("cronjob-controller", cron_job::start),
    ("disruption-controller", disruption::start),
    ("resourcequota-controller", resource_quota::start),
    ("endpointslice-controller", endpoint_slice::start),
    ("endpointslicemirroring-controller", endpoint_slice_mirroring::start),
    ("endpoint-controller", endpoints::start),
    ("namespace-controller", namespace::start),
    ("service-account-controller", service_account::start),
    ("root-ca-cert-publisher", root_ca::start),
    ("clusterrole-aggregation-controller", cluster_role::start),
    ("persistent-volume-binder", volumes::start),
    ("node-controller", node_lifecycle::start),
    // As in Kubernetes, where it was a part of the node controller once.
    ("node-controller", taint_eviction::start),
    ("generic-garbage-collector", garbage::start),
    ("certificate-controller", certificate::start),
];

/// Accounts that controllers above use for a part of their work which is a controller of its own in Kubernetes.
const PARTS: &[&str] = &[job::TTL_ACCOUNT, volumes::PROTECTION_ACCOUNT];

/// The service accounts that controllers here act as.
pub fn accounts() -> impl Iterator<Item = &'static str> {
    CONTROLLERS
        .iter()
        .map(|(account, _)| *account)
        .chain(PARTS.iter().copied())
}

/// Starts every controller.
pub fn start(context: &Context) {
    for (account, start) in CONTROLLERS {
        start(&context.of(account));
    }
    // Not by an account, which could not make tokens before its own: as kube-controller-manager itself.
    service_account_token::start(context);
}
