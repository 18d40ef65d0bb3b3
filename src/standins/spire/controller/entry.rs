//! A registration entry that somebody declares, and its message to the server and back.

use std::collections::BTreeSet;

use ztlab_identity::{SpiffeId, TrustDomain};

use crate::{api::types, convert, store::Selector};

/// What is wanted at the server. One that has the same identity, parent and selectors is the same entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The identity that is given.
    pub spiffe_id: SpiffeId,
    /// Who may issue it.
    pub parent_id: SpiffeId,
    /// All of these have to be shown.
    pub selectors: BTreeSet<Selector>,
    /// Lifetime of X.509-SVIDs in seconds, zero for the server's default.
    pub x509_svid_ttl: i32,
    /// Lifetime of JWT-SVIDs in seconds, zero for the server's default.
    pub jwt_svid_ttl: i32,
    /// Whose bundles are needed.
    pub federates_with: BTreeSet<TrustDomain>,
    /// May use the server's management APIs.
    pub admin: bool,
    /// May sign as an intermediate CA.
    pub downstream: bool,
    /// DNS names in X.509-SVIDs.
    pub dns_names: Vec<String>,
    /// What for.
    pub hint: String,
    /// Goes to an SVID store.
    pub store_svid: bool,
}

/// What makes an entry the same as another.
pub type Key = (SpiffeId, SpiffeId, BTreeSet<Selector>);

impl Entry {
    /// What makes it the same as another.
    pub fn key(&self) -> Key {
        (self.spiffe_id.clone(), self.parent_id.clone(), self.selectors.clone())
    }

    /// The message, with the entry's own id; empty for the server to choose one.
    pub fn message(&self, id: String) -> types::Entry {
        types::Entry {
            id,
            spiffe_id: Some(convert::id_message(&self.spiffe_id)),
            parent_id: Some(convert::id_message(&self.parent_id)),
            selectors: self
                .selectors
                .iter()
                .map(|selector| types::Selector {
                    r#type: selector.kind.clone(),
                    value: selector.value.clone(),
                })
                .collect(),
            x509_svid_ttl: self.x509_svid_ttl,
            jwt_svid_ttl: self.jwt_svid_ttl,
            federates_with: self.federates_with.iter().map(ToString::to_string).collect(),
            admin: self.admin,
            downstream: self.downstream,
            dns_names: self.dns_names.clone(),
            hint: self.hint.clone(),
            store_svid: self.store_svid,
            ..types::Entry::default()
        }
    }

    /// Whether the entry that the server has under the same key says anything else.
    pub fn differs_from(&self, there: &types::Entry) -> bool {
        let names = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        let federated: BTreeSet<String> = self.federates_with.iter().map(ToString::to_string).collect();
        self.x509_svid_ttl != there.x509_svid_ttl
            || self.jwt_svid_ttl != there.jwt_svid_ttl
            || federated != names(&there.federates_with)
            || self.admin != there.admin
            || self.downstream != there.downstream
            || names(&self.dns_names) != names(&there.dns_names)
            || self.hint != there.hint
            || self.store_svid != there.store_svid
    }
}

/// The key of an entry that the server has; none for one that is not well formed, which is left alone.
pub fn key_of(there: &types::Entry) -> Option<Key> {
    Some((
        convert::id(there.spiffe_id.as_ref()).ok()?,
        convert::id(there.parent_id.as_ref()).ok()?,
        convert::selectors(&there.selectors).ok()?,
    ))
}
