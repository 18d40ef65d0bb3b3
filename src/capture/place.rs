//! What a pod says of the place that an observer in it has.

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use crate::packet::CapturePoint;

/// Names of the containers that service meshes put beside a program: Istio, Linkerd, Consul, Kuma, and Envoy by itself.
const PROXIES: [&str; 5] = [
    "istio-proxy",
    "linkerd-proxy",
    "consul-dataplane",
    "kuma-sidecar",
    "envoy",
];
/// A pod's annotation that names the container which is its proxy.
const ANNOTATION: &str = "ztlab.dev/proxy";

/// Where an observer in this pod stands, whatever the interface.
pub(super) fn of(pod: &Pod) -> CapturePoint {
    let spec = pod.spec.as_ref();
    CapturePoint {
        node_network: spec.is_some_and(|spec| spec.host_network == Some(true)),
        proxy: proxy(pod),
        ..CapturePoint::pod(pod.namespace().unwrap_or_default(), pod.name_any())
    }
}

/// The container that is a proxy for another of the same pod: the one that an annotation names, or one of a known name; also
/// a sidecar, which is an init container that goes on (Kubernetes' documentation "Sidecar Containers").
fn proxy(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let sidecar = |one: &&Container| one.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let names: Vec<&str> = spec
        .containers
        .iter()
        .chain(sidecars)
        .map(|one| one.name.as_str())
        .collect();
    let annotated = pod.annotations().get(ANNOTATION).map(String::as_str);
    let known = |name: &&str| annotated.map_or_else(|| PROXIES.contains(name), |proxy| *name == proxy);
    let proxy = names.iter().copied().find(known)?;
    (names.len() > 1).then(|| proxy.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pods_proxy_is_known_by_its_name_or_by_what_the_pod_says() {
        let container = |name: &str| json!({ "name": name });
        let sidecar = |name: &str| json!({ "name": name, "restartPolicy": "Always" });
        for (containers, init, annotation, proxy) in [
            (vec![container("api")], vec![], None, None),
            (
                vec![container("api"), container("istio-proxy")],
                vec![],
                None,
                Some("istio-proxy"),
            ),
            (
                vec![container("api")],
                vec![sidecar("linkerd-proxy")],
                None,
                Some("linkerd-proxy"),
            ),
            // One that ends before the program begins is none, and neither is a gateway.
            (vec![container("api")], vec![container("envoy")], None, None),
            (vec![container("envoy")], vec![], None, None),
            (
                vec![container("api"), container("tls")],
                vec![],
                Some("tls"),
                Some("tls"),
            ),
            (vec![container("api"), container("envoy")], vec![], Some("gone"), None),
        ] {
            let annotations = annotation.map(|name| json!({ ANNOTATION: name }));
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "name": "api-1", "namespace": "shop", "annotations": annotations },
                "spec": { "containers": containers, "initContainers": init },
            }))
            .unwrap();
            assert_eq!(of(&pod).proxy.as_deref(), proxy);
        }
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "a", "namespace": "n" },
            "spec": { "hostNetwork": true, "containers": [] },
        }))
        .unwrap();
        assert!(of(&pod).node_network);
    }
}
