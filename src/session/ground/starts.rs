//! Snapshots of the moments a session can go back to, on clusters that can take any.

use std::collections::BTreeSet;

use kube::core::DynamicObject;
use sha2::Digest;

use crate::{
    cluster::ClusterHandle,
    lab::Lab,
    session::{site::Site, state::Start, world::WorldError},
};

/// What the names of a lab's snapshots begin with; short enough for a number behind it.
fn stem(lab: &Lab) -> String {
    let id: String = lab.id.to_string().chars().take(40).collect();
    format!("lab-{}", id.trim_end_matches('-'))
}

/// The name and the note of the snapshot of a lab's start. The note tells whether its topology is still the same.
fn lab_start(lab: &Lab, objects: &[DynamicObject]) -> Result<(String, String), WorldError> {
    let objects = serde_json::to_vec(objects)
        .map_err(|error| WorldError::new(format!("read the topology of the lab: {error}")))?;
    let hash: String = sha2::Sha256::digest(objects)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let stem = stem(lab);
    Ok((
        format!("{stem}-start"),
        format!("the start of the lab {}, topology {hash}", lab.id),
    ))
}

/// Puts the start of the lab aside, where the cluster can do that.
pub(super) async fn put_start_aside(
    handle: &ClusterHandle,
    lab: &Lab,
    objects: &[DynamicObject],
) -> Result<(), WorldError> {
    if handle.capabilities.snapshots {
        let (name, note) = lab_start(lab, objects)?;
        handle.snapshot(&name, &note).await?;
    }
    Ok(())
}

/// Puts the cluster back to the start of the lab by its snapshot; `false` where there is none that fits.
pub(super) async fn put_start_back(
    handle: &ClusterHandle,
    lab: &Lab,
    objects: &[DynamicObject],
) -> Result<bool, WorldError> {
    let (name, note) = lab_start(lab, objects)?;
    put_back_one(handle, &name, &note).await
}

/// The name and the note of the snapshot of a moment. Numbers count within a session, which the note names.
fn moment(lab: &Lab, site: &Site, number: u32) -> (String, String) {
    (
        format!("{}-{number}", stem(lab)),
        format!("start {number} of the session {} of the lab {}", site.began_ms, lab.id),
    )
}

/// Puts a moment aside, where the cluster can do that, and forgets the moments that nothing goes back to.
pub(super) async fn put_aside(
    handle: &ClusterHandle,
    lab: &Lab,
    site: &Site,
    start: &Start,
    in_use: &BTreeSet<u32>,
) -> Result<(), WorldError> {
    if !handle.capabilities.snapshots {
        return Ok(());
    }
    let (name, note) = moment(lab, site, start.number);
    handle.snapshot(&name, &note).await?;
    let stem = format!("{}-", stem(lab));
    for snapshot in handle.snapshots().await? {
        let number = snapshot
            .name
            .strip_prefix(&stem)
            .and_then(|number| number.parse::<u32>().ok());
        if number.is_some_and(|number| !in_use.contains(&number)) {
            handle.delete_snapshot(&snapshot.name).await?;
        }
    }
    Ok(())
}

/// Puts the cluster back to a moment; `false` where there is no snapshot of it.
pub(super) async fn put_back(handle: &ClusterHandle, lab: &Lab, site: &Site, to: &Start) -> Result<bool, WorldError> {
    let (name, note) = moment(lab, site, to.number);
    put_back_one(handle, &name, &note).await
}

async fn put_back_one(handle: &ClusterHandle, name: &str, note: &str) -> Result<bool, WorldError> {
    if !handle.capabilities.snapshots {
        return Ok(false);
    }
    let mut there = handle.snapshots().await?.into_iter();
    let fits = there.any(|one| one.name == name && one.note == note);
    if fits {
        handle.restore(name).await?;
    }
    Ok(fits)
}
