//! Which entries a list shows.

use std::collections::BTreeSet;
use ztlab_identity::{SpiffeId, TrustDomain};

use crate::{
    api::{entry as api, types},
    convert,
    refusal::Refusal,
    store::{Entry, Selector},
};

/// How a set is compared with the one asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Both are equal.
    Exact,
    /// All that the entry has is asked for.
    Subset,
    /// All that is asked for the entry has.
    Superset,
    /// They have something in common.
    Any,
}

impl Match {
    /// Reads the number of a message: selectors and trust domains are numbered alike.
    pub fn read(number: i32) -> Result<Self, Refusal> {
        match number {
            0 => Ok(Self::Exact),
            1 => Ok(Self::Subset),
            2 => Ok(Self::Superset),
            3 => Ok(Self::Any),
            other => Err(Refusal::invalid(format!("{other} is no match behaviour"))),
        }
    }

    /// Whether `has` is as `asked`.
    pub fn holds<T: Ord>(self, has: &BTreeSet<T>, asked: &BTreeSet<T>) -> bool {
        match self {
            Self::Exact => has == asked,
            Self::Subset => !has.is_empty() && has.is_subset(asked),
            Self::Superset => has.is_superset(asked),
            Self::Any => !has.is_disjoint(asked),
        }
    }
}

/// Which entries to show; all of what is set has to hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    spiffe_id: Option<SpiffeId>,
    parent_id: Option<SpiffeId>,
    selectors: Option<(BTreeSet<Selector>, Match)>,
    federates_with: Option<(BTreeSet<TrustDomain>, Match)>,
    hint: Option<String>,
    downstream: Option<bool>,
}

impl Filter {
    /// Whether `entry` is shown.
    pub fn shows(&self, entry: &Entry) -> bool {
        self.spiffe_id.as_ref().is_none_or(|id| *id == entry.spiffe_id)
            && self.parent_id.as_ref().is_none_or(|id| *id == entry.parent_id)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(asked, how)| how.holds(&entry.selectors, asked))
            && self
                .federates_with
                .as_ref()
                .is_none_or(|(asked, how)| how.holds(&entry.federates_with, asked))
            && self.hint.as_ref().is_none_or(|hint| *hint == entry.hint)
            && self.downstream.is_none_or(|downstream| downstream == entry.downstream)
    }

    /// Reads the filter of a list.
    pub fn of_list(message: Option<&api::list_entries_request::Filter>) -> Result<Self, Refusal> {
        let Some(message) = message else {
            return Ok(Self::default());
        };
        Self::read(
            message.by_spiffe_id.as_ref(),
            message.by_parent_id.as_ref(),
            message.by_selectors.as_ref(),
            message.by_federates_with.as_ref(),
            message.by_hint.as_ref(),
            message.by_downstream,
        )
    }

    /// Reads the filter of a count.
    pub fn of_count(message: Option<&api::count_entries_request::Filter>) -> Result<Self, Refusal> {
        let Some(message) = message else {
            return Ok(Self::default());
        };
        Self::read(
            message.by_spiffe_id.as_ref(),
            message.by_parent_id.as_ref(),
            message.by_selectors.as_ref(),
            message.by_federates_with.as_ref(),
            message.by_hint.as_ref(),
            message.by_downstream,
        )
    }

    fn read(
        spiffe_id: Option<&types::Spiffeid>,
        parent_id: Option<&types::Spiffeid>,
        selectors: Option<&types::SelectorMatch>,
        federates_with: Option<&types::FederatesWithMatch>,
        hint: Option<&String>,
        downstream: Option<bool>,
    ) -> Result<Self, Refusal> {
        let id = |message: Option<&types::Spiffeid>, what: &str| {
            message
                .map(|id| convert::id(Some(id)).map_err(|refusal| refusal.while_doing(what)))
                .transpose()
        };
        Ok(Self {
            spiffe_id: id(spiffe_id, "malformed SPIFFE ID filter")?,
            parent_id: id(parent_id, "malformed parent ID filter")?,
            selectors: selectors
                .map(selector_match)
                .transpose()
                .map_err(|refusal| refusal.while_doing("malformed selectors filter"))?,
            federates_with: federates_with
                .map(federation_match)
                .transpose()
                .map_err(|refusal| refusal.while_doing("malformed federates with filter"))?,
            hint: hint.cloned(),
            downstream,
        })
    }
}

/// Reads selectors to compare with.
pub fn selector_match(message: &types::SelectorMatch) -> Result<(BTreeSet<Selector>, Match), Refusal> {
    if message.selectors.is_empty() {
        return Err(Refusal::invalid("empty selector set"));
    }
    Ok((convert::selectors(&message.selectors)?, Match::read(message.r#match)?))
}

fn federation_match(message: &types::FederatesWithMatch) -> Result<(BTreeSet<TrustDomain>, Match), Refusal> {
    if message.trust_domains.is_empty() {
        return Err(Refusal::invalid("empty trust domain set"));
    }
    let names = message
        .trust_domains
        .iter()
        .map(|name| convert::trust_domain(name))
        .collect::<Result<_, _>>()?;
    Ok((names, Match::read(message.r#match)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_compared_as_the_four_behaviours_say() {
        let set = |items: &[u8]| items.iter().copied().collect::<BTreeSet<u8>>();
        let (one, both, other) = (set(&[1]), set(&[1, 2]), set(&[3]));
        assert!(Match::Exact.holds(&both, &both) && !Match::Exact.holds(&one, &both));
        assert!(Match::Subset.holds(&one, &both) && !Match::Subset.holds(&both, &one));
        assert!(Match::Superset.holds(&both, &one) && !Match::Superset.holds(&one, &both));
        assert!(Match::Any.holds(&both, &one) && !Match::Any.holds(&both, &other));
    }
}
