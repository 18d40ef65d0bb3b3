//! Collecting what a check is judged by.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, LogParams},
};

use super::{Call, Calls, Evidence, Loot, Probes};
use crate::{
    evidence::{CaptureEvidence, ProbeResult},
    lab::{Check, CheckKind, HttpCheck, Seen, TcpCheck, Workload},
    probe::{self, HttpProbe, ProbeKind, ProbeRequest},
};

/// The most lines of a log that are read.
const LINES: i64 = 5000;

/// What a check can look at.
#[derive(Clone)]
pub struct Scene {
    /// The cluster.
    pub client: kube::Client,
    /// The lab's namespace.
    pub namespace: String,
    /// What the student's captures saw.
    pub seen: Arc<CaptureEvidence>,
    /// The secrets found since the session began.
    pub loot: Arc<[Loot]>,
}

/// Why nothing could be gathered.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The cluster's API refused or failed.
    #[error("{doing}: {source}")]
    Api {
        /// What was being done.
        doing: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// No pod to look from.
    #[error("no pod of {0} is running")]
    NoPod(String),
    /// A probe could not be made.
    #[error(transparent)]
    Probe(#[from] crate::capture::CaptureError),
}

/// Collects the evidence of a check; `given` is the student's answer, if the check is a question.
pub async fn gather(scene: &Scene, check: &Check, given: Option<String>) -> Evidence {
    let gathered = match &check.kind {
        CheckKind::Capture(_) => Ok(Evidence::Capture {
            seen: scene.seen.clone(),
            loot: scene.loot.clone(),
        }),
        CheckKind::Question(_) => Ok(Evidence::Answer {
            given,
            loot: scene.loot.clone(),
        }),
        CheckKind::Http(http) if http.seen == Seen::ByStudent => calls(scene, &http.from, &http.to).await,
        CheckKind::Http(http) => http_probe(scene, http).await,
        CheckKind::Database(database) => calls(scene, &database.from, &database.to).await,
        CheckKind::Tcp(tcp) => tcp_probes(scene, tcp).await,
    };
    gathered.unwrap_or_else(|error| Evidence::Unavailable(error.to_string()))
}

/// The pods of a workload that are not being deleted.
///
/// # Errors
/// When the API does not say.
pub async fn pods_of(client: &kube::Client, namespace: &str, workload: &str) -> Result<Vec<Pod>, GatherError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = pods
        .list(&ListParams::default().labels(&format!("app={workload}")))
        .await
        .map_err(|source| GatherError::Api {
            doing: format!("list the pods of {workload}"),
            source: Box::new(source),
        })?;
    Ok(list
        .items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect())
}

fn addresses(pods: &[Pod]) -> Vec<String> {
    pods.iter()
        .filter_map(|pod| pod.status.as_ref()?.pod_ip.clone())
        .filter(|ip| !ip.is_empty())
        .collect()
}

async fn calls(scene: &Scene, from: &Workload, to: &Workload) -> Result<Evidence, GatherError> {
    let callers = pods_of(&scene.client, &scene.namespace, from.as_str()).await?;
    let callees = pods_of(&scene.client, &scene.namespace, to.as_str()).await?;
    let api: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let mut calls = Calls {
        from: addresses(&callers),
        ..Calls::default()
    };
    for pod in &callees {
        let (Some(name), Some(spec)) = (&pod.metadata.name, &pod.spec) else {
            continue;
        };
        let params = LogParams {
            container: spec.containers.first().map(|container| container.name.clone()),
            tail_lines: Some(LINES),
            ..LogParams::default()
        };
        let log = api.logs(name, &params).await.map_err(|source| GatherError::Api {
            doing: format!("read the log of {name}"),
            source: Box::new(source),
        })?;
        calls.callees += 1;
        calls.calls.extend(log.lines().filter_map(Call::read));
    }
    Ok(Evidence::Calls(calls))
}

async fn probe_from(scene: &Scene, from: &Workload, kind: ProbeKind) -> Result<ProbeResult, GatherError> {
    let pods = pods_of(&scene.client, &scene.namespace, from.as_str()).await?;
    let running = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let pod = pods
        .iter()
        .find(running)
        .and_then(|pod| pod.metadata.name.clone())
        .ok_or_else(|| GatherError::NoPod(from.to_string()))?;
    let request = ProbeRequest::new(&scene.namespace, pod, kind);
    Ok(probe::run(&scene.client, request).await?)
}

async fn http_probe(scene: &Scene, check: &HttpCheck) -> Result<Evidence, GatherError> {
    let url = format!("http://{}:{}{}", check.to, check.port, check.path);
    let kind = ProbeKind::Http(HttpProbe::new(check.method.as_str(), url));
    let probe = probe_from(scene, &check.from, kind).await?;
    Ok(Evidence::Probes(Box::new(Probes { probe, control: None })))
}

async fn tcp_probes(scene: &Scene, check: &TcpCheck) -> Result<Evidence, GatherError> {
    let kind = || ProbeKind::Tcp {
        host: check.to.to_string(),
        port: check.port,
    };
    let probe = probe_from(scene, &check.from, kind()).await?;
    let control = match &check.control {
        Some(control) => Some(probe_from(scene, control, kind()).await?),
        None => None,
    };
    Ok(Evidence::Probes(Box::new(Probes { probe, control })))
}
