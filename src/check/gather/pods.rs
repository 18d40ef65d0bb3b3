//! Which pods and addresses a check means.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, api::ListParams};

use super::{GatherError, Scene};
use crate::lab::{Source, Target};

/// The pods of a workload that are not being deleted.
///
/// A bare pod that only wears the workload's `app` label is not one of them, as long as there are others.
///
/// # Errors
/// When the API does not say.
pub async fn pods_of(client: &kube::Client, namespace: &str, workload: &str) -> Result<Vec<Pod>, GatherError> {
    let found = labelled(client, namespace, &format!("app={workload}"), workload).await?;
    let managed = |pod: &Pod| {
        let owners = pod.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| owner.controller == Some(true))
    };
    if found.iter().any(managed) {
        return Ok(found.into_iter().filter(managed).collect());
    }
    Ok(found)
}

async fn labelled(client: &kube::Client, namespace: &str, labels: &str, whose: &str) -> Result<Vec<Pod>, GatherError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = pods
        .list(&ListParams::default().labels(labels))
        .await
        .map_err(GatherError::api(format!("list the pods of {whose}")))?;
    let mut found: Vec<Pod> = list
        .items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    found.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    Ok(found)
}

/// The pods that a source means and that are not being deleted.
///
/// # Errors
/// When the API does not say.
pub async fn pods_of_source(client: &kube::Client, namespace: &str, source: &Source) -> Result<Vec<Pod>, GatherError> {
    match source {
        Source::Workload(workload) => pods_of(client, namespace, workload.as_str()).await,
        Source::Labels(labels) => labelled(client, namespace, labels, &source.to_string()).await,
        Source::Pod(name) => {
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let found = api
                .get_opt(name)
                .await
                .map_err(GatherError::api(format!("look for the pod {name}")))?;
            Ok(found
                .into_iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .collect())
        }
    }
}

/// A running pod of a source: a ready one before others, and of these the newest, which a rollout made.
///
/// # Errors
/// When the API does not say, or none is running.
pub async fn running_pod(client: &kube::Client, namespace: &str, source: &Source) -> Result<Pod, GatherError> {
    let pods = pods_of_source(client, namespace, source).await?;
    let is = |pod: &Pod, phase: &str| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase);
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    pods.into_iter()
        .filter(|pod| is(pod, "Running"))
        .max_by_key(|pod| (ready(pod), pod.metadata.creation_timestamp.clone()))
        .ok_or_else(|| GatherError::NoPod(source.to_string()))
}

pub(super) async fn running(scene: &Scene, source: &Source) -> Result<Pod, GatherError> {
    running_pod(&scene.client, &scene.namespace, source).await
}

pub(super) fn name_of(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// The pods' own addresses.
pub(super) fn addresses(pods: &[Pod]) -> Vec<IpAddr> {
    pods.iter()
        .filter_map(|pod| pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok())
        .collect()
}

/// The addresses behind a target, as the API knows them; none for a name that is no Service's.
pub(super) async fn addresses_of(scene: &Scene, target: &Target) -> Result<Vec<IpAddr>, GatherError> {
    match target {
        Target::Address(address) => Ok(vec![*address]),
        Target::Host(_) => Ok(Vec::new()),
        Target::Pod(source) => {
            let pods = pods_of_source(&scene.client, &scene.namespace, source).await?;
            let found = addresses(&pods);
            if found.is_empty() {
                return Err(GatherError::NoPod(source.to_string()));
            }
            Ok(found)
        }
        Target::Service(name) => service(scene, name).await,
    }
}

async fn service(scene: &Scene, name: &str) -> Result<Vec<IpAddr>, GatherError> {
    let api: Api<Service> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let found = api
        .get_opt(name)
        .await
        .map_err(GatherError::api(format!("look for the Service {name}")))?;
    let Some(spec) = found.and_then(|service| service.spec) else {
        return Err(GatherError::Missing(format!("there is no Service {name}")));
    };
    let own: Vec<IpAddr> = spec
        .cluster_ips
        .iter()
        .flatten()
        .chain(&spec.cluster_ip)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    if let Some(first) = own.first() {
        return Ok(vec![*first]);
    }
    // A headless Service is its pods.
    let labels: Vec<String> = spec
        .selector
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pods = labelled(&scene.client, &scene.namespace, &labels.join(","), name).await?;
    Ok(addresses(&pods))
}
