//! Who calls the agent's socket: the same question for all that is served there.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;
use tonic::{Extensions, Status};

use super::{
    attestor::{Caller, WorkloadAttestor},
    cache::Snapshot,
};
use crate::store::Selector;

/// Tells callers apart, and has what there is to give.
#[derive(Clone)]
pub struct Callers {
    /// Knows who calls.
    pub attestor: Arc<dyn WorkloadAttestor>,
    /// What there is to give.
    pub cache: watch::Receiver<Arc<Snapshot>>,
}

impl Callers {
    /// The selectors of whoever opened the connection that `extensions` come from.
    ///
    /// # Errors
    /// `Unavailable`, while the agent has nothing from the server and when the caller cannot be attested, as SPIRE says.
    pub async fn attest(&self, extensions: &Extensions) -> Result<BTreeSet<Selector>, Status> {
        if self.cache.borrow().bundle.is_none() {
            return Err(Status::unavailable(
                "the agent has nothing from the server yet; try again in a moment",
            ));
        }
        let failed = || Status::unavailable("workload attestation failed");
        let caller = extensions.get::<Caller>().ok_or_else(failed)?;
        self.attestor.attest(caller).await.map_err(|error| {
            tracing::warn!(%error, "a workload was not attested");
            failed()
        })
    }
}
