//! What callers proved, by the callees' own access logs: TLS 1.3 shows a client's certificate to nobody but the server.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, LogParams},
};

use super::{
    field::{Field, chosen},
    inventory::{Inventory, Workload},
    judge::Seen,
    measure::{now_ns, tell},
    model::{Answer, Credential, Evidence, EvidenceKind, Name},
    rotation::{DUE, EVERY, seconds},
    words,
};
use crate::{
    check::{Call, Shown},
    cluster::Progress,
};

/// The last lines of a log that are read.
const LINES: i64 = 400;
/// How old a line may be, seconds: what was so before something was changed does not count.
const AGE: i64 = 60;
/// Logs that are read at once.
const READING: usize = 8;

/// An identity that a callee says its caller proved.
#[derive(Debug, Clone)]
pub struct Proved {
    /// Who called.
    pub from: Name,
    /// Whose log says so.
    pub to: Name,
    /// The SPIFFE ID.
    pub id: String,
    /// Which certificate carried it, where the log says that too.
    pub shown: Option<Shown>,
    /// The line of an older certificate of the same id, which this one took the place of while the caller's program ran on.
    pub before: Option<Evidence>,
    /// The line of the log.
    pub evidence: Evidence,
}

impl Proved {
    /// The caller's credential, as far as the log alone tells of it.
    pub(super) fn credential(&self) -> Credential {
        let mut credential = Credential::svid(&self.id);
        let Some(shown) = &self.shown else {
            credential.because = "nobody but its callee sees it, whose log does not say how long it lives".to_owned();
            return credential;
        };
        (credential.not_before, credential.not_after) = (Some(shown.not_before), Some(shown.not_after));
        match &self.before {
            Some(before) => {
                credential.rotated = Answer::Yes;
                credential.because = format!(
                    "a newer SVID of the same id took its place in the callee's log, valid until {}",
                    words::second(shown.not_after)
                );
                credential.evidence = vec![before.clone(), self.evidence.clone()];
            }
            None => {
                credential.because = "not measured: its callee's log has shown one of it so far".to_owned();
                credential.evidence = vec![self.evidence.clone()];
            }
        }
        credential
    }

    /// By when the caller has another SVID, if it renews in time, in seconds since the Unix epoch; `None` where that was seen
    /// already, or cannot be seen.
    fn due(&self) -> Option<i64> {
        let shown = self.shown.as_ref().filter(|_| self.before.is_none())?;
        let life = shown.not_after.checked_sub(shown.not_before).filter(|life| *life > 0)?;
        Some(shown.not_before.saturating_add((life as f64 * DUE) as i64))
    }
}

/// The SPIFFE ID among the names of a certificate, as the shop's access logs write them: `… (DNS:a, URI:spiffe://…)`. None, where
/// there is more than one: such a certificate proves none (X509-SVID §2).
fn spiffe_id(caller: &str) -> Option<&str> {
    let (_, names) = caller.rsplit_once('(')?;
    let (names, _) = names.split_once(')')?;
    let mut ids = names.split(", ").filter_map(|name| name.strip_prefix("URI:"));
    let id = ids.next().filter(|id| id.starts_with("spiffe://"))?;
    ids.next().is_none().then_some(id)
}

/// When the programs of each address were started.
type Started = BTreeMap<String, Timestamp>;

/// The last start of a container of each pod.
fn started(pods: &[Pod]) -> Started {
    let last = |pod: &Pod| {
        let status = pod.status.as_ref()?;
        let running = status.container_statuses.iter().flatten();
        let running = running.filter_map(|one| one.state.as_ref()?.running.as_ref()?.started_at.as_ref());
        Some((status.pod_ip.clone()?, running.map(|time| time.0).max()?))
    };
    pods.iter().filter_map(last).collect()
}

/// The callers of a workload that a log of it names.
fn proved(log: &str, to: &Workload, pod: &str, callers: &[&Workload], started: &Started) -> Vec<Proved> {
    // The newest line of each caller says what it is now; older ones, what that took the place of.
    let mut known: BTreeMap<Name, Option<Proved>> = BTreeMap::new();
    let calls = log.lines().rev().filter_map(Call::read);
    for call in calls.filter(|call| call.probe.is_none()) {
        let is_of = |one: &&&Workload| {
            let mut pods = one.pods.iter();
            pods.any(|pod| pod.ip.as_deref() == Some(call.caller_ip.as_str()))
        };
        let Some(from) = callers.iter().find(is_of) else {
            continue;
        };
        let line = Evidence {
            kind: EvidenceKind::Log,
            id: String::new(),
            namespace: to.name.namespace.clone(),
            pod: pod.to_owned(),
            at_ns: 0,
            says: crate::text::one_line(&format!("{}; caller: {}", call.describe(), call.caller)),
        };
        let id = spiffe_id(&call.caller);
        match known.get_mut(&from.name) {
            None => {
                let newest = id.map(|id| Proved {
                    from: from.name.clone(),
                    to: to.name.clone(),
                    id: id.to_owned(),
                    shown: call.certificate.clone(),
                    before: None,
                    evidence: line,
                });
                known.insert(from.name.clone(), newest);
            }
            Some(Some(newest)) if newest.before.is_none() && id == Some(newest.id.as_str()) => {
                let since = started.get(&call.caller_ip);
                let at: Option<Timestamp> = call.ts.parse().ok();
                let same_program = at.zip(since).is_some_and(|(at, since)| at > *since);
                if same_program && follows(call.certificate.as_ref(), newest.shown.as_ref()) {
                    newest.before = Some(line);
                }
            }
            Some(_) => {}
        }
    }
    known.into_values().flatten().collect()
}

/// Whether the second is a newer certificate in the place of the first.
fn follows(old: Option<&Shown>, new: Option<&Shown>) -> bool {
    old.zip(new)
        .is_some_and(|(old, new)| old.serial != new.serial && new.not_after > old.not_after)
}

/// Those that the application declares to call a workload.
fn callers<'a>(inventory: &'a Inventory, to: &Workload) -> Vec<&'a Workload> {
    let calls = |from: &&Workload| {
        let mut edges = inventory.declared.iter();
        edges.any(|(one, other, _)| *one == from.name && *other == to.name)
    };
    inventory.workloads.iter().filter(calls).collect()
}

impl Field<'_> {
    /// Reads what the callees that speak TLS say of their callers.
    pub(super) async fn callers(&self, client: &kube::Client, pods: &[Pod], seen: &mut Seen) {
        let started = started(pods);
        let secret = |to: &&Workload| {
            let mut looks = seen.looks.iter();
            looks.any(|look| look.of == to.name && look.probe.tls.is_some())
        };
        let reading: Vec<_> = self
            .inventory
            .workloads
            .iter()
            .filter(secret)
            .flat_map(|to| {
                let callers = callers(self.inventory, to);
                chosen(to).map(move |(pod, _)| (to, pod, callers.clone()))
            })
            .filter(|(.., callers)| !callers.is_empty())
            .map(|(to, pod, callers)| {
                let api: Api<Pod> = Api::namespaced(client.clone(), &to.name.namespace);
                let params = LogParams {
                    tail_lines: Some(LINES),
                    since_seconds: Some(AGE),
                    container: to.container.clone(),
                    ..LogParams::default()
                };
                let started = &started;
                async move {
                    // Who has no log to read proves nothing by it.
                    let log = api.logs(pod, &params).await.unwrap_or_default();
                    proved(&log, to, pod, &callers, started)
                }
            })
            .collect();
        let mut all: Vec<Proved> = stream::iter(reading)
            .buffered(READING)
            .collect::<Vec<_>>()
            .await
            .concat();
        all.sort_by(|one, other| (&one.from, &one.to).cmp(&(&other.from, &other.to)));
        seen.proved = all;
    }

    /// Goes on reading until every caller that shows its SVID to nobody but its callees was seen with another one, or the time
    /// is over.
    pub(super) async fn await_callers(
        &self,
        client: &kube::Client,
        namespaces: &[String],
        seen: &mut Seen,
        longest: Duration,
        progress: &Progress,
    ) {
        let began = Instant::now();
        loop {
            let left = longest.saturating_sub(began.elapsed());
            let until = seconds(now_ns()).saturating_add(i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
            let open = seen.proved.iter().filter(|one| !self.serves(seen, one));
            let open = open.filter(|one| one.due().is_some_and(|due| due <= until)).count();
            if open == 0 || left.is_zero() {
                return;
            }
            let what = format!("waiting for the SVIDs of {open} callers to rotate, by their callees' logs");
            tell(progress, "rotation", 0, open, &what);
            tokio::time::sleep(EVERY.min(left)).await;
            // A caller that was started anew meanwhile has another SVID for that reason.
            let mut pods = Vec::new();
            for namespace in namespaces {
                let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
                pods.extend(api.list(&ListParams::default()).await.into_iter().flatten());
            }
            self.callers(client, &pods, seen).await;
        }
    }

    /// Whether a caller shows the same identity at a port of its own, where it is watched.
    fn serves(&self, seen: &Seen, proved: &Proved) -> bool {
        let mut looks = seen.looks.iter().filter(|look| look.of == proved.from);
        looks.any(|look| {
            let shown = look.probe.tls.as_ref().and_then(|tls| tls.certificates.first());
            shown.is_some_and(|leaf| leaf.uris == [proved.id.clone()])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_only_uri_of_the_certificate() {
        for (caller, id) in [
            (
                "certificate of CN=x (URI:spiffe://shop.example/a)",
                Some("spiffe://shop.example/a"),
            ),
            (
                "certificate of CN=x (DNS:a, URI:spiffe://shop.example/a) and token orders",
                Some("spiffe://shop.example/a"),
            ),
            ("certificate of CN=(URI:spiffe://shop.example/evil) (DNS:a)", None),
            ("certificate of CN=x (URI:spiffe://a/a, URI:spiffe://a/b)", None),
            ("certificate of CN=x (URI:https://shop.example/a)", None),
            ("certificate of CN=URI:spiffe://shop.example/a", None),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(spiffe_id(caller), id, "{caller}");
        }
    }

    const ID: &str = "spiffe://shop.example/web";

    fn line(ts: &str, ip: &str, serial: &str, valid: (i64, i64), id: &str) -> String {
        serde_json::json!({
            "ts": ts, "level": "access", "caller_ip": ip, "caller": format!("certificate of O=x (URI:{id})"),
            "certificate": {"serial": serial, "not_before": valid.0, "not_after": valid.1},
            "method": "GET", "path": "/", "status": 200,
        })
        .to_string()
    }

    fn workload(name: &str, ip: &str) -> Workload {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
            "spec": {"containers": [{"name": "c"}]},
            "status": {"podIP": ip, "phase": "Running", "containerStatuses": [{"name": "c", "image": "", "imageID": "",
                "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-11-30T10:00:00Z"}}}]},
        }))
        .unwrap();
        let objects = super::super::inventory::Objects {
            pods: vec![pod],
            ..Default::default()
        };
        super::super::inventory::inventory(&objects, Some(&[]))
            .0
            .workloads
            .remove(0)
    }

    fn read(lines: &[String], since: Option<&str>) -> Vec<Proved> {
        let (web, api) = (workload("web", "10.0.0.1"), workload("api", "10.0.0.2"));
        let started = since.map(|since| ("10.0.0.1".to_owned(), since.parse().unwrap()));
        proved(
            &lines.join("\n"),
            &api,
            "api-1",
            &[&web],
            &started.into_iter().collect(),
        )
    }

    #[test]
    fn a_caller_that_serves_nowhere_is_seen_to_rotate_in_its_callees_log() {
        let (old, new) = ("2026-11-30T11:00:01Z", "2026-11-30T11:00:31Z");
        let since = Some("2026-11-30T11:00:00Z");
        let lines = [
            line(old, "10.0.0.1", "1", (0, 60), ID),
            line(new, "10.0.0.1", "2", (30, 90), ID),
        ];
        let found = read(&lines, since);
        let credential = found[0].credential();
        assert_eq!((found.len(), credential.rotated), (1, Answer::Yes), "{credential:?}");
        assert_eq!(credential.lifetime().unwrap().as_secs(), 60);
        assert_eq!(credential.evidence.len(), 2);
        assert_eq!(found[0].due(), None, "nothing to wait for");
        // Not by these.
        for (lines, since, what) in [
            (
                lines.to_vec(),
                Some("2026-11-30T11:00:20Z"),
                "it was started in between",
            ),
            (lines.to_vec(), None, "nobody knows since when it runs"),
            (vec![lines[1].clone(), lines[1].clone()], since, "the same one"),
            (
                vec![
                    line(old, "10.0.0.1", "1", (0, 60), "spiffe://shop.example/other"),
                    lines[1].clone(),
                ],
                since,
                "another id",
            ),
            (
                vec![line(old, "10.0.0.9", "1", (0, 60), ID), lines[1].clone()],
                since,
                "somebody else",
            ),
            (
                vec![line(old, "10.0.0.1", "1", (0, 90), ID), lines[1].clone()],
                since,
                "one that does not last longer",
            ),
        ] {
            let found = read(&lines, since);
            let credential = found[0].credential();
            assert_eq!(credential.rotated, Answer::Undetermined, "{what}");
            assert!(credential.because.contains("not measured"), "{what}: {credential:?}");
            assert_eq!(found[0].due(), Some(30 + 33), "{what}");
        }
    }

    #[test]
    fn a_log_that_tells_no_certificate_leaves_open_how_long_it_lives() {
        let mut call: serde_json::Value =
            serde_json::from_str(&line("2026-11-30T11:00:01Z", "10.0.0.1", "1", (0, 60), ID)).unwrap();
        call.as_object_mut().unwrap().remove("certificate");
        let found = read(&[call.to_string()], Some("2026-11-30T11:00:00Z"));
        let credential = found[0].credential();
        assert_eq!(
            (credential.lifetime(), credential.rotated),
            (None, Answer::Undetermined)
        );
        assert!(credential.because.contains("does not say how long"), "{credential:?}");
        // Whatever a log claims.
        let odd = line("2026-11-30T11:00:01Z", "10.0.0.1", "1", (i64::MAX, i64::MIN), ID);
        assert_eq!(read(&[odd], None)[0].due(), None);
    }
}
