//! Services as nftables rules: kube-proxy's role.
//!
//! [`compile`] is pure; [`KubeProxy::apply`] brings the kernel's rules to what it says, by incremental changes, so that
//! connections through Services that stay are not disturbed.

mod apply;
mod compile;

pub use apply::{KubeProxy, ProxyError};
pub use compile::compile;

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

/// An address of the cluster that a Service is reached at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// The ClusterIP, the node's address for a node port, or an external address.
    pub ip: Ipv4Addr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// What Services come to: where each address and port leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// Ready endpoints of every Service port that has some.
    pub ports: BTreeMap<ServicePort, BTreeSet<SocketAddrV4>>,
    /// ClusterIPs whose other ports are refused: those without endpoints, and those the Service does not have.
    pub cluster_ips: BTreeSet<Ipv4Addr>,
}

impl RuleSet {
    /// Addresses of endpoints: one that reaches itself through its Service must seem to come from elsewhere.
    fn endpoint_addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.ports.values().flatten().map(|endpoint| *endpoint.ip()).collect()
    }
}
