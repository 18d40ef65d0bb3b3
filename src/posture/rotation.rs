//! Whether a workload's SVID is replaced by a newer one while it serves: watched until it happens, or until it should have.
//!
//! Source: X509-SVID (rotation is the Workload API's: a new document before the old one expires); SPIRE renews at half of the
//! lifetime, within a tenth of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::{
    judge::{self, Asked, Look, Seen},
    measure::{Field, PROBES, chosen, now_ns, question, run, tell},
    model::{Answer, Evidence, EvidenceKind, Finding, Name},
    words,
};
use crate::{
    capture::observer::Observer,
    cluster::Progress,
    evidence::{CertificateFacts, ProbeResult},
    probe::{ProbeKind, ProbeRequest},
};

/// How often a server is asked for its certificate while it is watched.
const EVERY: Duration = Duration::from_secs(1);
/// By this part of its life SPIRE has replaced an SVID: half, and a tenth of that half late, and what a second rounds.
const DUE: f64 = 0.55;
/// One that is in use after this part of its life was not replaced in time.
const LATE: f64 = 0.75;

/// A server whose SVID was watched, or is not worth the wait.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// The workload.
    pub of: Name,
    /// The port of [`Port::port`](super::inventory::Port::port).
    pub port: u16,
    /// Whether a newer SVID took the place of the first, why, and what shows it.
    pub finding: Finding,
}

/// The only URI of a certificate, where it is a SPIFFE ID.
fn spiffe_id(leaf: &CertificateFacts) -> Option<&str> {
    match leaf.uris.as_slice() {
        [one] if one.starts_with("spiffe://") => Some(one),
        _ => None,
    }
}

fn leaf(probe: &ProbeResult) -> Option<&CertificateFacts> {
    probe.tls.as_ref()?.certificates.first()
}

/// The second of its life in which a certificate has had this part of it.
fn at(leaf: &CertificateFacts, part: f64) -> i64 {
    let life = leaf.not_after.saturating_sub(leaf.not_before).max(0);
    leaf.not_before.saturating_add((life as f64 * part) as i64)
}

fn seconds(ns: u64) -> i64 {
    i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX)
}

/// What two looks at a server show: the first and the last. `restarted` says that its program was started in between.
fn judged(first: &ProbeResult, last: &ProbeResult, restarted: bool, watched: Duration) -> Finding {
    let both = || [shown(first), shown(last)].into_iter().flatten();
    let (Some(old), Some(new)) = (leaf(first), leaf(last)) else {
        return Finding::undetermined("it stopped to answer while it was watched").with(both());
    };
    let changed = old.serial != new.serial || old.key != new.key;
    if changed && restarted {
        return Finding::undetermined("it was restarted while it was watched").with(both());
    }
    if changed && (spiffe_id(old) != spiffe_id(new) || new.not_after <= old.not_after) {
        return Finding::new(
            Answer::No,
            "another certificate took its place, and no newer one of the same id",
        )
        .with(both());
    }
    if changed {
        let because = format!(
            "a newer SVID of the same id took its place, valid until {}, while it went on serving",
            words::second(new.not_after)
        );
        return Finding::new(Answer::Yes, because).with(both());
    }
    if seconds(last.started_ns) > at(old, LATE) {
        let because = "it still shows the same SVID after three quarters of its life: it is not renewed";
        return Finding::new(Answer::No, because).with(both());
    }
    Finding::undetermined(format!("watched for {}, and not replaced yet", words::lasting(watched))).with(both())
}

fn shown(probe: &ProbeResult) -> Option<Evidence> {
    let leaf = leaf(probe)?;
    let mut evidence = judge::evidence(EvidenceKind::Probe, probe);
    evidence.says = crate::text::one_line(&format!(
        "{}: {}, serial {}, valid until {}",
        probe.target,
        spiffe_id(leaf).unwrap_or(&leaf.subject),
        leaf.serial,
        words::second(leaf.not_after)
    ));
    Some(evidence)
}

/// Why there is no use in watching one for so long; `None` where there is.
fn not_worth_it(leaf: &CertificateFacts, now_s: i64, longest: Duration) -> Option<String> {
    let due = u64::try_from(at(leaf, DUE).saturating_sub(now_s)).unwrap_or(0);
    let due = Duration::from_secs(due);
    (due > longest).then(|| {
        if longest.is_zero() {
            "not measured: its SVID was not watched until it rotates".to_owned()
        } else {
            format!(
                "not measured: its SVID is to be replaced in {}, and was to be watched for {} at most",
                words::lasting(due),
                words::lasting(longest)
            )
        }
    })
}

struct Watch<'a> {
    observer: &'a Observer,
    first: &'a Look,
    kind: ProbeKind,
}

impl Watch<'_> {
    /// Asks until another certificate is shown, or the time is over.
    async fn last(&self, until: Instant) -> ProbeResult {
        loop {
            tokio::time::sleep(EVERY).await;
            let request = ProbeRequest {
                timeout: judge::PATIENCE,
                ..ProbeRequest::new(self.observer.namespace(), self.observer.pod(), self.kind.clone())
            };
            let probe = run(self.observer, request).await;
            let key = |probe: &ProbeResult| leaf(probe).map(|leaf| (leaf.serial.clone(), leaf.key.clone()));
            let other = leaf(&probe).is_some() && key(&probe) != key(&self.first.probe);
            if other || Instant::now() >= until {
                return probe;
            }
        }
    }
}

impl Field<'_> {
    /// Watches every server that shows an SVID until it shows another, for as long as `longest` at most.
    pub(super) async fn watch(&self, seen: &mut Seen, longest: Duration, progress: &Progress) {
        let (mut watches, mut done) = (Vec::new(), Vec::new());
        let now_s = seconds(now_ns());
        for look in seen
            .looks
            .iter()
            .filter(|look| look.from == look.of && look.asked != Asked::Http)
        {
            let Some(first) = leaf(&look.probe).filter(|leaf| spiffe_id(leaf).is_some()) else {
                continue;
            };
            match (not_worth_it(first, now_s, longest), self.watching(look)) {
                (None, Some(watch)) => watches.push(watch),
                (why, _) => done.push(Rotation {
                    of: look.of.clone(),
                    port: look.port,
                    finding: Finding::undetermined(why.unwrap_or_else(|| "nobody could watch it".to_owned())),
                }),
            }
        }
        let total = watches.len();
        if total > 0 {
            let what = format!(
                "waiting for {total} SVIDs to rotate, {} at most",
                words::lasting(longest)
            );
            tell(progress, "rotation", 0, total, &what);
        }
        let before = restarts(&watches).await;
        let began = Instant::now();
        let running: Vec<_> = watches.iter().map(|watch| watch.last(began + longest)).collect();
        let last: Vec<ProbeResult> = stream::iter(running).buffered(PROBES).collect().await;
        let after = restarts(&watches).await;
        for (watch, last) in watches.iter().zip(last) {
            let pod = (watch.observer.namespace(), watch.observer.pod());
            let restarted = before.get(&pod) != after.get(&pod);
            done.push(Rotation {
                of: watch.first.of.clone(),
                port: watch.first.port,
                finding: judged(&watch.first.probe, &last, restarted, began.elapsed()),
            });
        }
        seen.rotations = done;
    }

    fn watching<'a>(&'a self, look: &'a Look) -> Option<Watch<'a>> {
        let of = self.inventory.workloads.iter().find(|one| one.name == look.of)?;
        let port = of.ports.iter().find(|port| port.port == look.port)?;
        let (_, ip) = chosen(of).find(|(pod, _)| *pod == look.probe.pod)?;
        Some(Watch {
            observer: self.observer(&look.probe.namespace, &look.probe.pod)?,
            first: look,
            kind: question(look.asked, of, port, ip),
        })
    }
}

/// How often the containers of the watched pods were started, and which pods they are.
async fn restarts<'a>(watches: &[Watch<'a>]) -> BTreeMap<(&'a str, &'a str), (String, i32)> {
    let mut counts = BTreeMap::new();
    for watch in watches {
        let (namespace, pod) = (watch.observer.namespace(), watch.observer.pod());
        let api: Api<Pod> = Api::namespaced(watch.observer.client().clone(), namespace);
        // What is not known is not the same as before.
        let Ok(found) = api.get(pod).await else { continue };
        let statuses = found
            .status
            .and_then(|status| status.container_statuses)
            .unwrap_or_default();
        let count = statuses.iter().map(|status| status.restart_count).sum();
        counts.insert((namespace, pod), (found.metadata.uid.unwrap_or_default(), count));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{ProbeId, ProbeOutcome, TlsSeen};

    fn facts(serial: &str, uri: &str, from: i64, until: i64) -> CertificateFacts {
        CertificateFacts {
            serial: serial.to_owned(),
            key: serial.to_owned(),
            uris: vec![uri.to_owned()],
            not_before: from,
            not_after: until,
            ..CertificateFacts::default()
        }
    }

    fn probe(at_s: u64, certificate: Option<CertificateFacts>) -> ProbeResult {
        ProbeResult {
            id: ProbeId("p".to_owned()),
            namespace: "shop".to_owned(),
            pod: "payments-api-1".to_owned(),
            target: "tls".to_owned(),
            outcome: ProbeOutcome::TlsOpen,
            resolved: Vec::new(),
            peer: None,
            local: None,
            tls: certificate.map(|certificate| {
                Box::new(TlsSeen {
                    certificates: vec![certificate],
                    ..TlsSeen::default()
                })
            }),
            started_ns: at_s * 1_000_000_000,
            took_us: 0,
        }
    }

    const ID: &str = "spiffe://shop.example/payments-api";

    #[test]
    fn a_rotation_is_a_newer_document_of_the_same_id_in_the_same_program() {
        let first = probe(10, Some(facts("1", ID, 0, 60)));
        for (last, restarted, answer, words) in [
            (
                probe(31, Some(facts("2", ID, 30, 90))),
                false,
                Answer::Yes,
                "newer SVID",
            ),
            (
                probe(31, Some(facts("2", ID, 30, 90))),
                true,
                Answer::Undetermined,
                "restarted",
            ),
            (
                probe(31, Some(facts("2", "spiffe://shop.example/other", 30, 90))),
                false,
                Answer::No,
                "no newer one",
            ),
            (
                probe(31, Some(facts("2", ID, 0, 60))),
                false,
                Answer::No,
                "no newer one",
            ),
            (
                probe(31, Some(facts("1", ID, 0, 60))),
                false,
                Answer::Undetermined,
                "not replaced yet",
            ),
            (probe(46, Some(facts("1", ID, 0, 60))), false, Answer::No, "not renewed"),
            (probe(31, None), false, Answer::Undetermined, "stopped to answer"),
        ] {
            let finding = judged(&first, &last, restarted, Duration::from_secs(21));
            assert_eq!(finding.answer, answer, "{finding:?}");
            assert!(finding.because.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn what_will_not_rotate_in_time_is_not_waited_for() {
        let short = facts("1", ID, 0, 60);
        assert_eq!(not_worth_it(&short, 0, Duration::from_secs(40)), None);
        assert_eq!(not_worth_it(&short, 30, Duration::from_secs(3)), None);
        assert_eq!(not_worth_it(&short, 100, Duration::ZERO), None);
        let unasked = not_worth_it(&short, 0, Duration::ZERO).unwrap();
        assert!(unasked.contains("was not watched"), "{unasked}");
        let hour = not_worth_it(&facts("1", ID, 0, 3600), 0, Duration::from_secs(60)).unwrap();
        assert!(
            hour.contains("replaced in 33 min") || hour.contains("replaced in"),
            "{hour}"
        );
        // Whatever a certificate claims.
        assert_eq!(
            not_worth_it(&facts("1", ID, i64::MIN, i64::MAX), 0, Duration::ZERO),
            None
        );
        assert!(not_worth_it(&facts("1", ID, i64::MAX, i64::MIN), 0, Duration::ZERO).is_some());
    }
}
