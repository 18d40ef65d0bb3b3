//! Node attestation: how an agent proves which node it is on.

pub mod join_token;
pub mod k8s_psat;

use std::collections::{BTreeMap, BTreeSet};

use ztlab_identity::SpiffeId;

use crate::{refusal::Refusal, store::Selector};

/// What was found of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// What else is known of it.
    pub selectors: BTreeSet<Selector>,
    /// Whether it may do so again.
    pub can_reattest: bool,
}

/// Judges what an agent sends to prove its node.
#[async_trait::async_trait]
pub trait NodeAttestor: Send + Sync {
    /// Who sent `payload`, if it proves anything.
    async fn attest(&self, payload: &[u8]) -> Result<Attested, Refusal>;
}

/// Node attestors by their type, as `k8s_psat`.
pub type Attestors = BTreeMap<String, Box<dyn NodeAttestor>>;
