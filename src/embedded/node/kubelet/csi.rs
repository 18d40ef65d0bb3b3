//! Inline `csi` volumes: what a driver of the node mounts into a pod.
//!
//! Source: Kubernetes' "Ephemeral Volumes", CSI ephemeral volumes.

use k8s_openapi::api::core::v1::CSIVolumeSource;

use super::{
    host_path::{self, NodeDirs},
    volumes::Mounted,
};

/// A driver: what it mounts for a volume that asks for it, in the node's directories.
type Driver = fn(&CSIVolumeSource, &NodeDirs) -> Result<Mounted, String>;

/// The drivers of this node by name.
const DRIVERS: [(&str, Driver); 1] = [("csi.spiffe.io", spiffe)];

/// Where SPIRE's agent has the socket of the Workload API on every node, by the defaults of the SPIFFE CSI driver.
const AGENT_SOCKETS: &str = "/run/spire/agent-sockets";

/// The directory of the SPIRE agent's socket, read-only: a pod finds the socket there whenever the agent has made it.
///
/// Source: the SPIFFE CSI driver, `-workload-api-socket-dir`.
fn spiffe(source: &CSIVolumeSource, dirs: &NodeDirs) -> Result<Mounted, String> {
    if source.read_only != Some(true) {
        let text = "kubernetes.io/csi: mounter.SetUpAt failed: rpc error: code = InvalidArgument desc = \
                    pod.spec.volumes[].csi.readOnly must be set to 'true'";
        return Err(text.to_owned());
    }
    let place = host_path::resolve(AGENT_SOCKETS, dirs)?;
    host_path::prepare(&place, "DirectoryOrCreate", AGENT_SOCKETS)?;
    Ok(Mounted {
        dir: place.root,
        inside: Some(place.inside),
        read_only: true,
        capacity: None,
    })
}

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
