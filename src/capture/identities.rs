//! Whose SPIFFE ID it is that answers at an address: what no capture of TLS 1.3 shows (RFC 8446 §4.4 encrypts certificates),
//! from handshakes of ztlab's own with the same address.
//!
//! A correlation, and never more: whatever does not hold together is not told. The address must have belonged to the same
//! object both times, the certificate must be one that is still in use, and all that was seen there must agree.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Names;
use crate::evidence::{CertificateFacts, ProbeResult};

/// Addresses that are remembered.
const ADDRESSES: usize = 1024;
/// Handshakes of an address that are remembered.
const SIGHTINGS: usize = 8;
/// How long after a handshake it still tells something, in nanoseconds.
const AFTER: u64 = 300_000_000_000;
/// How long before, where the certificate was in use already.
const BEFORE: u64 = 30_000_000_000;
/// By this part of its life a workload has another SVID (SPIRE renews at half, a tenth of that late): then the handshake was
/// with one that is in use no more.
const RENEWED: f64 = 0.55;

/// Which identity somebody holds, and since when that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The SPIFFE ID.
    pub id: String,
    /// When the handshake was that showed it, in nanoseconds since the Unix epoch.
    pub at_ns: u64,
}

/// What a server showed in a handshake.
#[derive(Debug, Clone)]
struct Sighting {
    /// None where the certificate names no one SPIFFE ID.
    id: Option<String>,
    at_ns: u64,
    /// From when to when the certificate can be the one in use, in seconds since the Unix epoch.
    in_use: (i64, i64),
    /// The uid of whose address it was.
    holder: String,
}

/// What ztlab's own handshakes showed, by address.
#[derive(Debug, Default)]
pub struct Identities(Mutex<HashMap<SocketAddr, VecDeque<Sighting>>>);

fn seconds(ns: u64) -> i64 {
    i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX)
}

/// Exactly one URI, of the scheme `spiffe` (X509-SVID §2).
fn spiffe_id(leaf: &CertificateFacts) -> Option<String> {
    match leaf.uris.as_slice() {
        [one] if one.starts_with("spiffe://") => Some(one.clone()),
        _ => None,
    }
}

impl Sighting {
    /// Whether it tells of whoever holds the address at a time.
    fn tells(&self, ts_ns: u64, holder: &str) -> bool {
        let near = if ts_ns >= self.at_ns {
            ts_ns - self.at_ns <= AFTER
        } else {
            self.at_ns - ts_ns <= BEFORE
        };
        near && self.holder == holder && (self.in_use.0..=self.in_use.1).contains(&seconds(ts_ns))
    }
}

impl Identities {
    fn all(&self) -> MutexGuard<'_, HashMap<SocketAddr, VecDeque<Sighting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a probe was shown. One that came to no certificate, or to an address of nobody known, tells nothing.
    pub fn learn(&self, probe: &ProbeResult, names: &Names) {
        let shown = probe.tls.as_ref().and_then(|tls| tls.certificates.first());
        let (Some(leaf), Some(peer)) = (shown, probe.peer) else {
            return;
        };
        let at_ns = probe.started_ns.saturating_add(probe.took_us.saturating_mul(1000));
        let Some(holder) = names.holder(peer.ip(), at_ns) else {
            return;
        };
        let life = leaf.not_after.saturating_sub(leaf.not_before).max(0);
        let renewed = leaf.not_before.saturating_add((life as f64 * RENEWED) as i64);
        let mut all = self.all();
        if all.len() >= ADDRESSES && !all.contains_key(&peer) {
            let oldest = all
                .iter()
                .min_by_key(|(_, seen)| seen.back().map_or(0, |one| one.at_ns))
                .map(|(addr, _)| *addr);
            oldest.map(|addr| all.remove(&addr));
        }
        let seen = all.entry(peer).or_default();
        if seen.len() == SIGHTINGS {
            seen.pop_front();
        }
        seen.push_back(Sighting {
            id: spiffe_id(leaf),
            at_ns,
            in_use: (leaf.not_before, renewed),
            holder,
        });
    }

    /// Who is at this end of a conversation, at a time: by what was shown at this very address, else, for who opened it from a
    /// port of the moment, by all that was shown at ports of the same pod.
    pub fn held(&self, end: SocketAddr, ts_ns: u64, names: &Names) -> Option<Held> {
        let holder = names.holder(end.ip(), ts_ns)?;
        let all = self.all();
        match all.get(&end) {
            Some(seen) => agreed(seen.iter(), ts_ns, &holder),
            None => {
                let own = all.iter().filter(|(addr, _)| addr.ip() == end.ip());
                let served = names.is_pod(end.ip(), ts_ns);
                agreed(own.flat_map(|(_, seen)| seen).filter(|_| served), ts_ns, &holder)
            }
        }
    }
}

/// What the sightings that tell something agree on, by the nearest of them.
fn agreed<'a>(seen: impl Iterator<Item = &'a Sighting>, ts_ns: u64, holder: &str) -> Option<Held> {
    let mut telling: Vec<&Sighting> = seen.filter(|one| one.tells(ts_ns, holder)).collect();
    telling.sort_by_key(|one| one.at_ns.abs_diff(ts_ns));
    let nearest = telling.first()?;
    let id = nearest.id.clone()?;
    let agree = telling.iter().all(|one| one.id.as_ref() == Some(&id));
    agree.then_some(Held {
        id,
        at_ns: nearest.at_ns,
    })
}

impl Names {
    /// Whether an address was a pod's own at a time.
    fn is_pod(&self, addr: IpAddr, ts_ns: u64) -> bool {
        self.lookup(addr, ts_ns)
            .is_some_and(|who| who.kind == crate::packet::WhoKind::Pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{ProbeId, ProbeOutcome, TlsSeen};

    const A: &str = "spiffe://shop.example/a";
    const B: &str = "spiffe://shop.example/b";
    const S: u64 = 1_000_000_000;

    fn probe(peer: &str, at_s: u64, uris: &[&str], life: (i64, i64)) -> ProbeResult {
        ProbeResult {
            id: ProbeId("p".to_owned()),
            namespace: "shop".to_owned(),
            pod: "x".to_owned(),
            target: "tls".to_owned(),
            outcome: ProbeOutcome::TlsOpen,
            resolved: Vec::new(),
            peer: Some(peer.parse().unwrap()),
            local: None,
            tls: Some(Box::new(TlsSeen {
                certificates: vec![CertificateFacts {
                    uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
                    not_before: life.0,
                    not_after: life.1,
                    ..CertificateFacts::default()
                }],
                ..TlsSeen::default()
            })),
            started_ns: at_s * S,
            took_us: 0,
        }
    }

    /// One address that two pods had, one after the other, and one of another pod.
    fn names() -> Names {
        Names::of_pods(&[
            ("one", "10.0.0.1", 0, Some(500 * S)),
            ("two", "10.0.0.1", 500 * S, None),
            ("other", "10.0.0.2", 0, None),
        ])
    }

    fn at(known: &Identities, end: &str, at_s: u64) -> Option<(String, u64)> {
        let held = known.held(end.parse().unwrap(), at_s * S, &names())?;
        Some((held.id, held.at_ns / S))
    }

    #[test]
    fn what_a_probe_was_shown_names_the_server_and_the_same_pod_as_a_client() {
        let known = Identities::default();
        known.learn(&probe("10.0.0.1:443", 100, &[A], (90, 3690)), &names());
        assert_eq!(at(&known, "10.0.0.1:443", 112), Some((A.to_owned(), 100)));
        assert_eq!(at(&known, "10.0.0.1:41000", 112), Some((A.to_owned(), 100)));
        assert_eq!(at(&known, "10.0.0.2:443", 112), None, "nobody asked there");
        // A little before: the certificate was in use already, or it was not.
        assert_eq!(at(&known, "10.0.0.1:443", 95), Some((A.to_owned(), 100)));
        assert_eq!(at(&known, "10.0.0.1:443", 85), None, "issued later");
    }

    #[test]
    fn what_is_stale_is_not_told() {
        let known = Identities::default();
        known.learn(&probe("10.0.0.1:443", 100, &[A], (0, 36_000)), &names());
        assert!(at(&known, "10.0.0.1:443", 400).is_some());
        assert_eq!(at(&known, "10.0.0.1:443", 401), None, "five minutes");
        assert_eq!(at(&known, "10.0.0.1:443", 69), None, "long before");
        // It has been renewed since, whoever renews in time.
        let known = Identities::default();
        known.learn(&probe("10.0.0.1:443", 100, &[A], (90, 150)), &names());
        assert!(at(&known, "10.0.0.1:443", 123).is_some());
        assert_eq!(at(&known, "10.0.0.1:443", 124), None);
    }

    #[test]
    fn an_address_that_another_pod_has_now_tells_nothing() {
        let known = Identities::default();
        known.learn(&probe("10.0.0.1:443", 490, &[A], (400, 4000)), &names());
        assert!(at(&known, "10.0.0.1:443", 499).is_some());
        for end in ["10.0.0.1:443", "10.0.0.1:41000"] {
            assert_eq!(at(&known, end, 510), None);
        }
        // Nor does one of somebody that is not known.
        known.learn(&probe("10.0.0.9:443", 490, &[A], (400, 4000)), &names());
        assert_eq!(at(&known, "10.0.0.9:443", 491), None);
    }

    #[test]
    fn what_does_not_agree_is_not_told() {
        let known = Identities::default();
        known.learn(&probe("10.0.0.1:443", 100, &[A], (90, 3690)), &names());
        known.learn(&probe("10.0.0.1:8443", 101, &[B], (90, 3690)), &names());
        // Each port has its own; who calls from that pod could be either.
        assert_eq!(at(&known, "10.0.0.1:443", 110), Some((A.to_owned(), 100)));
        assert_eq!(at(&known, "10.0.0.1:8443", 110), Some((B.to_owned(), 101)));
        assert_eq!(at(&known, "10.0.0.1:41000", 110), None);
        // Another one at the same port, or one that names none or two.
        for uris in [&[B][..], &[], &[A, B]] {
            let known = Identities::default();
            known.learn(&probe("10.0.0.1:443", 100, &[A], (90, 3690)), &names());
            known.learn(&probe("10.0.0.1:443", 105, uris, (104, 3690)), &names());
            assert_eq!(at(&known, "10.0.0.1:443", 110), None, "{uris:?}");
        }
        // The first is long over by the time of this one.
        let known = Identities::default();
        known.learn(&probe("10.0.0.2:443", 100, &[A], (90, 150)), &names());
        known.learn(&probe("10.0.0.2:443", 200, &[B], (199, 3690)), &names());
        assert_eq!(at(&known, "10.0.0.2:443", 210), Some((B.to_owned(), 200)));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let names = Names::of_pods(&[("one", "10.0.0.1", 0, None)]);
        let known = Identities::default();
        for port in 0..2000_u16 {
            known.learn(
                &probe(&format!("10.0.0.1:{}", 1000 + port), u64::from(port), &[A], (0, 90_000)),
                &names,
            );
        }
        for at_s in 0..20 {
            known.learn(&probe("10.0.0.1:2999", 2000 + at_s, &[A], (0, 90_000)), &names);
        }
        let all = known.all();
        assert_eq!(all.len(), ADDRESSES);
        assert!(all.values().all(|seen| seen.len() <= SIGHTINGS));
    }
}
