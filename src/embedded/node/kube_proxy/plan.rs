//! From the rules that are to the rules that are wanted, in operations that the kernel makes whole and that are safe wherever
//! they stop.
//!
//! 1. Endpoints that are to be known as such, and sets and chains that nothing leads to yet.
//! 2. Chains whose rules change, and the maps and sets that lead to chains.
//! 3. Chains that nothing leads to any more, and then sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use super::{Affinity, Backends, RuleSet, ServicePort, Way};

/// The most elements of one operation, so that it always fits into a transaction.
const AT_ONCE: usize = 256;

/// The rules of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chain {
    /// What a front leads to: one of the endpoints, directly.
    Direct {
        masquerade: bool,
        endpoints: Vec<SocketAddrV4>,
    },
    /// What a front leads to: the endpoint whose set has the client, else the chain of one of them.
    Sticky { masquerade: bool, endpoints: Vec<Sticky> },
    /// One endpoint, which remembers the client in its set.
    Endpoint {
        set: String,
        seconds: u32,
        endpoint: SocketAddrV4,
    },
}

/// An endpoint that remembers its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sticky {
    pub(super) set: String,
    pub(super) chain: String,
}

/// What becomes of packets to a front that is not translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Refuse,
    Drop,
}

/// What the kernel has of Services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Sets of clients that endpoints remember.
    pub(super) sets: BTreeSet<String>,
    /// Chains by name.
    pub(super) chains: BTreeMap<String, Chain>,
    /// The chain that each front leads to.
    pub(super) ports: BTreeMap<ServicePort, String>,
    /// Fronts that lead nowhere.
    pub(super) refused: BTreeMap<ServicePort, Refusal>,
    /// ClusterIPs: what was not translated is refused.
    pub(super) cluster_ips: BTreeSet<Ipv4Addr>,
    /// Endpoints, each to be met as source and destination at once.
    pub(super) hairpin: BTreeSet<Ipv4Addr>,
}

/// A change that the kernel makes whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    AddSet(String),
    /// A chain with its rules.
    AddChain(String, Chain),
    /// Other rules for a chain.
    Fill(String, Chain),
    DeleteChain(String),
    DeleteSet(String),
    /// Where a front leads from now on, and where it led.
    Turn {
        front: ServicePort,
        from: Lead,
        to: Lead,
    },
    ClusterIps {
        gone: Vec<Ipv4Addr>,
        new: Vec<Ipv4Addr>,
    },
    Hairpin {
        gone: Vec<Ipv4Addr>,
        new: Vec<Ipv4Addr>,
    },
}

/// What the maps have for a front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lead {
    Nowhere,
    Chain(String),
    Refusal(Refusal),
}

impl Rules {
    /// The sets, chains and maps that a rule set comes to.
    pub(super) fn of(wanted: &RuleSet) -> Self {
        let mut rules = Self {
            cluster_ips: wanted.cluster_ips.clone(),
            hairpin: wanted.endpoint_addresses(),
            ..Self::default()
        };
        for (front, way) in &wanted.fronts {
            match way {
                Way::Refused => {
                    rules.refused.insert(*front, Refusal::Refuse);
                }
                Way::Dropped => {
                    rules.refused.insert(*front, Refusal::Drop);
                }
                Way::To(backends) => {
                    let name = format!("port-{front}");
                    let chain = rules.chain_to(backends);
                    rules.chains.insert(name.clone(), chain);
                    rules.ports.insert(*front, name);
                }
            }
        }
        rules
    }

    fn chain_to(&mut self, backends: &Backends) -> Chain {
        let masquerade = backends.masquerade;
        let Some(Affinity { of, seconds }) = backends.affinity else {
            return Chain::Direct {
                masquerade,
                endpoints: backends.endpoints.iter().copied().collect(),
            };
        };
        let mut endpoints = Vec::new();
        for &endpoint in &backends.endpoints {
            let place = format!("{of}-{}-{}", endpoint.ip(), endpoint.port());
            let (set, chain) = (format!("clients-{place}"), format!("endpoint-{place}"));
            self.sets.insert(set.clone());
            let rules = Chain::Endpoint {
                set: set.clone(),
                seconds,
                endpoint,
            };
            self.chains.insert(chain.clone(), rules);
            endpoints.push(Sticky { set, chain });
        }
        Chain::Sticky { masquerade, endpoints }
    }

    fn lead(&self, front: ServicePort) -> Lead {
        match (self.ports.get(&front), self.refused.get(&front)) {
            (Some(chain), _) => Lead::Chain(chain.clone()),
            (None, Some(refusal)) => Lead::Refusal(*refusal),
            (None, None) => Lead::Nowhere,
        }
    }

    fn fronts(&self) -> impl Iterator<Item = ServicePort> {
        self.ports.keys().chain(self.refused.keys()).copied()
    }

    /// Makes an operation's change.
    pub(super) fn perform(&mut self, operation: &Operation) {
        match operation {
            Operation::AddSet(set) => {
                self.sets.insert(set.clone());
            }
            Operation::AddChain(name, chain) | Operation::Fill(name, chain) => {
                self.chains.insert(name.clone(), chain.clone());
            }
            Operation::DeleteChain(name) => {
                self.chains.remove(name);
            }
            Operation::DeleteSet(set) => {
                self.sets.remove(set);
            }
            Operation::Turn { front, to, .. } => {
                self.ports.remove(front);
                self.refused.remove(front);
                match to {
                    Lead::Nowhere => {}
                    Lead::Chain(chain) => {
                        self.ports.insert(*front, chain.clone());
                    }
                    Lead::Refusal(refusal) => {
                        self.refused.insert(*front, *refusal);
                    }
                }
            }
            Operation::ClusterIps { gone, new } => change(&mut self.cluster_ips, gone, new),
            Operation::Hairpin { gone, new } => change(&mut self.hairpin, gone, new),
        }
    }
}

fn change(set: &mut BTreeSet<Ipv4Addr>, gone: &[Ipv4Addr], new: &[Ipv4Addr]) {
    for ip in gone {
        set.remove(ip);
    }
    set.extend(new);
}

/// The operations from `now` to `wanted`, in order.
pub(super) fn plan(now: &Rules, wanted: &Rules) -> Vec<Operation> {
    let mut all = Vec::new();
    // an endpoint is known as one before anything leads to it, and until nothing does
    all.extend(differences(&BTreeSet::new(), &wanted.hairpin, &now.hairpin).map(hairpin));
    all.extend(wanted.sets.difference(&now.sets).cloned().map(Operation::AddSet));
    // chains of endpoints come before the chains that lead to them
    let (ends, fronts): (Vec<_>, Vec<_>) = wanted
        .chains
        .iter()
        .partition(|(_, chain)| matches!(chain, Chain::Endpoint { .. }));
    for (name, chain) in ends.into_iter().chain(fronts) {
        match now.chains.get(name) {
            None => all.push(Operation::AddChain(name.clone(), chain.clone())),
            Some(had) if had != chain => all.push(Operation::Fill(name.clone(), chain.clone())),
            Some(_) => {}
        }
    }
    let turned: BTreeSet<ServicePort> = now.fronts().chain(wanted.fronts()).collect();
    for front in turned {
        let (from, to) = (now.lead(front), wanted.lead(front));
        if from != to {
            all.push(Operation::Turn { front, from, to });
        }
    }
    let refused = differences(&now.cluster_ips, &wanted.cluster_ips, &now.cluster_ips);
    all.extend(refused.map(|(gone, new)| Operation::ClusterIps { gone, new }));
    all.extend(differences(&now.hairpin, &wanted.hairpin, &wanted.hairpin).map(hairpin));
    let gone = |end: bool| {
        let gone = now.chains.iter().filter(|(name, _)| !wanted.chains.contains_key(*name));
        let of_this_kind = gone.filter(move |(_, chain)| matches!(chain, Chain::Endpoint { .. }) == end);
        of_this_kind.map(|(name, _)| Operation::DeleteChain(name.clone()))
    };
    all.extend(gone(false).chain(gone(true)));
    all.extend(now.sets.difference(&wanted.sets).cloned().map(Operation::DeleteSet));
    all
}

fn hairpin((gone, new): (Vec<Ipv4Addr>, Vec<Ipv4Addr>)) -> Operation {
    Operation::Hairpin { gone, new }
}

/// What of `before` is not in `after`, and what of `after` is not in `known`, in parts.
fn differences(
    before: &BTreeSet<Ipv4Addr>,
    after: &BTreeSet<Ipv4Addr>,
    known: &BTreeSet<Ipv4Addr>,
) -> impl Iterator<Item = (Vec<Ipv4Addr>, Vec<Ipv4Addr>)> {
    let gone: Vec<Ipv4Addr> = before.difference(after).copied().collect();
    let new: Vec<Ipv4Addr> = after.difference(known).copied().collect();
    let part = |list: &[Ipv4Addr]| -> Vec<Vec<Ipv4Addr>> { list.chunks(AT_ONCE).map(<[_]>::to_vec).collect() };
    let gone = part(&gone).into_iter().map(|gone| (gone, Vec::new()));
    gone.chain(part(&new).into_iter().map(|new| (Vec::new(), new)))
}
