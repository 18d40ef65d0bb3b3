//! From the rules that are to the rules that are wanted, in steps that are safe wherever they stop.
//!
//! 1. New sets and chains, which nothing leads to yet.
//! 2. What changes for pods: first what is taken from sets and maps, then what is added. An entry that changes is taken and
//!    added in one step. A pod's incoming entry is its last to come and its last to go: it tells of all others.
//! 3. Chains and sets that nothing leads to any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::rules::{Rule, RuleSet, Set, Verdict};

/// The most elements of one operation, so that an operation always fits into a transaction.
const AT_ONCE: usize = 128;

/// One of a pod's two entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

/// An element of a set whose elements change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Address(Ipv4Addr),
    Itself(Ipv4Addr),
    Endpoint(Ipv4Addr, super::Protocol, u16),
}

/// A change that the kernel makes whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// A set, empty unless it is one of ranges, with a note of what it holds.
    AddSet(String, Set, String),
    Remove(String, Vec<Member>),
    Add(String, Vec<Member>),
    AddChain(String),
    AddRule(String, Rule),
    Entries {
        direction: Direction,
        gone: Vec<(Ipv4Addr, Verdict)>,
        new: Vec<(Ipv4Addr, Verdict)>,
    },
    FlushChain(String),
    DeleteChain(String),
    DeleteSet(String),
}

/// The steps, in order; a step may be made in several transactions.
pub(super) fn plan(now: &RuleSet, wanted: &RuleSet) -> [Vec<Operation>; 3] {
    let mut prepare = Vec::new();
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for (name, set) in &wanted.sets {
        let before = now.sets.get(name);
        if before.is_none() {
            let note = wanted.notes.get(name).cloned().unwrap_or_default();
            prepare.push(Operation::AddSet(name.clone(), empty(set), note));
        }
        let (gone, new) = differences(before, set);
        removed.extend(chunks(&gone).map(|part| Operation::Remove(name.clone(), part)));
        let to = if before.is_none() { &mut prepare } else { &mut added };
        to.extend(chunks(&new).map(|part| Operation::Add(name.clone(), part)));
    }
    for name in wanted.chains.keys().filter(|name| !now.chains.contains_key(*name)) {
        prepare.push(Operation::AddChain(name.clone()));
    }
    for (name, rules) in &wanted.chains {
        // a chain's name says what is in it: if rules are missing, it is the last ones, not made yet
        let there = now.chains.get(name).map_or(0, Vec::len);
        let missing = rules.iter().skip(there);
        prepare.extend(missing.map(|rule| Operation::AddRule(name.clone(), rule.clone())));
    }
    let mut switch = removed;
    switch.extend(entries(Direction::Egress, &now.egress, &wanted.egress, true));
    switch.extend(entries(Direction::Ingress, &now.ingress, &wanted.ingress, true));
    switch.extend(added);
    switch.extend(entries(Direction::Egress, &now.egress, &wanted.egress, false));
    switch.extend(entries(Direction::Ingress, &now.ingress, &wanted.ingress, false));
    [prepare, switch, sweep(now, wanted)]
}

fn sweep(now: &RuleSet, wanted: &RuleSet) -> Vec<Operation> {
    let chains: Vec<&String> = now
        .chains
        .keys()
        .filter(|name| !wanted.chains.contains_key(*name))
        .collect();
    let sets = now.sets.keys().filter(|name| !wanted.sets.contains_key(*name));
    let flush = chains.iter().map(|name| Operation::FlushChain((*name).clone()));
    let delete = chains.iter().map(|name| Operation::DeleteChain((*name).clone()));
    flush
        .chain(delete)
        .chain(sets.map(|name| Operation::DeleteSet(name.clone())))
        .collect()
}

fn chunks<T: Clone>(all: &[T]) -> impl Iterator<Item = Vec<T>> {
    all.chunks(AT_ONCE).map(<[T]>::to_vec)
}

fn empty(set: &Set) -> Set {
    match set {
        Set::Addresses(_) => Set::Addresses(BTreeSet::new()),
        Set::Itself(_) => Set::Itself(BTreeSet::new()),
        Set::Endpoints(_) => Set::Endpoints(BTreeSet::new()),
        Set::Ranges(ranges) => Set::Ranges(ranges.clone()),
    }
}

pub(super) fn members(set: &Set) -> Vec<Member> {
    match set {
        Set::Addresses(set) => set.iter().copied().map(Member::Address).collect(),
        Set::Itself(set) => set.iter().copied().map(Member::Itself).collect(),
        Set::Endpoints(set) => set
            .iter()
            .map(|&(ip, protocol, port)| Member::Endpoint(ip, protocol, port))
            .collect(),
        Set::Ranges(_) => Vec::new(),
    }
}

/// What is gone and what is new.
fn differences(before: Option<&Set>, after: &Set) -> (Vec<Member>, Vec<Member>) {
    fn of<T: Ord + Copy>(
        before: &BTreeSet<T>,
        after: &BTreeSet<T>,
        member: impl Fn(T) -> Member,
    ) -> (Vec<Member>, Vec<Member>) {
        let gone = before.difference(after).copied().map(&member).collect();
        (gone, after.difference(before).copied().map(&member).collect())
    }
    match (before, after) {
        (Some(Set::Addresses(before)), Set::Addresses(after)) => of(before, after, Member::Address),
        (Some(Set::Itself(before)), Set::Itself(after)) => of(before, after, Member::Itself),
        (Some(Set::Endpoints(before)), Set::Endpoints(after)) => of(before, after, |(ip, protocol, port)| {
            Member::Endpoint(ip, protocol, port)
        }),
        (Some(_), _) => (Vec::new(), Vec::new()),
        (None, after) => (Vec::new(), members(after)),
    }
}

/// The entries that go for good, or those that come and change.
fn entries(
    direction: Direction,
    now: &BTreeMap<Ipv4Addr, Verdict>,
    wanted: &BTreeMap<Ipv4Addr, Verdict>,
    going: bool,
) -> Vec<Operation> {
    let entry = |(ip, verdict): (&Ipv4Addr, &Verdict)| (*ip, verdict.clone());
    if going {
        let gone: Vec<_> = now
            .iter()
            .filter(|(ip, _)| !wanted.contains_key(*ip))
            .map(entry)
            .collect();
        return chunks(&gone)
            .map(|gone| Operation::Entries {
                direction,
                gone,
                new: Vec::new(),
            })
            .collect();
    }
    let new: Vec<_> = wanted
        .iter()
        .filter(|(ip, verdict)| now.get(*ip) != Some(*verdict))
        .map(entry)
        .collect();
    chunks(&new)
        .map(|new| Operation::Entries {
            direction,
            gone: new
                .iter()
                .filter_map(|(ip, _)| Some((*ip, now.get(ip)?.clone())))
                .collect(),
            new,
        })
        .collect()
}

/// Writes down an operation that the kernel has made.
pub(super) fn made(rules: &mut RuleSet, operation: Operation) {
    match operation {
        Operation::AddSet(name, set, note) => {
            rules.sets.insert(name.clone(), set);
            if !note.is_empty() {
                rules.notes.insert(name, note);
            }
        }
        Operation::Remove(name, members) => change(rules, &name, &members, false),
        Operation::Add(name, members) => change(rules, &name, &members, true),
        Operation::AddChain(name) => {
            rules.chains.insert(name, Vec::new());
        }
        Operation::AddRule(name, rule) => rules.chains.entry(name).or_default().push(rule),
        Operation::Entries { direction, gone, new } => {
            let entries = match direction {
                Direction::Ingress => &mut rules.ingress,
                Direction::Egress => &mut rules.egress,
            };
            for (ip, _) in gone {
                entries.remove(&ip);
            }
            entries.extend(new);
        }
        Operation::FlushChain(name) => {
            rules.chains.insert(name, Vec::new());
        }
        Operation::DeleteChain(name) => {
            rules.chains.remove(&name);
        }
        Operation::DeleteSet(name) => {
            rules.sets.remove(&name);
            rules.notes.remove(&name);
        }
    }
}

fn change(rules: &mut RuleSet, name: &str, members: &[Member], there: bool) {
    fn put<T: Ord>(set: &mut BTreeSet<T>, one: T, there: bool) {
        if there {
            set.insert(one);
        } else {
            set.remove(&one);
        }
    }
    let Some(set) = rules.sets.get_mut(name) else { return };
    for &member in members {
        match (&mut *set, member) {
            (Set::Addresses(set), Member::Address(ip)) | (Set::Itself(set), Member::Itself(ip)) => put(set, ip, there),
            (Set::Endpoints(set), Member::Endpoint(ip, protocol, port)) => put(set, (ip, protocol, port), there),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ips: &[u8]) -> Set {
        Set::Addresses(ips.iter().map(|last| Ipv4Addr::new(10, 244, 0, *last)).collect())
    }

    fn goto(chain: &str) -> Verdict {
        Verdict::Goto(chain.to_owned())
    }

    fn rules(peers: Set, chain: &str, pods: &[u8]) -> RuleSet {
        let rule = Rule {
            matches: vec![super::super::Match::Source("peers".to_owned())],
            verdict: Verdict::Accept,
        };
        let entries: BTreeMap<_, _> = pods
            .iter()
            .map(|last| (Ipv4Addr::new(10, 244, 0, *last), goto(chain)))
            .collect();
        RuleSet {
            sets: [("peers".to_owned(), peers)].into(),
            notes: BTreeMap::new(),
            chains: [(chain.to_owned(), vec![rule])].into(),
            ingress: entries.clone(),
            egress: entries,
        }
    }

    #[test]
    fn what_is_used_is_there_before_and_what_is_not_goes_after() {
        let (before, after) = (rules(set(&[2, 3]), "old", &[2, 3]), rules(set(&[3, 4]), "new", &[3, 4]));
        let [prepare, switch, sweep] = plan(&before, &after);
        assert!(matches!(&prepare[..], [Operation::AddChain(chain), Operation::AddRule(..)] if chain == "new"));
        let show = |operation: &Operation| match operation {
            Operation::Remove(_, members) => format!("remove {}", members.len()),
            Operation::Add(_, members) => format!("add {}", members.len()),
            Operation::Entries { direction, gone, new } => format!("{direction:?} -{} +{}", gone.len(), new.len()),
            other => panic!("{other:?}"),
        };
        let shown: Vec<String> = switch.iter().map(show).collect();
        assert_eq!(
            shown,
            [
                "remove 1",
                "Egress -1 +0",
                "Ingress -1 +0",
                "add 1",
                "Egress -1 +2",
                "Ingress -1 +2"
            ]
        );
        assert!(
            matches!(&sweep[..], [Operation::FlushChain(flushed), Operation::DeleteChain(gone)] if flushed == "old" && gone == "old")
        );
    }

    #[test]
    fn nothing_to_do_is_nothing_done() {
        let same = rules(set(&[2]), "chain", &[2]);
        assert!(plan(&same, &same).iter().all(Vec::is_empty));
    }

    #[test]
    fn a_chain_that_was_interrupted_is_completed() {
        let wanted = rules(set(&[2]), "chain", &[2]);
        let mut half = wanted.clone();
        half.chains.insert("chain".to_owned(), Vec::new());
        half.ingress.clear();
        half.egress.clear();
        let mut steps = plan(&half, &wanted);
        assert!(matches!(&steps[0][..], [Operation::AddRule(..)]));
        steps
            .iter_mut()
            .flat_map(std::mem::take)
            .for_each(|operation| made(&mut half, operation));
        assert_eq!(half, wanted);
    }

    #[test]
    fn many_pods_are_many_small_operations() {
        let all: Vec<u8> = (0..=255).collect();
        let [_, switch, _] = plan(&RuleSet::default(), &rules(set(&all), "chain", &all));
        for operation in switch {
            match operation {
                Operation::Add(_, members) => assert!(members.len() <= AT_ONCE),
                Operation::Entries { new, .. } => assert!(new.len() <= AT_ONCE),
                other => panic!("{other:?}"),
            }
        }
    }
}
