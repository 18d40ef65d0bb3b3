//! The Endpoints controller: an Endpoints object for every Service with a selector, for clients that know no EndpointSlices.
//!
//! Source: Kubernetes' API reference of Endpoints (v1); KEP-4974 for the label that says who made one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::Value;

use super::{
    Context,
    endpoint_slice::{HEADLESS_LABEL, ended, enqueue_services, ready, selects, target},
};
use crate::{
    informer::{Change, Key},
    queue::Queue,
    write::unless_gone,
};

/// The label of what this controller made, and its value.
pub(crate) const MANAGED: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
/// Says that there are more endpoints than an object holds.
const OVER_CAPACITY: (&str, &str) = ("endpoints.kubernetes.io/over-capacity", "truncated");
/// Endpoints in one object.
const MOST: usize = 1000;

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let mut services = context.informers.services.subscribe();
    let mut pods = context.informers.pods.subscribe();
    let mut endpoints = context.informers.endpoints.subscribe();
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
                change = endpoints.recv() => match change {
                    Some(change) => {
                        let object = change.object();
                        // what somebody writes before its Service is there is nothing to put right
                        let made_here = object.labels().get(MANAGED.0).map(String::as_str) == Some(MANAGED.1);
                        if made_here || matches!(change, Change::Deleted(_)) {
                            feed.add(Key::of(object.as_ref()));
                        }
                    }
                    None => return,
                },
            }
        }
    });
    let inner = context.clone();
    context
        .tasks
        .spawn(queue.run("endpoints", context.stop.clone(), move |key| {
            let context = inner.clone();
            async move { reconcile(&context, &key).await }
        }));
}

async fn reconcile(context: &Context, key: &Key) -> Result<Option<Duration>, kube::Error> {
    let cache = &context.informers;
    let api: Api<Endpoints> = Api::namespaced(context.client.clone(), &key.namespace);
    let held = cache.endpoints.get(key);
    let Some(service) = cache.services.get(key) else {
        // they go with their Service, whoever wrote them
        if let Some(held) = held {
            unless_gone(api.delete(&key.name, &DeleteParams::default()).await)?;
            cache.endpoints.deleted(&held);
        }
        return Ok(None);
    };
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let Some(mut wanted) = endpoints(&service, &cache.pods.in_namespace(&key.namespace)) else {
        return Ok(None);
    };
    match held {
        Some(held) if same(&held, &wanted) => {}
        Some(held) => {
            wanted
                .metadata
                .resource_version
                .clone_from(&held.metadata.resource_version);
            cache
                .endpoints
                .wrote(api.replace(&key.name, &PostParams::default(), &wanted).await?);
        }
        None => cache
            .endpoints
            .wrote(api.create(&PostParams::default(), &wanted).await?),
    }
    Ok(None)
}

/// Whether this controller made the Endpoints.
pub(crate) fn is_managed(endpoints: &Value) -> bool {
    let label = endpoints
        .get("metadata")
        .and_then(|metadata| metadata.get("labels")?.get(MANAGED.0));
    label.and_then(Value::as_str) == Some(MANAGED.1)
}

fn same(held: &Endpoints, wanted: &Endpoints) -> bool {
    held.subsets.as_deref().unwrap_or_default() == wanted.subsets.as_deref().unwrap_or_default()
        && held.labels() == wanted.labels()
        && held.annotations().get(OVER_CAPACITY.0) == wanted.annotations().get(OVER_CAPACITY.0)
}

/// The Endpoints of a Service among the pods of its namespace; `None` where they are not this controller's to write. Pure.
fn endpoints(service: &Service, pods: &[Arc<Pod>]) -> Option<Endpoints> {
    let spec = service.spec.as_ref()?;
    if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) || spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let always = spec.publish_not_ready_addresses == Some(true);
    let mut found: Vec<Found> = Vec::new();
    for pod in pods.iter().filter(|pod| selects(service, pod) && !ended(pod)) {
        let leaving = pod.metadata.deletion_timestamp.is_some();
        let Some(address) = address(service, pod).filter(|_| always || !leaving) else {
            continue;
        };
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((port.name.clone().unwrap_or_default(), target(port, pod)?, protocol))
        });
        let ports: BTreeSet<_> = ports.collect();
        // one whose named ports are nowhere is behind none of them
        if ports.is_empty() && spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            continue;
        }
        found.push((always || ready(pod), address, ports));
    }
    let truncated = found.len() > MOST;
    // ready ones before others, so that those are left out last
    found.sort_by(|a, b| (!a.0, &a.1.ip).cmp(&(!b.0, &b.1.ip)));
    found.truncate(MOST);
    let mut labels = service.labels().clone();
    labels.insert(MANAGED.0.to_owned(), MANAGED.1.to_owned());
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    Some(Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: truncated.then(|| [(OVER_CAPACITY.0.to_owned(), OVER_CAPACITY.1.to_owned())].into()),
            ..ObjectMeta::default()
        },
        subsets: Some(subsets(service, found)),
    })
}

/// Name, number and protocol of every port.
type Ports = BTreeSet<(String, i32, String)>;
/// A pod behind a Service: whether it is ready, where it is, and its ports.
type Found = (bool, EndpointAddress, Ports);

/// Pods with the same ports share a subset.
fn subsets(service: &Service, found: Vec<Found>) -> Vec<EndpointSubset> {
    let mut groups: BTreeMap<Ports, EndpointSubset> = BTreeMap::new();
    for (ready, address, ports) in found {
        let subset = groups.entry(ports).or_default();
        let list = if ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.get_or_insert_default().push(address);
    }
    let declared = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let application: BTreeMap<&str, &String> = declared
        .filter_map(|port| Some((port.name.as_deref().unwrap_or_default(), port.app_protocol.as_ref()?)))
        .collect();
    let all = groups.into_iter().map(|(ports, subset)| {
        let ports: Vec<EndpointPort> = ports
            .into_iter()
            .map(|(name, port, protocol)| EndpointPort {
                app_protocol: application.get(name.as_str()).map(|protocol| (*protocol).clone()),
                name: Some(name).filter(|name| !name.is_empty()),
                port,
                protocol: Some(protocol),
            })
            .collect();
        EndpointSubset {
            ports: Some(ports).filter(|ports| !ports.is_empty()),
            ..subset
        }
    });
    all.collect()
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let ip = pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())?;
    let spec = pod.spec.as_ref();
    let in_subdomain = spec.and_then(|spec| spec.subdomain.as_ref()) == service.metadata.name.as_ref();
    Some(EndpointAddress {
        ip,
        hostname: spec.and_then(|spec| spec.hostname.clone()).filter(|_| in_subdomain),
        node_name: spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}}, "spec": spec}),
        )
        .unwrap()
    }

    fn pod(name: &str, ip: &str, rest: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}});
        for (pointer, value) in rest.as_object().unwrap() {
            *pod.pointer_mut(pointer).unwrap() = value.clone();
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    /// Subsets as `ready;not ready;ports`.
    fn shown(service: &Service, pods: &[Arc<Pod>]) -> Vec<String> {
        let endpoints = endpoints(service, pods).unwrap();
        let ips = |list: &Option<Vec<EndpointAddress>>| -> String {
            let ips: Vec<&str> = list.iter().flatten().map(|address| address.ip.as_str()).collect();
            ips.join(",")
        };
        let subset = |subset: &EndpointSubset| {
            let ports: Vec<String> = subset
                .ports
                .iter()
                .flatten()
                .map(|port| {
                    format!(
                        "{}={}/{}",
                        port.name.as_deref().unwrap_or(""),
                        port.port,
                        port.protocol.as_deref().unwrap()
                    )
                })
                .collect();
            format!(
                "{};{};{}",
                ips(&subset.addresses),
                ips(&subset.not_ready_addresses),
                ports.join(",")
            )
        };
        endpoints.subsets.unwrap().iter().map(subset).collect()
    }

    #[test]
    fn ready_and_other_pods_by_their_ports() {
        let mut spec = json!({"selector": {"app": "web"}, "ports": [
            {"name": "http", "port": 80, "targetPort": "http"}, {"name": "ask", "port": 53, "protocol": "UDP"}]});
        let unready = json!({"/status/conditions/0/status": "False"});
        let pods = [
            pod("b", "10.244.0.6", json!({})),
            pod("a", "10.244.0.5", json!({})),
            pod("c", "10.244.0.7", unready),
            pod(
                "d",
                "10.244.0.8",
                json!({"/spec/containers/0/ports/0/containerPort": 9090}),
            ),
            pod("done", "10.244.0.9", json!({"/status/phase": "Succeeded"})),
            pod("early", "", json!({})),
            pod("other", "10.244.0.10", json!({"/metadata/labels/app": "other"})),
        ];
        assert_eq!(
            shown(&service(spec.clone()), &pods),
            [
                "10.244.0.5,10.244.0.6;10.244.0.7;ask=53/UDP,http=8080/TCP",
                "10.244.0.8;;ask=53/UDP,http=9090/TCP",
            ]
        );
        spec["publishNotReadyAddresses"] = json!(true);
        assert_eq!(
            shown(&service(spec), &pods[..3]),
            ["10.244.0.5,10.244.0.6,10.244.0.7;;ask=53/UDP,http=8080/TCP"]
        );
    }

    #[test]
    fn a_pod_that_is_leaving_is_no_endpoint() {
        let mut leaving = Arc::unwrap_or_clone(pod("a", "10.244.0.5", json!({})));
        leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2024-01-01T00:00:00Z")).unwrap();
        let leaving = [Arc::new(leaving)];
        let mut spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        assert_eq!(shown(&service(spec.clone()), &leaving), [""; 0]);
        spec["publishNotReadyAddresses"] = json!(true);
        assert_eq!(shown(&service(spec), &leaving), ["10.244.0.5;;=80/TCP"]);
    }

    #[test]
    fn headless_services_without_ports_and_services_of_others() {
        let headless = service(json!({"clusterIP": "None", "selector": {"app": "web"}}));
        let pods = [pod("a", "10.244.0.5", json!({}))];
        assert_eq!(shown(&headless, &pods), ["10.244.0.5;;"]);
        let labels = endpoints(&headless, &pods).unwrap().metadata.labels.unwrap();
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(labels, [("app", "web"), MANAGED, (HEADLESS_LABEL, "")]);
        for spec in [
            json!({"ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "example.org", "selector": {"app": "web"}}),
        ] {
            assert!(endpoints(&service(spec), &pods).is_none());
        }
    }

    #[test]
    fn there_is_a_most() {
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        let pods: Vec<_> = (0..1100_u32)
            .map(|n| {
                pod(
                    &n.to_string(),
                    &std::net::Ipv4Addr::from(0x0af4_0000 + n).to_string(),
                    json!({}),
                )
            })
            .collect();
        let endpoints = endpoints(&service(spec), &pods).unwrap();
        assert_eq!(
            endpoints.subsets.as_ref().unwrap()[0].addresses.as_ref().unwrap().len(),
            MOST
        );
        assert_eq!(
            endpoints.annotations().get(OVER_CAPACITY.0).map(String::as_str),
            Some(OVER_CAPACITY.1)
        );
    }
}
