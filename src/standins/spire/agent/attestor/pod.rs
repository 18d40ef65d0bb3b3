//! The `k8s` selectors of a container. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use crate::store::Selector;

/// What the container `container` of `pod` shows; without a name, what its pod does.
pub fn selectors(pod: &Pod, container: &str) -> BTreeSet<Selector> {
    let mut values: Vec<String> = Vec::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            values.push(format!("{key}:{value}"));
        }
    };
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    add("ns", &text(&meta.namespace));
    add("sa", &text(&spec.service_account_name));
    add("node-name", &text(&spec.node_name));
    add("pod-uid", &text(&meta.uid));
    add("pod-name", &text(&meta.name));
    for (key, value) in meta.labels.iter().flatten() {
        // A label may be empty, and counts as one that is.
        add("pod-label", &format!("{key}:{value}"));
    }
    for owner in meta.owner_references.iter().flatten() {
        add("pod-owner", &format!("{}:{}", owner.kind, owner.name));
        add("pod-owner-uid", &format!("{}:{}", owner.kind, owner.uid));
    }
    let status = pod.status.clone().unwrap_or_default();
    let running = status.container_statuses.unwrap_or_default();
    let initial = status.init_container_statuses.unwrap_or_default();
    let init_containers = spec.init_containers.unwrap_or_default();
    add("pod-image-count", &spec.containers.len().to_string());
    for one in &spec.containers {
        for image in images(one, &running) {
            add("pod-image", &image);
        }
    }
    add("pod-init-image-count", &init_containers.len().to_string());
    for one in &init_containers {
        for image in images(one, &initial) {
            add("pod-init-image", &image);
        }
    }
    let own = spec
        .containers
        .iter()
        .map(|one| (one, &running))
        .chain(init_containers.iter().map(|one| (one, &initial)))
        .find(|(one, _)| one.name == container);
    if let Some((own, statuses)) = own {
        add("container-name", &own.name);
        for image in images(own, statuses) {
            add("container-image", &image);
        }
    }
    values.into_iter().map(|value| Selector::new("k8s", value)).collect()
}

/// The image as the pod names it, and as its status does: by tag and by digest, once it runs.
fn images(container: &Container, statuses: &[ContainerStatus]) -> BTreeSet<String> {
    let status = statuses.iter().find(|status| status.name == container.name);
    container
        .image
        .iter()
        .chain(status.map(|status| &status.image))
        .chain(status.map(|status| &status.image_id))
        .filter(|image| !image.is_empty())
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "orders-1", "namespace": "shop", "uid": "u1",
                "labels": {"app": "orders", "empty": ""},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders", "uid": "o1"}]
            },
            "spec": {
                "serviceAccountName": "orders", "nodeName": "node-1",
                "initContainers": [{"name": "init", "image": "init:1"}],
                "containers": [{"name": "main", "image": "orders:1"}, {"name": "side", "image": "envoy:1"}]
            },
            "status": {"containerStatuses": [
                {"name": "main", "image": "docker.io/orders:1", "imageID": "sha256:abc", "ready": true, "restartCount": 0}
            ]}
        }))
        .unwrap()
    }

    fn shown(container: &str) -> Vec<String> {
        selectors(&pod(), container).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_container_shows_its_pod_and_itself() {
        let shown = shown("main");
        for selector in [
            "k8s:ns:shop",
            "k8s:sa:orders",
            "k8s:node-name:node-1",
            "k8s:pod-uid:u1",
            "k8s:pod-name:orders-1",
            "k8s:pod-label:app:orders",
            "k8s:pod-label:empty:",
            "k8s:pod-owner:ReplicaSet:orders",
            "k8s:pod-owner-uid:ReplicaSet:o1",
            "k8s:pod-image-count:2",
            "k8s:pod-image:envoy:1",
            "k8s:pod-init-image:init:1",
            "k8s:container-name:main",
            "k8s:container-image:orders:1",
            "k8s:container-image:sha256:abc",
        ] {
            assert!(shown.iter().any(|one| one == selector), "{selector} in {shown:?}");
        }
        assert!(
            !shown.iter().any(|one| one.contains("container-image:envoy")),
            "{shown:?}"
        );
    }

    #[test]
    fn a_container_that_is_not_named_shows_its_pod_only() {
        let shown = shown("");
        assert!(shown.iter().any(|one| one == "k8s:ns:shop"));
        assert!(!shown.iter().any(|one| one.starts_with("k8s:container-")), "{shown:?}");
        assert!(
            super::selectors(&Pod::default(), "x")
                .iter()
                .all(|one| one.value.contains("count"))
        );
    }
}
