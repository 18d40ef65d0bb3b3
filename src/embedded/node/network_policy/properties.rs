//! Random clusters: what the compiled rules let through is what the specification allows, by an evaluator that knows nothing
//! of rules.

use std::{net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{
    compile,
    evaluator::{End, Objects},
    facts::{NodeService, World, pod_facts},
    interpreter::{Packet, forwards, gets, sends, takes_in},
    plan::{made, plan},
    rules::Protocol,
};

pub const NODE: &str = "10.244.0.1";
const NAMESPACES: [&str; 3] = ["x", "y", "z"];

/// Cluster DNS, as a pod of the specification and as what runs on the node.
pub fn dns() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns", "a": "1"}},
        "spec": {"containers": [{"name": "dns", "ports": [
            {"name": "dns", "protocol": "UDP", "containerPort": 53},
            {"name": "dns-tcp", "protocol": "TCP", "containerPort": 53},
            {"name": "http", "protocol": "TCP", "containerPort": 80},
        ]}]},
        "status": {"podIP": NODE},
    }))
    .unwrap()
}

/// The world of these objects, with cluster DNS on the node.
pub fn world(objects: &Objects) -> World {
    let (address, pod) = pod_facts(&dns()).unwrap();
    World {
        pods: objects
            .pods
            .iter()
            .filter_map(pod_facts)
            .map(|(address, facts)| (address, Arc::new(facts)))
            .collect(),
        namespaces: objects
            .namespaces
            .iter()
            .map(|one| {
                let meta = one.metadata.clone();
                (meta.name.unwrap_or_default(), meta.labels.unwrap_or_default())
            })
            .collect(),
        policies: objects.policies.iter().cloned().map(Arc::new).collect(),
        node_services: vec![NodeService { pod, address }],
    }
}

/// What the rules say of a connection, by the model of the kernel.
pub fn compiled(rules: &super::RuleSet, from: End<'_>, to: End<'_>, protocol: &str, port: u16) -> bool {
    let address = |end: End<'_>| -> Ipv4Addr {
        match end {
            End::Pod(pod) | End::OnNode(pod) => pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap().parse().unwrap(),
            End::Node(address) => address.parse().unwrap(),
        }
    };
    let packet = Packet {
        source: address(from),
        destination: address(to),
        protocol: Protocol::named(Some(protocol)).unwrap(),
        port,
        reply: false,
    };
    match (from, to) {
        (End::Pod(_), End::Pod(_)) => forwards(rules, packet),
        (End::Pod(_), _) => takes_in(rules, packet),
        // what the node sends meets no rule
        _ => true,
    }
}

fn labels() -> impl Strategy<Value = Value> {
    let value = || prop_oneof![Just(None), Just(Some("1")), Just(Some("2"))];
    (value(), value()).prop_map(|(a, b)| {
        let pairs = [("a", a), ("b", b)];
        let pairs = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), json!(value?))));
        Value::Object(pairs.collect())
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let expression = (
        select(vec!["a", "b"]),
        0..4_usize,
        select(vec![vec!["1"], vec!["2"], vec!["1", "2"]]),
    );
    let expression = expression.prop_map(|(key, operator, values)| match operator {
        0 => json!({"key": key, "operator": "In", "values": values}),
        1 => json!({"key": key, "operator": "NotIn", "values": values}),
        2 => json!({"key": key, "operator": "Exists"}),
        _ => json!({"key": key, "operator": "DoesNotExist"}),
    });
    prop_oneof![
        2 => Just(json!({})),
        3 => labels().prop_map(|labels| json!({"matchLabels": labels})),
        2 => (labels(), expression).prop_map(|(labels, expression)| json!({"matchLabels": labels, "matchExpressions": [expression]})),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    let blocks = vec![
        json!({"cidr": "10.244.0.0/16"}),
        json!({"cidr": "0.0.0.0/0"}),
        json!({"cidr": "10.244.0.0/29", "except": ["10.244.0.2/32"]}),
        json!({"cidr": "10.244.0.0/24", "except": ["10.244.0.4/30", "10.244.0.1/32"]}),
        json!({"cidr": "10.244.0.1/32"}),
        json!({"cidr": "fd00::/8"}),
    ];
    prop_oneof![
        3 => selector().prop_map(|pods| json!({"podSelector": pods})),
        3 => selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        3 => (selector(), selector()).prop_map(|(n, p)| json!({"namespaceSelector": n, "podSelector": p})),
        2 => select(blocks).prop_map(|block| json!({"ipBlock": block})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"port": 80}),
        json!({"port": 80, "protocol": "UDP"}),
        json!({"port": 53, "protocol": "UDP"}),
        json!({"port": 53}),
        json!({"port": "http"}),
        json!({"port": "http", "protocol": "UDP"}),
        json!({"port": "web"}),
        json!({"port": "dns", "protocol": "UDP"}),
        json!({"port": "nobody"}),
        json!({"protocol": "TCP"}),
        json!({"protocol": "SCTP"}),
        json!({"port": 79, "endPort": 81}),
        json!({"port": 81, "endPort": 65535, "protocol": "TCP"}),
        json!({"port": 1, "endPort": 79, "protocol": "UDP"}),
    ])
}

/// Missing, empty, or some.
fn list(of: BoxedStrategy<Value>) -> impl Strategy<Value = Option<Vec<Value>>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(Vec::new())),
        4 => prop::collection::vec(of, 1..3).prop_map(Some),
    ]
}

fn rules(peers: &'static str) -> impl Strategy<Value = Option<Vec<Value>>> {
    let rule = (list(peer().boxed()), list(port().boxed())).prop_map(move |(who, ports)| {
        let fields = [(peers, who), ("ports", ports)];
        let fields = fields
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), json!(value?))));
        Value::Object(fields.collect())
    });
    list(rule.boxed())
}

fn policy() -> impl Strategy<Value = Value> {
    let types = select(vec![
        None,
        Some(json!([])),
        Some(json!(["Ingress"])),
        Some(json!(["Egress"])),
        Some(json!(["Ingress", "Egress"])),
    ]);
    (
        select(NAMESPACES.to_vec()),
        selector(),
        types,
        rules("from"),
        rules("to"),
    )
        .prop_map(|(namespace, pods, types, ingress, egress)| {
            let mut spec = json!({"podSelector": pods});
            for (key, value) in [
                ("policyTypes", types),
                ("ingress", ingress.map(Value::from)),
                ("egress", egress.map(Value::from)),
            ] {
                if let Some(value) = value {
                    spec[key] = value;
                }
            }
            json!({"metadata": {"namespace": namespace}, "spec": spec})
        })
}

fn pod() -> impl Strategy<Value = Value> {
    let ports = prop::collection::vec(
        select(vec![
            json!({"name": "http", "containerPort": 80}),
            json!({"name": "http", "containerPort": 81}),
            json!({"name": "http", "containerPort": 80, "protocol": "UDP"}),
            json!({"name": "web", "containerPort": 81, "protocol": "TCP"}),
            json!({"containerPort": 82}),
        ]),
        0..3,
    );
    (select(NAMESPACES.to_vec()), labels(), ports).prop_map(|(namespace, labels, ports)| {
        json!({"metadata": {"namespace": namespace, "labels": labels},
            "spec": {"containers": [{"name": "c", "ports": ports}]}, "status": {"phase": "Running"}})
    })
}

fn objects() -> impl Strategy<Value = Objects> {
    let namespaces = prop::collection::vec(labels(), NAMESPACES.len() + 1);
    let pods = prop::collection::vec(pod(), 2..7);
    let policies = prop::collection::vec(policy(), 0..5);
    (namespaces, pods, policies).prop_map(|(namespaces, mut pods, mut policies)| {
        for (number, pod) in pods.iter_mut().enumerate() {
            pod["metadata"]["name"] = json!(format!("pod-{number}"));
            pod["status"]["podIP"] = json!(format!("10.244.0.{}", number + 2));
        }
        for (number, policy) in policies.iter_mut().enumerate() {
            policy["metadata"]["name"] = json!(format!("policy-{number}"));
        }
        let named = NAMESPACES.into_iter().chain(["kube-system"]).zip(namespaces);
        let namespaces = named.map(|(name, labels)| json!({"metadata": {"name": name, "labels": labels}}));
        let read = |value: Value| serde_json::from_value::<Namespace>(value).unwrap();
        Objects {
            namespaces: namespaces.map(read).collect(),
            pods: pods
                .into_iter()
                .map(|pod| serde_json::from_value(pod).unwrap())
                .collect(),
            policies: policies
                .into_iter()
                .map(|policy| serde_json::from_value::<NetworkPolicy>(policy).unwrap())
                .collect(),
        }
    })
}

/// Every connection that could be, by both.
fn agree(objects: &Objects) -> Result<(), TestCaseError> {
    let rules = compile(&world(objects));
    let dns = dns();
    let mut ends: Vec<End<'_>> = objects.pods.iter().map(End::Pod).collect();
    ends.push(End::Node(NODE));
    for &from in &ends {
        for &to in &ends {
            for protocol in ["TCP", "UDP", "SCTP"] {
                for port in [0, 53, 79, 80, 81, 82, 65535] {
                    // the ports of cluster DNS are cluster DNS, the others are the node
                    let served = matches!((protocol, port), ("TCP", 53 | 80) | ("UDP", 53));
                    let to = match to {
                        End::Node(_) if served => End::OnNode(&dns),
                        other => other,
                    };
                    let expected = objects.allows(from, to, protocol, port);
                    let found = compiled(&rules, from, to, protocol, port);
                    prop_assert_eq!(
                        found,
                        expected,
                        "{:?} to {:?} {} {}\n{:#?}",
                        from,
                        to,
                        protocol,
                        port,
                        rules
                    );
                }
            }
        }
    }
    Ok(())
}

/// A packet between any two pods of either, at ports that policies tell apart.
fn packets(before: &Objects, after: &Objects) -> Vec<Packet> {
    let pods = before.pods.iter().chain(&after.pods).filter_map(pod_facts);
    let addresses: std::collections::BTreeSet<Ipv4Addr> = pods.map(|(address, _)| address).collect();
    let mut packets = Vec::new();
    for &source in &addresses {
        for &destination in addresses.iter().filter(|one| **one != source) {
            packets.extend(
                [(Protocol::Tcp, 80), (Protocol::Tcp, 81), (Protocol::Udp, 80)].map(|(protocol, port)| Packet {
                    source,
                    destination,
                    protocol,
                    port,
                    reply: false,
                }),
            );
        }
    }
    packets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rules_are_the_specification(objects in objects()) {
        agree(&objects)?;
    }

    /// Wherever an update stops or is looked at between two transactions, each pod's traffic in each direction is judged by
    /// the rules before or by those after, and never by neither.
    #[test]
    fn an_update_is_safe_at_every_step(before in objects(), after in objects(), policies_change: bool) {
        let mut after = after;
        if policies_change {
            after.pods = before.pods.clone();
        } else {
            // pods that come and go: a third of them stays, and the others' addresses belong to nobody on the other side
            after.policies = before.policies.clone();
            for (number, pod) in after.pods.iter_mut().enumerate() {
                match before.pods.get(number) {
                    Some(same) if number % 3 == 0 => *pod = same.clone(),
                    _ => pod.status.as_mut().unwrap().pod_ip = Some(format!("10.244.0.{}", number + 100)),
                }
            }
        }
        after.namespaces = before.namespaces.clone();
        let (old, new) = (compile(&world(&before)), compile(&world(&after)));
        let mut now = old.clone();
        for operation in plan(&old, &new).into_iter().flatten() {
            made(&mut now, operation);
            for packet in packets(&before, &after) {
                for judge in [sends, gets] {
                    let said = judge(&now, packet);
                    prop_assert!(said == judge(&old, packet) || said == judge(&new, packet), "{:?}", packet);
                }
            }
        }
        prop_assert_eq!(now, new);
    }
}
