//! The addresses of a cluster: one range for pods, one for Services. Pure.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The ranges of one cluster. Each cluster has a network namespace of its own, so equal ranges would not clash: they differ so
/// that the addresses in a capture or in somebody's notes say which cluster they are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranges {
    /// Pods, and the node: its first address.
    pub pods: Ipv4Net,
    /// Services.
    pub services: Ipv4Net,
}

/// How many clusters can have ranges of their own: half of 10.0.0.0/8 each for pods and Services.
pub const SLOTS: u8 = 128;

impl Default for Ranges {
    /// The ranges that Kubernetes' documents show: 10.244.0.0/16 and 10.96.0.0/16.
    fn default() -> Self {
        Self::of_slot(0)
    }
}

impl Ranges {
    /// The ranges of a slot: pods in the upper half of 10.0.0.0/8, Services in the lower, beginning with the usual ones.
    pub fn of_slot(slot: u8) -> Self {
        let slot = slot % SLOTS;
        let range = |second: u8| Ipv4Net::new_assert(Ipv4Addr::new(10, second, 0, 0), 16);
        Self {
            pods: range(SLOTS + (116 + slot) % SLOTS),
            services: range((96 + slot) % SLOTS),
        }
    }

    /// The first slot whose ranges nobody in `taken` has; where all are taken, the one that the fewest have.
    pub fn free(taken: &[Self]) -> Self {
        let users = |ranges: &Self| {
            let same = |other: &&Self| overlap(other.pods, ranges.pods) || overlap(other.services, ranges.services);
            taken.iter().filter(same).count()
        };
        (0..SLOTS).map(Self::of_slot).min_by_key(users).unwrap_or_default()
    }

    /// Whether the ranges can be used: private to no one else, and with room for the addresses below.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        for (what, range) in [("pods", self.pods), ("services", self.services)] {
            if range.prefix_len() > 24 || range.prefix_len() < 8 || range.addr() != range.network() {
                return Err(format!("the range of {what}, {range}, is not one between /8 and /24"));
            }
        }
        if overlap(self.pods, self.services) {
            return Err(format!(
                "the ranges of pods and services overlap: {} and {}",
                self.pods, self.services
            ));
        }
        Ok(())
    }

    /// The node's own address.
    pub fn node(&self) -> Ipv4Addr {
        at(self.pods, 1)
    }

    /// The first and the last address for pods.
    pub fn pod_ips(&self) -> (Ipv4Addr, Ipv4Addr) {
        (at(self.pods, 2), Ipv4Addr::from(u32::from(self.pods.broadcast()) - 1))
    }

    /// The address of the Service `kubernetes`.
    pub fn kubernetes(&self) -> Ipv4Addr {
        at(self.services, 1)
    }

    /// Where cluster DNS answers, as every pod's `resolv.conf` says: the Service `kube-dns`.
    pub fn dns(&self) -> Ipv4Addr {
        at(self.services, 10)
    }
}

fn at(range: Ipv4Net, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + offset)
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cluster_has_the_usual_addresses() {
        let ranges = Ranges::default();
        assert_eq!(
            [
                ranges.node(),
                ranges.pod_ips().0,
                ranges.pod_ips().1,
                ranges.kubernetes(),
                ranges.dns()
            ]
            .map(|ip| ip.to_string()),
            ["10.244.0.1", "10.244.0.2", "10.244.255.254", "10.96.0.1", "10.96.0.10"]
        );
        let text = serde_json::to_string(&ranges).unwrap();
        assert_eq!(text, r#"{"pods":"10.244.0.0/16","services":"10.96.0.0/16"}"#);
    }

    #[test]
    fn clusters_get_ranges_of_their_own_until_there_are_no_more() {
        let mut taken = Vec::new();
        for _ in 0..SLOTS {
            let next = Ranges::free(&taken);
            next.check().unwrap();
            for other in &taken {
                let Ranges { pods, services } = *other;
                for range in [pods, services] {
                    assert!(
                        !overlap(range, next.pods) && !overlap(range, next.services),
                        "{other:?} {next:?}"
                    );
                }
            }
            taken.push(next);
        }
        assert_eq!(Ranges::free(&taken), Ranges::default());
        let given_back = taken.remove(77);
        assert_eq!(Ranges::free(&taken), given_back);
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        for (pods, services) in [
            ("10.0.0.0/8", "10.96.0.0/16"),
            ("10.244.0.0/30", "10.96.0.0/16"),
            ("10.244.0.7/16", "10.96.0.0/16"),
        ] {
            let ranges = Ranges {
                pods: pods.parse().unwrap(),
                services: services.parse().unwrap(),
            };
            assert!(ranges.check().is_err(), "{ranges:?}");
        }
    }
}
