//! A model of the kernel: says what becomes of a packet under a rule set, as the base chains of [`super::apply`] lay it out.

use std::net::Ipv4Addr;

use super::rules::{Match, Protocol, RuleSet, Set, Verdict};

/// A packet; `port` is its destination's.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
    pub reply: bool,
}

fn holds(rules: &RuleSet, wanted: &Match, packet: Packet) -> bool {
    let within = |set: &str, address: Ipv4Addr| match &rules.sets[set] {
        Set::Addresses(set) => set.contains(&address),
        Set::Ranges(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&address)),
        other => panic!("{set} is {other:?}"),
    };
    match wanted {
        Match::Source(set) => within(set, packet.source),
        Match::Destination(set) => within(set, packet.destination),
        Match::Endpoint(set) => match &rules.sets[set] {
            Set::Endpoints(set) => set.contains(&(packet.destination, packet.protocol, packet.port)),
            other => panic!("{set} is {other:?}"),
        },
        Match::Ports(protocol, range) => {
            *protocol == packet.protocol && range.is_none_or(|(first, last)| (first..=last).contains(&packet.port))
        }
    }
}

/// What a chain says: `None` where its end is reached.
fn run(rules: &RuleSet, chain: &str, packet: Packet) -> Option<bool> {
    for rule in &rules.chains[chain] {
        if rule.matches.iter().all(|wanted| holds(rules, wanted, packet)) {
            match &rule.verdict {
                Verdict::Accept => return Some(true),
                Verdict::Drop => return Some(false),
                Verdict::Goto(chain) => return run(rules, chain, packet),
                Verdict::Jump(chain) => {
                    if let Some(said) = run(rules, chain, packet) {
                        return Some(said);
                    }
                }
            }
        }
    }
    None
}

fn entry(rules: &RuleSet, verdict: Option<&Verdict>, packet: Packet) -> bool {
    match verdict {
        Some(Verdict::Accept) => true,
        Some(Verdict::Goto(chain)) => run(rules, chain, packet).unwrap_or(false),
        Some(Verdict::Drop) | None => false,
        Some(Verdict::Jump(_)) => panic!("an entry jumps"),
    }
}

fn to_itself(rules: &RuleSet, packet: Packet) -> bool {
    matches!(&rules.sets["itself"], Set::Itself(pods) if packet.source == packet.destination && pods.contains(&packet.source))
}

/// Whether a pod may send a packet.
pub fn sends(rules: &RuleSet, packet: Packet) -> bool {
    packet.reply || to_itself(rules, packet) || entry(rules, rules.egress.get(&packet.source), packet)
}

/// Whether a pod may get a packet.
pub fn gets(rules: &RuleSet, packet: Packet) -> bool {
    packet.reply || to_itself(rules, packet) || entry(rules, rules.ingress.get(&packet.destination), packet)
}

/// Whether the node passes a packet on from one pod to another.
pub fn forwards(rules: &RuleSet, packet: Packet) -> bool {
    sends(rules, packet) && gets(rules, packet)
}

/// Whether the node takes a packet that a pod sends to it.
pub fn takes_in(rules: &RuleSet, packet: Packet) -> bool {
    packet.reply || entry(rules, rules.egress.get(&packet.source), packet)
}
