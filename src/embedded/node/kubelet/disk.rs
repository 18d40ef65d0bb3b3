//! PersistentVolumes are directories on the machine's disk, which no file system bounds: the node looks how much is in them, and
//! ends who fills one beyond its capacity.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use super::{
    volumes::Mounted,
    worker::{SIGKILL, Worker},
};
use crate::events::Happening;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(500);
/// Files looked at; a volume with more of them is as good as full.
const FILES: u32 = 200_000;

/// Whether the files below `dir` take more than `capacity` bytes of the disk.
fn over(dir: &Path, capacity: u64) -> bool {
    let (mut bytes, mut files) = (0_u64, 0_u32);
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        // What is gone meanwhile takes no room.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(meta.blocks().saturating_mul(512));
            files += 1;
            if bytes > capacity || files > FILES {
                return true;
            }
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    false
}

impl Mounted {
    /// Whether it holds more than it may, and its containers can write to it.
    pub fn full(&self) -> bool {
        let dir = self.inside.as_ref().map(|inside| self.dir.join(inside));
        let dir = dir.as_ref().unwrap_or(&self.dir);
        !self.read_only && self.capacity.is_some_and(|capacity| over(dir, capacity))
    }
}

/// What is told of a full volume.
pub(super) fn words(volume: &str, mounted: &Mounted) -> String {
    let dir = mounted.inside.as_ref().map(|inside| mounted.dir.join(inside));
    let dir = dir.unwrap_or_else(|| mounted.dir.clone());
    format!(
        "volume \"{volume}\" holds more than the {} bytes of its PersistentVolume: remove something from {}, or the claim",
        mounted.capacity.unwrap_or_default(),
        dir.display()
    )
}

impl Worker {
    /// Ends the containers that write to a volume beyond its capacity.
    pub(super) async fn bound_disk(&mut self) {
        let bounded = self.mounts.iter();
        let bounded: Vec<(String, Mounted)> = bounded
            .filter(|(_, mounted)| mounted.capacity.is_some() && !mounted.read_only)
            .map(|(name, mounted)| (name.clone(), mounted.clone()))
            .collect();
        if bounded.is_empty() || self.live.is_empty() {
            return;
        }
        self.wake_in(PERIOD);
        for (volume, mounted) in bounded {
            let looked_at = mounted.clone();
            let full = tokio::task::spawn_blocking(move || looked_at.full()).await;
            if !matches!(full, Ok(true)) {
                continue;
            }
            let spec = self.pod.spec.clone().unwrap_or_default();
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            let users = all.filter(|container| {
                let mut mounts = container.volume_mounts.iter().flatten();
                mounts.any(|mount| mount.name == volume && mount.read_only != Some(true))
            });
            for container in users {
                let Some(live) = self.live.get(&container.name) else {
                    continue;
                };
                let text = words(&volume, &mounted);
                self.happened(Some(&container.name), Happening::warning("VolumeFull", text));
                // One that has just ended needs no signal.
                let _ = self.inner.runtime.signal_container(&live.id, SIGKILL).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_disk_is_counted() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("in")).unwrap();
        fs::write(temp.path().join("in/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", temp.path().join("out")).unwrap();
        assert!(over(temp.path(), 90_000));
        assert!(!over(temp.path(), 200_000), "no link is followed");
        assert!(!over(&temp.path().join("no"), 0));
    }
}
