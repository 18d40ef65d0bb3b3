//! NetworkPolicy (networking.k8s.io/v1), complete and fail-closed.
//!
//! ```text
//! policies, pods, namespaces ──facts──► World ──compile──► RuleSet ──plan──► operations ──apply──► kernel
//! ```
//!
//! Policies, pods and namespaces are always those of one moment ([`moment`]). All up to the operations is pure. Every pod has an entry in two verdict maps, one for what it sends and one for what it
//! gets; a packet whose pod has none is dropped. Rules never change in place: a chain's name says what is in it, so a change
//! makes new chains first, then switches the pods' entries over, then removes what nobody uses. Only the sets of peers
//! change element by element. Packets of the direction that began a connection are judged each time anew, so a policy that
//! changes cuts connections that it now forbids; replies pass.
//!
//! What the node itself sends always comes in (the kubelet's probes), and a pod always reaches itself. What a pod sends to
//! the node (DNS, the API) is judged by the pod's egress policies like everything else.

mod agent;
mod apply;
mod compile;
mod facts;
mod fuzz;
mod known;
mod moment;
mod peers;
mod plan;
mod ports;
mod rules;

#[cfg(test)]
#[path = "../../../../tests/netpol/evaluator.rs"]
mod evaluator;
#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod properties;

pub use agent::start;
pub use apply::{KernelRules, PolicyError};
pub use compile::compile;
pub use facts::{NamedPort, NodeService, PodFacts, World, pod_facts};
pub use fuzz::fuzz;
pub use moment::NewestPod;
pub use rules::{Match, Protocol, Rule, RuleSet, Set, Verdict};
