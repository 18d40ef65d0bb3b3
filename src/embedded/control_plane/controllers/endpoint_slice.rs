//! The EndpointSlice controller: which pods are behind a Service, on which ports, and whether they are ready.
//!
//! Source: Kubernetes' EndpointSlice concept and API reference (discovery.k8s.io/v1).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};

use crate::{queue::Queue, write::unless_gone};

use super::{Context, owner};
use crate::informer::{Change, Informers, Key};

pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub(super) const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Endpoints in one slice.
pub(super) const MOST: usize = 100;

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let mut services = context.informers.services.subscribe();
    let mut pods = context.informers.pods.subscribe();
    let mut slices = context.informers.endpoint_slices.subscribe();
    let (feed, cache) = (queue.clone(), context.informers.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                change = services.recv() => match change {
                    Some(change) => feed.add(Key::of(change.object().as_ref())),
                    None => return,
                },
                change = pods.recv() => match change {
                    Some(change) => enqueue_services(&feed, &cache, &change),
                    None => return,
                },
                change = slices.recv() => match change {
                    Some(change) => {
                        let slice = change.object();
                        if let Some(service) = slice.labels().get(SERVICE_LABEL).filter(|_| managed(slice)) {
                            feed.add(Key::new(slice.namespace().unwrap_or_default(), service));
                        }
                    }
                    None => return,
                },
            }
        }
    });
    let controller = Arc::new(Controller {
        context: context.clone(),
    });
    context
        .tasks
        .spawn(queue.run("endpointslice", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        }));
}

fn managed(slice: &EndpointSlice) -> bool {
    slice
        .labels()
        .get(MANAGER_LABEL)
        .is_some_and(|manager| manager == MANAGER)
}

pub(super) fn enqueue_services(queue: &Queue, cache: &Informers, change: &Change<Pod>) {
    let (before, now) = match change {
        Change::Applied { old, new } => (old.as_deref(), new.as_ref()),
        Change::Deleted(gone) => (None, gone.as_ref()),
    };
    if let (Some(before), Change::Applied { .. }) = (before, change)
        && before.metadata.labels == now.metadata.labels
        && facts(before) == facts(now)
    {
        return;
    }
    for service in cache.services.in_namespace(&now.namespace().unwrap_or_default()) {
        if before.is_some_and(|before| selects(&service, before)) || selects(&service, now) {
            queue.add(Key::of(service.as_ref()));
        }
    }
}

/// What of a pod an endpoint depends on.
fn facts(pod: &Pod) -> impl PartialEq {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    (ip, ready(pod), ended(pod), pod.metadata.deletion_timestamp.is_some())
}

pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
    })
}

pub(super) fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(super) fn ended(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|status| status.phase.as_deref()),
        Some("Succeeded" | "Failed")
    )
}

struct Controller {
    context: Context,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let held: Vec<_> = cache
            .endpoint_slices
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|slice| managed(slice) && slice.labels().get(SERVICE_LABEL) == Some(&key.name))
            .collect();
        let service = cache
            .services
            .get(key)
            .filter(|service| service.metadata.deletion_timestamp.is_none());
        let wanted = service
            .map(|service| slices(&service, &cache.pods.in_namespace(&key.namespace)))
            .unwrap_or_default();
        bring(&self.context, key, &held, &wanted).await?;
        Ok(None)
    }
}

/// Brings the slices of a Service that one controller holds to those that it wants.
///
/// # Errors
/// What the API server refused.
pub(super) async fn bring(
    context: &Context,
    key: &Key,
    held: &[Arc<EndpointSlice>],
    wanted: &[EndpointSlice],
) -> Result<(), kube::Error> {
    let cache = &context.informers;
    let api: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &key.namespace);
    for slice in wanted {
        let name = slice.name_any();
        match held.iter().find(|held| held.name_any() == name) {
            Some(held) if same(held, slice) => {}
            Some(held) => {
                let mut next = slice.clone();
                next.metadata
                    .resource_version
                    .clone_from(&held.metadata.resource_version);
                cache
                    .endpoint_slices
                    .wrote(api.replace(&name, &PostParams::default(), &next).await?);
            }
            None => cache
                .endpoint_slices
                .wrote(api.create(&PostParams::default(), slice).await?),
        }
    }
    for old in held
        .iter()
        .filter(|held| !wanted.iter().any(|slice| slice.name_any() == held.name_any()))
    {
        unless_gone(api.delete(&old.name_any(), &DeleteParams::default()).await)?;
        cache.endpoint_slices.deleted(old);
    }
    Ok(())
}

pub(super) fn same(held: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    held.endpoints == wanted.endpoints
        && held.ports.as_deref().unwrap_or_default() == wanted.ports.as_deref().unwrap_or_default()
        && wanted
            .labels()
            .iter()
            .all(|(key, value)| held.labels().get(key) == Some(value))
        && held.metadata.owner_references == wanted.metadata.owner_references
}

/// The slices of a Service among the pods of its namespace. Pure.
pub fn slices(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSlice> {
    let Some(spec) = service
        .spec
        .as_ref()
        .filter(|spec| spec.selector.as_ref().is_some_and(|s| !s.is_empty()))
    else {
        return Vec::new();
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    // A named port may be another number in another pod: pods with the same numbers share a slice.
    let mut groups: BTreeMap<Vec<(usize, i32)>, Vec<Endpoint>> = BTreeMap::new();
    let ports = spec.ports.as_deref().unwrap_or_default();
    for pod in pods.iter().filter(|pod| selects(service, pod) && !ended(pod)) {
        let Some(endpoint) = endpoint(service, pod) else {
            continue;
        };
        let numbers = ports
            .iter()
            .enumerate()
            .filter_map(|(at, port)| Some((at, target(port, pod)?)))
            .collect();
        groups.entry(numbers).or_default().push(endpoint);
    }
    if groups.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    let mut slices = Vec::new();
    for (numbers, endpoints) in groups {
        let ports: Vec<EndpointPort> = numbers.iter().map(|(at, number)| port(&ports[*at], *number)).collect();
        let chunks: Vec<Vec<Endpoint>> = if endpoints.is_empty() {
            vec![Vec::new()]
        } else {
            endpoints.chunks(MOST).map(<[_]>::to_vec).collect()
        };
        for endpoints in chunks {
            slices.push(slice(service, slices.len(), ports.clone(), endpoints));
        }
    }
    slices
}

fn slice(service: &Service, number: usize, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_LABEL.to_owned(), service.name_any());
    labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            // A fixed name per number, so that two rounds cannot make two slices.
            name: Some(name(service, number)),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![owner::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints,
        ports: Some(ports),
    }
}

/// The name of a slice: the owner's, and letters that follow from the owner and the slice's number.
pub(super) fn name<K: kube::Resource>(owner: &K, number: usize) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{}/{number}", owner.meta().uid.as_deref().unwrap_or_default()));
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    let suffix: String = digest
        .iter()
        .take(5)
        .map(|byte| char::from(letters[usize::from(*byte) % letters.len()]))
        .collect();
    format!("{}-{suffix}", owner.meta().name.as_deref().unwrap_or_default())
}

fn endpoint(service: &Service, pod: &Pod) -> Option<Endpoint> {
    let ip = pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())?;
    let leaving = pod.metadata.deletion_timestamp.is_some();
    let always = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let spec = pod.spec.as_ref();
    let in_subdomain = spec.and_then(|spec| spec.subdomain.as_ref()) == service.metadata.name.as_ref();
    Some(Endpoint {
        addresses: vec![ip],
        conditions: Some(EndpointConditions {
            ready: Some(always || (ready(pod) && !leaving)),
            serving: Some(ready(pod)),
            terminating: Some(leaving),
        }),
        hostname: spec.and_then(|spec| spec.hostname.clone()).filter(|_| in_subdomain),
        node_name: spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

pub(super) fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let containers = &pod.spec.as_ref()?.containers;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            containers
                .iter()
                .flat_map(|container| container.ports.iter().flatten())
                .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
                .map(|p| p.container_port)
        }
    }
}

fn port(port: &ServicePort, number: i32) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default", "uid": "s"}, "spec": spec}))
            .unwrap()
    }

    fn pod(name: &str, ip: &str, ready: bool, port: i32) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
                "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"}}]}
            }))
            .unwrap(),
        )
    }

    #[test]
    fn endpoints_carry_readiness_and_ports() {
        let service = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}));
        let slices = slices(
            &service,
            &[
                pod("a", "10.244.0.5", true, 8080),
                pod("b", "10.244.0.6", false, 8080),
                pod("c", "", true, 8080),
            ],
        );
        assert_eq!(slices.len(), 1);
        let seen: Vec<_> = slices[0]
            .endpoints
            .iter()
            .map(|e| (e.addresses[0].as_str(), e.conditions.as_ref().unwrap().ready))
            .collect();
        assert_eq!(seen, [("10.244.0.5", Some(true)), ("10.244.0.6", Some(false))]);
        assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
    }

    #[test]
    fn a_named_port_with_two_numbers_makes_two_slices() {
        let service = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}));
        let slices = slices(
            &service,
            &[pod("a", "10.244.0.5", true, 8080), pod("b", "10.244.0.6", true, 9090)],
        );
        assert_eq!(
            slices
                .iter()
                .map(|s| s.ports.as_ref().unwrap()[0].port)
                .collect::<Vec<_>>(),
            [Some(8080), Some(9090)]
        );
        assert_ne!(slices[0].name_any(), slices[1].name_any());
    }

    #[test]
    fn a_service_without_selector_or_pods() {
        assert!(slices(&service(json!({"ports": [{"port": 80}]})), &[]).is_empty());
        let empty = slices(
            &service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]})),
            &[],
        );
        assert_eq!((empty.len(), empty[0].endpoints.len()), (1, 0));
    }
}
