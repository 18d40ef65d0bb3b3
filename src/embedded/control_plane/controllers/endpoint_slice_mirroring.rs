//! The EndpointSliceMirroring controller: Endpoints that somebody wrote for a Service without a selector become EndpointSlices,
//! which is what kube-proxy and DNS read.
//!
//! Source: Kubernetes' EndpointSlice concept, "EndpointSlice mirroring".

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;

use super::{
    Context,
    endpoint_slice::{HEADLESS_LABEL, MANAGER_LABEL, MOST, SERVICE_LABEL, bring, name},
    owner,
};
use crate::{
    informer::{Change, Key},
    queue::Queue,
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// The label of Endpoints that are not to be mirrored, since their slices are there.
pub(crate) const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// The annotation of Endpoints that are the lock of a leader election.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// What a slice does not take over from its Endpoints.
const NOT_TAKEN_OVER: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
];
/// Addresses of one subset that are mirrored.
const MOST_OF_A_SUBSET: usize = 1000;

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let mut services = context.informers.services.subscribe();
    let mut endpoints = context.informers.endpoints.subscribe();
    let mut slices = context.informers.endpoint_slices.subscribe();
    let feed = queue.clone();
    tokio::spawn(async move {
        loop {
            let key = tokio::select! {
                Some(change) = services.recv() => Some(Key::of(change.object().as_ref())),
                Some(change) = endpoints.recv() => Some(Key::of(change.object().as_ref())),
                Some(change) = slices.recv() => mirrored(&change),
                else => return,
            };
            if let Some(key) = key {
                feed.add(key);
            }
        }
    });
    let inner = context.clone();
    context
        .tasks
        .spawn(queue.run("endpointslicemirroring", context.stop.clone(), move |key| {
            let context = inner.clone();
            async move { reconcile(&context, &key).await }
        }));
}

/// The Endpoints that a slice mirrors.
fn mirrored(change: &Change<EndpointSlice>) -> Option<Key> {
    let slice = change.object();
    let service = slice.labels().get(SERVICE_LABEL).filter(|_| managed(slice))?;
    Some(Key::new(slice.namespace().unwrap_or_default(), service))
}

fn managed(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGER_LABEL).map(String::as_str) == Some(MANAGER)
}

async fn reconcile(context: &Context, key: &Key) -> Result<Option<Duration>, kube::Error> {
    let cache = &context.informers;
    let held: Vec<Arc<EndpointSlice>> = cache
        .endpoint_slices
        .in_namespace(&key.namespace)
        .into_iter()
        .filter(|slice| managed(slice) && slice.labels().get(SERVICE_LABEL) == Some(&key.name))
        .collect();
    let wanted = match (cache.services.get(key), cache.endpoints.get(key)) {
        (Some(service), Some(endpoints)) => slices(&service, &endpoints),
        _ => Vec::new(),
    };
    bring(context, key, &held, &wanted).await?;
    Ok(None)
}

/// The slices that mirror Endpoints. Pure.
fn slices(service: &Service, endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let selects = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let theirs = selects.is_some_and(|selector| !selector.is_empty())
        || service.metadata.deletion_timestamp.is_some()
        || endpoints.metadata.deletion_timestamp.is_some()
        || endpoints.labels().get(SKIP).map(String::as_str) == Some("true")
        || endpoints.annotations().contains_key(LEADER);
    if theirs {
        return Vec::new();
    }
    let headless = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    let mut all = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        for (family, list) in by_family(subset) {
            for part in list.chunks(MOST) {
                all.push(slice(endpoints, headless, all.len(), family, subset, part.to_vec()));
            }
        }
    }
    all
}

/// The endpoints of a subset by the type of their addresses.
fn by_family(subset: &EndpointSubset) -> BTreeMap<&'static str, Vec<Endpoint>> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let others = subset
        .not_ready_addresses
        .iter()
        .flatten()
        .map(|address| (address, false));
    let mut families: BTreeMap<&'static str, Vec<Endpoint>> = BTreeMap::new();
    for (address, ready) in ready.chain(others).take(MOST_OF_A_SUBSET) {
        let family = match address.ip.parse() {
            Ok(IpAddr::V4(_)) => "IPv4",
            Ok(IpAddr::V6(_)) => "IPv6",
            Err(_) => continue,
        };
        families.entry(family).or_default().push(endpoint(address, ready));
    }
    families
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(
    endpoints: &Endpoints,
    headless: bool,
    number: usize,
    family: &str,
    subset: &EndpointSubset,
    list: Vec<Endpoint>,
) -> EndpointSlice {
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_LABEL.to_owned(), endpoints.name_any());
    labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    if headless {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|key, _| !NOT_TAKEN_OVER.contains(&key.as_str()));
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    });
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(name(endpoints, number)),
            namespace: endpoints.namespace(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![owner::controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: list,
        ports: Some(ports.collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": spec})).unwrap()
    }

    fn endpoints(labels: Value, subsets: Value) -> Endpoints {
        serde_json::from_value(
            json!({"metadata": {"name": "db", "namespace": "shop", "uid": "e", "labels": labels,
            "annotations": {"note": "mine", NOT_TAKEN_OVER[0]: "{}"}}, "subsets": subsets}),
        )
        .unwrap()
    }

    fn shown(slice: &EndpointSlice) -> String {
        let one = |endpoint: &Endpoint| {
            let ready = endpoint.conditions.as_ref().unwrap().ready == Some(true);
            format!("{}{}", endpoint.addresses[0], if ready { "" } else { "!" })
        };
        let endpoints: Vec<String> = slice.endpoints.iter().map(one).collect();
        let ports: Vec<String> = slice
            .ports
            .iter()
            .flatten()
            .map(|port| {
                format!(
                    "{}={}/{}",
                    port.name.as_deref().unwrap(),
                    port.port.unwrap(),
                    port.protocol.as_deref().unwrap()
                )
            })
            .collect();
        format!("{} {} {}", slice.address_type, endpoints.join(","), ports.join(","))
    }

    #[test]
    fn every_subset_and_family_has_slices() {
        let subsets = json!([
            {"addresses": [{"ip": "192.0.2.5"}, {"ip": "2001:db8::5"}], "notReadyAddresses": [{"ip": "192.0.2.6"}],
                "ports": [{"name": "pg", "port": 5432}]},
            {"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 53, "protocol": "UDP"}]}]);
        let slices = slices(
            &service(json!({"ports": [{"port": 1}]})),
            &endpoints(json!({"app": "db"}), subsets),
        );
        let all: Vec<String> = slices.iter().map(shown).collect();
        assert_eq!(
            all,
            [
                "IPv4 192.0.2.5,192.0.2.6! pg=5432/TCP",
                "IPv6 2001:db8::5 pg=5432/TCP",
                "IPv4 192.0.2.7 =53/UDP",
            ]
        );
        let metadata = &slices[0].metadata;
        assert_eq!(
            serde_json::to_value(metadata.labels.as_ref().unwrap()).unwrap(),
            json!({"app": "db", SERVICE_LABEL: "db", MANAGER_LABEL: MANAGER})
        );
        assert_eq!(
            serde_json::to_value(&metadata.annotations).unwrap(),
            json!({"note": "mine"})
        );
        assert_eq!(owner::controller_of(metadata).unwrap().kind, "Endpoints");
        let names: std::collections::BTreeSet<String> = slices.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn what_is_not_written_for_a_service_without_selector_is_left_alone() {
        let subsets = json!([{"addresses": [{"ip": "192.0.2.5"}]}]);
        let plain = service(json!({"ports": [{"port": 1}]}));
        assert_eq!(slices(&plain, &endpoints(json!({}), subsets.clone())).len(), 1);
        let selecting = service(json!({"selector": {"app": "db"}, "ports": [{"port": 1}]}));
        assert!(slices(&selecting, &endpoints(json!({}), subsets.clone())).is_empty());
        assert!(slices(&plain, &endpoints(json!({SKIP: "true"}), subsets.clone())).is_empty());
        let mut lock = endpoints(json!({}), subsets);
        lock.annotations_mut().insert(LEADER.to_owned(), "{}".to_owned());
        assert!(slices(&plain, &lock).is_empty());
    }
}
