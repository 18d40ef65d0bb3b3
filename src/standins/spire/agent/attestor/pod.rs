//! The `k8s` selectors of a container. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

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
    for (key, statuses) in [("pod-image", &running), ("pod-init-image", &initial)] {
        add(&format!("{key}-count"), &statuses.len().to_string());
        for image in images(statuses) {
            add(key, &image);
        }
    }
    let own = running.iter().chain(&initial).find(|one| is_started(one, container));
    if let Some(own) = own {
        add("container-name", &own.name);
        for image in images([own]) {
            add("container-image", &image);
        }
    }
    values.into_iter().map(|value| Selector::new("k8s", value)).collect()
}

/// Whether the pod's status does not tell yet of the container `container` of its specification.
pub fn is_behind(pod: &Pod, container: &str) -> bool {
    let spec = pod.spec.iter();
    let mut specified = spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let status = pod.status.iter();
    let mut known = status.flat_map(|status| {
        let running = status.container_statuses.iter().flatten();
        running.chain(status.init_container_statuses.iter().flatten())
    });
    specified.any(|one| one.name == container) && !known.any(|one| is_started(one, container))
}

fn is_started(status: &ContainerStatus, container: &str) -> bool {
    status.name == container && status.container_id.as_ref().is_some_and(|id| !id.is_empty())
}

/// The images as SPIRE takes them, from the statuses only: by tag and by digest, and not as the pod's author wrote them.
fn images<'a>(statuses: impl IntoIterator<Item = &'a ContainerStatus>) -> BTreeSet<String> {
    let named = statuses
        .into_iter()
        .flat_map(|status| [&status.image, &status.image_id]);
    named.filter(|image| !image.is_empty()).cloned().collect()
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
            "status": {
                "containerStatuses": [
                    {"name": "main", "image": "docker.io/orders:1", "imageID": "sha256:abc", "containerID": "r://1",
                        "ready": true, "restartCount": 0},
                    {"name": "side", "image": "docker.io/envoy:1", "imageID": "", "ready": false, "restartCount": 0}],
                "initContainerStatuses": [
                    {"name": "init", "image": "docker.io/init:1", "imageID": "", "containerID": "r://2", "ready": true, "restartCount": 0}]
            }
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
            "k8s:pod-image:docker.io/envoy:1",
            "k8s:pod-image:docker.io/orders:1",
            "k8s:pod-init-image-count:1",
            "k8s:pod-init-image:docker.io/init:1",
            "k8s:container-name:main",
            "k8s:container-image:docker.io/orders:1",
            "k8s:container-image:sha256:abc",
        ] {
            assert!(shown.iter().any(|one| one == selector), "{selector} in {shown:?}");
        }
        for selector in [
            "k8s:container-image:docker.io/envoy:1",
            "k8s:container-image:orders:1",
            "k8s:pod-image:envoy:1",
        ] {
            assert!(!shown.iter().any(|one| one == selector), "{selector} in {shown:?}");
        }
    }

    #[test]
    fn images_and_containers_are_those_of_the_status() {
        let side = shown("side");
        assert!(
            !side.iter().any(|one| one.starts_with("k8s:container-")),
            "it has not started: {side:?}"
        );
        assert!(is_behind(&pod(), "side"));
        for known in ["main", "init", "not of this pod", ""] {
            assert!(!is_behind(&pod(), known), "{known}");
        }
        let mut new = pod();
        new.status = None;
        let shown: Vec<String> = selectors(&new, "main").iter().map(ToString::to_string).collect();
        assert!(shown.contains(&"k8s:pod-image-count:0".to_owned()), "{shown:?}");
        assert!(!shown.iter().any(|one| one.contains("orders:1")), "{shown:?}");
        assert!(is_behind(&new, "main") && is_behind(&new, "init"));
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
