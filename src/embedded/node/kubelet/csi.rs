//! Inline `csi` volumes: what a driver of the node mounts into a pod.
//!
//! Source: Kubernetes' "Ephemeral Volumes", CSI ephemeral volumes.

use k8s_openapi::api::core::v1::CSIVolumeSource;

use super::{host_path::NodeDirs, volumes::Mounted};

/// A driver: what it mounts for a volume that asks for it, in the node's directories.
type Driver = fn(&CSIVolumeSource, &NodeDirs) -> Result<Mounted, String>;

/// The drivers of this node by name. `csi.spiffe.io` is to come here: it mounts the directory of the SPIRE agent's socket,
/// read-only.
const DRIVERS: [(&str, Driver); 0] = [];

/// What an inline volume is.
///
/// # Errors
/// No such driver, in the kubelet's words.
pub fn mount(source: &CSIVolumeSource, dirs: &NodeDirs) -> Result<Mounted, String> {
    let driver = DRIVERS.iter().find(|(name, _)| *name == source.driver);
    let (_, driver) = driver.ok_or_else(|| {
        format!(
            "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {} not found in the list of \
             registered CSI drivers",
            source.driver
        )
    })?;
    driver(source, dirs)
}
