//! The peers of a rule.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicyPeer},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::facts::{PodFacts, World};
use crate::control_plane::api::selector;

/// Reads a selector. One that the API would have refused matches nothing.
pub(super) fn selector(from: &LabelSelector) -> Option<selector::LabelSelector> {
    let object = serde_json::to_value(from).ok()?;
    selector::LabelSelector::from_object(&object).ok()
}

/// A selector of `what`, as kubectl's `-l` has it.
fn shown(what: &str, selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let labels = labels.map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let (key, values) = (&one.key, one.values.as_deref().unwrap_or_default().join(","));
        match one.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        }
    });
    let all: Vec<String> = labels.chain(expressions).collect();
    if all.is_empty() {
        format!("all {what}")
    } else {
        format!("{what} {}", all.join(","))
    }
}

/// Whom a rule speaks of.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// Everybody.
    Any,
    /// Pods.
    Pods(Pods),
    /// Addresses: ranges, ends included, in order and apart.
    Block(Vec<(Ipv4Addr, Ipv4Addr)>),
}

/// Pods by selectors.
#[derive(Debug, Clone)]
pub(super) struct Pods {
    /// Which namespaces: of a name, or by a selector.
    namespaces: Result<String, selector::LabelSelector>,
    /// Which pods; `None` is all.
    pods: Option<selector::LabelSelector>,
    /// The same as the API has it, for the name of the set.
    pub(super) text: String,
    /// The same in words.
    pub(super) note: String,
}

impl Pods {
    pub(super) fn hold(&self, pod: &PodFacts, world: &World) -> bool {
        let namespace = match &self.namespaces {
            Ok(name) => *name == pod.namespace,
            Err(selector) => world
                .namespaces
                .get(&pod.namespace)
                .is_some_and(|labels| selector.matches_map(labels)),
        };
        namespace && self.pods.as_ref().is_none_or(|pods| pods.matches_map(&pod.labels))
    }
}

impl Peer {
    /// Reads a rule's `from` or `to` of a policy in `namespace`; missing and empty mean everybody. A peer that the API would
    /// have refused is nobody.
    pub(super) fn all(peers: Option<&[NetworkPolicyPeer]>, namespace: &str) -> Vec<Self> {
        let peers = peers.unwrap_or_default();
        if peers.is_empty() {
            return vec![Self::Any];
        }
        peers.iter().filter_map(|peer| Self::one(peer, namespace)).collect()
    }

    fn one(peer: &NetworkPolicyPeer, namespace: &str) -> Option<Self> {
        let text = |selector: &LabelSelector| serde_json::to_string(selector).ok();
        match (&peer.namespace_selector, &peer.pod_selector, &peer.ip_block) {
            (None, None, Some(block)) => Some(Self::Block(ranges(block)?)),
            (Some(namespaces), pods, None) => {
                let pods_text = pods.as_ref().map_or(Some(String::new()), text)?;
                Some(Self::Pods(Pods {
                    text: format!("namespaces {} pods {pods_text}", text(namespaces)?),
                    note: format!(
                        "{} in {}",
                        pods.as_ref().map_or("all pods".to_owned(), |pods| shown("pods", pods)),
                        shown("namespaces", namespaces)
                    ),
                    namespaces: Err(selector(namespaces)?),
                    pods: match pods {
                        Some(pods) => Some(selector(pods)?),
                        None => None,
                    },
                }))
            }
            (None, Some(pods), None) => Some(Self::Pods(Pods {
                text: format!("namespace {namespace} pods {}", text(pods)?),
                note: format!("{} in namespace {namespace}", shown("pods", pods)),
                namespaces: Ok(namespace.to_owned()),
                pods: Some(selector(pods)?),
            })),
            _ => None,
        }
    }
}

/// The addresses of a block without its exceptions. IPv6 has no addresses here; a block that cannot be read has none at all.
fn ranges(block: &IPBlock) -> Option<Vec<(Ipv4Addr, Ipv4Addr)>> {
    let whole: Ipv4Net = block.cidr.parse().ok()?;
    let mut left = vec![ends(whole)];
    for except in block.except.iter().flatten() {
        let hole: Ipv4Net = except.parse().ok()?;
        let (first, last) = ends(hole);
        left = left
            .into_iter()
            .flat_map(|(from, to)| {
                let before = (first > from).then(|| (from, to.min(first.saturating_sub(1))));
                let after = (last < to).then(|| (from.max(last.saturating_add(1)), to));
                match (first > to, last < from) {
                    (true, _) | (_, true) => [Some((from, to)), None],
                    _ => [before, after],
                }
            })
            .flatten()
            .collect();
    }
    left.sort_unstable();
    Some(left.into_iter().map(|(from, to)| (from.into(), to.into())).collect())
}

fn ends(net: Ipv4Net) -> (u32, u32) {
    (net.network().into(), net.broadcast().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(cidr: &str, except: &[&str]) -> Option<Vec<String>> {
        let block = IPBlock {
            cidr: cidr.to_owned(),
            except: Some(except.iter().map(|one| (*one).to_owned()).collect()),
        };
        let text = |(from, to): (Ipv4Addr, Ipv4Addr)| format!("{from}-{to}");
        ranges(&block).map(|ranges| ranges.into_iter().map(text).collect())
    }

    #[test]
    fn blocks_without_their_exceptions() {
        let some = |ranges: &[&str]| Some(ranges.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        for (cidr, except, expected) in [
            ("10.0.0.0/8", &[][..], some(&["10.0.0.0-10.255.255.255"])),
            ("10.1.2.3/8", &[], some(&["10.0.0.0-10.255.255.255"])),
            ("0.0.0.0/0", &[], some(&["0.0.0.0-255.255.255.255"])),
            ("10.0.0.0/30", &["10.0.0.0/32"], some(&["10.0.0.1-10.0.0.3"])),
            ("10.0.0.0/30", &["10.0.0.3/32"], some(&["10.0.0.0-10.0.0.2"])),
            (
                "10.0.0.0/24",
                &["10.0.0.64/26", "10.0.0.66/32", "10.0.0.200/32"],
                some(&["10.0.0.0-10.0.0.63", "10.0.0.128-10.0.0.199", "10.0.0.201-10.0.0.255"]),
            ),
            ("10.0.0.0/24", &["11.0.0.0/8"], some(&["10.0.0.0-10.0.0.255"])),
            ("10.0.0.0/24", &["10.0.0.0/8"], some(&[])),
            (
                "0.0.0.0/0",
                &["0.0.0.0/1", "255.255.255.255/32"],
                some(&["128.0.0.0-255.255.255.254"]),
            ),
            ("fd00::/8", &[], None),
            ("10.0.0.0/8", &["nonsense"], None),
            ("10.0.0.0", &[], None),
        ] {
            assert_eq!(listed(cidr, except), expected, "{cidr} except {except:?}");
        }
    }
}
