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
pub(crate) mod owner;
mod pods;
mod replica_set;
mod resource_quota;
mod revision;
mod revisions;
mod service_account;
mod service_account_token;
mod stateful_set;
mod taint_eviction;
mod volumes;

use std::{path::PathBuf, sync::Arc};

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::embedded::{
    control_plane::pki::{Signer, TokenKey},
    events::Recorder,
    informer::Informers,
};

/// What every controller is given.
#[derive(Clone)]
pub struct Context {
    /// The controllers' client.
    pub client: Client,
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
    /// Cancelled when the node stops.
    pub stop: CancellationToken,
}

/// Starts every controller.
pub fn start(context: &Context) {
    deployment::start(context);
    replica_set::start(context);
    stateful_set::start(context);
    daemon_set::start(context);
    job::start(context);
    cron_job::start(context);
    disruption::start(context);
    resource_quota::start(context);
    endpoint_slice::start(context);
    endpoint_slice_mirroring::start(context);
    endpoints::start(context);
    namespace::start(context);
    service_account::start(context);
    service_account_token::start(context);
    cluster_role::start(context);
    volumes::start(context);
    taint_eviction::start(context);
    garbage::start(context);
    certificate::start(context, context.signer.clone());
}
