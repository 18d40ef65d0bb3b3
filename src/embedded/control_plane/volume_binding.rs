//! Which PersistentVolume fits a claim: pure, and asked by the volume controller and by the scheduler.
//!
//! Source: Kubernetes' "Persistent Volumes" (binding, selector, class, access modes) and its volume binder.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, VolumeNodeAffinity};
use kube::ResourceExt;

use super::{
    api::validate::quantity::{self, Quantity},
    node_selector,
};

/// On both sides of a binding that a controller made: what a user did not ask for by name.
pub const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim whose binding is complete.
pub const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The node that the scheduler chose for the first pod of a claim.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner that says that there is none.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The class of objects older than `storageClassName`.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The class that a claim names; empty for none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let old = claim.annotations().get(OLD_CLASS).map(String::as_str);
    old.or(named).unwrap_or_default()
}

/// The class that a volume names; empty for none.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let old = volume.annotations().get(OLD_CLASS).map(String::as_str);
    old.or(named).unwrap_or_default()
}

/// What a volume is bound to, or kept for.
pub fn claim_of(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether a volume is kept for this claim: by name, and by uid where it says one.
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_of(volume).is_some_and(|of| {
        of.name == claim.metadata.name
            && of.namespace == claim.metadata.namespace
            && of
                .uid
                .as_ref()
                .is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
    })
}

fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    quantity::parse(&resources.requests.as_ref()?.get("storage")?.0)
}

fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    quantity::parse(&volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0)
}

fn mode(mode: Option<&String>) -> &str {
    mode.map_or("Filesystem", String::as_str)
}

/// Why a volume cannot be what a claim asks for, in the binder's words; nothing where it can.
pub fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let offered = volume.spec.as_ref();
    let wanted = claim.spec.as_ref();
    let modes = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let has = modes(offered.and_then(|spec| spec.access_modes.as_ref()));
    if capacity(volume) < requested(claim) {
        Some("requested PV is too small")
    } else if class_of_volume(volume) != class_of_claim(claim) {
        Some("storageClassName does not match")
    } else if mode(offered.and_then(|spec| spec.volume_mode.as_ref()))
        != mode(wanted.and_then(|spec| spec.volume_mode.as_ref()))
    {
        Some("incompatible volumeMode")
    } else if !modes(wanted.and_then(|spec| spec.access_modes.as_ref()))
        .iter()
        .all(|mode| has.contains(mode))
    {
        Some("incompatible accessMode")
    } else {
        None
    }
}

fn selected(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    use kube::core::{Selector, SelectorExt};
    let Some(selector) = claim.spec.as_ref().and_then(|spec| spec.selector.clone()) else {
        return true;
    };
    // A selector that cannot be read takes nothing.
    Selector::try_from(selector).is_ok_and(|selector| selector.matches(volume.labels()))
}

/// Whether pods on this node can have the volume.
pub fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|VolumeNodeAffinity { required }| required.as_ref());
    required.is_none_or(|required| node_selector::matches(required, node))
}

/// The volume to bind to a claim that names none: one that is kept for it, else the smallest that fits.
///
/// A claim whose binding waits for its first pod is given only what is kept for it, as long as no `node` is chosen.
pub fn find(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    waits: bool,
    node: Option<&Node>,
) -> Option<Arc<PersistentVolume>> {
    let fits = |volume: &&Arc<PersistentVolume>| {
        volume.metadata.deletion_timestamp.is_none()
            && mismatch(volume, claim).is_none()
            && node.is_none_or(|node| reaches(volume, node))
    };
    if let Some(kept) = volumes.iter().filter(fits).find(|volume| is_for(volume, claim)) {
        return Some(kept.clone());
    }
    if waits && node.is_none() {
        return None;
    }
    let free = |volume: &&Arc<PersistentVolume>| {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        claim_of(volume).is_none() && phase == Some("Available") && selected(volume, claim)
    };
    volumes
        .iter()
        .filter(fits)
        .filter(free)
        .min_by_key(|volume| (capacity(volume), volume.name_any()))
        .cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(spec: serde_json::Value) -> PersistentVolumeClaim {
        let mut all = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "c",
            "resources": {"requests": {"storage": "5Gi"}}});
        json_patch::merge(&mut all, &spec);
        serde_json::from_value(json!({"metadata": {"name": "data", "namespace": "ns", "uid": "1"}, "spec": all}))
            .unwrap()
    }

    fn volume(name: &str, spec: serde_json::Value) -> Arc<PersistentVolume> {
        let mut all = json!({"metadata": {"name": name, "labels": {"disk": name}}, "spec": {"capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"], "storageClassName": "c"}, "status": {"phase": "Available"}});
        json_patch::merge(&mut all, &spec);
        Arc::new(serde_json::from_value(all).unwrap())
    }

    fn found(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>], waits: bool) -> Option<String> {
        find(claim, volumes, waits, None).map(|volume| volume.name_any())
    }

    #[test]
    fn the_smallest_volume_that_fits() {
        let with = |name: &str, spec: serde_json::Value| volume(name, json!({"spec": spec}));
        let volumes = [
            with("large", json!({"capacity": {"storage": "20Gi"}})),
            with("small", json!({"capacity": {"storage": "1Gi"}})),
            with("fits", json!({})),
            with(
                "other-class",
                json!({"capacity": {"storage": "5Gi"}, "storageClassName": "d"}),
            ),
            with(
                "other-mode",
                json!({"capacity": {"storage": "5Gi"}, "accessModes": ["ReadOnlyMany"]}),
            ),
            with("block", json!({"capacity": {"storage": "5Gi"}, "volumeMode": "Block"})),
            with(
                "taken",
                json!({"capacity": {"storage": "5Gi"}, "claimRef": {"namespace": "ns", "name": "other"}}),
            ),
            volume(
                "released",
                json!({"spec": {"capacity": {"storage": "5Gi"}}, "status": {"phase": "Released"}}),
            ),
            volume(
                "going",
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            ),
        ];
        assert_eq!(found(&claim(json!({})), &volumes, false).as_deref(), Some("fits"));
        let selects = json!({"selector": {"matchLabels": {"disk": "large"}}});
        assert_eq!(found(&claim(selects), &volumes, false).as_deref(), Some("large"));
        assert_eq!(found(&claim(json!({"storageClassName": ""})), &volumes, false), None);
        assert_eq!(
            found(&claim(json!({"accessModes": ["ReadWriteMany"]})), &volumes, false),
            None
        );
        // one that waits for its pod gets only what is kept for it
        assert_eq!(found(&claim(json!({})), &volumes, true), None);
    }

    #[test]
    fn what_is_kept_for_a_claim_comes_first() {
        let kept = |uid: &str| json!({"spec": {"claimRef": {"namespace": "ns", "name": "data", "uid": uid}}});
        let volumes = [volume("free", json!({})), volume("kept", kept(""))];
        assert_eq!(found(&claim(json!({})), &volumes, true).as_deref(), Some("kept"));
        let volumes = [volume("free", json!({})), volume("kept", kept("2"))];
        assert_eq!(
            found(&claim(json!({})), &volumes, false).as_deref(),
            Some("free"),
            "of an earlier claim of that name"
        );
    }

    #[test]
    fn a_volume_may_be_out_of_a_nodes_reach() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"zone": "a"}}})).unwrap();
        let zone = |zone: &str| {
            json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}}}})
        };
        let volumes = [volume("far", zone("b")), volume("near", zone("a"))];
        let found = find(&claim(json!({})), &volumes, true, Some(&node)).unwrap();
        assert_eq!(found.name_any(), "near");
    }
}
