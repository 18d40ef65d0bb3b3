//! The Services of the cluster itself: where pods find its API and its DNS. Both are served by the node's own process, so their
//! endpoints are the node's address.

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
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
/// The label of Endpoints that the mirroring controller leaves alone: their slices are written here.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// The Services of the cluster itself: namespace and name, which their EndpointSlices and Endpoints share.
const OWN: [(&str, &str); 2] = [("default", "kubernetes"), ("kube-system", "kube-dns")];

/// Writes the Services `kubernetes` and `kube-dns` and their endpoints, all on the node. What is there already is put right where
/// it would lead elsewhere; what somebody added to it stays.
///
/// # Errors
/// What the API server refused.
pub(super) async fn publish(client: &Client, ranges: &Ranges) -> Result<(), kube::Error> {
    let dns = Own {
        namespace: "kube-system",
        name: "kube-dns",
        labels: json!({"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true"}),
        address: ranges.dns(),
        ports: vec![
            ("dns", "UDP", DNS_PORT, DNS_PORT),
            ("dns-tcp", "TCP", DNS_PORT, DNS_PORT),
        ],
    };
    let api = Own {
        namespace: "default",
        name: "kubernetes",
        labels: json!({"component": "apiserver", "provider": "kubernetes"}),
        address: ranges.kubernetes(),
        ports: vec![("https", "TCP", 443, API_PORT)],
    };
    for own in [dns, api] {
        let (namespace, node) = (own.namespace, ranges.node());
        ensure::<Service>(Api::namespaced(client.clone(), namespace), &own.service()).await?;
        ensure::<EndpointSlice>(Api::namespaced(client.clone(), namespace), &own.slice(node)).await?;
        ensure::<Endpoints>(Api::namespaced(client.clone(), namespace), &own.endpoints(node)).await?;
    }
    Ok(())
}

/// A Service of the cluster itself.
struct Own {
    namespace: &'static str,
    name: &'static str,
    labels: Value,
    address: Ipv4Addr,
    /// Name, protocol, the Service's port and the node's.
    ports: Vec<(&'static str, &'static str, u16, u16)>,
}

impl Own {
    fn service(&self) -> Value {
        let ports = self.ports.iter().map(|(name, protocol, port, target)| {
            json!({"name": name, "protocol": protocol, "port": port, "targetPort": target})
        });
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.labels},
            "spec": {"type": "ClusterIP", "clusterIP": self.address, "internalTrafficPolicy": "Cluster",
                "ports": ports.collect::<Vec<_>>()},
        })
    }

    fn node_ports(&self) -> Vec<Value> {
        let port =
            |(name, protocol, _, port): &(_, _, _, u16)| json!({"name": name, "protocol": protocol, "port": port});
        self.ports.iter().map(port).collect()
    }

    fn slice(&self, node: Ipv4Addr) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": self.name, "namespace": self.namespace,
                "labels": {"kubernetes.io/service-name": self.name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [node], "conditions": {"ready": true}}],
            "ports": self.node_ports(),
        })
    }

    fn endpoints(&self, node: Ipv4Addr) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": {SKIP_MIRROR: "true"}},
            "subsets": [{"addresses": [{"ip": node}], "ports": self.node_ports()}],
        })
    }
}

/// Makes an object, or puts it right where it is not what is wanted.
async fn ensure<K>(api: Api<K>, wanted: &Value) -> Result<(), kube::Error>
where
    K: kube::Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let typed = |value: Value| serde_json::from_value::<K>(value).map_err(kube::Error::SerdeError);
    let name = wanted
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some(held) = api.get_opt(name).await? else {
        return there(api.create(&PostParams::default(), &typed(wanted.clone())?).await);
    };
    let mut held = serde_json::to_value(held).map_err(kube::Error::SerdeError)?;
    if put_right(&mut held, wanted) {
        api.replace(name, &PostParams::default(), &typed(held)?).await?;
    }
    Ok(())
}

/// Changes what of `held` is not as wanted; says whether anything was. Pure.
fn put_right(held: &mut Value, wanted: &Value) -> bool {
    // who selects pods leads to them
    let selected = held.get_mut("spec").and_then(Value::as_object_mut).is_some_and(|spec| {
        let selector = spec.remove("selector");
        selector.is_some_and(|selector| selector != json!({}))
    });
    let differs = !is_part(wanted, held);
    if differs {
        overlay(held, wanted);
    }
    differs || selected
}

fn is_part(wanted: &Value, held: &Value) -> bool {
    match (wanted, held) {
        (Value::Object(wanted), Value::Object(held)) => wanted
            .iter()
            .all(|(key, value)| held.get(key).is_some_and(|held| is_part(value, held))),
        (Value::Array(wanted), Value::Array(held)) => {
            wanted.len() == held.len() && wanted.iter().zip(held).all(|(wanted, held)| is_part(wanted, held))
        }
        _ => wanted == held,
    }
}

fn overlay(held: &mut Value, wanted: &Value) {
    match (held, wanted) {
        (Value::Object(held), Value::Object(wanted)) => {
            for (key, value) in wanted {
                overlay(held.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (held, wanted) => *held = wanted.clone(),
    }
}

/// Makes them again when somebody deletes them and puts them right when somebody edits them, as kube-apiserver does with
/// `kubernetes`: without them no pod would find a name or the API.
pub(super) async fn keep(client: Client, ranges: Ranges, informers: Informers, stop: CancellationToken) {
    fn ours<K: kube::Resource>(change: &Change<K>) -> bool {
        let object = change.object();
        let name = object.name_any();
        let namespace = object.namespace().unwrap_or_default();
        OWN.contains(&(namespace.as_str(), name.as_str()))
    }
    let mut services = informers.services.subscribe();
    let mut slices = informers.endpoint_slices.subscribe();
    let mut endpoints = informers.endpoints.subscribe();
    loop {
        let ours = tokio::select! {
            () = stop.cancelled() => return,
            Some(change) = services.recv() => ours(&change),
            Some(change) = slices.recv() => ours(&change),
            Some(change) = endpoints.recv() => ours(&change),
            else => return,
        };
        while ours && let Err(error) = publish(&client, &ranges).await {
            tracing::warn!(%error, "the cluster's own Services could not be put right; it is tried again");
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

fn there<T>(created: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match created {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own {
            namespace: "default",
            name: "kubernetes",
            labels: json!({"component": "apiserver"}),
            address: Ipv4Addr::new(10, 96, 0, 1),
            ports: vec![("https", "TCP", 443, 6443)],
        }
    }

    #[test]
    fn what_leads_elsewhere_is_put_right_and_the_rest_stays() {
        let wanted = own().service();
        let mut held = wanted.clone();
        held["metadata"]["labels"]["mine"] = json!("yes");
        held["metadata"]["resourceVersion"] = json!("7");
        held["spec"]["clusterIPs"] = json!(["10.96.0.1"]);
        let good = held.clone();
        assert!(!put_right(&mut held, &wanted));
        assert_eq!(held, good);
        for (pointer, value) in [
            (
                "/spec/ports",
                json!([{"name": "https", "protocol": "TCP", "port": 444, "targetPort": 6443}]),
            ),
            ("/spec/ports", json!([])),
            ("/spec/type", json!("ExternalName")),
            ("/spec/internalTrafficPolicy", json!("Local")),
            ("/metadata/labels/component", json!("mine")),
        ] {
            let mut held = good.clone();
            *held.pointer_mut(pointer).unwrap() = value;
            assert!(put_right(&mut held, &wanted), "{pointer}");
            assert_eq!(held, good, "{pointer}");
        }
        let mut held = good.clone();
        held["spec"]["selector"] = json!({"app": "mine"});
        assert!(put_right(&mut held, &wanted));
        assert_eq!(held, good);
    }

    #[test]
    fn endpoints_are_the_nodes() {
        let node = Ipv4Addr::new(10, 244, 0, 1);
        for wanted in [own().slice(node), own().endpoints(node)] {
            let mut held = wanted.clone();
            let list = if held.get("endpoints").is_some() {
                "endpoints"
            } else {
                "subsets"
            };
            held[list] = json!([]);
            assert!(put_right(&mut held, &wanted));
            assert_eq!(held, wanted);
            assert!(!put_right(&mut held, &wanted));
        }
    }
}
