//! What the agent has for its workloads. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ztlab_identity::{Bundle, BundleSet, TrustDomain};

use crate::{api::types, store::Selector};

/// An X.509-SVID with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Svid {
    /// Concatenated DER, the leaf first.
    pub chain: Vec<u8>,
    /// PKCS#8, DER.
    pub key: Vec<u8>,
    /// When it ends, in seconds of the Unix epoch.
    pub expires_at: i64,
    /// When the next is asked for, in seconds of the Unix epoch.
    pub renew_at: i64,
}

/// An entry that this agent may serve.
#[derive(Clone)]
pub struct Cached {
    /// The entry.
    pub entry: types::Entry,
    /// Its selectors.
    pub selectors: BTreeSet<Selector>,
    /// Its SVID; none until the server signed one.
    pub svid: Option<Arc<Svid>>,
    /// After a refusal, not before this is it asked for again, in seconds of the Unix epoch.
    pub retry_at: i64,
}

/// All that the agent has at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// By entry id.
    pub entries: BTreeMap<String, Cached>,
    /// The trust domain's own bundle; none before the first answer of the server.
    pub bundle: Option<Bundle>,
    /// Foreign bundles.
    pub foreign: BTreeMap<TrustDomain, Bundle>,
}

impl Snapshot {
    /// Takes over the server's entries; SVIDs of those that are the same stay. Whether anything changed.
    pub fn set_entries(&mut self, entries: Vec<types::Entry>) -> bool {
        let mut next = BTreeMap::new();
        let mut changed = false;
        for entry in entries {
            let before = self.entries.remove(&entry.id);
            let cached = match before {
                Some(before) if before.entry == entry => before,
                _ => {
                    changed = true;
                    let selectors = entry
                        .selectors
                        .iter()
                        .map(|one| Selector::new(one.r#type.clone(), one.value.clone()))
                        .collect();
                    Cached {
                        entry,
                        selectors,
                        svid: None,
                        retry_at: 0,
                    }
                }
            };
            next.insert(cached.entry.id.clone(), cached);
        }
        changed |= !self.entries.is_empty();
        self.entries = next;
        changed
    }

    /// The entries of a workload: those all of whose selectors it shows. The oldest comes first, and so is the default;
    /// of two with one hint the younger one is left out, since hints have to be unique.
    pub fn identities(&self, shown: &BTreeSet<Selector>) -> Vec<&Cached> {
        let mut found: Vec<&Cached> = self
            .entries
            .values()
            .filter(|cached| cached.selectors.is_subset(shown))
            .collect();
        found.sort_by(|one, other| {
            (one.entry.created_at, &one.entry.id).cmp(&(other.entry.created_at, &other.entry.id))
        });
        let mut hints = BTreeSet::new();
        found.retain(|cached| cached.entry.hint.is_empty() || hints.insert(cached.entry.hint.as_str()));
        found
    }

    /// Foreign bundles that the entries of `identities` federate with.
    pub fn foreign_of<'a>(&'a self, identities: &[&Cached]) -> BTreeMap<&'a TrustDomain, &'a Bundle> {
        let wanted: BTreeSet<&str> = identities
            .iter()
            .flat_map(|cached| &cached.entry.federates_with)
            .map(String::as_str)
            .collect();
        self.foreign
            .iter()
            .filter(|(name, _)| wanted.contains(name.as_str()))
            .collect()
    }

    /// The bundles that a workload with `identities` may verify peers with.
    pub fn bundles_of(&self, identities: &[&Cached]) -> BundleSet<Bundle> {
        let mut set = BundleSet::default();
        for bundle in self.bundle.iter().chain(self.foreign_of(identities).into_values()) {
            set.insert(bundle.clone());
        }
        set
    }

    /// Foreign trust domains that any entry federates with.
    pub fn federates_with(&self) -> BTreeSet<String> {
        self.entries
            .values()
            .flat_map(|cached| cached.entry.federates_with.iter().cloned())
            .collect()
    }

    /// The entries that need an SVID at `now`.
    pub fn due(&self, now: i64) -> Vec<&Cached> {
        self.entries.values().filter(|cached| cached.due_at() <= now).collect()
    }

    /// When the next SVID has to be asked for.
    pub fn next_due(&self) -> Option<i64> {
        self.entries.values().map(Cached::due_at).min()
    }
}

impl Cached {
    /// The SPIFFE ID of its entry.
    pub fn id_text(&self) -> String {
        self.entry
            .spiffe_id
            .as_ref()
            .map(|id| format!("spiffe://{}{}", id.trust_domain, id.path))
            .unwrap_or_default()
    }

    fn due_at(&self) -> i64 {
        self.svid.as_ref().map_or(0, |svid| svid.renew_at).max(self.retry_at)
    }
}

/// SPIRE's agent looks every so many seconds whether an SVID is to be replaced.
const LOOKS: i64 = 5;

/// When the document that is valid from `from` to `until` is replaced: at half of that life, give or take a tenth of the
/// half, so that not all are asked for at once. `chance` is from 0 to 1. Seconds of the Unix epoch.
///
/// Source: SPIRE's `pkg/common/rotationutil`. It counts from the beginning that the document names, which SPIRE's server
/// dates ten seconds back: one of 20 seconds lives 30, and is replaced five seconds after it came.
pub fn renew_at(from: i64, until: i64, chance: f64) -> i64 {
    let half = until.saturating_sub(from).max(0) / 2;
    // A life in seconds is far below what a double holds exactly.
    let jitter = (half as f64 * 0.1 * (chance * 2.0 - 1.0)) as i64;
    until.saturating_sub(half + jitter)
}

/// [`renew_at`] of one that came at `now`, but not before the agent would look again: one so short that half of its life is
/// over when it comes would be asked for without a pause.
pub fn renew_after(now: i64, from: i64, until: i64, chance: f64) -> i64 {
    let soonest = now.saturating_add((until.saturating_sub(now) / 2).clamp(1, LOOKS));
    renew_at(from, until, chance).max(soonest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, selectors: &[&str], created_at: i64, hint: &str) -> types::Entry {
        types::Entry {
            id: id.into(),
            selectors: selectors
                .iter()
                .map(|one| types::Selector {
                    r#type: "k8s".into(),
                    value: (*one).into(),
                })
                .collect(),
            created_at,
            hint: hint.into(),
            ..types::Entry::default()
        }
    }

    fn shown(selectors: &[&str]) -> BTreeSet<Selector> {
        selectors.iter().map(|one| Selector::new("k8s", *one)).collect()
    }

    fn ids(snapshot: &Snapshot, selectors: &[&str]) -> Vec<String> {
        snapshot
            .identities(&shown(selectors))
            .iter()
            .map(|cached| cached.entry.id.clone())
            .collect()
    }

    #[test]
    fn a_workload_gets_the_entries_all_of_whose_selectors_it_shows() {
        let mut snapshot = Snapshot::default();
        snapshot.set_entries(vec![
            entry("both", &["ns:shop", "sa:orders"], 2, ""),
            entry("ns", &["ns:shop"], 1, ""),
            entry("other", &["ns:shop", "sa:mallory"], 0, ""),
        ]);
        assert_eq!(ids(&snapshot, &["ns:shop", "sa:orders", "pod-uid:1"]), ["ns", "both"]);
        assert!(ids(&snapshot, &[]).is_empty());
        assert!(
            ids(&snapshot, &["ns:shop-evil"]).is_empty(),
            "no part of a value counts"
        );
    }

    #[test]
    fn a_hint_is_the_oldest_entrys() {
        let mut snapshot = Snapshot::default();
        snapshot.set_entries(vec![
            entry("young", &["a"], 9, "x"),
            entry("old", &["a"], 1, "x"),
            entry("plain", &["a"], 5, ""),
        ]);
        assert_eq!(ids(&snapshot, &["a"]), ["old", "plain"]);
    }

    #[test]
    fn an_entry_that_changed_needs_a_new_svid_and_one_that_did_not_keeps_its_own() {
        let mut snapshot = Snapshot::default();
        assert!(snapshot.set_entries(vec![entry("a", &["x"], 1, "")]));
        let svid = Svid {
            chain: vec![1],
            key: vec![2],
            expires_at: 100,
            renew_at: 50,
        };
        snapshot.entries.get_mut("a").unwrap().svid = Some(Arc::new(svid));
        assert!(!snapshot.set_entries(vec![entry("a", &["x"], 1, "")]));
        assert!(snapshot.due(49).is_empty());
        assert_eq!(snapshot.due(50).len(), 1);
        assert!(snapshot.set_entries(vec![entry("a", &["y"], 1, "")]));
        assert_eq!(snapshot.due(0).len(), 1);
        assert!(snapshot.set_entries(Vec::new()), "one that is gone is a change");
    }

    #[test]
    fn renewal_is_at_half_the_life_give_or_take_a_tenth() {
        assert_eq!(renew_at(0, 3600, 0.5), 1800);
        assert_eq!(renew_at(0, 3600, 1.0), 1620);
        assert_eq!(renew_at(0, 3600, 0.0), 1980);
        assert_eq!(renew_at(10, 0, 1.0), 0);
    }

    #[test]
    fn an_svid_of_twenty_seconds_is_replaced_five_seconds_after_it_came() {
        // As the server dates it.
        assert_eq!(renew_after(100, 90, 120, 0.5), 105);
        assert_eq!(renew_after(100, 90, 3700, 0.5), 1895);
    }

    #[test]
    fn one_whose_half_life_is_over_when_it_comes_is_not_asked_for_without_a_pause() {
        assert_eq!(renew_after(100, 90, 110, 0.5), 105, "as often as SPIRE looks");
        assert_eq!(renew_after(100, 90, 104, 0.5), 102, "and before it ends");
        assert_eq!(renew_after(100, 90, 100, 0.5), 101);
        assert_eq!(renew_after(100, 90, 50, 1.0), 101);
    }
}
