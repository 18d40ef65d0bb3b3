//! Services and EndpointSlices to rules.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort as Port, ServiceSpec},
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::{Affinity, Backends, Protocol, RuleSet, ServicePort, Way};

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How long a client is remembered where the Service does not say, in seconds: 3 hours, as in Kubernetes.
const AFFINITY: u32 = 10_800;

/// The node that the rules are for.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// Its address, where node ports are.
    pub address: Ipv4Addr,
    /// Its name, by which endpoints are known to be on it.
    pub name: String,
    /// Ports of its address that it serves itself: no external address takes them.
    pub reserved: Vec<(Protocol, u16)>,
}

/// Compiles Services and their endpoints. A Service port without a ready endpoint is refused; where none is ready,
/// endpoints that are terminating but still serve are used, as kube-proxy does (KEP-1669). Headless and ExternalName
/// Services come to nothing.
///
/// A Service is reached at its ClusterIP, at its node ports on `node`, at its external addresses and at those of its load
/// balancer. `internalTrafficPolicy: Local` leads to the endpoints of this node only (KEP-2086): an endpoint that does not name
/// its node is not one of them. With `externalTrafficPolicy: Cluster` endpoints see the node's address. With `Local` they see
/// the client's; clients are pods and the node itself, and kube-proxy leads those to all endpoints.
pub fn compile(services: &[Service], slices: &[EndpointSlice], node: &NodeFacts) -> RuleSet {
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
            let front = |ip, port| ServicePort { ip, protocol, port };
            let inside = front(ip, number);
            let ways = Ways::of(spec, inside, &endpoints(&slices, port, protocol), &node.name);
            for ip in external_addresses(service) {
                outside.push((front(ip, number), ways.outside.clone()));
            }
            if let Some(number) = node_port(spec, port) {
                rules.fronts.insert(front(node.address, number), ways.outside);
            }
            if ways.inside != Way::Refused {
                rules.fronts.insert(inside, ways.inside);
            }
        }
    }
    // an external address is whatever somebody wrote: it takes nothing from a ClusterIP or a node port, nor from who was first,
    // nor from the node itself
    outside.retain(|(at, _)| at.ip != node.address || !node.reserved.contains(&(at.protocol, at.port)));
    outside.retain(|(at, _)| !rules.cluster_ips.contains(&at.ip));
    outside.sort();
    for (at, way) in outside {
        match rules.fronts.get_mut(&at) {
            // of two Services with one external address, one that leads somewhere
            Some(taken) if *taken == Way::Refused => *taken = way,
            Some(_) => {}
            None => {
                rules.fronts.insert(at, way);
            }
        }
    }
    // an address that the node itself answers on (the cluster's DNS) is never refused
    let own = rules.endpoint_addresses();
    rules.cluster_ips.retain(|ip| !own.contains(ip));
    rules
}

/// Where a Service port leads: at its ClusterIP, and at all other fronts.
struct Ways {
    inside: Way,
    outside: Way,
}

impl Ways {
    fn of(spec: &ServiceSpec, of: ServicePort, endpoints: &[Found], node: &str) -> Self {
        let all = serving(endpoints.iter());
        if all.is_empty() {
            return Self {
                inside: Way::Refused,
                outside: Way::Refused,
            };
        }
        let affinity = affinity(spec).map(|seconds| Affinity { of, seconds });
        let to = |endpoints, masquerade| {
            Way::To(Backends {
                endpoints,
                masquerade,
                affinity,
            })
        };
        let inside = if spec.internal_traffic_policy.as_deref() == Some("Local") {
            let local = serving(endpoints.iter().filter(|found| found.node.as_deref() == Some(node)));
            if local.is_empty() {
                Way::Dropped
            } else {
                to(local, false)
            }
        } else {
            to(all.clone(), false)
        };
        let keeps = spec.external_traffic_policy.as_deref() == Some("Local");
        Self {
            inside,
            outside: to(all, !keeps),
        }
    }
}

/// For how many seconds a client stays with its endpoint, if it does.
fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    Some(
        seconds
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(AFFINITY),
    )
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

/// An endpoint that serves.
struct Found {
    at: SocketAddrV4,
    ending: bool,
    node: Option<String>,
}

/// The ready ones; where there are none, those that are ending.
fn serving<'a>(endpoints: impl Iterator<Item = &'a Found>) -> BTreeSet<SocketAddrV4> {
    let (ending, ready): (Vec<&Found>, Vec<&Found>) = endpoints.partition(|found| found.ending);
    let chosen = if ready.is_empty() { ending } else { ready };
    chosen.into_iter().map(|found| found.at).collect()
}

fn endpoints(slices: &[&EndpointSlice], port: &Port, protocol: Protocol) -> Vec<Found> {
    let mut all = Vec::new();
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
                let state = state(endpoint);
                if state != State::Away {
                    all.push(Found {
                        at: SocketAddrV4::new(address, number),
                        ending: state == State::Ending,
                        node: endpoint.node_name.clone(),
                    });
                }
            }
        }
    }
    all
}

#[derive(PartialEq, Eq)]
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
            .fronts
            .iter()
            .map(|(at, way)| {
                let way = match way {
                    Way::Refused => "refused".to_owned(),
                    Way::Dropped => "dropped".to_owned(),
                    Way::To(backends) => {
                        let endpoints: Vec<String> = backends.endpoints.iter().map(ToString::to_string).collect();
                        let masquerade = if backends.masquerade { " masquerade" } else { "" };
                        let sticky = backends
                            .affinity
                            .map(|affinity| format!(" {} {}s", affinity.of, affinity.seconds));
                        format!("{}{masquerade}{}", endpoints.join(","), sticky.unwrap_or_default())
                    }
                };
                format!("{}:{}/{} {way}", at.ip, at.port, at.protocol)
            })
            .collect()
    }

    fn compile(services: &[Service], slices: &[EndpointSlice]) -> RuleSet {
        let node = NodeFacts {
            address: Ipv4Addr::new(10, 244, 0, 1),
            name: "here".to_owned(),
            reserved: vec![(Protocol::Tcp, 6443), (Protocol::Udp, 53)],
        };
        super::compile(services, slices, &node)
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
            assert_eq!(listed(&compile(&[service(spec)], &[slice("shop", endpoints)])), [""; 0]);
        }
    }

    #[test]
    fn an_address_of_the_node_is_never_refused() {
        let endpoints = json!([{"addresses": ["10.96.0.7"]}]);
        let rules = compile(&[service(SPEC())], &[slice("shop", endpoints)]);
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
            ))
        };
        assert_eq!(
            fronts(&service),
            [
                "10.96.0.7:80/tcp 10.244.0.9:8080",
                "10.244.0.1:30080/tcp 10.244.0.9:8080 masquerade",
                "10.244.0.1:30081/tcp refused",
                "192.0.2.7:80/tcp 10.244.0.9:8080 masquerade",
                "192.0.2.7:81/tcp refused",
                "192.0.2.8:80/tcp 10.244.0.9:8080 masquerade",
                "192.0.2.8:81/tcp refused",
            ]
        );
        let spec = service.spec.as_mut().unwrap();
        spec.load_balancer_source_ranges = Some(vec!["198.51.100.0/24".to_owned()]);
        assert!(!fronts(&service).iter().any(|front| front.starts_with("192.0.2.8")));
        service.spec.as_mut().unwrap().type_ = Some("ClusterIP".to_owned());
        assert_eq!(
            fronts(&service),
            [
                "10.96.0.7:80/tcp 10.244.0.9:8080",
                "192.0.2.7:80/tcp 10.244.0.9:8080 masquerade",
                "192.0.2.7:81/tcp refused",
            ]
        );
        service.spec.as_mut().unwrap().external_traffic_policy = Some("Local".to_owned());
        assert!(fronts(&service).contains(&"192.0.2.7:80/tcp 10.244.0.9:8080".to_owned()));
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
            let fronts = listed(&compile(&services, &slices));
            for front in [
                "10.96.0.7:80/tcp 10.244.0.9:8080",
                "10.244.0.1:30080/tcp 10.244.0.9:8080 masquerade",
            ] {
                assert!(fronts.iter().any(|has| has == front), "{fronts:?}");
            }
        }
    }

    #[test]
    fn an_external_address_does_not_take_what_the_node_serves() {
        let spec = json!({"clusterIP": "10.96.0.7", "externalIPs": ["10.244.0.1"], "ports": [
            {"name": "http", "port": 6443}, {"name": "http", "port": 53, "protocol": "UDP"}, {"name": "http", "port": 80}]});
        let endpoints = json!([{"addresses": ["10.244.0.9"]}]);
        let fronts = listed(&compile(&[service(spec)], &[slice("shop", endpoints)]));
        assert_eq!(
            fronts,
            [
                "10.96.0.7:80/tcp 10.244.0.9:8080",
                "10.96.0.7:6443/tcp 10.244.0.9:8080",
                "10.244.0.1:80/tcp 10.244.0.9:8080 masquerade",
            ]
        );
    }

    #[test]
    fn a_local_policy_leads_to_this_node_only() {
        let endpoints = json!([
            {"addresses": ["10.244.0.9"], "nodeName": "here"},
            {"addresses": ["10.244.0.8"], "nodeName": "there"},
            {"addresses": ["10.244.0.7"]}]);
        let mut spec = SPEC();
        spec["internalTrafficPolicy"] = json!("Local");
        let fronts = |endpoints| listed(&compile(&[service(spec.clone())], &[slice("shop", endpoints)]));
        assert_eq!(fronts(endpoints), ["10.96.0.7:80/tcp 10.244.0.9:8080"]);
        assert_eq!(
            fronts(json!([{"addresses": ["10.244.0.8"], "nodeName": "there"}])),
            ["10.96.0.7:80/tcp dropped"]
        );
        assert_eq!(
            fronts(json!([])),
            [""; 0],
            "refused, as every port of a ClusterIP that leads nowhere"
        );
    }

    #[test]
    fn a_client_stays_with_its_endpoint_where_that_is_wanted() {
        let mut spec = SPEC();
        spec["sessionAffinity"] = json!("ClientIP");
        let endpoints = json!([{"addresses": ["10.244.0.9"]}]);
        let fronts = |spec: &Value| listed(&compile(&[service(spec.clone())], &[slice("shop", endpoints.clone())]));
        assert_eq!(
            fronts(&spec),
            ["10.96.0.7:80/tcp 10.244.0.9:8080 10.96.0.7-tcp-80 10800s"]
        );
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 5}});
        assert_eq!(fronts(&spec), ["10.96.0.7:80/tcp 10.244.0.9:8080 10.96.0.7-tcp-80 5s"]);
        spec["sessionAffinity"] = json!("None");
        assert_eq!(fronts(&spec), ["10.96.0.7:80/tcp 10.244.0.9:8080"]);
    }
}
