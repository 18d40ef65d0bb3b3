//! Services and EndpointSlices to rules.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort as Port, ServiceSpec},
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::{Protocol, RuleSet, ServicePort};

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Compiles Services and their endpoints. A Service port without a ready endpoint is refused; where none is ready,
/// endpoints that are terminating but still serve are used, as kube-proxy does (KEP-1669). Headless and ExternalName
/// Services come to nothing.
pub fn compile(services: &[Service], slices: &[EndpointSlice]) -> RuleSet {
    let mut rules = RuleSet::default();
    for service in services {
        let Some((spec, ip)) = service.spec.as_ref().and_then(|spec| Some((spec, cluster_ip(spec)?))) else {
            continue;
        };
        rules.cluster_ips.insert(ip);
        let slices: Vec<&EndpointSlice> = slices.iter().filter(|slice| belongs(slice, service)).collect();
        for port in spec.ports.iter().flatten() {
            let (Some(protocol), Ok(number)) = (protocol(port.protocol.as_deref()), u16::try_from(port.port)) else {
                continue;
            };
            let endpoints = endpoints(&slices, port, protocol);
            if !endpoints.is_empty() {
                let at = ServicePort {
                    ip,
                    protocol,
                    port: number,
                };
                rules.ports.entry(at).or_default().extend(endpoints);
            }
        }
    }
    // an address that the node itself answers on (the cluster's DNS) is never refused
    let own = rules.endpoint_addresses();
    rules.cluster_ips.retain(|ip| !own.contains(ip));
    rules
}

fn cluster_ip(spec: &ServiceSpec) -> Option<Ipv4Addr> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    // "None" (headless), "" (not yet given) and IPv6 are no IPv4 addresses
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.filter_map(|ip| ip.parse().ok()).next()
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

fn belongs(slice: &EndpointSlice, service: &Service) -> bool {
    let label = slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SERVICE_NAME));
    slice.metadata.namespace == service.metadata.namespace
        && label.is_some()
        && label == service.metadata.name.as_ref()
        && slice.address_type == "IPv4"
}

fn endpoints(slices: &[&EndpointSlice], port: &Port, protocol: Protocol) -> BTreeSet<SocketAddrV4> {
    let (mut ready, mut ending) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let named = slice.ports.iter().flatten().filter(|candidate| {
            candidate.name.as_deref().unwrap_or("") == port.name.as_deref().unwrap_or("")
                && self::protocol(candidate.protocol.as_deref()) == Some(protocol)
        });
        for number in named.filter_map(|port| u16::try_from(port.port?).ok()) {
            for endpoint in &slice.endpoints {
                let Some(address) = endpoint.addresses.first().and_then(|address| address.parse().ok()) else {
                    continue;
                };
                let address = SocketAddrV4::new(address, number);
                match state(endpoint) {
                    State::Ready => ready.insert(address),
                    State::Ending => ending.insert(address),
                    State::Away => false,
                };
            }
        }
    }
    if ready.is_empty() { ending } else { ready }
}

enum State {
    Ready,
    Ending,
    Away,
}

fn state(endpoint: &Endpoint) -> State {
    let Some(conditions) = &endpoint.conditions else {
        return State::Ready;
    };
    // unknown counts as ready, and a missing "serving" is as "ready" (discovery/v1)
    let ready = conditions.ready.unwrap_or(true);
    match (
        ready,
        conditions.serving.unwrap_or(ready),
        conditions.terminating.unwrap_or(false),
    ) {
        (true, ..) => State::Ready,
        (false, true, true) => State::Ending,
        _ => State::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "orders", "namespace": "shop"}, "spec": spec})).unwrap()
    }

    fn slice(namespace: &str, endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": "orders-1", "namespace": namespace, "labels": {SERVICE_NAME: "orders"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn listed(rules: &RuleSet) -> Vec<String> {
        rules
            .ports
            .iter()
            .map(|(at, endpoints)| {
                let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
                format!("{}:{}/{} {}", at.ip, at.port, at.protocol, endpoints.join(","))
            })
            .collect()
    }

    const SPEC: fn() -> Value = || json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]});

    #[test]
    fn endpoints_are_those_that_are_ready() {
        let ready = json!([
            {"addresses": ["10.244.0.9"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.8"]},
            {"addresses": ["10.244.0.7"], "conditions": {"ready": false}},
            {"addresses": ["10.244.0.6"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        ]);
        let rules = compile(
            &[service(SPEC())],
            &[slice("shop", ready.clone()), slice("elsewhere", ready)],
        );
        assert_eq!(listed(&rules), ["10.96.0.7:80/tcp 10.244.0.8:8080,10.244.0.9:8080"]);
        assert_eq!(rules.cluster_ips, BTreeSet::from([Ipv4Addr::new(10, 96, 0, 7)]));
    }

    #[test]
    fn terminating_endpoints_serve_when_no_other_does() {
        let ending = json!([
            {"addresses": ["10.244.0.6"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.244.0.5"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        ]);
        let rules = compile(&[service(SPEC())], &[slice("shop", ending)]);
        assert_eq!(listed(&rules), ["10.96.0.7:80/tcp 10.244.0.6:8080"]);
    }

    #[test]
    fn without_endpoints_a_service_is_refused() {
        let rules = compile(&[service(SPEC())], &[]);
        assert_eq!(listed(&rules), [""; 0]);
        assert_eq!(rules.cluster_ips.len(), 1);
    }

    #[test]
    fn what_has_no_address_comes_to_nothing() {
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "example.org"}),
            json!({"clusterIP": "", "ports": [{"port": 80}]}),
            json!({"clusterIP": "fd00::1", "ports": [{"port": 80}]}),
            json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80, "protocol": "SCTP"}]}),
        ] {
            let endpoints = json!([{"addresses": ["10.244.0.9"]}]);
            assert_eq!(compile(&[service(spec)], &[slice("shop", endpoints)]).ports.len(), 0);
        }
    }

    #[test]
    fn an_address_of_the_node_is_never_refused() {
        let endpoints = json!([{"addresses": ["10.96.0.7"]}]);
        let rules = compile(&[service(SPEC())], &[slice("shop", endpoints)]);
        assert!(rules.cluster_ips.is_empty());
    }
}
