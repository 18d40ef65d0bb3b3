//! Rules to the kernel.
//!
//! ```text
//! forward -1   egress        replies, and a pod to itself: accept    ip saddr vmap @egress     else drop
//! forward  0   ingress       the same                                ip daddr vmap @ingress    else drop
//! input    0   egress-node   the node to itself, replies: accept     ip saddr vmap @egress     else drop
//! ```
//!
//! `accept` leaves a base chain, so a packet between pods needs both. Address translation has taken place before: a Service is
//! judged by the pod behind it.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::node::{
    gate::{EGRESS, INGRESS, TABLE},
    netlink::{NetlinkError, Socket},
    nftables::{self, Data, Element, Expression, Hook, Transaction, Type, Verdict as Code},
};

use super::{
    plan::{Direction, Member, Operation, made, plan},
    rules::{ITSELF, ITSELF_NOTE, Match, Rule, RuleSet, Set, Verdict},
};

/// Bytes for the end of a transaction, and those that the kernel keeps to itself.
const END: usize = 64;
/// The most answers of a transaction: they must fit the receive buffer, where each takes about 1 KiB.
const ANSWERS: usize = 256;

/// Why rules could not be applied.
#[derive(Debug, thiserror::Error)]
#[error(
    "nftables: {0} (does this kernel have nf_tables with connection tracking? try `sudo modprobe -a nf_tables nf_conntrack nft_ct`)"
)]
pub struct PolicyError(#[from] NetlinkError);

impl PolicyError {
    /// What the kernel said.
    pub fn refused(&self) -> &NetlinkError {
        &self.0
    }
}

/// Holds what the kernel has, and changes it to what is wanted.
#[derive(Debug)]
pub struct KernelRules {
    socket: Socket,
    /// The most bytes of a transaction. For an ordinary user of a usual machine that is 416 KiB, the entries of more pods than a
    /// node takes.
    transaction: usize,
    applied: RuleSet,
}

impl KernelRules {
    /// Makes the table and its base chains in the network namespace of the calling thread. From here on, no pod reaches
    /// another or the node before it has its entries.
    ///
    /// # Errors
    /// When the kernel lacks a part of nftables.
    pub fn start() -> Result<Self, PolicyError> {
        Self::begin(Socket::netfilter()?)
    }

    /// [`start`](Self::start) as on a machine on which this user may send no more than `bytes` at once
    /// (`net.core.wmem_max`), for tests.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn start_within(bytes: usize) -> Result<Self, PolicyError> {
        let socket = Socket::netfilter()?;
        socket.bound_batch(bytes);
        Self::begin(socket)
    }

    fn begin(socket: Socket) -> Result<Self, PolicyError> {
        let mut to = Transaction::new(TABLE);
        to.add_table();
        for map in [EGRESS, INGRESS] {
            to.add_verdict_map(map, &[Type::Address]);
        }
        to.add_noted_set(ITSELF, &[Type::Address, Type::Address], ITSELF_NOTE);
        let replies = [Expression::IsReply, Expression::Then(Code::Accept)];
        let itself = [
            Expression::SourceAddress(0),
            Expression::DestinationAddress(1),
            Expression::In(ITSELF.into()),
            Expression::Then(Code::Accept),
        ];
        let by_source = [Expression::SourceAddress(0), Expression::VerdictOf(EGRESS)];
        let by_destination = [Expression::DestinationAddress(0), Expression::VerdictOf(INGRESS)];
        let from_node = [Expression::FromLoopback, Expression::Then(Code::Accept)];
        for (chain, hook, priority, rules) in [
            ("egress", Hook::Forward, -1, [&replies[..], &itself, &by_source]),
            ("ingress", Hook::Forward, 0, [&replies, &itself, &by_destination]),
            ("egress-node", Hook::Input, 0, [&from_node, &replies, &by_source]),
        ] {
            to.add_closed_base_chain(chain, hook, priority);
            for rule in rules {
                to.add_rule(chain, rule);
            }
        }
        to.commit(&socket)?;
        let applied = RuleSet {
            sets: BTreeMap::from([(ITSELF.to_owned(), Set::Itself(std::collections::BTreeSet::new()))]),
            notes: BTreeMap::from([(ITSELF.to_owned(), ITSELF_NOTE.to_owned())]),
            ..RuleSet::default()
        };
        let transaction = socket.largest_batch().saturating_sub(END);
        Ok(Self {
            socket,
            transaction,
            applied,
        })
    }

    /// The number of the kernel's rules in this network namespace, which every transaction raises by one.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn generation(&self) -> Result<u32, PolicyError> {
        Ok(nftables::generation(&self.socket)?)
    }

    /// Brings the kernel's rules to `wanted`: only what differs is touched. What changes for pods is changed at once, where one
    /// transaction holds it; else a part after the other, each pod being judged by its rules of before or of after.
    ///
    /// # Errors
    /// What the kernel refused; what was changed before is kept, and the next call goes on from there.
    pub fn apply(&mut self, wanted: &RuleSet) -> Result<(), PolicyError> {
        for step in plan(&self.applied, wanted) {
            let mut to = Transaction::new(TABLE);
            let mut pending = Vec::new();
            for operation in step {
                let before = to.mark();
                encode(&mut to, &operation);
                let full = to.len() > self.transaction || to.answers() > ANSWERS;
                if full && !pending.is_empty() {
                    to.back_to(before);
                    std::mem::replace(&mut to, Transaction::new(TABLE)).commit(&self.socket)?;
                    self.keep(&mut pending);
                    encode(&mut to, &operation);
                }
                pending.push(operation);
            }
            if !pending.is_empty() {
                to.commit(&self.socket)?;
                self.keep(&mut pending);
            }
        }
        Ok(())
    }

    fn keep(&mut self, committed: &mut Vec<Operation>) {
        for operation in committed.drain(..) {
            made(&mut self.applied, operation);
        }
    }
}

fn encode(to: &mut Transaction, operation: &Operation) {
    match operation {
        Operation::AddSet(name, set, note) => match set {
            Set::Addresses(_) => to.add_noted_set(name, &[Type::Address], note),
            Set::Itself(_) => to.add_noted_set(name, &[Type::Address, Type::Address], note),
            Set::Endpoints(_) => to.add_noted_set(name, &[Type::Address, Type::Protocol, Type::Port], note),
            Set::Ranges(ranges) => {
                let ranges: Vec<(u32, u32)> = ranges
                    .iter()
                    .map(|&(first, last)| (first.into(), last.into()))
                    .collect();
                to.add_address_ranges(name, &ranges);
            }
        },
        Operation::Remove(name, members) => to.delete_elements(name, &elements(members)),
        Operation::Add(name, members) => to.add_elements(name, &elements(members)),
        Operation::AddChain(name) => to.add_chain(name),
        Operation::AddRule(chain, rule) => to.add_rule(chain, &expressions(rule)),
        Operation::Entries { direction, gone, new } => {
            let map = match direction {
                Direction::Ingress => INGRESS,
                Direction::Egress => EGRESS,
            };
            to.delete_elements(map, &entries(gone));
            to.add_elements(map, &entries(new));
        }
        Operation::FlushChain(name) => to.flush_chain(name),
        Operation::DeleteChain(name) => to.delete_chain(name),
        Operation::DeleteSet(name) => to.delete_set(name),
    }
}

fn entries(entries: &[(Ipv4Addr, Verdict)]) -> Vec<Element> {
    entries
        .iter()
        .map(|(ip, verdict)| (ip.octets().to_vec(), Some(Data::Verdict(code(verdict)))))
        .collect()
}

fn elements(members: &[Member]) -> Vec<Element> {
    let key = |member: &Member| match *member {
        Member::Address(ip) => ip.octets().to_vec(),
        Member::Itself(ip) => [ip.octets(), ip.octets()].concat(),
        Member::Endpoint(ip, protocol, port) => {
            let [high, low] = port.to_be_bytes();
            [ip.octets(), [protocol.number(), 0, 0, 0], [high, low, 0, 0]].concat()
        }
    };
    members.iter().map(|member| (key(member), None)).collect()
}

fn code(verdict: &Verdict) -> Code {
    match verdict {
        Verdict::Accept => Code::Accept,
        Verdict::Drop => Code::Drop,
        Verdict::Jump(chain) => Code::Jump(chain.clone()),
        Verdict::Goto(chain) => Code::Goto(chain.clone()),
    }
}

fn expressions(rule: &Rule) -> Vec<Expression> {
    let mut all = Vec::new();
    for wanted in &rule.matches {
        match wanted {
            Match::Source(set) => all.extend([Expression::SourceAddress(0), Expression::In(set.clone().into())]),
            Match::Destination(set) => {
                all.extend([Expression::DestinationAddress(0), Expression::In(set.clone().into())])
            }
            Match::Endpoint(set) => all.extend([
                Expression::DestinationAddress(0),
                Expression::Protocol(1),
                Expression::DestinationPort(2),
                Expression::In(set.clone().into()),
            ]),
            Match::Ports(protocol, range) => {
                all.extend([Expression::Protocol(0), Expression::Equals(0, vec![protocol.number()])]);
                if let Some((first, last)) = *range {
                    all.extend([Expression::DestinationPort(0), Expression::PortBetween(0, first, last)]);
                }
            }
        }
    }
    all.push(Expression::Then(code(&rule.verdict)));
    all
}
