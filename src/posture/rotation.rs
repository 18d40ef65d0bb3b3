//! Whether a workload's SVID is replaced by a newer one while it serves: watched until it happens, or until it should have.
//!
//! Source: X509-SVID (rotation is the Workload API's: a new document before the old one expires); SPIRE renews at half of the
//! lifetime, within a tenth of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::{
    field::{Field, PROBES, chosen, question, run},
    judge::{self, Asked, Look, Seen},
    measure::{now_ns, tell},
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
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// By this part of its life SPIRE has replaced an SVID: half, and a tenth of that half late, and what a second rounds.
pub(super) const DUE: f64 = 0.55;
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

pub(super) fn seconds(ns: u64) -> i64 {
    i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX)
}

/// What follows an SVID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The same one.
    Same,
    /// A newer one of the same id.
    Newer,
    /// Something else: of another id, or one that does not last longer.
    Other,
}

fn next(old: &CertificateFacts, new: &CertificateFacts) -> Next {
    if old.serial == new.serial && old.key == new.key {
        Next::Same
    } else if spiffe_id(old) == spiffe_id(new) && new.not_after > old.not_after {
        Next::Newer
    } else {
        Next::Other
    }
}

/// Whether one that is in use at this time was not replaced in time.
fn is_late(leaf: &CertificateFacts, at_ns: u64) -> bool {
    seconds(at_ns) > at(leaf, LATE)
}

fn rotated(old: &ProbeResult, new: &ProbeResult, until: i64) -> Finding {
    let because = format!(
        "a newer SVID of the same id took its place, valid until {}, while it went on serving",
        words::second(until)
    );
    Finding::new(Answer::Yes, because).with([shown(old), shown(new)].into_iter().flatten())
}

/// What two looks at a server show: the first and the last. `restarted` says that its program was started in between.
fn judged(first: &ProbeResult, last: &ProbeResult, restarted: bool, watched: Duration) -> Finding {
    let both = || [shown(first), shown(last)].into_iter().flatten();
    let (Some(old), Some(new)) = (leaf(first), leaf(last)) else {
        return Finding::undetermined("it stopped to answer while it was watched").with(both());
    };
    match next(old, new) {
        Next::Newer | Next::Other if restarted => {
            Finding::undetermined("it was restarted while it was watched").with(both())
        }
        Next::Newer => rotated(first, last, new.not_after),
        Next::Other => {
            let because = "another certificate took its place, and no newer one of the same id";
            Finding::new(Answer::No, because).with(both())
        }
        Next::Same if is_late(old, last.started_ns) => {
            let because = "it still shows the same SVID after three quarters of its life: it is not renewed";
            Finding::new(Answer::No, because).with(both())
        }
        Next::Same => {
            Finding::undetermined(format!("watched for {}, and not replaced yet", words::lasting(watched))).with(both())
        }
    }
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

/// Which programs run in pods: another one after a restart, or in another pod of the same name.
pub(super) struct Programs(BTreeMap<(String, String), Program>);

/// A pod's uid, and how often its containers were started again.
type Program = (String, i32);

fn program(pod: &Pod) -> Program {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let count = statuses.into_iter().flatten().map(|status| status.restart_count).sum();
    (pod.metadata.uid.clone().unwrap_or_default(), count)
}

impl Programs {
    pub(super) fn of_pods(pods: &[Pod]) -> Self {
        let place = |pod: &Pod| Some((pod.metadata.namespace.clone()?, pod.metadata.name.clone()?));
        Self(
            pods.iter()
                .filter_map(|pod| Some((place(pod)?, program(pod))))
                .collect(),
        )
    }

    /// Those in the pods of these observers, now. One that is not known is left out: it is not the same as before.
    async fn now<'a>(observers: impl Iterator<Item = &'a Observer>) -> Self {
        let mut programs = BTreeMap::new();
        for observer in observers {
            let place = (observer.namespace().to_owned(), observer.pod().to_owned());
            let api: Api<Pod> = Api::namespaced(observer.client().clone(), &place.0);
            if let Ok(found) = api.get(&place.1).await {
                programs.insert(place, program(&found));
            }
        }
        Self(programs)
    }

    /// The program in an observer's pod, if it is the same in both.
    fn same(&self, later: &Self, observer: &Observer) -> Option<Program> {
        let place = (observer.namespace().to_owned(), observer.pod().to_owned());
        self.0
            .get(&place)
            .filter(|program| later.0.get(&place) == Some(program))
            .cloned()
    }
}

/// What servers showed in one measurement after the other: a rotation that was seen need not be waited for again, as long as
/// the same program goes on renewing.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<Server, Remembered>>);

/// A pod and one of its ports.
type Server = (String, String, u16);

#[derive(Debug, Clone)]
struct Remembered {
    program: Program,
    last: ProbeResult,
    /// The last two that followed each other.
    rotation: Option<(ProbeResult, ProbeResult)>,
}

impl Memory {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Server, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a server shows, and tells of the rotation that was seen of this very program.
    fn look(&self, server: &Server, program: Program, probe: &ProbeResult) -> Option<Finding> {
        let new = leaf(probe)?;
        let mut all = self.all();
        let known = all.entry(server.clone()).or_insert_with(|| Remembered {
            program: program.clone(),
            last: probe.clone(),
            rotation: None,
        });
        let follows = leaf(&known.last).map_or(Next::Other, |old| next(old, new));
        if known.program != program || follows == Next::Other {
            known.rotation = None;
        } else if follows == Next::Newer {
            known.rotation = Some((known.last.clone(), probe.clone()));
        }
        if known.program != program || follows != Next::Same {
            known.last = probe.clone();
        }
        known.program = program;
        let (old, renewed) = known.rotation.as_ref()?;
        // One that is late may not be renewed any more, whatever was seen before: that is to be watched.
        (!is_late(new, probe.started_ns)).then(|| rotated(old, renewed, leaf(renewed).map_or(0, |leaf| leaf.not_after)))
    }

    /// What each server showed last.
    pub fn shown(&self) -> Vec<ProbeResult> {
        self.all().values().map(|one| one.last.clone()).collect()
    }

    /// Forgets all but these.
    fn keep(&self, servers: &BTreeSet<Server>) {
        self.all().retain(|server, _| servers.contains(server));
    }
}

impl Field<'_> {
    /// Watches every server that shows an SVID until it shows another, for as long as `longest` at most; those that the
    /// memory has seen do so are not watched again. `before` is what ran before anything was looked at.
    pub(super) async fn watch(
        &self,
        seen: &mut Seen,
        longest: Duration,
        (memory, before): (&Memory, Programs),
        progress: &Progress,
    ) {
        let (mut watches, mut done) = (Vec::new(), Vec::new());
        let now_s = seconds(now_ns());
        let shown: Vec<(&Look, &CertificateFacts, Option<Watch<'_>>)> = seen
            .looks
            .iter()
            .filter(|look| look.from == look.of && look.asked != Asked::Http)
            .filter_map(|look| Some((look, leaf(&look.probe).filter(|leaf| spiffe_id(leaf).is_some())?)))
            .map(|(look, first)| (look, first, self.watching(look)))
            .collect();
        let programs = Programs::now(shown.iter().filter_map(|(.., watch)| Some(watch.as_ref()?.observer))).await;
        memory.keep(&shown.iter().map(|(look, ..)| server(look)).collect());
        for (look, first, watch) in shown {
            let same = watch.as_ref().and_then(|watch| before.same(&programs, watch.observer));
            let known = same.and_then(|program| memory.look(&server(look), program, &look.probe));
            let finding = match (known, not_worth_it(first, now_s, longest), watch) {
                (Some(finding), ..) => finding,
                (None, None, Some(watch)) => {
                    watches.push(watch);
                    continue;
                }
                (None, why, _) => Finding::undetermined(why.unwrap_or_else(|| "nobody could watch it".to_owned())),
            };
            done.push(Rotation {
                of: look.of.clone(),
                port: look.port,
                finding,
            });
        }
        let total = watches.len();
        if total > 0 {
            let what = format!(
                "waiting for {total} SVIDs to rotate, {} at most",
                words::lasting(longest)
            );
            tell(progress, "rotation", 0, total, &what);
        }
        let began = Instant::now();
        let running: Vec<_> = watches.iter().map(|watch| watch.last(began + longest)).collect();
        let last: Vec<ProbeResult> = stream::iter(running).buffered(PROBES).collect().await;
        let after = Programs::now(watches.iter().map(|watch| watch.observer)).await;
        for (watch, last) in watches.iter().zip(last) {
            let same = programs.same(&after, watch.observer);
            done.push(Rotation {
                of: watch.first.of.clone(),
                port: watch.first.port,
                finding: judged(&watch.first.probe, &last, same.is_none(), began.elapsed()),
            });
            if let Some(program) = same {
                memory.look(&server(watch.first), program, &last);
            }
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

fn server(look: &Look) -> Server {
    (look.probe.namespace.clone(), look.probe.pod.clone(), look.port)
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
    fn a_rotation_that_was_seen_is_remembered_of_the_same_program_while_it_is_renewed() {
        let server = ("shop".to_owned(), "payments-api-1".to_owned(), 443);
        let program = |restarts| ("uid".to_owned(), restarts);
        let look = |memory: &Memory, restarts, at_s, facts| {
            let finding = memory.look(&server, program(restarts), &probe(at_s, Some(facts)))?;
            assert_eq!(finding.answer, Answer::Yes, "{finding:?}");
            assert_eq!(finding.evidence.len(), 2, "{finding:?}");
            Some(())
        };
        let memory = Memory::default();
        assert_eq!(look(&memory, 0, 1, facts("1", ID, 0, 60)), None);
        assert_eq!(look(&memory, 0, 20, facts("1", ID, 0, 60)), None);
        assert_eq!(look(&memory, 0, 31, facts("2", ID, 30, 90)), Some(()));
        assert_eq!(look(&memory, 0, 40, facts("2", ID, 30, 90)), Some(()));
        // It is not renewed any more: what was seen before does not count, until it is.
        assert_eq!(look(&memory, 0, 80, facts("2", ID, 30, 90)), None);
        assert_eq!(look(&memory, 0, 81, facts("3", ID, 80, 140)), Some(()));
        // Another program: it must be seen again.
        assert_eq!(look(&memory, 1, 90, facts("4", ID, 85, 145)), None);
        assert_eq!(look(&memory, 1, 120, facts("5", ID, 115, 175)), Some(()));
        // One of another id, or that ends sooner, as after a change of the lifetime.
        assert_eq!(
            look(&memory, 1, 130, facts("6", "spiffe://shop.example/b", 125, 185)),
            None
        );
        assert_eq!(
            look(&memory, 1, 140, facts("7", "spiffe://shop.example/b", 135, 195)),
            Some(())
        );
        assert_eq!(
            look(&memory, 1, 141, facts("8", "spiffe://shop.example/b", 140, 160)),
            None
        );
        assert!(memory.look(&server, program(1), &probe(142, None)).is_none());
        memory.keep(&BTreeSet::new());
        assert_eq!(
            look(&memory, 1, 151, facts("9", "spiffe://shop.example/b", 150, 170)),
            None
        );
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
