//! The ports of a rule.

use std::collections::BTreeSet;

use k8s_openapi::{api::networking::v1::NetworkPolicyPort, apimachinery::pkg::util::intstr::IntOrString};

use super::{facts::NamedPort, rules::Protocol};

/// Every port.
const WHOLE: (u16, u16) = (0, u16::MAX);

/// Which ports a rule speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ports {
    /// It does not restrict them, nor protocols.
    All,
    /// Only these.
    Only {
        /// By number, ends included.
        numbers: BTreeSet<(Protocol, u16, u16)>,
        /// By name: what they mean depends on the pod that is the destination.
        names: BTreeSet<(Protocol, String)>,
    },
}

impl Ports {
    /// Reads a rule's `ports`; missing and empty mean all. What the API would have refused matches nothing.
    pub(super) fn of(ports: Option<&[NetworkPolicyPort]>) -> Self {
        let ports = ports.unwrap_or_default();
        if ports.is_empty() {
            return Self::All;
        }
        let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
        for port in ports {
            let Some(protocol) = Protocol::named(port.protocol.as_deref()) else {
                continue;
            };
            match (&port.port, port.end_port) {
                (None, None) => {
                    numbers.insert((protocol, WHOLE.0, WHOLE.1));
                }
                (Some(IntOrString::String(name)), None) => {
                    names.insert((protocol, name.clone()));
                }
                (Some(IntOrString::Int(first)), last) => {
                    let range = (u16::try_from(*first), u16::try_from(last.unwrap_or(*first)));
                    if let (Ok(first), Ok(last)) = range
                        && first <= last
                    {
                        numbers.insert((protocol, first, last));
                    }
                }
                _ => {}
            }
        }
        Self::Only { numbers, names }
    }

    /// The ports by number where `pod` is the destination, or `None` for all.
    pub(super) fn at(&self, pod: &[NamedPort]) -> Option<BTreeSet<(Protocol, u16, u16)>> {
        let Self::Only { numbers, names } = self else {
            return None;
        };
        let mut numbers = numbers.clone();
        let named = pod
            .iter()
            .filter(|port| names.contains(&(port.protocol, port.name.clone())));
        numbers.extend(named.map(|port| (port.protocol, port.number, port.number)));
        Some(numbers)
    }

    /// Whether they hold a port of a pod, by number or by its name.
    pub(super) fn hold(&self, port: &NamedPort) -> bool {
        match self {
            Self::All => true,
            Self::Only { numbers, .. } => {
                let within = |&(protocol, first, last): &(Protocol, u16, u16)| {
                    protocol == port.protocol && (first..=last).contains(&port.number)
                };
                numbers.iter().any(within) || self.name(port)
            }
        }
    }

    /// Whether they hold a port of a pod by its name.
    pub(super) fn name(&self, port: &NamedPort) -> bool {
        match self {
            Self::All => false,
            Self::Only { names, .. } => names.contains(&(port.protocol, port.name.clone())),
        }
    }

    /// Those that are given by name, with their protocols.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::All => Vec::new(),
            Self::Only { names, .. } => names
                .iter()
                .map(|(protocol, name)| format!("{name}/{protocol}"))
                .collect(),
        }
    }

    /// Whether any is given by name.
    pub(super) fn any_named(&self) -> bool {
        matches!(self, Self::Only { names, .. } if !names.is_empty())
    }
}

/// Ports as few matches: overlapping ranges merged, `None` for a whole protocol.
pub(super) fn merged(ports: &BTreeSet<(Protocol, u16, u16)>) -> Vec<(Protocol, Option<(u16, u16)>)> {
    let mut merged: Vec<(Protocol, u16, u16)> = Vec::new();
    for &(protocol, first, last) in ports {
        match merged.last_mut() {
            Some(before) if before.0 == protocol && u32::from(first) <= u32::from(before.2) + 1 => {
                before.2 = before.2.max(last);
            }
            _ => merged.push((protocol, first, last)),
        }
    }
    merged
        .into_iter()
        .map(|(protocol, first, last)| (protocol, ((first, last) != WHOLE).then_some((first, last))))
        .collect()
}
