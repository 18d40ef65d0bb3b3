//! Services as nftables rules: kube-proxy's role.
//!
//! [`compile`] says what Services come to, and `plan` by which changes the kernel gets there; both are pure.
//! [`KubeProxy::apply`] makes the changes: only what differs is touched, so that connections through Services that stay are
//! not disturbed.

mod apply;
mod compile;
mod conntrack;
mod plan;
#[cfg(test)]
mod properties;

pub use apply::{KubeProxy, ProxyError};
pub use compile::{NodeFacts, compile};

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

/// A transport protocol that Services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its number. Source: IANA's protocol numbers.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// An address and port of the cluster that a Service is reached at: a front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// The ClusterIP, the node's address for a node port, or an external address.
    pub ip: Ipv4Addr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.ip, self.protocol, self.port)
    }
}

/// What a client meets at a front.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// One of the endpoints.
    To(Backends),
    /// Refused at once: no endpoint is there.
    Refused,
    /// Dropped: there are endpoints, and the Service's traffic policy leads to none of them.
    Dropped,
}

/// The endpoints behind a front.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backends {
    /// Each is as likely as the others.
    pub endpoints: BTreeSet<SocketAddrV4>,
    /// Endpoints see the node's address instead of the client's.
    pub masquerade: bool,
    /// A client comes to the endpoint it came to last.
    pub affinity: Option<Affinity>,
}

/// Session affinity by the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affinity {
    /// The Service port, by its ClusterIP: what its fronts remember, they remember together.
    pub of: ServicePort,
    /// How long after its last connection a client is remembered.
    pub seconds: u32,
}

/// What Services come to: where each address and port leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// Every front that is led somewhere or is treated apart.
    pub fronts: BTreeMap<ServicePort, Way>,
    /// ClusterIPs whose other ports are refused: those without endpoints, and those the Service does not have.
    pub cluster_ips: BTreeSet<Ipv4Addr>,
}

impl RuleSet {
    /// Addresses of endpoints: one that reaches itself through its Service must seem to come from elsewhere.
    fn endpoint_addresses(&self) -> BTreeSet<Ipv4Addr> {
        let backends = self.fronts.values().filter_map(|way| match way {
            Way::To(backends) => Some(&backends.endpoints),
            Way::Refused | Way::Dropped => None,
        });
        backends.flatten().map(|endpoint| *endpoint.ip()).collect()
    }
}
