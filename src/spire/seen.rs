//! What workloads show: handshakes with their own ports, from inside their own pods, so that no policy stands between.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use serde::Serialize;

use super::svid::SvidView;
use crate::{
    capture::observer,
    evidence::ProbeResult,
    identity::X509BundleSet,
    posture::{
        inventory::{Objects, Workload, inventory},
        judge::PATIENCE,
    },
    probe::{self, ProbeKind, ProbeRequest, StartTls, TlsOptions, TlsProbe},
};

/// Pods that are looked at; each gets an observer.
const PODS: usize = 64;
/// Pods that are looked at at once.
const AT_ONCE: usize = 8;
/// Ports of a pod that are looked at.
const PORTS: usize = 16;

/// What a pod showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sight {
    /// The certificates, by port.
    pub svids: Vec<SvidView>,
    /// What else is to be said: why nothing was seen, or which ports showed none.
    pub because: String,
}

impl Sight {
    /// Nothing was seen, for this reason.
    pub fn nothing(because: impl Into<String>) -> Self {
        Self {
            svids: Vec::new(),
            because: because.into(),
        }
    }

    /// The first certificate that carries a SPIFFE ID.
    pub fn svid(&self) -> Option<&SvidView> {
        self.svids.iter().find(|svid| svid.spiffe_id.is_some())
    }
}

/// The workloads of some pods with their ports: those of their Services, those that containers name, those that are probed.
pub fn workloads(pods: &[Pod], services: &[Service]) -> Vec<Workload> {
    let objects = Objects {
        pods: pods.to_vec(),
        services: services.to_vec(),
        ..Objects::default()
    };
    inventory(&objects, Some(&[])).0.workloads
}

/// Opens a TLS session with every port of these pods and keeps the certificates that they show, by namespace and pod.
///
/// Adds an observer to each pod that serves anything. What cannot be looked at says why; nothing here is an error.
pub async fn look(
    client: &kube::Client,
    pods: &[&Pod],
    workloads: &[Workload],
    bundles: Option<&X509BundleSet>,
) -> BTreeMap<(String, String), Sight> {
    let looking: Vec<_> = pods
        .iter()
        .enumerate()
        .map(|(at, pod)| {
            let ports = ports(pod, workloads);
            let key = (pod.namespace().unwrap_or_default(), pod.name_any());
            async move {
                let sight = match ports {
                    _ if at >= PODS => Sight::nothing(format!("not looked at: {PODS} pods are at most")),
                    Err(why) => Sight::nothing(why),
                    Ok((ip, ports)) => look_at(client, &key, &ip, &ports, bundles).await,
                };
                (key, sight)
            }
        })
        .collect();
    stream::iter(looking).buffer_unordered(AT_ONCE).collect().await
}

/// The address and ports of a pod, or why there is nothing to look at.
fn ports(pod: &Pod, workloads: &[Workload]) -> Result<(String, Vec<u16>), String> {
    let spec = pod.spec.as_ref();
    if spec.is_some_and(|spec| spec.host_network == Some(true)) {
        return Err("not looked at: it is on its node's own network".to_owned());
    }
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("unknown");
    if phase != "Running" {
        return Err(format!("not looked at: its phase is {phase}"));
    }
    let ip = status
        .and_then(|status| status.pod_ip.clone())
        .filter(|ip| !ip.is_empty())
        .ok_or("not looked at: it has no address")?;
    let namespace = pod.namespace().unwrap_or_default();
    let own = workloads
        .iter()
        .filter(|one| one.name.namespace == namespace)
        .find(|one| one.pods.iter().any(|place| place.name == pod.name_any()));
    let ports = own.map(|one| one.ports.iter().map(|port| port.target).collect());
    let mut ports: Vec<u16> = ports.unwrap_or_default();
    ports.dedup();
    ports.truncate(PORTS);
    if ports.is_empty() {
        return Err("it serves on no port that it or a Service names, so nobody is shown its SVID".to_owned());
    }
    Ok((ip, ports))
}

async fn look_at(
    client: &kube::Client,
    (namespace, pod): &(String, String),
    ip: &str,
    ports: &[u16],
    bundles: Option<&X509BundleSet>,
) -> Sight {
    let observer = match observer::ensure(client, namespace, pod).await {
        Ok(observer) => observer,
        Err(error) => return Sight::nothing(format!("not looked at: {error}")),
    };
    let mut svids = Vec::new();
    let mut silent = Vec::new();
    for port in ports {
        let mut shown = None;
        for starttls in [None, Some(StartTls::Postgres)] {
            let request = ProbeRequest {
                timeout: PATIENCE,
                ..ProbeRequest::new(namespace.clone(), pod.clone(), question(ip, *port, starttls))
            };
            let Ok(result) = probe::run_in(&observer, request).await else {
                continue;
            };
            shown = view(&result, *port, bundles);
            if shown.is_some() {
                break;
            }
        }
        match shown {
            Some(svid) => svids.push(svid),
            None => silent.push(port.to_string()),
        }
    }
    let because = match silent.as_slice() {
        [] => String::new(),
        [one] => format!("port {one} showed no certificate"),
        several => format!("the ports {} showed no certificate", several.join(", ")),
    };
    Sight { svids, because }
}

fn question(ip: &str, port: u16, starttls: Option<StartTls>) -> ProbeKind {
    ProbeKind::Tls(TlsProbe {
        host: ip.to_owned(),
        port,
        starttls,
        tls: TlsOptions {
            whole: true,
            ..TlsOptions::default()
        },
    })
}

fn view(result: &ProbeResult, port: u16, bundles: Option<&X509BundleSet>) -> Option<SvidView> {
    let tls = result.tls.as_ref()?;
    let chain = tls.der.iter().map(|text| BASE64_STANDARD.decode(text).ok());
    let chain: Vec<Vec<u8>> = chain.collect::<Option<_>>()?;
    let seen_s = i64::try_from(result.started_ns / 1_000_000_000).unwrap_or(i64::MAX);
    SvidView::of(chain, port, tls.asked_for_client, bundles, seen_s)
}

/// Now, in seconds since the Unix epoch.
pub(super) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
