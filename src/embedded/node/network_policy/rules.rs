//! What policies come to: sets, chains of rules, and an entry for every pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display},
    net::Ipv4Addr,
};

use sha2::{Digest, Sha256};

/// The set of pairs (pod, the same pod): what a pod sends to itself by way of a Service.
pub(super) const ITSELF: &str = "itself";
/// The same in words.
pub(super) const ITSELF_NOTE: &str = "every pod and itself";

/// A transport protocol that policies know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol of this name in the API; TCP where none is given.
    pub fn named(name: Option<&str>) -> Option<Self> {
        match name.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Its number in the IPv4 header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Set {
    /// Pods' addresses.
    Addresses(BTreeSet<Ipv4Addr>),
    /// Pods' addresses, each to be met as source and destination at once.
    Itself(BTreeSet<Ipv4Addr>),
    /// Ports of certain addresses.
    Endpoints(BTreeSet<(Ipv4Addr, Protocol, u16)>),
    /// Ranges of addresses, ends included, in order and apart; never changed under the same name.
    Ranges(Vec<(Ipv4Addr, Ipv4Addr)>),
}

/// What a rule asks of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Its source is in the set.
    Source(String),
    /// Its destination is in the set.
    Destination(String),
    /// Its destination, protocol and port are in the set.
    Endpoint(String),
    /// It is of this protocol, and its destination port is within these, ends included, if given.
    Ports(Protocol, Option<(u16, u16)>),
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is gone.
    Drop,
    /// Another chain judges it, and if that comes to no verdict, the next rule.
    Jump(String),
    /// Another chain judges it, and if that comes to no verdict, it is gone.
    Goto(String),
}

/// A rule: where all matches hold, the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What must hold.
    pub matches: Vec<Match>,
    /// What becomes of the packet then.
    pub verdict: Verdict,
}

/// Everything the kernel is to know about policies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleSet {
    /// Sets by name.
    pub sets: BTreeMap<String, Set>,
    /// What a set holds, in words, by its name: for whoever reads the kernel's rules.
    pub notes: BTreeMap<String, String>,
    /// Chains by name.
    pub chains: BTreeMap<String, Vec<Rule>>,
    /// What becomes of what a pod sends.
    pub egress: BTreeMap<Ipv4Addr, Verdict>,
    /// What becomes of what a pod gets.
    pub ingress: BTreeMap<Ipv4Addr, Verdict>,
}

impl Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(set) => write!(f, "from @{set}"),
            Self::Destination(set) => write!(f, "to @{set}"),
            Self::Endpoint(set) => write!(f, "to endpoint @{set}"),
            Self::Ports(protocol, None) => write!(f, "{protocol}"),
            Self::Ports(protocol, Some((first, last))) if first == last => write!(f, "{protocol} {first}"),
            Self::Ports(protocol, Some((first, last))) => write!(f, "{protocol} {first}-{last}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.matches {
            write!(f, "{one} ")?;
        }
        write!(f, "{}", self.verdict)
    }
}

/// Hexadecimal digits that stand for `content`: 80 bits, so that nobody finds two policies with one name.
pub(super) fn digest(content: &str) -> String {
    Sha256::digest(content)
        .iter()
        .take(10)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
