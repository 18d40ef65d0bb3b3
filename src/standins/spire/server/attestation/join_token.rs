//! `join_token`: a secret that an administrator makes, good for one agent once.

use std::collections::BTreeSet;

use ztlab_identity::{Path, SpiffeId, TrustDomain};

use super::Attested;
use crate::{refusal::Refusal, server::Core};

/// The type's name.
pub const TYPE: &str = "join_token";

/// The id of the agent that `token` lets in.
pub fn agent_id(trust_domain: &TrustDomain, token: &str) -> Result<SpiffeId, Refusal> {
    Path::from_segments(["spire", "agent", TYPE, token])
        .and_then(|path| SpiffeId::new(trust_domain.clone(), path))
        .map_err(|error| Refusal::invalid(format!("the token cannot be part of a SPIFFE ID: {error}")))
}

/// Takes the token: it is gone, whether its time was over or not.
pub fn attest(core: &Core, payload: &[u8]) -> Result<Attested, Refusal> {
    let unknown = || Refusal::invalid("failed to attest: join token does not exist or has already been used");
    let token = std::str::from_utf8(payload).map_err(|_| unknown())?;
    let taken = core
        .store
        .update(|state| state.join_tokens.remove(token).ok_or_else(unknown))?;
    if taken.expires_at < core.clock.now() {
        return Err(Refusal::invalid("join token expired"));
    }
    let id = agent_id(&core.trust_domain, token)?;
    Ok(Attested {
        id,
        selectors: BTreeSet::new(),
        can_reattest: false,
    })
}
