//! The plan under random rule sets, by a kernel that refuses what nftables refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use proptest::{collection::btree_map, collection::btree_set, option, prelude::*};

use super::{
    Affinity, Backends, Protocol, RuleSet, ServicePort, Way,
    plan::{Chain, Lead, Operation, Rules, plan},
};

fn front(n: u8) -> ServicePort {
    ServicePort {
        ip: Ipv4Addr::new(10, 96, 0, n),
        protocol: if n.is_multiple_of(2) {
            Protocol::Tcp
        } else {
            Protocol::Udp
        },
        port: 80,
    }
}

fn endpoint(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 244, 0, n), 8080)
}

fn way() -> impl Strategy<Value = Way> {
    let backends = (
        btree_set(0_u8..5, 1..4),
        any::<bool>(),
        option::of((0_u8..3, prop_oneof![Just(5_u32), Just(10_800)])),
    );
    prop_oneof![
        1 => Just(Way::Refused),
        1 => Just(Way::Dropped),
        4 => backends.prop_map(|(endpoints, masquerade, affinity)| Way::To(Backends {
            endpoints: endpoints.into_iter().map(endpoint).collect(),
            masquerade,
            affinity: affinity.map(|(of, seconds)| Affinity { of: front(of), seconds }),
        })),
    ]
}

fn rule_set() -> impl Strategy<Value = RuleSet> {
    (btree_map(0_u8..6, way(), 0..6), btree_set(0_u8..6, 0..6)).prop_map(|(ways, ips)| {
        let mut rules = RuleSet {
            fronts: ways.into_iter().map(|(n, way)| (front(n), way)).collect(),
            cluster_ips: ips.into_iter().map(|n| front(n).ip).collect(),
        };
        // fronts of one Service port remember for the same time: it is the Service that says how long
        let mut said = BTreeMap::new();
        for way in rules.fronts.values_mut() {
            if let Way::To(Backends {
                affinity: Some(affinity),
                ..
            }) = way
            {
                affinity.seconds = *said.entry(affinity.of).or_insert(affinity.seconds);
            }
        }
        rules
    })
}

/// What a chain's rules name: sets and chains.
fn names(chain: &Chain) -> (Vec<&String>, Vec<&String>) {
    match chain {
        Chain::Direct { .. } => (Vec::new(), Vec::new()),
        Chain::Sticky { endpoints, .. } => (
            endpoints.iter().map(|endpoint| &endpoint.set).collect(),
            endpoints.iter().map(|endpoint| &endpoint.chain).collect(),
        ),
        Chain::Endpoint { set, .. } => (vec![set], Vec::new()),
    }
}

/// Makes a change if the kernel would.
fn strictly(rules: &mut Rules, operation: &Operation) -> Result<(), String> {
    let holds = |what: bool, why: &str| {
        if what {
            Ok(())
        } else {
            Err(format!("{why}: {operation:?}"))
        }
    };
    match operation {
        Operation::AddSet(set) => holds(!rules.sets.contains(set), "exists")?,
        Operation::AddChain(name, _) => holds(!rules.chains.contains_key(name), "exists")?,
        Operation::Fill(name, _) => holds(rules.chains.contains_key(name), "is not there")?,
        Operation::DeleteChain(name) => {
            holds(rules.chains.contains_key(name), "is not there")?;
            holds(!rules.ports.values().any(|chain| chain == name), "a front leads to it")?;
            let named = rules.chains.values().any(|chain| names(chain).1.contains(&name));
            holds(!named, "a chain leads to it")?;
        }
        Operation::DeleteSet(set) => {
            holds(rules.sets.contains(set), "is not there")?;
            let named = rules.chains.values().any(|chain| names(chain).0.contains(&set));
            holds(!named, "a chain uses it")?;
        }
        Operation::Turn { front, from, to } => {
            let had = match (rules.ports.get(front), rules.refused.get(front)) {
                (None, None) => Lead::Nowhere,
                (Some(chain), None) => Lead::Chain(chain.clone()),
                (None, Some(refusal)) => Lead::Refusal(*refusal),
                (Some(_), Some(_)) => return Err(format!("in both maps: {operation:?}")),
            };
            holds(had == *from, "led elsewhere")?;
            if let Lead::Chain(chain) = to {
                holds(rules.chains.contains_key(chain), "no such chain")?;
            }
        }
        Operation::ClusterIps { gone, new } => known(&rules.cluster_ips, gone, new)?,
        Operation::Hairpin { gone, new } => known(&rules.hairpin, gone, new)?,
    }
    if let Operation::AddChain(_, chain) | Operation::Fill(_, chain) = operation {
        let (sets, chains) = names(chain);
        holds(sets.iter().all(|set| rules.sets.contains(*set)), "no such set")?;
        holds(
            chains.iter().all(|chain| rules.chains.contains_key(*chain)),
            "no such chain",
        )?;
    }
    rules.perform(operation);
    Ok(())
}

fn known(set: &BTreeSet<Ipv4Addr>, gone: &[Ipv4Addr], new: &[Ipv4Addr]) -> Result<(), String> {
    let fine = gone.iter().all(|ip| set.contains(ip)) && !new.iter().any(|ip| set.contains(ip));
    if fine {
        Ok(())
    } else {
        Err(format!("{set:?} without {gone:?} and with {new:?}"))
    }
}

/// The endpoints that a front leads to.
fn reached(rules: &Rules, front: &ServicePort) -> BTreeSet<SocketAddrV4> {
    let Some(chain) = rules.ports.get(front).and_then(|name| rules.chains.get(name)) else {
        return BTreeSet::new();
    };
    match chain {
        Chain::Direct { endpoints, .. } => endpoints.iter().copied().collect(),
        Chain::Sticky { endpoints, .. } => endpoints
            .iter()
            .filter_map(|endpoint| match rules.chains.get(&endpoint.chain) {
                Some(Chain::Endpoint { endpoint, .. }) => Some(*endpoint),
                _ => None,
            })
            .collect(),
        Chain::Endpoint { .. } => BTreeSet::new(),
    }
}

fn led(rules: &RuleSet, front: &ServicePort) -> BTreeSet<SocketAddrV4> {
    match rules.fronts.get(front) {
        Some(Way::To(backends)) => backends.endpoints.clone(),
        _ => BTreeSet::new(),
    }
}

proptest! {
    /// Whatever was, and wherever it stops, the kernel takes every operation, and in the end has what was wanted.
    #[test]
    fn every_plan_is_taken_and_leads_to_what_is_wanted(all in prop::collection::vec((rule_set(), 0_usize..40), 1..6)) {
        let mut kernel = Rules::default();
        let mut last = RuleSet::default();
        for (wanted, stop) in all {
            for operation in plan(&kernel, &Rules::of(&wanted)).iter().take(stop) {
                strictly(&mut kernel, operation).map_err(TestCaseError::fail)?;
            }
            last = wanted;
        }
        for operation in plan(&kernel, &Rules::of(&last)) {
            strictly(&mut kernel, &operation).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(&kernel, &Rules::of(&last));
        prop_assert_eq!(plan(&kernel, &Rules::of(&last)), vec![]);
        for front in last.fronts.keys() {
            prop_assert_eq!(reached(&kernel, front), led(&last, front));
        }
    }

    /// At every moment a front leads to what it led to or to what it is to lead to; one that stays is not touched.
    #[test]
    fn a_front_leads_somewhere_at_every_moment(before in rule_set(), after in rule_set()) {
        let mut kernel = Rules::of(&before);
        for operation in plan(&Rules::of(&before), &Rules::of(&after)) {
            strictly(&mut kernel, &operation).map_err(TestCaseError::fail)?;
            for front in before.fronts.keys().chain(after.fronts.keys()) {
                let now = reached(&kernel, front);
                prop_assert!(now == led(&before, front) || now == led(&after, front), "{:?} by {:?}", now, operation);
                if before.fronts.get(front) == after.fronts.get(front) {
                    let name = format!("port-{front}");
                    let touched = match &operation {
                        Operation::Fill(chain, _) | Operation::DeleteChain(chain) => *chain == name,
                        Operation::Turn { front: turned, .. } => turned == front,
                        _ => false,
                    };
                    prop_assert!(!touched, "{:?}", operation);
                }
            }
            let reached: BTreeSet<Ipv4Addr> = before
                .fronts
                .keys()
                .chain(after.fronts.keys())
                .flat_map(|front| reached(&kernel, front))
                .map(|endpoint| *endpoint.ip())
                .collect();
            prop_assert!(reached.is_subset(&kernel.hairpin), "an endpoint is known as one: {:?}", operation);
        }
    }
}
