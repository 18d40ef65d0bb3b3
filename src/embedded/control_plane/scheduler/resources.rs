//! What pods ask of a node, and whether it has that: pure.
//!
//! Source: Kubernetes' "Resource Management for Pods and Containers", KEP-753 (what sidecars ask for), the plugins
//! `NodeResourcesFit` and `NodePorts`.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, Node, Pod},
    apimachinery::pkg::api::resource::Quantity,
};

use super::decide::Obstacle;
use crate::control_plane::api::validate::quantity;

/// Amounts by resource, in billionths.
type Amounts = BTreeMap<String, i128>;

fn amounts(from: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let read = |(name, amount): (&String, &Quantity)| Some((name.clone(), quantity::parse(&amount.0)?.nanos()));
    from.into_iter().flatten().filter_map(read).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let held = to.entry(name.clone()).or_default();
        *held = held.saturating_add(*amount);
    }
}

fn at_least(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let held = to.entry(name.clone()).or_default();
        *held = (*held).max(*amount);
    }
}

fn of(container: &Container) -> Amounts {
    amounts(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    )
}

/// What a pod asks for: its containers and sidecars together, or what one of its init containers needs beside the sidecars
/// before it, whichever is more.
fn requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else {
        return Amounts::new();
    };
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut step = sidecars.clone();
        add(&mut step, &of(container));
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.clone_from(&step);
        }
        at_least(&mut starting, &step);
    }
    let mut all = sidecars;
    spec.containers
        .iter()
        .for_each(|container| add(&mut all, &of(container)));
    at_least(&mut all, &starting);
    // What is asked for the whole pod stands above what its containers ask for.
    all.extend(amounts(
        spec.resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    ));
    add(&mut all, &amounts(spec.overhead.as_ref()));
    all.retain(|_, amount| *amount > 0);
    all
}

/// What a node lacks for a pod beside those that are there.
pub fn obstacles(pod: &Pod, node: &Node, there: &[&Arc<Pod>]) -> Vec<Obstacle> {
    let status = node.status.as_ref();
    let allocatable = amounts(status.and_then(|status| status.allocatable.as_ref()));
    let mut lacking = Vec::new();
    let one = i128::try_from(there.len()).unwrap_or(i128::MAX).saturating_add(1);
    if allocatable
        .get("pods")
        .is_some_and(|pods| one.saturating_mul(BILLION) > *pods)
    {
        lacking.push(Obstacle::passing("Too many pods"));
    }
    let wanted = requests(pod);
    if wanted.is_empty() {
        return lacking;
    }
    let mut used = Amounts::new();
    there.iter().for_each(|pod| add(&mut used, &requests(pod)));
    for (name, amount) in wanted {
        // This node measures no disk of pods; what confines them is said elsewhere.
        let all = match allocatable.get(&name) {
            None if name == "ephemeral-storage" => continue,
            all => all.copied().unwrap_or(0),
        };
        if amount.saturating_add(used.get(&name).copied().unwrap_or(0)) > all {
            let text = format!("Insufficient {name}");
            lacking.push(if amount > all {
                Obstacle::lasting(text)
            } else {
                Obstacle::passing(text)
            });
        }
    }
    lacking
}

const BILLION: i128 = 1_000_000_000;

/// The ports of the node that a pod takes: address, protocol, number.
fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let spec = pod.spec.as_ref();
    let containers = spec
        .into_iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let address = port
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".to_owned());
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((address, protocol, port.host_port.filter(|port| *port > 0)?))
        })
        .collect()
}

/// Whether a port of the node that the pod asks for is taken.
pub fn ports_taken(pod: &Pod, there: &[&Arc<Pod>]) -> bool {
    let wanted = host_ports(pod);
    if wanted.is_empty() {
        return false;
    }
    let everywhere = |address: &str| address == "0.0.0.0" || address == "::";
    there
        .iter()
        .flat_map(|pod| host_ports(pod))
        .any(|(address, protocol, port)| {
            wanted.iter().any(|(own, kind, number)| {
                *kind == protocol && *number == port && (*own == address || everywhere(own) || everywhere(&address))
            })
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let mut all = json!({"spec": {"containers": []}});
        json_patch::merge(&mut all, &json!({"spec": spec}));
        serde_json::from_value(all).unwrap()
    }

    fn asks(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn cpu(spec: Value) -> i128 {
        requests(&pod(spec)).get("cpu").copied().unwrap_or(0) / 1_000_000
    }

    #[test]
    fn what_a_pod_asks_for() {
        let sidecar =
            |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        for (spec, millis) in [
            (json!({"containers": [asks("100m"), asks("0.2")]}), 300),
            (
                json!({"containers": [asks("100m")], "initContainers": [asks("1"), asks("500m")]}),
                1000,
            ),
            (
                json!({"containers": [asks("100m")], "initContainers": [sidecar("50m")]}),
                150,
            ),
            (
                json!({"containers": [asks("100m")], "initContainers": [sidecar("50m"), asks("1")]}),
                1050,
            ),
            (
                json!({"containers": [asks("100m")], "initContainers": [asks("1"), sidecar("50m")]}),
                1000,
            ),
            (json!({"containers": [asks("100m")], "overhead": {"cpu": "10m"}}), 110),
            (
                json!({"containers": [asks("100m")], "resources": {"requests": {"cpu": "1"}}}),
                1000,
            ),
            (json!({"containers": [asks("0")]}), 0),
        ] {
            assert_eq!(cpu(spec.clone()), millis, "{spec}");
        }
    }

    #[test]
    fn what_a_node_lacks() {
        let node: Node =
            serde_json::from_value(json!({"status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "2"}}}))
                .unwrap();
        let there = [Arc::new(pod(json!({"containers": [asks("1500m")]})))];
        let there: Vec<_> = there.iter().collect();
        let said = |spec: Value, there: &[&Arc<Pod>]| -> Vec<(String, bool)> {
            let all = obstacles(&pod(spec), &node, there);
            all.into_iter().map(|one| (one.reason, one.passing)).collect()
        };
        let container = |requests: Value| json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
        assert_eq!(said(container(json!({"cpu": "500m"})), &there), []);
        assert_eq!(
            said(container(json!({"cpu": "501m"})), &there),
            [("Insufficient cpu".to_owned(), true)]
        );
        assert_eq!(
            said(container(json!({"cpu": "3", "memory": "2Gi"})), &[]),
            [
                ("Insufficient cpu".to_owned(), false),
                ("Insufficient memory".to_owned(), false)
            ]
        );
        assert_eq!(
            said(
                container(json!({"example.com/gpu": "1", "ephemeral-storage": "1Gi"})),
                &[]
            ),
            [("Insufficient example.com/gpu".to_owned(), false)]
        );
        assert_eq!(
            said(json!({}), &[there[0], there[0]]),
            [("Too many pods".to_owned(), true)]
        );
    }

    #[test]
    fn a_port_of_the_node_is_taken_once() {
        let with = |ports: Value| pod(json!({"containers": [{"name": "c", "ports": ports}]}));
        let there = [Arc::new(with(
            json!([{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}]),
        ))];
        let there: Vec<_> = there.iter().collect();
        for (port, taken) in [
            (json!([{"containerPort": 80}]), false),
            (json!([{"containerPort": 80, "hostPort": 80}]), true),
            (
                json!([{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}]),
                true,
            ),
            (
                json!([{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.2"}]),
                false,
            ),
            (json!([{"containerPort": 80, "hostPort": 80, "protocol": "UDP"}]), false),
            (json!([{"containerPort": 80, "hostPort": 81}]), false),
        ] {
            assert_eq!(ports_taken(&with(port.clone()), &there), taken, "{port}");
        }
    }
}
