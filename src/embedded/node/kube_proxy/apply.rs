//! Rules to the kernel.
//!
//! ```text
//! prerouting, output (nat)     ip daddr . meta l4proto . th dport  vmap @ports  → one chain per Service port
//!   port-10.96.0.7-tcp-80      dnat to numgen random mod 2 map { 0 : 10.244.0.8 . 8080, … }
//! forward, output (filter)     ip daddr @cluster-ips  → reject: whatever was not translated
//! postrouting (nat)            ip saddr . ip daddr @hairpin  masquerade: a pod that reached itself
//! ```

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use crate::embedded::node::{
    netlink::{NetlinkError, Socket},
    nftables::{ChainType, Data, Element, Expression, Hook, Transaction, Type, Verdict},
};

use super::{Protocol, RuleSet, ServicePort};

const TABLE: &str = "ztlab-services";
const PORTS: &str = "ports";
const CLUSTER_IPS: &str = "cluster-ips";
const HAIRPIN: &str = "hairpin";
/// `dstnat` and `srcnat` of nft.
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
/// Before the chains of NetworkPolicy at -1 and 0: a Service without endpoints refuses whoever asks.
const REFUSE: i32 = -10;
/// A transaction that has grown to this many bytes is committed: the send buffer of an ordinary user is some 200 KiB.
const TRANSACTION: usize = 64 << 10;

/// Why rules could not be applied.
#[derive(Debug, thiserror::Error)]
#[error(
    "nftables: {0} (does this kernel have nf_tables and its nat modules? try `sudo modprobe nft_chain_nat nft_masq nft_numgen nft_reject_ipv4`)"
)]
pub struct ProxyError(#[from] NetlinkError);

/// Holds what the kernel has, and changes it to what is wanted.
#[derive(Debug)]
pub struct KubeProxy {
    socket: Socket,
    applied: RuleSet,
    hairpin: BTreeSet<Ipv4Addr>,
}

impl KubeProxy {
    /// Makes the table and its base chains in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel lacks a part of nftables.
    pub fn start() -> Result<Self, ProxyError> {
        let socket = Socket::netfilter()?;
        let mut to = Transaction::new(TABLE);
        to.add_table();
        to.add_verdict_map(PORTS, &[Type::Address, Type::Protocol, Type::Port]);
        to.add_set(CLUSTER_IPS, &[Type::Address]);
        to.add_set(HAIRPIN, &[Type::Address, Type::Address]);
        for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
            to.add_base_chain(chain, ChainType::Nat, hook, DESTINATION_NAT);
            let translate = [
                Expression::DestinationAddress(0),
                Expression::Protocol(1),
                Expression::DestinationPort(2),
                Expression::VerdictOf(PORTS),
            ];
            to.add_rule(chain, &translate);
        }
        for (chain, hook) in [("refuse-forward", Hook::Forward), ("refuse-output", Hook::Output)] {
            to.add_base_chain(chain, ChainType::Filter, hook, REFUSE);
            if hook == Hook::Output {
                // an ICMP error does not come back to a program of the node that connects; a reset does
                let reset = [
                    Expression::DestinationAddress(0),
                    Expression::In(CLUSTER_IPS.into()),
                    Expression::Protocol(0),
                    Expression::Equals(0, vec![Protocol::Tcp.number()]),
                    Expression::Reset,
                ];
                to.add_rule(chain, &reset);
            }
            let refuse = [
                Expression::DestinationAddress(0),
                Expression::In(CLUSTER_IPS.into()),
                Expression::Reject,
            ];
            to.add_rule(chain, &refuse);
        }
        to.add_base_chain("postrouting", ChainType::Nat, Hook::Postrouting, SOURCE_NAT);
        let hairpin = [
            Expression::SourceAddress(0),
            Expression::DestinationAddress(1),
            Expression::In(HAIRPIN.into()),
            Expression::Masquerade,
        ];
        to.add_rule("postrouting", &hairpin);
        to.commit(&socket)?;
        Ok(Self {
            socket,
            applied: RuleSet::default(),
            hairpin: BTreeSet::new(),
        })
    }

    /// Brings the kernel's rules to `wanted`: only what differs is touched.
    ///
    /// # Errors
    /// What the kernel refused; what was changed before is kept, and the next call goes on from there.
    pub fn apply(&mut self, wanted: &RuleSet) -> Result<(), ProxyError> {
        self.apply_ports(wanted)?;
        let endpoints = wanted.endpoint_addresses();
        let mut to = Transaction::new(TABLE);
        let pair = |ip: &Ipv4Addr| [ip.octets(), ip.octets()].concat();
        let hairpin = change_set(&mut to, HAIRPIN, &self.hairpin, &endpoints, pair);
        let single = |ip: &Ipv4Addr| ip.octets().to_vec();
        let refused = change_set(
            &mut to,
            CLUSTER_IPS,
            &self.applied.cluster_ips,
            &wanted.cluster_ips,
            single,
        );
        if hairpin || refused {
            to.commit(&self.socket)?;
            self.hairpin = endpoints;
            self.applied.cluster_ips = wanted.cluster_ips.clone();
        }
        Ok(())
    }

    fn apply_ports(&mut self, wanted: &RuleSet) -> Result<(), ProxyError> {
        let all: BTreeSet<ServicePort> = self.applied.ports.keys().chain(wanted.ports.keys()).copied().collect();
        let mut to = Transaction::new(TABLE);
        let mut pending = Vec::new();
        for at in all {
            let (had, has) = (self.applied.ports.get(&at), wanted.ports.get(&at));
            if had == has {
                continue;
            }
            change_port(&mut to, at, had.is_some(), has);
            pending.push((at, has));
            if to.len() > TRANSACTION {
                std::mem::replace(&mut to, Transaction::new(TABLE)).commit(&self.socket)?;
                self.keep(&mut pending);
            }
        }
        if !pending.is_empty() {
            to.commit(&self.socket)?;
            self.keep(&mut pending);
        }
        Ok(())
    }

    fn keep(&mut self, committed: &mut Vec<(ServicePort, Option<&BTreeSet<SocketAddrV4>>)>) {
        for (at, endpoints) in committed.drain(..) {
            match endpoints {
                Some(endpoints) => self.applied.ports.insert(at, endpoints.clone()),
                None => self.applied.ports.remove(&at),
            };
        }
    }
}

/// The key of a Service port in the map of ports, and the name of its chain.
fn place(at: ServicePort) -> (Vec<u8>, String) {
    let mut key = at.ip.octets().to_vec();
    key.extend_from_slice(&[at.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&padded_port(at.port));
    (key, format!("port-{}-{}-{}", at.ip, at.protocol, at.port))
}

fn padded_port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn change_port(to: &mut Transaction, at: ServicePort, existed: bool, endpoints: Option<&BTreeSet<SocketAddrV4>>) {
    let (key, chain) = place(at);
    let element: [Element; 1] = [(key, Some(Data::Verdict(Verdict::Goto(chain.clone()))))];
    let Some(endpoints) = endpoints else {
        to.delete_elements(PORTS, &element);
        to.flush_chain(&chain);
        to.delete_chain(&chain);
        return;
    };
    if existed {
        to.flush_chain(&chain);
    } else {
        to.add_chain(&chain);
    }
    let rule = match endpoints.first() {
        Some(only) if endpoints.len() == 1 => vec![
            Expression::Load(0, only.ip().octets().to_vec()),
            Expression::Load(1, only.port().to_be_bytes().to_vec()),
            Expression::DestinationNat,
        ],
        _ => {
            let values: Vec<Vec<u8>> = endpoints
                .iter()
                .map(|endpoint| [endpoint.ip().octets(), padded_port(endpoint.port())].concat())
                .collect();
            let map = to.add_numbered_map(&values, &[Type::Address, Type::Port]);
            let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
            vec![
                Expression::Random(count),
                Expression::MappedBy(map),
                Expression::DestinationNat,
            ]
        }
    };
    to.add_rule(&chain, &rule);
    if !existed {
        to.add_elements(PORTS, &element);
    }
}

/// Adds and deletes what differs; says whether anything does.
fn change_set(
    to: &mut Transaction,
    set: &str,
    had: &BTreeSet<Ipv4Addr>,
    has: &BTreeSet<Ipv4Addr>,
    key: impl Fn(&Ipv4Addr) -> Vec<u8>,
) -> bool {
    let elements = |ips: &mut dyn Iterator<Item = &Ipv4Addr>| ips.map(|ip| (key(ip), None)).collect::<Vec<Element>>();
    let gone = elements(&mut had.difference(has));
    let new = elements(&mut has.difference(had));
    to.delete_elements(set, &gone);
    to.add_elements(set, &new);
    !(gone.is_empty() && new.is_empty())
}
