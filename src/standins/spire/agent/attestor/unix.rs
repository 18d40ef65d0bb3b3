//! `unix`: the caller's user and group.

use std::collections::BTreeSet;

use super::{AttestError, Caller, WorkloadAttestor};
use crate::store::Selector;

/// Asks the kernel for the peer's user and group (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, Default)]
pub struct UnixAttestor;

#[async_trait::async_trait]
impl WorkloadAttestor for UnixAttestor {
    async fn attest(&self, caller: &Caller) -> Result<BTreeSet<Selector>, AttestError> {
        let peer = rustix::net::sockopt::socket_peercred(caller).map_err(|error| AttestError::Peer(error.into()))?;
        Ok(BTreeSet::from([
            Selector::new("unix", format!("uid:{}", peer.uid.as_raw())),
            Selector::new("unix", format!("gid:{}", peer.gid.as_raw())),
        ]))
    }
}
