//! The Services of the cluster itself: where pods find its API and its DNS. Both are served by the node's own process, so their
//! endpoints are the node's address.

use std::net::Ipv4Addr;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use super::node::network_policy::{NamedPort, NodeService, PodFacts, Protocol};

use super::ranges::Ranges;

/// The port of DNS (RFC 1035 §4.2).
pub(super) const DNS_PORT: u16 = 53;
/// The API server's port on the node, behind the Service `kubernetes`.
pub(super) const API_PORT: u16 = 6443;

/// Writes the Service `kube-dns` and the endpoints of it and of `kubernetes`, all on the node. What is there already stays.
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
