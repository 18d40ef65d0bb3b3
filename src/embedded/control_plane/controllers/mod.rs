//! The controllers: they bring what is there to what the objects say, through the API server only.
//!
//! Each has a pure half (what to do, what the status is) and a half that watches and applies.

mod deployment;
mod endpoint_slice;
mod garbage;
mod namespace;
pub(crate) mod owner;
pub(crate) mod queue;
mod replica_set;
mod service_account;

use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use crate::embedded::{events::Recorder, informer::Informers};

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
    /// Cancelled when the node stops.
    pub stop: CancellationToken,
}

/// Starts every controller.
pub fn start(context: &Context) {
    deployment::start(context);
    replica_set::start(context);
    endpoint_slice::start(context);
    namespace::start(context);
    service_account::start(context);
    garbage::start(context);
}

/// Writes a whole status, whatever is there: each status here has one writer.
pub(crate) async fn write_status<K, S>(api: &Api<K>, name: &str, status: &S) -> Result<K, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    S: Serialize,
{
    let patch = serde_json::json!([{"op": "add", "path": "/status", "value": status}]);
    let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    api.patch_status(name, &PatchParams::default(), &Patch::<()>::Json(patch))
        .await
}

/// `Ok(None)` where the object is gone.
pub(crate) fn unless_gone<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}
