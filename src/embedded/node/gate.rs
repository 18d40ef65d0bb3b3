//! Where whoever starts pods and whoever judges their traffic meet: the kernel's verdict maps.
//!
//! A pod's address has an entry from before its first program runs until its pod is gone from the API. So a program is not
//! started before its pod's entry is there (its first packets would be lost), and an address is not given to another pod
//! before the entry is gone (it would have the other's rights).

use std::{
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    netlink::{NetlinkError, Socket},
    nftables,
};

/// The table of all policies.
pub(crate) const TABLE: &str = "ztlab-policy";
/// The map of what becomes of what a pod sends, by its address.
pub(crate) const EGRESS: &str = "egress";
/// The map of what becomes of what a pod gets, by its address: the last entry to come and the last to go.
pub(crate) const INGRESS: &str = "ingress";

/// How soon to look again at first, and at most.
const SOON: Duration = Duration::from_micros(200);
const LATER: Duration = Duration::from_millis(20);

/// Looks into the kernel's maps.
///
/// Every pod's task asks here. One at a time: on one socket two would read each other's answers, and wait for their own forever.
#[derive(Debug)]
pub struct Gate(Mutex<Socket>);

impl Gate {
    /// A gate of the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no netlink socket to be had.
    pub fn open() -> Result<Self, NetlinkError> {
        Socket::netfilter().map(|socket| Self(Mutex::new(socket)))
    }

    /// Whether the pod with this address has its entries.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn admits(&self, address: Ipv4Addr) -> Result<bool, NetlinkError> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nftables::contains(&socket, TABLE, INGRESS, &address.octets())
    }

    /// Waits until the pod with this address has its entries (or, `there` false, has none); `false` if that does not come
    /// within `limit`.
    pub async fn wait(&self, address: Ipv4Addr, there: bool, limit: Duration) -> bool {
        let end = tokio::time::Instant::now() + limit;
        let mut pause = SOON;
        loop {
            match self.admits(address) {
                Ok(now) if now == there => return true,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%address, %error, "the kernel does not tell of a pod's entry");
                    return false;
                }
            }
            if tokio::time::Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LATER);
        }
    }
}
