//! The Services of the cluster itself: where pods find its API and its DNS. Both are served by the node's own process, so their
//! endpoints are the node's address.

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    informer::{Change, Informers},
    node::{
        kube_proxy,
        network_policy::{NamedPort, NodeService, PodFacts, Protocol},
    },
    ranges::Ranges,
};

/// The port of DNS (RFC 1035 §4.2).
pub(super) const DNS_PORT: u16 = 53;
/// The API server's port on the node, behind the Service `kubernetes`.
pub(super) const API_PORT: u16 = 6443;

/// Before what could not be written is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// The Services of the cluster itself: namespace and name, which their EndpointSlices share.
const OWN: [(&str, &str); 2] = [("default", "kubernetes"), ("kube-system", "kube-dns")];

/// Writes the Services `kubernetes` and `kube-dns` and their endpoints, all on the node. What is there already stays.
///
/// # Errors
/// What the API server refused.
pub(super) async fn publish(client: &Client, ranges: &Ranges) -> Result<(), kube::Error> {
    let dns = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true"}},
        "spec": {"clusterIP": ranges.dns(), "ports": [
            {"name": "dns", "port": DNS_PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"},
        ]},
    });
    let dns: Service = serde_json::from_value(dns).map_err(kube::Error::SerdeError)?;
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    there(services.create(&PostParams::default(), &dns).await)?;
    let api = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": ranges.kubernetes(), "ports": [
            {"name": "https", "port": 443, "protocol": "TCP", "targetPort": API_PORT},
        ]},
    });
    let api: Service = serde_json::from_value(api).map_err(kube::Error::SerdeError)?;
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    there(services.create(&PostParams::default(), &api).await)?;
    let dns_ports = [("dns", "UDP", DNS_PORT), ("dns-tcp", "TCP", DNS_PORT)];
    for (namespace, service, ports) in [
        ("kube-system", "kube-dns", &dns_ports[..]),
        ("default", "kubernetes", &[("https", "TCP", API_PORT)][..]),
    ] {
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
        let slice = slice(service, namespace, ranges.node(), ports)?;
        there(slices.create(&PostParams::default(), &slice).await)?;
    }
    Ok(())
}

/// Makes them again when somebody deletes them, as kube-apiserver does with `kubernetes`: without them no pod would find a
/// name or the API.
pub(super) async fn keep(client: Client, ranges: Ranges, informers: Informers, stop: CancellationToken) {
    fn ours<K: kube::Resource>(change: &Change<K>) -> bool {
        let Change::Deleted(gone) = change else { return false };
        let name = gone.name_any();
        let namespace = gone.namespace().unwrap_or_default();
        OWN.contains(&(namespace.as_str(), name.as_str()))
    }
    let mut services = informers.services.subscribe();
    let mut slices = informers.endpoint_slices.subscribe();
    loop {
        let lost = tokio::select! {
            () = stop.cancelled() => return,
            Some(change) = services.recv() => ours(&change),
            Some(change) = slices.recv() => ours(&change),
            else => return,
        };
        while lost && let Err(error) = publish(&client, &ranges).await {
            tracing::warn!(%error, "the cluster's own Services could not be made again; it is tried again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// What runs on the node and is a pod in other clusters: policies there allow cluster DNS by these labels.
pub(super) fn on_the_node(node: Ipv4Addr) -> Vec<NodeService> {
    let port = |name: &str, protocol| NamedPort {
        name: name.to_owned(),
        protocol,
        number: DNS_PORT,
    };
    vec![NodeService {
        pod: PodFacts {
            namespace: "kube-system".to_owned(),
            labels: [("k8s-app".to_owned(), "kube-dns".to_owned())].into(),
            ports: vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)],
        },
        address: node,
    }]
}

/// What the node serves on its own address.
pub(super) fn reserved() -> Vec<(kube_proxy::Protocol, u16)> {
    vec![
        (kube_proxy::Protocol::Tcp, API_PORT),
        (kube_proxy::Protocol::Tcp, DNS_PORT),
        (kube_proxy::Protocol::Udp, DNS_PORT),
    ]
}

fn slice(
    service: &str,
    namespace: &str,
    node: Ipv4Addr,
    ports: &[(&str, &str, u16)],
) -> Result<EndpointSlice, kube::Error> {
    let ports: Vec<_> = ports
        .iter()
        .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": service, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [node], "conditions": {"ready": true}}],
        "ports": ports,
    }))
    .map_err(kube::Error::SerdeError)
}

fn there<T>(created: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match created {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error),
    }
}
