//! What a pod's limits mean on this node, and what they do not. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::node;
use crate::embedded::control_plane::api::validate::quantity;

/// The annotation that names the limits of a pod that nothing holds it to.
pub const NOT_ENFORCED: &str = "ztlab.dev/limits-not-enforced";

fn amount(
    list: Option<&std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
) -> Option<u64> {
    let written = list?.get("memory")?;
    quantity::parse(&written.0).map(quantity::Quantity::value)
}

/// A container's `limits.memory`, bytes.
pub fn memory(container: &Container) -> Option<u64> {
    amount(container.resources.as_ref()?.limits.as_ref()).filter(|bytes| *bytes > 0)
}

/// How readily the kernel ends a container's processes when the machine's memory is used up: before the node's, in the order
/// that Kubernetes has. An ordinary user may only raise it, so that "never" is not among them.
///
/// Source: Kubernetes' "Node-pressure Eviction", node out of memory behavior.
pub fn oom_score(pod: &Pod, container: &Container) -> i32 {
    let class = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    match class {
        Some("Guaranteed") => 2,
        Some("Burstable") => {
            let asked = amount(
                container
                    .resources
                    .as_ref()
                    .and_then(|resources| resources.requests.as_ref()),
            );
            let all = node::memory_kib().saturating_mul(1024).max(1);
            let share = asked.unwrap_or(0).saturating_mul(1000) / all;
            i32::try_from(1000_u64.saturating_sub(share))
                .unwrap_or(999)
                .clamp(3, 999)
        }
        _ => 1000,
    }
}

/// The limits of a pod that this node does not hold it to, for [`NOT_ENFORCED`]; `None` where it has no such limit.
pub fn not_enforced(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let names: BTreeSet<&str> = containers
        .filter_map(|container| container.resources.as_ref()?.limits.as_ref())
        .flat_map(|limits| limits.keys().map(String::as_str))
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
            oom_score(&pod, &container)
        };
        assert_eq!(score("BestEffort", json!({})), 1000);
        assert_eq!(score("Burstable", json!({"requests": {"memory": "1"}})), 999);
        assert_eq!(score("Burstable", json!({"requests": {"memory": "8Ei"}})), 3);
        assert_eq!(score("Guaranteed", json!({})), 2);
    }

    #[test]
    fn limits_are_named() {
        let limits = json!({"limits": {"memory": "64Mi", "cpu": "1"}, "requests": {"storage": "1"}});
        let limited = pod("", limits);
        assert_eq!(not_enforced(&limited).as_deref(), Some("cpu,memory"));
        assert_eq!(memory(&limited.spec.unwrap().containers[0]), Some(64 << 20));
        assert_eq!(not_enforced(&pod("", json!({"requests": {"cpu": "1"}}))), None);
    }
}
