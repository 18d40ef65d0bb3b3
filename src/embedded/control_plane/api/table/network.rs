//! Services, endpoints, ingresses, network policies.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Layout,
    text::{Ages, NONE, Object, first_three, labels, name, selector},
};

pub fn core(kind: &str) -> Option<Layout> {
    Some(match kind {
        "Service" => Layout {
            columns: "Name|Type|Cluster-IP|External-IP|Port(s)|Age|*Selector",
            row: service,
        },
        "Endpoints" => Layout {
            columns: "Name|Endpoints|Age",
            row: endpoints,
        },
        _ => return None,
    })
}

pub fn layout(kind: &str) -> Option<Layout> {
    Some(match kind {
        "EndpointSlice" => Layout {
            columns: "Name|AddressType|Ports|Endpoints|Age",
            row: endpoint_slice,
        },
        "NetworkPolicy" => Layout {
            columns: "Name|Pod-Selector|Age",
            row: |o, now| vec![name(o), json!(selector(o.at("spec.podSelector"))), o.age(now)],
        },
        "Ingress" => Layout {
            columns: "Name|Class|Hosts|Address|Ports|Age",
            row: ingress,
        },
        "IngressClass" => Layout {
            columns: "Name|Controller|Parameters|Age",
            row: |o, now| {
                let parameters = o.at("spec.parameters");
                let group = match parameters.str("apiGroup") {
                    "" => String::new(),
                    group => format!(".{group}"),
                };
                let text = if parameters.is_set() {
                    format!("{}{group}/{}", parameters.str("kind"), parameters.str("name"))
                } else {
                    NONE.into()
                };
                vec![name(o), json!(o.str("spec.controller")), json!(text), o.age(now)]
            },
        },
        _ => return None,
    })
}

fn service(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let first = o.items("spec.clusterIPs").next().and_then(|ip| ip.0.as_str());
    let cluster_ip = first
        .filter(|ip| !ip.is_empty())
        .unwrap_or_else(|| match o.str("spec.clusterIP") {
            "" => NONE,
            ip => ip,
        });
    vec![
        name(o),
        json!(o.str("spec.type")),
        json!(cluster_ip),
        json!(external_ip(o)),
        json!(ports(o)),
        o.age(now),
        json!(labels(o.entries("spec.selector"))),
    ]
}

fn external_ip(o: Object<'_>) -> String {
    let mut all: Vec<String> = Vec::new();
    match o.str("spec.type") {
        "ExternalName" => return o.str("spec.externalName").to_owned(),
        "LoadBalancer" => {
            for ingress in o.items("status.loadBalancer.ingress") {
                let ip = ingress.str("ip");
                all.push(if ip.is_empty() { ingress.str("hostname") } else { ip }.to_owned());
            }
            all.extend(o.items("spec.externalIPs").map(Object::text));
            if all.is_empty() {
                return "<pending>".into();
            }
        }
        _ => all.extend(o.items("spec.externalIPs").map(Object::text)),
    }
    if all.is_empty() { NONE.into() } else { all.join(",") }
}

fn ports(o: Object<'_>) -> String {
    let one = |p: Object<'_>| match p.int("nodePort") {
        0 => format!("{}/{}", p.int("port"), p.str("protocol")),
        node_port => format!("{}:{node_port}/{}", p.int("port"), p.str("protocol")),
    };
    let all: Vec<String> = o.items("spec.ports").map(one).collect();
    if all.is_empty() { NONE.into() } else { all.join(",") }
}

fn endpoints(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in o.items("subsets") {
        for port in subset.items("ports") {
            all.extend(
                subset
                    .items("addresses")
                    .map(|a| format!("{}:{}", a.str("ip"), port.int("port"))),
            );
        }
        if subset.items("ports").len() == 0 {
            all.extend(subset.items("addresses").map(|a| a.str("ip").to_owned()));
        }
    }
    vec![name(o), json!(first_three(&all, NONE)), o.age(now)]
}

fn endpoint_slice(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let port = |p: Object<'_>| match (p.at("port").is_set(), p.str("name")) {
        (true, _) => p.int("port").to_string(),
        (false, "") => "*".into(),
        (false, name) => name.to_owned(),
    };
    let ports: Vec<String> = o.items("ports").map(port).collect();
    let addresses: Vec<String> = o
        .items("endpoints")
        .flat_map(|e| e.items("addresses"))
        .map(Object::text)
        .collect();
    vec![
        name(o),
        json!(o.str("addressType")),
        json!(first_three(&ports, "<unset>")),
        json!(first_three(&addresses, "<unset>")),
        o.age(now),
    ]
}

fn ingress(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let class = match o.str("spec.ingressClassName") {
        "" => o
            .entries("metadata.annotations")
            .and_then(|a| a.get("kubernetes.io/ingress.class")?.as_str()),
        class => Some(class),
    };
    let hosts: Vec<String> = o
        .items("spec.rules")
        .map(|r| r.str("host").to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let addresses: Vec<&str> = o
        .items("status.loadBalancer.ingress")
        .map(|i| {
            if i.str("ip").is_empty() {
                i.str("hostname")
            } else {
                i.str("ip")
            }
        })
        .collect();
    let tls = o.items("spec.tls").len() > 0;
    vec![
        name(o),
        json!(class.unwrap_or(NONE)),
        json!(first_three(&hosts, "*")),
        json!(addresses.join(",")),
        json!(if tls { "80, 443" } else { "80" }),
        o.age(now),
    ]
}
