//! What a pod's limits mean on this node, and what they do not. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource,
};

use super::state;
use crate::{
    control_plane::api::validate::quantity::{self, Quantity},
    node::runtime::{Enforces, Resources},
};

/// The annotation that names the limits of a pod that nothing holds it to.
pub const NOT_ENFORCED: &str = "ztlab.dev/limits-not-enforced";

type List = BTreeMap<String, resource::Quantity>;

fn amount(list: Option<&List>, name: &str) -> Option<Quantity> {
    list?.get(name).and_then(|written| quantity::parse(&written.0))
}

fn limits(container: &Container) -> Option<&List> {
    container.resources.as_ref()?.limits.as_ref()
}

fn requests(container: &Container) -> Option<&List> {
    container.resources.as_ref()?.requests.as_ref()
}

fn thousandths(quantity: Quantity) -> u64 {
    quantity.times(1000).value()
}

/// What a container is given of the machine.
pub fn resources(container: &Container) -> Resources {
    let (limits, requests) = (limits(container), requests(container));
    let cpu = amount(limits, "cpu").map(thousandths);
    Resources {
        memory: amount(limits, "memory").map(Quantity::value).filter(|bytes| *bytes > 0),
        cpu: cpu.filter(|limit| *limit > 0),
        cpu_request: amount(requests, "cpu").map(thousandths).or(cpu),
        processes: None,
    }
}

/// What a pod as a whole is given: a limit where every container has one.
///
/// Source: the kubelet's `ResourceConfigForPod`.
pub fn pod_resources(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::default();
    };
    let inits: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|one| (state::sidecar(one), resources(one)))
        .collect();
    let main: Vec<_> = spec.containers.iter().map(resources).collect();
    let together = |of: &dyn Fn(&Resources) -> Option<u64>| {
        // Init containers run one after the other, each beside the sidecars before it.
        let (mut sidecars, mut most) = (0_u64, 0_u64);
        for (sidecar, one) in &inits {
            let own = of(one).unwrap_or(0);
            most = most.max(sidecars.saturating_add(own));
            sidecars = sidecars.saturating_add(if *sidecar { own } else { 0 });
        }
        let sum = main.iter().filter_map(of).fold(sidecars, u64::saturating_add);
        most.max(sum)
    };
    let limit = |of: &dyn Fn(&Resources) -> Option<u64>| {
        let all = inits.iter().map(|(_, one)| one).chain(&main);
        all.into_iter().all(|one| of(one).is_some()).then(|| together(of))
    };
    Resources {
        memory: limit(&|one| one.memory),
        cpu: limit(&|one| one.cpu),
        cpu_request: Some(together(&|one| one.cpu_request)),
        processes: None,
    }
}

/// How readily the kernel ends a container's processes when the machine's memory is used up: before the node's, in the order
/// that Kubernetes has, on a machine with this `memory`, bytes. An ordinary user may only raise it, so that "never" is not among them.
///
/// Source: Kubernetes' "Node-pressure Eviction", node out of memory behavior.
pub fn oom_score(pod: &Pod, container: &Container, memory: u64) -> i32 {
    let class = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    match class {
        Some("Guaranteed") => 2,
        Some("Burstable") => {
            let asked = amount(requests(container), "memory").map(Quantity::value);
            let all = memory.max(1);
            let share = asked.unwrap_or(0).saturating_mul(1000) / all;
            i32::try_from(1000_u64.saturating_sub(share))
                .unwrap_or(999)
                .clamp(3, 999)
        }
        _ => 1000,
    }
}

/// The limits of a pod that this node does not hold it to, for [`NOT_ENFORCED`]; `None` where it has no such limit.
pub fn not_enforced(pod: &Pod, enforces: Enforces) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let held = |name: &str| match name {
        "memory" => enforces.memory,
        "cpu" => enforces.cpu,
        // Who goes beyond it is evicted.
        "ephemeral-storage" => true,
        _ => false,
    };
    let names: BTreeSet<&str> = containers
        .filter_map(limits)
        .flat_map(|limits| limits.keys().map(String::as_str))
        .filter(|name| !held(name))
        .collect();
    (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(class: &str, resources: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "status": {"qosClass": class},
            "spec": {"containers": [{"name": "c", "resources": resources}]}}))
        .unwrap()
    }

    #[test]
    fn who_ends_first() {
        let score = |class: &str, resources| {
            let pod = pod(class, resources);
            let container = pod.spec.as_ref().unwrap().containers[0].clone();
            oom_score(&pod, &container, 8 << 30)
        };
        assert_eq!(score("BestEffort", json!({})), 1000);
        assert_eq!(score("Burstable", json!({"requests": {"memory": "1"}})), 999);
        assert_eq!(score("Burstable", json!({"requests": {"memory": "8Ei"}})), 3);
        assert_eq!(score("Guaranteed", json!({})), 2);
    }

    #[test]
    fn limits_are_named_unless_they_hold() {
        let limits =
            json!({"limits": {"memory": "64Mi", "cpu": "1", "ephemeral-storage": "1Gi"}, "requests": {"storage": "1"}});
        let limited = pod("", limits);
        for (memory, cpu, expected) in [
            (false, false, Some("cpu,memory")),
            (true, false, Some("cpu")),
            (true, true, None),
        ] {
            let named = not_enforced(&limited, Enforces { memory, cpu });
            assert_eq!(named.as_deref(), expected);
        }
        let requests = pod("", json!({"requests": {"cpu": "1"}}));
        assert_eq!(not_enforced(&requests, Enforces::default()), None);
    }

    #[test]
    fn a_pod_is_given_what_its_containers_are() {
        let of = |resources| super::resources(&pod("", resources).spec.unwrap().containers[0]);
        let given = |memory, cpu, cpu_request| Resources {
            memory,
            cpu,
            cpu_request,
            processes: None,
        };
        assert_eq!(
            of(json!({"limits": {"memory": "64Mi", "cpu": "1500m"}, "requests": {"cpu": "250m"}})),
            given(Some(64 << 20), Some(1500), Some(250))
        );
        assert_eq!(
            of(json!({"limits": {"memory": "0", "cpu": "0.0001"}})),
            given(None, Some(1), Some(1))
        );
        assert_eq!(of(json!({})), given(None, None, None));

        let container = |memory: &str, cpu: &str, more: serde_json::Value| {
            let mut one = json!({"name": "c", "resources": {"limits": {"memory": memory, "cpu": cpu}}});
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            one
        };
        let sidecar = json!({"restartPolicy": "Always"});
        for (inits, containers, expected) in [
            (
                json!([]),
                json!([container("1", "1", json!({})), container("2", "2", json!({}))]),
                given(Some(3), Some(3000), Some(3000)),
            ),
            (
                json!([container("9", "1", json!({})), container("4", "1", sidecar.clone())]),
                json!([container("1", "1", json!({}))]),
                given(Some(9), Some(2000), Some(2000)),
            ),
            (
                json!([container("4", "1", sidecar), container("9", "1", json!({}))]),
                json!([container("1", "1", json!({}))]),
                given(Some(13), Some(2000), Some(2000)),
            ),
            (
                json!([]),
                json!([container("1", "1", json!({})), {"name": "free"}]),
                given(None, None, Some(1000)),
            ),
        ] {
            let spec = json!({"initContainers": inits, "containers": containers});
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            assert_eq!(pod_resources(&pod), expected, "{spec}");
        }
    }
}
