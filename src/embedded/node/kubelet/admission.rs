//! A pod's address and NetworkPolicy: no program runs before its pod is judged, and no address is given on while the pod that
//! had it still is.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use super::{Inner, lock, worker::Worker};

/// How long a pod waits for its rules before it starts all the same: without them, the kernel drops what it sends.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an address waits to be free before somebody is told.
const LONG: Duration = Duration::from_secs(30);

impl Worker {
    /// Tells the API the pod's address while the pod gets its network, so that the rules for it are there as soon as it is:
    /// neither needs the other.
    pub(super) async fn while_judged<T>(&mut self, making: impl Future<Output = T>) -> T {
        tokio::join!(making, self.publish()).0
    }

    /// Waits until the kernel judges the pod's traffic, the API having been told of its address.
    pub(super) async fn be_admitted(&mut self, address: Ipv4Addr) {
        // A write that failed is made up for here.
        let told = self.published.as_ref().is_some_and(|status| status.pod_ip.is_some());
        if !told {
            self.publish().await;
        }
        if !self.inner.gate.wait(address, true, PATIENCE).await {
            tracing::warn!(%address, "a pod starts before its network policies are in force: it is cut off until they are");
        }
    }
}

/// Gives an address back once the kernel has no entry for it.
pub(super) fn free(inner: &Arc<Inner>, address: Ipv4Addr) {
    if address == inner.config.node_ip {
        return;
    }
    let inner = inner.clone();
    tokio::spawn(async move {
        while !inner.gate.wait(address, false, LONG).await {
            tracing::warn!(%address, "the address of a pod that is gone still has its rules: it is not given to another");
            tokio::time::sleep(LONG).await;
        }
        lock(&inner.ipam).free(address);
    });
}
