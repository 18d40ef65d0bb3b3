//! Whether a pod's claims can be had on a node: pure.
//!
//! Source: Kubernetes' `VolumeBinding` and `VolumeRestrictions` scheduler plugins and their texts.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::ResourceExt;

use crate::control_plane::volume_binding::{COMPLETED, NO_PROVISIONER, SELECTED_NODE, class_of_claim, find, reaches};

/// The claims, volumes and classes of a cluster.
#[derive(Default, Clone)]
pub struct Volumes {
    /// The claims of the pod's namespace.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Every volume.
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// Every class.
    pub classes: Vec<Arc<StorageClass>>,
}

/// What a pod's claims wait for.
#[derive(Debug, Default, PartialEq)]
pub struct Waiting {
    /// Claims that are bound once the pod's node is known.
    pub for_node: Vec<Arc<PersistentVolumeClaim>>,
    /// Claims that are bound.
    bound: Vec<Arc<PersistentVolumeClaim>>,
}

/// The claims of a pod: whether the pod made them for itself, and their names.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = (bool, String)> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref();
        let own = || {
            volume
                .ephemeral
                .as_ref()
                .map(|_| (true, format!("{}-{}", pod.name_any(), volume.name)))
        };
        claim.map(|claim| (false, claim.claim_name.clone())).or_else(own)
    })
}

impl Volumes {
    /// What holds the pod back wherever it goes, or what its claims wait for.
    ///
    /// # Errors
    /// The reason, in the scheduler's words.
    pub fn waiting(&self, pod: &Pod) -> Result<Waiting, String> {
        let mut waiting = Waiting::default();
        for (own, name) in claims_of(pod) {
            let claim = self
                .claims
                .iter()
                .find(|claim| claim.metadata.name.as_deref() == Some(&name));
            let Some(claim) = claim else {
                return Err(if own {
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\"")
                } else {
                    format!("persistentvolumeclaim \"{name}\" not found")
                });
            };
            let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
            let volume = claim
                .spec
                .as_ref()
                .and_then(|spec| spec.volume_name.as_deref())
                .unwrap_or_default();
            if phase == Some("Lost") {
                return Err(format!(
                    "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
                ));
            }
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            if phase == Some("Bound") && claim.annotations().contains_key(COMPLETED) {
                waiting.bound.push(claim.clone());
            } else if volume.is_empty() && self.waits(claim) {
                waiting.for_node.push(claim.clone());
            } else {
                return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
            }
        }
        Ok(waiting)
    }

    fn class(&self, claim: &PersistentVolumeClaim) -> Option<&Arc<StorageClass>> {
        let name = class_of_claim(claim);
        self.classes
            .iter()
            .find(|class| class.metadata.name.as_deref() == Some(name))
    }

    fn waits(&self, claim: &PersistentVolumeClaim) -> bool {
        let mode = self.class(claim).and_then(|class| class.volume_binding_mode.as_deref());
        mode == Some("WaitForFirstConsumer")
    }

    /// Why the claims cannot be had on a node, in the scheduler's words.
    pub fn obstacle(&self, waiting: &Waiting, node: &Node) -> Option<&'static str> {
        for claim in &waiting.bound {
            let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref());
            match self.volumes.iter().find(|volume| volume.metadata.name.as_ref() == name) {
                None => return Some("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
                Some(volume) if !reaches(volume, node) => return Some("node(s) had volume node affinity conflict"),
                Some(_) => {}
            }
        }
        let unmade = |claim: &&Arc<PersistentVolumeClaim>| {
            let made = self
                .class(claim)
                .is_some_and(|class| class.provisioner != NO_PROVISIONER);
            !made && find(claim, &self.volumes, true, Some(node)).is_none()
        };
        let none = waiting.for_node.iter().any(|claim| unmade(&claim));
        none.then_some("node(s) didn't find available persistent volumes to bind")
    }
}

/// The claims that do not know of the node yet.
pub fn untold<'a>(waiting: &'a Waiting, node: &str) -> Vec<&'a Arc<PersistentVolumeClaim>> {
    let told = |claim: &PersistentVolumeClaim| claim.annotations().get(SELECTED_NODE).is_some_and(|held| held == node);
    waiting.for_node.iter().filter(|claim| !told(claim)).collect()
}

/// Whether another pod has a claim that only one may have.
pub fn is_taken<'a>(
    pod: &Pod,
    pods: impl Iterator<Item = &'a Arc<Pod>> + Clone,
    claims: &[Arc<PersistentVolumeClaim>],
) -> bool {
    let once = |name: &str| {
        let claim = claims.iter().find(|claim| claim.metadata.name.as_deref() == Some(name));
        let modes = claim.and_then(|claim| claim.spec.as_ref()?.access_modes.as_ref());
        modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod"))
    };
    claims_of(pod).filter(|(_, name)| once(name)).any(|(_, name)| {
        pods.clone().any(|other| {
            other.metadata.namespace == pod.metadata.namespace
                && other.metadata.uid != pod.metadata.uid
                && claims_of(other).any(|(_, held)| held == name)
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volumes(phase: &str, class: &str, more: serde_json::Value) -> Volumes {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "ns", "annotations": {COMPLETED: "yes"}},
            "spec": {"storageClassName": class, "volumeName": "v", "accessModes": ["ReadWriteOncePod"],
                "resources": {"requests": {"storage": "1"}}}, "status": {"phase": phase}});
        json_patch::merge(&mut claim, &more);
        let class = |name: &str, mode: &str, provisioner: &str| {
            let class = json!({"metadata": {"name": name}, "volumeBindingMode": mode, "provisioner": provisioner});
            Arc::new(serde_json::from_value(class).unwrap())
        };
        Volumes {
            claims: vec![Arc::new(serde_json::from_value(claim).unwrap())],
            volumes: vec![Arc::new(
                serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": {"nodeAffinity": {"required":
                    {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}}}))
                .unwrap(),
            )],
            classes: vec![
                class("waits", "WaitForFirstConsumer", "p"),
                class("none", "WaitForFirstConsumer", NO_PROVISIONER),
                class("now", "Immediate", "p"),
            ],
        }
    }

    fn pod(name: &str, claim: &str) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": {"containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}}),
        )
        .unwrap()
    }

    fn said(volumes: &Volumes, claim: &str, node: &str) -> String {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": node}})).unwrap();
        match volumes.waiting(&pod("p", claim)) {
            Err(why) => why,
            Ok(waiting) => match volumes.obstacle(&waiting, &node) {
                Some(why) => why.to_owned(),
                None => format!("{} wait", untold(&waiting, "n").len()),
            },
        }
    }

    #[test]
    fn pods_wait_for_their_claims() {
        let unbound = |more: serde_json::Value| {
            let mut all = json!({"metadata": {"annotations": null}, "spec": {"volumeName": null}});
            json_patch::merge(&mut all, &more);
            all
        };
        for (volumes, claim, node, expected) in [
            (volumes("Bound", "now", json!({})), "c", "n", "0 wait"),
            (
                volumes("Bound", "now", json!({})),
                "other",
                "n",
                "persistentvolumeclaim \"other\" not found",
            ),
            (
                volumes("Bound", "now", json!({})),
                "c",
                "far",
                "node(s) had volume node affinity conflict",
            ),
            (
                volumes("Bound", "now", json!({"spec": {"volumeName": "gone"}})),
                "c",
                "n",
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            ),
            (
                volumes("Lost", "now", json!({})),
                "c",
                "n",
                "persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\"",
            ),
            (
                volumes(
                    "Bound",
                    "now",
                    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                ),
                "c",
                "n",
                "persistentvolumeclaim \"c\" is being deleted",
            ),
            (
                volumes("Pending", "now", unbound(json!({}))),
                "c",
                "n",
                "pod has unbound immediate PersistentVolumeClaims",
            ),
            (
                volumes("Pending", "waits", json!({})),
                "c",
                "n",
                "pod has unbound immediate PersistentVolumeClaims",
            ),
            (volumes("Pending", "waits", unbound(json!({}))), "c", "n", "1 wait"),
            (
                volumes(
                    "Pending",
                    "waits",
                    unbound(json!({"metadata": {"annotations": {SELECTED_NODE: "n"}}})),
                ),
                "c",
                "n",
                "0 wait",
            ),
            (
                volumes("Pending", "none", unbound(json!({}))),
                "c",
                "n",
                "node(s) didn't find available persistent volumes to bind",
            ),
        ] {
            assert_eq!(said(&volumes, claim, node), expected, "{:?}", volumes.claims);
        }
    }

    #[test]
    fn one_pod_at_a_time_where_the_claim_says_so() {
        let all = volumes("Bound", "now", json!({}));
        let others = [Arc::new(pod("other", "c"))];
        assert!(is_taken(&pod("p", "c"), others.iter(), &all.claims));
        assert!(!is_taken(&pod("p", "d"), others.iter(), &all.claims));
        assert!(!is_taken(&pod("other", "c"), others.iter(), &all.claims));
    }
}
