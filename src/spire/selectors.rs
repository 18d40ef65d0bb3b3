//! The selectors of a pod's container, as SPIRE's `k8s` workload attestor finds them. Pure.
//!
//! Source: SPIRE's `doc/plugin_agent_workloadattestor_k8s.md`. Selectors of signatures (`image-signature`) and of other
//! attestors are not to be known from the API.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::model::Selector;

/// What the container `container` of `pod` shows of its pod and of itself.
pub fn selectors(pod: &Pod, container: &str) -> BTreeSet<Selector> {
    let mut found = BTreeSet::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            found.insert(Selector::new("k8s", format!("{key}:{value}")));
        }
    };
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    add("ns", &text(meta.namespace.as_ref()));
    add("sa", &text(spec.and_then(|spec| spec.service_account_name.as_ref())));
    add("node-name", &text(spec.and_then(|spec| spec.node_name.as_ref())));
    add("pod-uid", &text(meta.uid.as_ref()));
    add("pod-name", &text(meta.name.as_ref()));
    for (key, value) in meta.labels.iter().flatten() {
        add("pod-label", &format!("{key}:{value}"));
    }
    for owner in meta.owner_references.iter().flatten() {
        add("pod-owner", &format!("{}:{}", owner.kind, owner.name));
        add("pod-owner-uid", &format!("{}:{}", owner.kind, owner.uid));
    }
    let status = pod.status.as_ref();
    let groups = [
        (
            "pod-image",
            status.and_then(|status| status.container_statuses.as_deref()),
        ),
        (
            "pod-init-image",
            status.and_then(|status| status.init_container_statuses.as_deref()),
        ),
    ];
    for (key, statuses) in groups {
        let statuses = statuses.unwrap_or_default();
        add(&format!("{key}-count"), &statuses.len().to_string());
        for one in statuses {
            for image in images(one) {
                add(key, image);
            }
            let started = one.container_id.as_ref().is_some_and(|id| !id.is_empty());
            if one.name == container && started {
                add("container-name", &one.name);
                for image in images(one) {
                    add("container-image", image);
                }
            }
        }
    }
    found
}

/// The image as the status has it, by tag and by digest. As the pod's author wrote it, it is no selector.
fn images(status: &ContainerStatus) -> impl Iterator<Item = &str> {
    [status.image.as_str(), status.image_id.as_str()].into_iter()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spire::testing::read;

    fn pod() -> Pod {
        read(json!({
            "metadata": {
                "name": "orders-1", "namespace": "shop", "uid": "u1", "labels": {"app": "orders", "empty": ""},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders", "uid": "o1"}]
            },
            "spec": {
                "serviceAccountName": "orders", "nodeName": "node-1",
                "initContainers": [{"name": "init", "image": "init:1"}],
                "containers": [{"name": "main", "image": "orders:1"}, {"name": "side", "image": "envoy:1"}]
            },
            "status": {"containerStatuses": [
                {"name": "main", "image": "docker.io/orders:1", "imageID": "sha256:abc", "containerID": "r://1",
                    "ready": true, "restartCount": 0}
            ]}
        }))
    }

    #[test]
    fn a_container_shows_its_pod_and_itself() {
        let shown: Vec<String> = selectors(&pod(), "main").iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "k8s:container-image:docker.io/orders:1",
                "k8s:container-image:sha256:abc",
                "k8s:container-name:main",
                "k8s:node-name:node-1",
                "k8s:ns:shop",
                "k8s:pod-image-count:1",
                "k8s:pod-image:docker.io/orders:1",
                "k8s:pod-image:sha256:abc",
                "k8s:pod-init-image-count:0",
                "k8s:pod-label:app:orders",
                "k8s:pod-label:empty:",
                "k8s:pod-name:orders-1",
                "k8s:pod-owner-uid:ReplicaSet:o1",
                "k8s:pod-owner:ReplicaSet:orders",
                "k8s:pod-uid:u1",
                "k8s:sa:orders",
            ]
        );
    }
}
