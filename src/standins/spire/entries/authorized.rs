//! Which entries an agent may serve.

use std::collections::BTreeSet;
use ztlab_identity::SpiffeId;

use crate::store::{Entry, State};

/// The entries under `agent`: those whose parent is the agent, or a group of nodes that it belongs to by its selectors,
/// and in turn those under them. Nothing for an agent that is not known.
pub fn authorized<'a>(state: &'a State, agent: &SpiffeId, now: i64) -> Vec<&'a Entry> {
    let Some(known) = state.agents.get(agent) else {
        return Vec::new();
    };
    let alive = |entry: &&Entry| entry.expires_at == 0 || entry.expires_at > now;
    let server = |id: &SpiffeId| id.path().as_str() == "/spire/server";
    let mut parents = vec![agent];
    parents.extend(
        state
            .entries
            .values()
            .filter(alive)
            .filter(|entry| server(&entry.parent_id) && entry.selectors.is_subset(&known.selectors))
            .map(|entry| &entry.spiffe_id),
    );
    let mut seen: BTreeSet<&SpiffeId> = parents.iter().copied().collect();
    let mut found = Vec::new();
    while let Some(parent) = parents.pop() {
        for entry in state
            .entries
            .values()
            .filter(alive)
            .filter(|entry| entry.parent_id == *parent)
        {
            found.push(entry);
            if seen.insert(&entry.spiffe_id) {
                parents.push(&entry.spiffe_id);
            }
        }
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Agent, Selector};

    fn id(path: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://shop.test{path}")).unwrap()
    }

    fn entry(name: &str, parent: &str, selector: &str) -> Entry {
        Entry {
            id: name.into(),
            spiffe_id: id(&format!("/{name}")),
            parent_id: id(parent),
            selectors: BTreeSet::from([Selector::parse(selector).unwrap()]),
            x509_svid_ttl: 0,
            jwt_svid_ttl: 0,
            federates_with: BTreeSet::new(),
            admin: false,
            downstream: false,
            expires_at: 0,
            dns_names: Vec::new(),
            revision: 0,
            store_svid: false,
            hint: String::new(),
            created_at: 0,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        }
    }

    fn state(entries: Vec<Entry>) -> State {
        let agent = Agent {
            id: id("/spire/agent/one"),
            attestation_type: "k8s_psat".into(),
            serial: "1".into(),
            new_serial: String::new(),
            expires_at: 100,
            selectors: BTreeSet::from([Selector::new("k8s_psat", "cluster:demo")]),
            can_reattest: true,
            version: String::new(),
        };
        State {
            agents: [(agent.id.clone(), agent)].into(),
            entries: entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect(),
            ..State::default()
        }
    }

    fn ids(state: &State, agent: &str, now: i64) -> Vec<String> {
        authorized(state, &id(agent), now)
            .into_iter()
            .map(|entry| entry.id.clone())
            .collect()
    }

    #[test]
    fn an_agent_serves_what_is_under_it_and_under_its_groups_only() {
        let state = state(vec![
            entry("direct", "/spire/agent/one", "k8s:ns:a"),
            entry("group", "/spire/server", "k8s_psat:cluster:demo"),
            entry("by-group", "/group", "k8s:ns:b"),
            entry("nested", "/by-group", "k8s:ns:c"),
            entry("other-group", "/spire/server", "k8s_psat:cluster:other"),
            entry("not-ours", "/other-group", "k8s:ns:d"),
            entry("another-agent", "/spire/agent/two", "k8s:ns:e"),
        ]);
        assert_eq!(ids(&state, "/spire/agent/one", 0), ["by-group", "direct", "nested"]);
        assert!(
            ids(&state, "/spire/agent/two", 0).is_empty(),
            "an agent that never attested"
        );
    }

    #[test]
    fn an_expired_entry_is_not_served_and_a_circle_ends() {
        let mut over = entry("over", "/spire/agent/one", "k8s:ns:a");
        over.expires_at = 10;
        let mut circle = entry("circle", "/circle", "k8s:ns:a");
        circle.id = "circle".into();
        let mut start = entry("circle", "/spire/agent/one", "k8s:ns:b");
        start.id = "start".into();
        let state = state(vec![over, circle, start]);
        assert_eq!(ids(&state, "/spire/agent/one", 9), ["circle", "over", "start"]);
        assert_eq!(ids(&state, "/spire/agent/one", 10), ["circle", "start"]);
    }
}
