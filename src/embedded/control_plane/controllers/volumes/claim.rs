//! What becomes of a claim: pure.
//!
//! Source: Kubernetes' "Persistent Volumes" and the reasons and texts of its volume binder's events.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::{
            Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
            PersistentVolumeStatus,
        },
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt;

use crate::{
    control_plane::volume_binding::{
        BY_CONTROLLER, COMPLETED, NO_PROVISIONER, SELECTED_NODE, claim_of, class_of_claim, find, is_for, mismatch,
    },
    events::Happening,
};

/// What a claim's fate hangs on.
pub struct Facts<'a> {
    /// The claim.
    pub claim: &'a PersistentVolumeClaim,
    /// Every volume.
    pub volumes: &'a [Arc<PersistentVolume>],
    /// The class that the claim names, where there is one.
    pub class: Option<&'a StorageClass>,
    /// The class of claims that name none.
    pub default_class: Option<&'a str>,
    /// The node that the scheduler chose, where it has, and where it is there.
    pub node: Option<&'a Node>,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Fate {
    /// It gets this class: it named none, and there is a default by now.
    Class(String),
    /// It is bound to this volume, or that is completed.
    Bind(Arc<PersistentVolume>),
    /// A volume is made for it.
    Provision,
    /// It waits; with what is to be told.
    Wait(Option<Happening>),
    /// What it was bound to is gone.
    Lost(Happening),
}

/// Whether claims of this class wait for their first pod.
fn waits(class: Option<&StorageClass>) -> bool {
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

/// The fate of a claim.
pub fn fate(facts: &Facts<'_>) -> Fate {
    let claim = facts.claim;
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let named = named.filter(|name| !name.is_empty());
    let completed = claim.annotations().contains_key(COMPLETED);
    let volume = named.and_then(|name| {
        facts
            .volumes
            .iter()
            .find(|volume| volume.metadata.name.as_deref() == Some(name))
    });
    match (named, volume) {
        (None, _) if completed => lost(
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (Some(_), None) if completed => lost(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        ),
        (Some(_), Some(volume)) if completed => match claim_of(volume) {
            Some(_) if !is_for(volume, claim) => lost(
                "ClaimMisbound",
                "Two claims are bound to the same volume, this one is bound incorrectly",
            ),
            _ => Fate::Bind(volume.clone()),
        },
        (Some(_), None) => Fate::Wait(None),
        (Some(name), Some(volume)) => by_name(claim, name, volume),
        (None, _) => choose(facts),
    }
}

fn lost(reason: &'static str, message: &str) -> Fate {
    Fate::Lost(Happening::warning(reason, message))
}

/// A claim that asks for one volume by name.
fn by_name(claim: &PersistentVolumeClaim, name: &str, volume: &Arc<PersistentVolume>) -> Fate {
    if claim_of(volume).is_some() && !is_for(volume, claim) {
        let message = format!("volume \"{name}\" already bound to a different claim.");
        return Fate::Wait(Some(Happening::warning("FailedBinding", message)));
    }
    if volume.metadata.deletion_timestamp.is_some() {
        return Fate::Wait(None);
    }
    match mismatch(volume, claim) {
        None => Fate::Bind(volume.clone()),
        Some(why) => {
            let message = format!("Cannot bind to requested volume \"{name}\": {why}");
            Fate::Wait(Some(Happening::warning("VolumeMismatch", message)))
        }
    }
}

fn choose(facts: &Facts<'_>) -> Fate {
    let claim = facts.claim;
    let unset = claim.spec.as_ref().is_none_or(|spec| spec.storage_class_name.is_none());
    let name = class_of_claim(claim);
    if unset
        && name.is_empty()
        && let Some(class) = facts.default_class
    {
        return Fate::Class(class.to_owned());
    }
    let waits = waits(facts.class);
    if let Some(volume) = find(claim, facts.volumes, waits, facts.node) {
        return Fate::Bind(volume);
    }
    if waits && facts.node.is_none() {
        let message = "waiting for first consumer to be created before binding";
        return Fate::Wait(Some(Happening::normal("WaitForFirstConsumer", message)));
    }
    if name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return Fate::Wait(Some(Happening::normal("FailedBinding", message)));
    }
    let Some(class) = facts.class else {
        let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
        return Fate::Wait(Some(Happening::warning("ProvisioningFailed", message)));
    };
    match class.provisioner.as_str() {
        super::PROVISIONER => Fate::Provision,
        NO_PROVISIONER if waits => Fate::Wait(None),
        NO_PROVISIONER => {
            let message = format!("storageclass \"{name}\": no volume plugin matched name: {NO_PROVISIONER}");
            Fate::Wait(Some(Happening::warning("ProvisioningFailed", message)))
        }
        _ => Fate::Wait(Some(external(&class.provisioner))),
    }
}

/// What is told of a claim whose volume somebody else makes.
pub fn external(provisioner: &str) -> Happening {
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system \
         administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    Happening::normal("ExternalProvisioning", message)
}

/// The volume as it is once it is bound to the claim, where it is not yet.
pub fn bound_volume(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let held = claim_of(volume);
    if held.is_some_and(|held| held.uid.is_some() && held.uid == claim.metadata.uid) {
        return None;
    }
    let mut bound = volume.clone();
    // What is kept for a claim by name was asked for by a user.
    if held.is_none() {
        bound
            .annotations_mut()
            .insert(BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    bound.spec.get_or_insert_default().claim_ref = Some(reference(claim));
    Some(bound)
}

/// A reference to a claim, as volumes hold it.
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// The claim as it is once it is bound to the volume, where it is not yet.
pub fn bound_claim(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref());
    let named = named.filter(|name| !name.is_empty());
    if named == volume.metadata.name.as_ref() && claim.annotations().contains_key(COMPLETED) {
        return None;
    }
    let by_name = named.is_some();
    let mut bound = claim.clone();
    let annotations = bound.annotations_mut();
    if !by_name {
        annotations.insert(BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    annotations.insert(COMPLETED.to_owned(), "yes".to_owned());
    bound.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
    Some(bound)
}

/// The status of a bound claim, where it is not what it has.
pub fn bound_status(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaimStatus> {
    let spec = volume.spec.as_ref();
    let mut status = claim.status.clone().unwrap_or_default();
    status.phase = Some("Bound".to_owned());
    status.access_modes = spec.and_then(|spec| spec.access_modes.clone());
    status.capacity = spec.and_then(|spec| spec.capacity.clone());
    (claim.status.as_ref() != Some(&status)).then_some(status)
}

/// The status of a claim in another phase, where it is not what it has.
pub fn status(claim: &PersistentVolumeClaim, phase: &str) -> Option<PersistentVolumeClaimStatus> {
    let held = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    (held != Some(phase)).then(|| PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        ..PersistentVolumeClaimStatus::default()
    })
}

/// The status of a volume in a phase, where it is not what it has.
pub fn volume_status(
    volume: &PersistentVolume,
    phase: &str,
    message: Option<String>,
    now: Timestamp,
) -> Option<PersistentVolumeStatus> {
    let held = volume.status.clone().unwrap_or_default();
    if held.phase.as_deref() == Some(phase) && held.message == message {
        return None;
    }
    let since = if held.phase.as_deref() == Some(phase) {
        held.last_phase_transition_time
    } else {
        Some(Time(now))
    };
    Some(PersistentVolumeStatus {
        phase: Some(phase.to_owned()),
        message,
        reason: None,
        last_phase_transition_time: since,
    })
}

/// The node that the scheduler chose for a claim's first pod.
pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim
        .annotations()
        .get(SELECTED_NODE)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

/// The class of claims that name none: of several, the newest.
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<&str> {
    const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
    let is_default = |class: &&Arc<StorageClass>| class.annotations().get(DEFAULT).is_some_and(|value| value == "true");
    let newest = |class: &&Arc<StorageClass>| {
        let made = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (made, std::cmp::Reverse(class.name_any()))
    };
    classes
        .iter()
        .filter(is_default)
        .max_by_key(newest)?
        .metadata
        .name
        .as_deref()
}
