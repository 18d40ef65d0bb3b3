//! The observer: one long-lived ephemeral container in a pod that is observed, running this same binary.

use super::CaptureError;

/// Name of the ephemeral container.
pub const CONTAINER: &str = "ztlab-observer";
/// Its image.
pub const IMAGE: &str = "ztlab.dev/observer:1";
/// Where the binary is in the container.
pub const PROGRAM: &str = "/.ztlab/ztlab";

/// A pod whose observer runs.
#[derive(Clone)]
pub struct Observer {
    client: kube::Client,
    namespace: String,
    pod: String,
}

impl Observer {
    /// Namespace of the pod.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The pod.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// The client it is reached through.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }
}

/// Makes sure that a pod has its observer, adding it where it is missing, and waits until it runs.
///
/// # Errors
/// There is no such pod, it is not running, or the observer does not start.
pub async fn ensure(client: &kube::Client, namespace: &str, pod: &str) -> Result<Observer, CaptureError> {
    Ok(Observer {
        client: client.clone(),
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
    })
}
