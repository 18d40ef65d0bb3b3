//! What becomes of a PersistentVolume, and volumes made for claims: pure.
//!
//! Source: Kubernetes' "Persistent Volumes" (reclaiming, protection, `HonorPVReclaimPolicy`).

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::{
    core::v1::{
        HostPathVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
        PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
    },
    storage::v1::StorageClass,
};
use kube::ResourceExt;

use super::{PROVISIONED_BY, PROVISIONER, claim::reference};
use crate::{
    control_plane::volume_binding::{BY_CONTROLLER, claim_of},
    events::Happening,
};

/// Keeps a volume until no claim is bound to it.
pub const PROTECTION: &str = "kubernetes.io/pv-protection";
/// Keeps a volume until what is in it is deleted, where that is asked for.
pub const RECLAIM: &str = "kubernetes.io/pv-controller";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Fate {
    /// It is in this phase.
    Phase(&'static str),
    /// A binding of ours came to nothing: it is anybody's again.
    Unbind,
    /// Its claim is gone: what is in it is deleted, then itself.
    Delete,
    /// Its claim is gone, and what is to become of it cannot be done.
    Failed(Happening),
}

/// The fate of a volume, given the claim of the name that it is kept for.
pub fn fate(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Fate {
    let Some(of) = claim_of(volume) else {
        return Fate::Phase("Available");
    };
    let Some(uid) = of.uid.as_ref().filter(|uid| !uid.is_empty()) else {
        return Fate::Phase("Available");
    };
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_ref() == Some(uid)) else {
        return released(volume);
    };
    let named = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref())
        .unwrap_or_default();
    if named.is_empty() {
        // The claim's turn completes it.
        return Fate::Phase(if phase(volume) == "Bound" { "Bound" } else { "Available" });
    }
    if Some(named) == volume.metadata.name.as_deref() {
        return Fate::Phase("Bound");
    }
    if volume.annotations().contains_key(PROVISIONED_BY) && policy(volume) == "Delete" {
        return released(volume);
    }
    if volume.annotations().contains_key(BY_CONTROLLER) {
        Fate::Unbind
    } else {
        Fate::Phase("Available")
    }
}

/// The phase of a volume.
pub fn phase(volume: &PersistentVolume) -> &str {
    let status = volume.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or("Retain")
}

fn released(volume: &PersistentVolume) -> Fate {
    let provisioner = volume.annotations().get(PROVISIONED_BY);
    match policy(volume) {
        // Whoever made it, deletes it.
        "Delete" if provisioner.is_some_and(|by| by != PROVISIONER) => Fate::Phase("Released"),
        "Delete" => Fate::Delete,
        "Recycle" => Fate::Failed(Happening::warning(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!",
        )),
        _ => Fate::Phase("Released"),
    }
}

/// The directory that goes with a volume.
///
/// # Errors
/// It is none that may be deleted: not one right below the directory of volumes. The text is the event's.
pub fn directory(volume: &PersistentVolume, volumes: &Path) -> Result<PathBuf, String> {
    let source = volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref());
    let Some(source) = source else {
        let name = volume.name_any();
        return Err(format!(
            "error getting deleter volume plugin for volume \"{name}\": no deletable volume plugin matched"
        ));
    };
    let inside = Path::new(&source.path).strip_prefix(volumes).ok();
    let mut parts = inside.into_iter().flat_map(Path::components);
    // One step and no more: a step further may be a link that a pod put there.
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => Ok(volumes.join(name)),
        _ => Err(format!(
            "host_path deleter only supports {}/.+ but received provided {}",
            volumes.display(),
            source.path
        )),
    }
}

/// Why no volume can be made for a claim, in the provisioner's words.
fn refusal(claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let spec = claim.spec.as_ref()?;
    if spec.selector.is_some() {
        Some("claim.Spec.Selector is not supported for dynamic provisioning")
    } else if spec.volume_mode.as_deref() == Some("Block") {
        Some("block volumes are not supported: ask for volumeMode Filesystem")
    } else if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        Some("data sources are not supported")
    } else {
        None
    }
}

/// The volume made for a claim.
///
/// # Errors
/// It asks for what is not to be had here; the text is the event's.
pub fn provisioned(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: Option<&Node>,
    volumes: &Path,
) -> Result<PersistentVolume, String> {
    if let Some(why) = refusal(claim) {
        return Err(format!(
            "failed to provision volume with StorageClass \"{}\": {why}",
            class.name_any()
        ));
    }
    let name = format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default());
    let policy = class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned());
    let wanted = claim.spec.clone().unwrap_or_default();
    let requests = wanted
        .resources
        .and_then(|resources| resources.requests)
        .unwrap_or_default();
    let mut volume = PersistentVolume {
        spec: Some(PersistentVolumeSpec {
            access_modes: wanted.access_modes,
            capacity: Some(
                requests
                    .into_iter()
                    .filter(|(resource, _)| resource == "storage")
                    .collect(),
            ),
            claim_ref: Some(reference(claim)),
            host_path: Some(HostPathVolumeSource {
                path: volumes.join(&name).to_string_lossy().into_owned(),
                type_: Some("DirectoryOrCreate".to_owned()),
            }),
            mount_options: class.mount_options.clone(),
            node_affinity: node.map(only_on),
            persistent_volume_reclaim_policy: Some(policy.clone()),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: wanted.volume_mode,
            ..PersistentVolumeSpec::default()
        }),
        ..PersistentVolume::default()
    };
    volume.metadata.name = Some(name);
    volume
        .annotations_mut()
        .insert(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned());
    if policy == "Delete" {
        volume.finalizers_mut().push(RECLAIM.to_owned());
    }
    Ok(volume)
}

fn only_on(node: &Node) -> VolumeNodeAffinity {
    const HOST: &str = "kubernetes.io/hostname";
    let host = node.labels().get(HOST).cloned().unwrap_or_else(|| node.name_any());
    VolumeNodeAffinity {
        required: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: Some(vec![NodeSelectorRequirement {
                    key: HOST.to_owned(),
                    operator: "In".to_owned(),
                    values: Some(vec![host]),
                }]),
                match_fields: None,
            }],
        }),
    }
}
