//! Probes: one question put to the network from inside a pod, and what came back.
//!
//! A probe runs in the pod's observer, so it meets the same DNS, Services and policies as the pod's own programs.

mod request;

pub use request::{HttpProbe, ProbeKind, ProbeRequest};

use crate::{
    capture::{CaptureError, observer},
    evidence::ProbeResult,
};

/// Runs a probe from inside a pod.
///
/// Whatever the network does is a result; so is an observer that breaks off ([`crate::evidence::ProbeOutcome::NotRun`]).
///
/// # Errors
/// The pod cannot be observed.
pub async fn run(client: &kube::Client, request: ProbeRequest) -> Result<ProbeResult, CaptureError> {
    let observer = observer::ensure(client, &request.namespace, &request.pod).await?;
    run_in(&observer, request).await
}

/// [`run`] through an observer that is known to run.
///
/// # Errors
/// The observer cannot be reached.
pub async fn run_in(observer: &observer::Observer, request: ProbeRequest) -> Result<ProbeResult, CaptureError> {
    let _ = request;
    Err(CaptureError::Observer {
        namespace: observer.namespace().to_owned(),
        pod: observer.pod().to_owned(),
        reason: "probes are not built yet".to_owned(),
    })
}
