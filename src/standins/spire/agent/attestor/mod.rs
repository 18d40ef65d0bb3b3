//! Workload attestation: who is at the other end of a connection.

mod node;
mod pod;
mod unix;

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

pub use node::{NodeAttestor, NodePods, Pods};
pub use unix::UnixAttestor;

use crate::store::Selector;

/// What a container of a pod shows, as `k8s:ns:shop`: for those who look from outside and must find the same.
pub fn k8s_selectors(pod: &k8s_openapi::api::core::v1::Pod, container: &str) -> Vec<String> {
    pod::selectors(pod, container).iter().map(ToString::to_string).collect()
}

/// A workload's connection. The kernel remembers who opened it, whatever its process does later.
#[derive(Clone, Debug)]
pub struct Caller(Arc<OwnedFd>);

impl Caller {
    /// The peer of `socket`.
    pub fn of(socket: impl AsFd) -> std::io::Result<Self> {
        Ok(Self(Arc::new(socket.as_fd().try_clone_to_owned()?)))
    }
}

impl AsFd for Caller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Why a caller could not be attested.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The kernel did not say.
    #[error("the peer's credentials cannot be read: {0}")]
    Peer(std::io::Error),
    /// The node did not say.
    #[error("the node does not say which pod the peer is in: {0}")]
    Node(String),
    /// The API server did not say.
    #[error("the API server does not say what the peer's pod is: {0}")]
    Pod(String),
}

/// Says what a caller shows of itself. A caller of which nothing is known shows nothing.
#[async_trait::async_trait]
pub trait WorkloadAttestor: Send + Sync {
    /// The caller's selectors.
    async fn attest(&self, caller: &Caller) -> Result<BTreeSet<Selector>, AttestError>;
}

/// Several attestors: a caller shows what any of them finds.
pub struct All(pub Vec<Box<dyn WorkloadAttestor>>);

#[async_trait::async_trait]
impl WorkloadAttestor for All {
    /// As SPIRE has it, an attestor that fails takes nothing from what the others find; if all fail, so does this.
    async fn attest(&self, caller: &Caller) -> Result<BTreeSet<Selector>, AttestError> {
        let mut found = BTreeSet::new();
        let mut failed = Vec::new();
        for attestor in &self.0 {
            match attestor.attest(caller).await {
                Ok(selectors) => found.extend(selectors),
                Err(error) => {
                    tracing::warn!(%error, "an attestor failed");
                    failed.push(error);
                }
            }
        }
        match failed.pop() {
            Some(error) if failed.len() + 1 == self.0.len() => Err(error),
            _ => Ok(found),
        }
    }
}
