//! What a cluster cannot do of what a lab needs.

use std::collections::BTreeMap;

use super::{
    GroundWorld, Live,
    addresses::{self, Three},
};
use crate::{
    capture,
    cluster::{ClusterHandle, Progress, ProgressEvent},
    lab::{Capability, Lab, call_and_stranger},
    session::world::WorldError,
};

/// Makes sure that a cluster can do what a whole lab needs.
pub(super) async fn nothing(handle: &ClusterHandle, lab: &Lab, capability: Capability) -> Result<(), WorldError> {
    let can = match capability {
        Capability::Capture => return Ok(capture::able(&handle.client, &lab.namespace).await?),
        Capability::StandIns => handle.capabilities.stand_ins,
        Capability::Snapshots => handle.capabilities.snapshots,
        Capability::PodAddresses => handle.capabilities.pod_addresses,
    };
    if can {
        return Ok(());
    }
    let lacks = format!("the cluster lacks `{}`, which the lab needs", capability.as_str());
    Err(WorldError::new(lacks).hint("take the lab on the embedded ground"))
}

/// What the cluster of a lab that runs lacks of these, each with what shows that.
pub(super) async fn of(
    world: &GroundWorld,
    lab: &Lab,
    wanted: &[Capability],
    progress: &Progress,
) -> Result<BTreeMap<String, String>, WorldError> {
    let live = world.live()?;
    let mut lacking = BTreeMap::new();
    for (done, capability) in (0..).zip(wanted) {
        progress(ProgressEvent {
            phase: "measure the ground".to_owned(),
            done,
            total: u32::try_from(wanted.len()).unwrap_or(u32::MAX),
            detail: capability.as_str().to_owned(),
        });
        let why = match capability {
            Capability::PodAddresses if live.handle.capabilities.pod_addresses => None,
            Capability::PodAddresses => pod_addresses(world, &live, lab).await?,
            other => nothing(&live.handle, lab, *other)
                .await
                .err()
                .map(|error| error.message),
        };
        if let Some(why) = why {
            lacking.insert(capability.as_str().to_owned(), why);
        }
    }
    Ok(lacking)
}

async fn pod_addresses(world: &GroundWorld, live: &Live, lab: &Lab) -> Result<Option<String>, WorldError> {
    // A lab without them is refused when it is read.
    let Some((edge, stranger)) = call_and_stranger(&lab.edges) else {
        return Ok(Some("the lab declares no calls to measure that with".to_owned()));
    };
    let three = Three {
        edge,
        callee: world.pod(live, edge.to.as_str()).await?,
        known: world.pod(live, edge.from.as_str()).await?,
        stranger: world.pod(live, stranger.as_str()).await?,
    };
    addresses::lacking(&live.handle.client, &live.namespace, three).await
}
