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
///
/// A Service is reached at its ClusterIP, at its node ports on `node`, at its external addresses and at those of its load
/// balancer. On one node every endpoint is local, so the traffic policies `Local` and `Cluster` lead to the same ones.
pub fn compile(services: &[Service], slices: &[EndpointSlice], node: Ipv4Addr) -> RuleSet {
    let mut rules = RuleSet::default();
    let mut outside = Vec::new();
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
            if endpoints.is_empty() {
                continue;
            }
            let front = |ip, port| ServicePort { ip, protocol, port };
            for ip in external_addresses(service) {
                outside.push((front(ip, number), endpoints.clone()));
            }
            if let Some(number) = node_port(spec, port) {
                rules
                    .ports
                    .entry(front(node, number))
                    .or_default()
                    .extend(endpoints.iter().copied());
            }
            rules.ports.entry(front(ip, number)).or_default().extend(endpoints);
        }
    }
    // an external address is whatever somebody wrote: it takes nothing from a ClusterIP or a node port, nor from who was first
    outside.sort();
    for (at, endpoints) in outside {
        rules.ports.entry(at).or_insert(endpoints);
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

fn node_port(spec: &ServiceSpec, port: &Port) -> Option<u16> {
    let kind = spec.type_.as_deref();
    let number = port
        .node_port
        .filter(|_| matches!(kind, Some("NodePort" | "LoadBalancer")))?;
    u16::try_from(number).ok().filter(|number| *number != 0)
}

/// `externalIPs` and the load balancer's addresses. A load balancer that is open only to some (`loadBalancerSourceRanges`) is
/// left out: nothing here could tell them apart. One of mode `Proxy` hands packets to the node port itself (KEP-1860).
fn external_addresses(service: &Service) -> Vec<Ipv4Addr> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let mut all: Vec<&str> = spec.external_ips.iter().flatten().map(String::as_str).collect();
    let open = spec.load_balancer_source_ranges.as_ref().is_none_or(Vec::is_empty);
    if spec.type_.as_deref() == Some("LoadBalancer") && open {
        let balancer = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let direct = balancer
            .into_iter()
            .flatten()
            .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
        all.extend(direct.filter_map(|ingress| ingress.ip.as_deref()));
    }
    all.into_iter().filter_map(|ip| ip.parse().ok()).collect()
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

    const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
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
            NODE,
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
        let rules = compile(&[service(SPEC())], &[slice("shop", ending)], NODE);
        assert_eq!(listed(&rules), ["10.96.0.7:80/tcp 10.244.0.6:8080"]);
    }

    #[test]
    fn without_endpoints_a_service_is_refused() {
        let rules = compile(&[service(SPEC())], &[], NODE);
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
            assert_eq!(
                compile(&[service(spec)], &[slice("shop", endpoints)], NODE).ports.len(),
                0
            );
        }
    }

    #[test]
    fn an_address_of_the_node_is_never_refused() {
        let endpoints = json!([{"addresses": ["10.96.0.7"]}]);
        let rules = compile(&[service(SPEC())], &[slice("shop", endpoints)], NODE);
        assert!(rules.cluster_ips.is_empty());
    }

    #[test]
    fn a_node_port_and_addresses_from_outside_lead_to_the_same_endpoints() {
        let mut service = service(
            json!({"type": "LoadBalancer", "clusterIP": "10.96.0.7", "externalIPs": ["192.0.2.7"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "other", "port": 81, "nodePort": 30081}]}),
        );
        service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [
            {"ip": "192.0.2.8"}, {"ip": "192.0.2.9", "ipMode": "Proxy"}, {"hostname": "example.org"}]}}))
        .unwrap();
        let endpoints = json!([{"addresses": ["10.244.0.9"]}]);
        let fronts = |service: &Service| {
            listed(&compile(
                std::slice::from_ref(service),
                &[slice("shop", endpoints.clone())],
                NODE,
            ))
        };
        assert_eq!(
            fronts(&service),
            [
                "10.96.0.7:80/tcp 10.244.0.9:8080",
                "10.244.0.1:30080/tcp 10.244.0.9:8080",
                "192.0.2.7:80/tcp 10.244.0.9:8080",
                "192.0.2.8:80/tcp 10.244.0.9:8080",
            ]
        );
        let spec = service.spec.as_mut().unwrap();
        spec.load_balancer_source_ranges = Some(vec!["198.51.100.0/24".to_owned()]);
        assert!(!fronts(&service).iter().any(|front| front.starts_with("192.0.2.8")));
        service.spec.as_mut().unwrap().type_ = Some("ClusterIP".to_owned());
        assert_eq!(
            fronts(&service),
            ["10.96.0.7:80/tcp 10.244.0.9:8080", "192.0.2.7:80/tcp 10.244.0.9:8080"]
        );
    }

    #[test]
    fn an_external_address_takes_nothing_from_others() {
        let mut greedy = service(
            json!({"clusterIP": "10.96.0.8", "externalIPs": ["10.96.0.7", "10.244.0.1"],
            "ports": [{"name": "http", "port": 80}, {"name": "node", "port": 30080}]}),
        );
        greedy.metadata.name = Some("greedy".to_owned());
        let honest = service(json!({"type": "NodePort", "clusterIP": "10.96.0.7",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}));
        let mut bait = slice("shop", json!([{"addresses": ["10.244.0.66"]}]));
        bait.metadata.labels = Some([(SERVICE_NAME.to_owned(), "greedy".to_owned())].into());
        bait.ports =
            serde_json::from_value(json!([{"name": "http", "port": 80}, {"name": "node", "port": 80}])).unwrap();
        let slices = [bait, slice("shop", json!([{"addresses": ["10.244.0.9"]}]))];
        for services in [[greedy.clone(), honest.clone()], [honest, greedy]] {
            let fronts = listed(&compile(&services, &slices, NODE));
            for front in [
                "10.96.0.7:80/tcp 10.244.0.9:8080",
                "10.244.0.1:30080/tcp 10.244.0.9:8080",
            ] {
                assert!(fronts.iter().any(|has| has == front), "{fronts:?}");
            }
        }
    }
}
