//! The directories of volumes that are no more.

use std::{path::Path, time::Duration};

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{Api, ResourceExt, api::ListParams};

use super::{PROVISIONED_BY, PROVISIONER, volume};
use crate::control_plane::volume_dirs;

/// Removes the directory of a volume that went without being asked, as when its finalizers were taken away: nobody waits for what
/// is in it. Another volume may have the directory by now: a restore brings back what a snapshot holds.
pub(super) fn forget(gone: &PersistentVolume, volumes: &Path, api: Api<PersistentVolume>) {
    let ours = gone
        .annotations()
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == PROVISIONER);
    if !ours || !gone.finalizers().iter().any(|finalizer| finalizer == volume::RECLAIM) {
        return;
    }
    let Ok(dir) = volume::directory(gone, volumes) else {
        return;
    };
    let volumes = volumes.to_owned();
    tokio::spawn(async move {
        // Its pods may still be ending.
        for _ in 0..ATTEMPTS {
            match remove_unused(&dir, &volumes, &api).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, dir = %dir.display(), "not removed yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
        tracing::warn!(dir = %dir.display(), "what a volume held could not be removed");
    });
}

async fn remove_unused(dir: &Path, volumes: &Path, api: &Api<PersistentVolume>) -> std::io::Result<()> {
    let _alone = alone(volumes).await?;
    let all = api.list(&ListParams::default()).await.map_err(std::io::Error::other)?;
    let uses = |volume: &PersistentVolume| volume::directory(volume, volumes).is_ok_and(|other| other == dir);
    match all.iter().any(uses) {
        true => Ok(()),
        false => remove(dir).await,
    }
}

/// Has everybody else leave the directories of volumes as they are, until what it gives is dropped.
pub(super) async fn alone(volumes: &Path) -> std::io::Result<std::fs::File> {
    let volumes = volumes.to_owned();
    let locked = tokio::task::spawn_blocking(move || volume_dirs::lock(&volumes)).await;
    locked.map_err(std::io::Error::other)?
}

/// How often a directory is tried to be removed that pods may still be writing to.
const ATTEMPTS: usize = 60;
/// How long between.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

/// Removes the directory of a volume; one that is not there is fine.
pub(super) async fn remove(dir: &Path) -> std::io::Result<()> {
    let dir = dir.to_owned();
    let done = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
    match done.map_err(std::io::Error::other)? {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
