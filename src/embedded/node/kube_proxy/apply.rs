//! Rules to the kernel.
//!
//! ```text
//! prerouting, output (nat)     ip daddr . meta l4proto . th dport  vmap @ports  → one chain per front
//!   port-10.96.0.7-tcp-80      dnat to numgen random mod 2 map { 0 : 10.244.0.8 . 8080, … }
//!   with session affinity      ip saddr @clients-… goto endpoint-…, else numgen … vmap to one endpoint-…
//!     endpoint-…               update @clients-… { ip saddr timeout 3h }; dnat to 10.244.0.8:8080
//!   from outside               meta mark set 0x4000 before that
//! refuse-prerouting, -output   vmap @refused; ip daddr @cluster-ips → refuse: whatever was not translated
//! postrouting (nat)            mark 0x4000, or ip saddr . ip daddr @hairpin: snat to the node's address
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::node::{
    netlink::{NetlinkError, Socket},
    nftables::{ChainType, Data, Element, Expression, Hook, Transaction, Type, Verdict},
};

use super::{
    Protocol, RuleSet, ServicePort, conntrack,
    plan::{Chain, Lead, Operation, Refusal, Rules, Sticky, plan},
};

const TABLE: &str = "ztlab-services";
const PORTS: &str = "ports";
const REFUSED: &str = "refused";
const CLUSTER_IPS: &str = "cluster-ips";
const HAIRPIN: &str = "hairpin";
/// The chain that refuses.
const REFUSE: &str = "refuse";
/// `dstnat` and `srcnat` of nft.
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
/// Right after translation, and before a route is looked for: an external address without endpoints has none. It is also
/// before the chains of NetworkPolicy: a Service without endpoints refuses whoever asks.
const AFTER_NAT: i32 = -90;
/// Packets that are to come from the node: kube-proxy's mark.
const MASQUERADE: u32 = 0x4000;
/// The most clients that one endpoint remembers.
const MOST_CLIENTS: u32 = 1 << 16;
/// A transaction that has grown to this many bytes is committed: the send buffer of an ordinary user is some 200 KiB.
const TRANSACTION: usize = 64 << 10;

/// Why rules could not be applied.
#[derive(Debug, thiserror::Error)]
#[error(
    "nftables: {0} (does this kernel have nf_tables and its nat modules? try `sudo modprobe nft_chain_nat nft_numgen nft_reject_ipv4`)"
)]
pub struct ProxyError(#[from] NetlinkError);

/// Holds what the kernel has, and changes it to what is wanted.
#[derive(Debug)]
pub struct KubeProxy {
    socket: Socket,
    wanted: RuleSet,
    applied: Rules,
}

impl KubeProxy {
    /// Makes the table and its base chains in the network namespace of the calling thread. `node` is the address that
    /// connections from outside the cluster, and those of a pod to itself, seem to come from.
    ///
    /// # Errors
    /// When the kernel lacks a part of nftables.
    pub fn start(node: Ipv4Addr) -> Result<Self, ProxyError> {
        let socket = Socket::netfilter()?;
        let mut to = Transaction::new(TABLE);
        to.add_table();
        to.add_verdict_map(PORTS, &[Type::Address, Type::Protocol, Type::Port]);
        to.add_verdict_map(REFUSED, &[Type::Address, Type::Protocol, Type::Port]);
        to.add_set(CLUSTER_IPS, &[Type::Address]);
        to.add_set(HAIRPIN, &[Type::Address, Type::Address]);
        translating(&mut to);
        refusing(&mut to);
        coming_from_the_node(&mut to, node);
        to.commit(&socket)?;
        Ok(Self {
            socket,
            wanted: RuleSet::default(),
            applied: Rules::default(),
        })
    }

    /// Brings the kernel's rules to `wanted`: only what differs is touched. UDP has no connections that end, so those that
    /// the kernel still leads to an endpoint that has gone are forgotten.
    ///
    /// # Errors
    /// What the kernel refused; what was changed before is kept, and the next call goes on from there.
    pub fn apply(&mut self, wanted: &RuleSet) -> Result<(), ProxyError> {
        let mut to = Transaction::new(TABLE);
        let mut pending = Vec::new();
        for operation in plan(&self.applied, &Rules::of(wanted)) {
            encode(&mut to, &operation);
            pending.push(operation);
            if to.len() > TRANSACTION {
                std::mem::replace(&mut to, Transaction::new(TABLE)).commit(&self.socket)?;
                pending.drain(..).for_each(|made| self.applied.perform(&made));
            }
        }
        if !pending.is_empty() {
            to.commit(&self.socket)?;
            pending.drain(..).for_each(|made| self.applied.perform(&made));
        }
        let moved = conntrack::moved(&self.wanted, wanted);
        if !moved.is_empty() {
            conntrack::forget(&self.socket, &moved)?;
        }
        self.wanted = wanted.clone();
        Ok(())
    }
}

/// The destination, protocol and port from register 0 on, looked up in a map.
fn by_front(map: &'static str) -> [Expression; 4] {
    [
        Expression::DestinationAddress(0),
        Expression::Protocol(1),
        Expression::DestinationPort(2),
        Expression::VerdictOf(map),
    ]
}

fn translating(to: &mut Transaction) {
    for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        to.add_base_chain(chain, ChainType::Nat, hook, DESTINATION_NAT);
        to.add_rule(chain, &by_front(PORTS));
    }
}

fn refusing(to: &mut Transaction) {
    to.add_chain(REFUSE);
    // a reset comes back to programs of the node too, and the kernel does not ration it as it does ICMP errors
    let reset = [
        Expression::Protocol(0),
        Expression::Equals(0, vec![Protocol::Tcp.number()]),
        Expression::Reset,
    ];
    to.add_rule(REFUSE, &reset);
    to.add_rule(REFUSE, &[Expression::Reject]);
    for (chain, hook) in [("refuse-prerouting", Hook::Prerouting), ("refuse-output", Hook::Output)] {
        to.add_base_chain(chain, ChainType::Filter, hook, AFTER_NAT);
        to.add_rule(chain, &by_front(REFUSED));
        let refuse = [
            Expression::DestinationAddress(0),
            Expression::In(CLUSTER_IPS.into()),
            Expression::Then(Verdict::Goto(REFUSE.to_owned())),
        ];
        to.add_rule(chain, &refuse);
    }
}

fn coming_from_the_node(to: &mut Transaction, node: Ipv4Addr) {
    to.add_base_chain("postrouting", ChainType::Nat, Hook::Postrouting, SOURCE_NAT);
    let from_the_node = || [Expression::Load(0, node.octets().to_vec()), Expression::SourceNat];
    let marked = [vec![Expression::Marked(MASQUERADE)], from_the_node().to_vec()].concat();
    to.add_rule("postrouting", &marked);
    let hairpin = vec![
        Expression::SourceAddress(0),
        Expression::DestinationAddress(1),
        Expression::In(HAIRPIN.into()),
    ];
    to.add_rule("postrouting", &[hairpin, from_the_node().to_vec()].concat());
}

fn encode(to: &mut Transaction, operation: &Operation) {
    match operation {
        Operation::AddSet(set) => to.add_dynamic_set(set, &[Type::Address], MOST_CLIENTS),
        Operation::AddChain(name, chain) => {
            to.add_chain(name);
            fill(to, name, chain);
        }
        Operation::Fill(name, chain) => {
            to.flush_chain(name);
            fill(to, name, chain);
        }
        Operation::DeleteChain(name) => {
            to.flush_chain(name);
            to.delete_chain(name);
        }
        Operation::DeleteSet(set) => to.delete_set(set),
        Operation::Turn { front, from, to: next } => {
            if let Some((map, element)) = entry(*front, from) {
                to.delete_elements(map, &[element]);
            }
            if let Some((map, element)) = entry(*front, next) {
                to.add_elements(map, &[element]);
            }
        }
        Operation::ClusterIps { gone, new } => change_set(to, CLUSTER_IPS, gone, new, |ip| ip.octets().to_vec()),
        Operation::Hairpin { gone, new } => {
            change_set(to, HAIRPIN, gone, new, |ip| [ip.octets(), ip.octets()].concat());
        }
    }
}

/// The map that has a front, and its element there.
fn entry(front: ServicePort, lead: &Lead) -> Option<(&'static str, Element)> {
    let (map, verdict) = match lead {
        Lead::Nowhere => return None,
        Lead::Chain(chain) => (PORTS, Verdict::Goto(chain.clone())),
        Lead::Refusal(Refusal::Refuse) => (REFUSED, Verdict::Goto(REFUSE.to_owned())),
        Lead::Refusal(Refusal::Drop) => (REFUSED, Verdict::Drop),
    };
    let mut key = front.ip.octets().to_vec();
    key.extend_from_slice(&[front.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&padded_port(front.port));
    Some((map, (key, Some(Data::Verdict(verdict)))))
}

fn padded_port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn change_set(
    to: &mut Transaction,
    set: &str,
    gone: &[Ipv4Addr],
    new: &[Ipv4Addr],
    key: impl Fn(&Ipv4Addr) -> Vec<u8>,
) {
    let elements = |ips: &[Ipv4Addr]| ips.iter().map(|ip| (key(ip), None)).collect::<Vec<Element>>();
    if !gone.is_empty() {
        to.delete_elements(set, &elements(gone));
    }
    if !new.is_empty() {
        to.add_elements(set, &elements(new));
    }
}

fn fill(to: &mut Transaction, name: &str, chain: &Chain) {
    match chain {
        Chain::Direct { masquerade, endpoints } => {
            mark(to, name, *masquerade);
            let rule = one_of(to, endpoints);
            to.add_rule(name, &rule);
        }
        Chain::Sticky { masquerade, endpoints } => {
            mark(to, name, *masquerade);
            fill_sticky(to, name, endpoints);
        }
        Chain::Endpoint { set, seconds, endpoint } => {
            let remember = [
                Expression::SourceAddress(0),
                Expression::Remember(set.clone(), u64::from(*seconds) * 1000),
            ];
            to.add_rule(name, &remember);
            let rule = one_of(to, std::slice::from_ref(endpoint));
            to.add_rule(name, &rule);
        }
    }
}

fn mark(to: &mut Transaction, name: &str, masquerade: bool) {
    if masquerade {
        to.add_rule(name, &[Expression::Mark(MASQUERADE)]);
    }
}

/// Translates to one of the endpoints.
fn one_of(to: &mut Transaction, endpoints: &[SocketAddrV4]) -> Vec<Expression> {
    if let [only] = endpoints {
        return vec![
            Expression::Load(0, only.ip().octets().to_vec()),
            Expression::Load(1, only.port().to_be_bytes().to_vec()),
            Expression::DestinationNat,
        ];
    }
    let values: Vec<Vec<u8>> = endpoints
        .iter()
        .map(|endpoint| [endpoint.ip().octets(), padded_port(endpoint.port())].concat())
        .collect();
    let map = to.add_numbered_map(&values, &[Type::Address, Type::Port]);
    vec![
        Expression::Random(u32::try_from(values.len()).unwrap_or(u32::MAX)),
        Expression::MappedBy(map),
        Expression::DestinationNat,
    ]
}

fn fill_sticky(to: &mut Transaction, name: &str, endpoints: &[Sticky]) {
    let goto = |endpoint: &Sticky| Verdict::Goto(endpoint.chain.clone());
    for endpoint in endpoints {
        let known = [
            Expression::SourceAddress(0),
            Expression::In(endpoint.set.clone().into()),
            Expression::Then(goto(endpoint)),
        ];
        to.add_rule(name, &known);
    }
    if let [only] = endpoints {
        to.add_rule(name, &[Expression::Then(goto(only))]);
        return;
    }
    let verdicts: Vec<Verdict> = endpoints.iter().map(goto).collect();
    let map = to.add_numbered_verdicts(&verdicts);
    let count = u32::try_from(verdicts.len()).unwrap_or(u32::MAX);
    to.add_rule(name, &[Expression::Random(count), Expression::NumberedVerdict(map)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_is_in_one_map() {
        let front = ServicePort {
            ip: Ipv4Addr::new(10, 96, 0, 7),
            protocol: Protocol::Udp,
            port: 53,
        };
        let key = vec![10, 96, 0, 7, 17, 0, 0, 0, 0, 53, 0, 0];
        for (lead, expected) in [
            (Lead::Nowhere, None),
            (
                Lead::Chain("x".to_owned()),
                Some((PORTS, Verdict::Goto("x".to_owned()))),
            ),
            (
                Lead::Refusal(Refusal::Refuse),
                Some((REFUSED, Verdict::Goto(REFUSE.to_owned()))),
            ),
            (Lead::Refusal(Refusal::Drop), Some((REFUSED, Verdict::Drop))),
        ] {
            let expected = expected.map(|(map, verdict)| (map, (key.clone(), Some(Data::Verdict(verdict)))));
            assert_eq!(entry(front, &lead), expected);
        }
    }
}
