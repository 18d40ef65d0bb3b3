//! From what probes and captures saw to the cells of the matrix. Pure.

use std::time::Duration;

pub use super::seen::{Asked, Attempt, Control, Heard, Look, Seen};
use super::{
    callers::Proved,
    credential::{Shown, shared_secret},
    inventory::{Inventory, Port, Workload},
    model::{Answer, Cell, Credential, Credentials, Evidence, EvidenceKind, Finding, Name, Reach},
};
use crate::{
    evidence::{CertificateFacts, ProbeOutcome, ProbeResult},
    packet::{Fact, Flow, FlowVerdict},
};

/// Evidence lines of one finding.
const LINES: usize = 4;
/// How long a probe may take. The first SYN is repeated after a second (RFC 6298 §2), so two are sent.
pub const PATIENCE: Duration = Duration::from_millis(1500);
/// Where a connection that opened took this long, one that did not open in twice the time shows nothing.
const SLOW: Duration = Duration::from_millis(750);

/// A callee's port and who calls it.
struct Place<'a> {
    seen: &'a Seen,
    from: &'a Workload,
    to: &'a Workload,
    port: &'a Port,
}

/// Every cell, by caller, callee and port. `declared` is `None` where nothing is declared at all.
pub fn cells(inventory: &Inventory, seen: &Seen, declared: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    for from in &inventory.workloads {
        for to in inventory.workloads.iter().filter(|to| to.name != from.name) {
            for port in &to.ports {
                let place = Place { seen, from, to, port };
                let edge = (from.name.clone(), to.name.clone(), port.port);
                cells.push(place.cell(declared.then(|| inventory.declared.contains(&edge))));
            }
        }
    }
    cells
}

/// Whether a port answered anybody in this measurement.
pub fn alive(seen: &Seen, of: &Workload, port: &Port) -> Finding {
    let mut pods = of.pods.iter().filter(|pod| pod.running);
    let shown: Vec<Evidence> = pods
        .clone()
        .filter_map(|pod| pod_alive(seen, &of.name, port.port, &pod.name))
        .flatten()
        .collect();
    if !shown.is_empty() {
        return Finding::new(Answer::Yes, "it answered in this measurement").with(shown.into_iter().take(LINES));
    }
    if pods.next().is_none() {
        return Finding::new(Answer::No, "no pod of it is running");
    }
    let tried = seen
        .controls
        .iter()
        .filter(|control| control.of == of.name && control.port == port.port);
    let asked = tried.map(|control| evidence(EvidenceKind::Control, &control.probe));
    Finding::new(Answer::No, "nobody reached it, not even its own pod").with(asked.take(LINES))
}

/// What shows that a port of a pod answered throughout the measurement; `None` where nothing does.
fn pod_alive(seen: &Seen, of: &Name, port: u16, pod: &str) -> Option<Vec<Evidence>> {
    let own = |after: bool| {
        let mut controls = seen.controls.iter();
        controls
            .find(|control| control.of == *of && control.port == port && control.pod == pod && control.after == after)
    };
    let reached = |control: Option<&Control>| control.is_some_and(|control| control.probe.outcome.reached());
    let measured = |control: Option<&Control>| control.is_some_and(|control| control.probe.outcome.measured());
    let mut others = seen.attempts.iter().filter(|attempt| {
        attempt.to == *of
            && attempt.port == port
            && attempt.pod.as_deref() == Some(pod)
            && attempt.probe.outcome.reached()
    });
    let other = others.next();
    let (before, after) = (own(false), own(true));
    // A service that dies on the way refuses everybody: the last word is what counts.
    let lives = if measured(after) {
        reached(after) && (reached(before) || other.is_some())
    } else {
        other.is_some()
    };
    let control = after.filter(|control| control.probe.outcome.reached());
    lives.then(|| {
        let own = control.map(|control| evidence(EvidenceKind::Control, &control.probe));
        own.into_iter()
            .chain(other.map(|attempt| evidence(EvidenceKind::Control, &attempt.probe)))
            .collect()
    })
}

impl Place<'_> {
    fn cell(&self, declared: Option<bool>) -> Cell {
        let (reach, reachable) = self.reach();
        let said = self.said(reach);
        Cell {
            from: self.from.name.clone(),
            to: self.to.name.clone(),
            port: self.port.port,
            purpose: self.port.purpose,
            declared,
            reach,
            reachable,
            readable: said.readable,
            server_authenticated: said.server,
            client_authenticated: said.client,
            authorised_by_identity: said.authorised,
            credentials: said.credentials,
        }
    }

    fn reach(&self) -> (Reach, Finding) {
        let attempts: Vec<&Attempt> = self
            .seen
            .attempts
            .iter()
            .filter(|one| one.from == self.from.name && one.to == self.to.name && one.port == self.port.port)
            .collect();
        if let Some(open) = attempts.iter().find(|attempt| attempt.probe.outcome.reached()) {
            let finding = Finding::new(Answer::Yes, "the connection opens");
            return (
                Reach::Allowed,
                finding.with([evidence(EvidenceKind::Probe, &open.probe)]),
            );
        }
        let proof = attempts.iter().map(|one| evidence(EvidenceKind::Probe, &one.probe));
        let unknown = |because: String| {
            let finding = Finding::undetermined(because).with(proof.clone().take(LINES));
            (Reach::Undetermined, finding)
        };
        if let Some(why) = self.unmeasured(&attempts) {
            return unknown(why);
        }
        let mut controls = Vec::new();
        for pod in attempts.iter().filter_map(|attempt| attempt.pod.as_deref()) {
            match pod_alive(self.seen, &self.to.name, self.port.port, pod) {
                Some(shown) => controls.extend(shown),
                None => {
                    return unknown(format!(
                        "no connection, but nobody reached {} at all: a dead service proves nothing",
                        self.to.name.name
                    ));
                }
            }
        }
        let outcome = &attempts[0].probe.outcome;
        if matches!(outcome, ProbeOutcome::TimedOut { .. }) && self.slowest() > SLOW {
            let took = self.slowest().as_millis();
            return unknown(format!(
                "no answer; but other connections took up to {took} ms, so one that takes longer may still open"
            ));
        }
        let (reach, because) = match outcome {
            ProbeOutcome::TimedOut { .. } => (Reach::TimedOut, "no answer, while the callee answers others or itself"),
            _ => (Reach::Refused, "refused, while the callee answers others or itself"),
        };
        let finding = Finding::new(Answer::No, because)
            .with(proof.take(LINES))
            .with(controls.into_iter().take(2));
        (reach, finding)
    }

    /// How long the slowest connection took that opened.
    fn slowest(&self) -> Duration {
        let attempts = self.seen.attempts.iter().map(|one| &one.probe);
        let all = attempts.chain(self.seen.controls.iter().map(|one| &one.probe));
        let opened = all.filter(|probe| probe.outcome.reached());
        Duration::from_micros(opened.map(|probe| probe.took_us).max().unwrap_or(0))
    }

    /// Why nothing follows from the attempts, if so.
    fn unmeasured(&self, attempts: &[&Attempt]) -> Option<String> {
        let none = |workload: &Workload| !workload.pods.iter().any(|pod| pod.running && pod.ip.is_some());
        if none(self.from) {
            return Some(format!("no pod of {} is running to look from", self.from.name.name));
        }
        if none(self.to) {
            return Some(format!("no pod of {} is running", self.to.name.name));
        }
        let mut blind = self.from.pods.iter().filter_map(|pod| self.seen.blind.get(&pod.name));
        if attempts.is_empty() {
            return Some(match blind.next() {
                Some(why) => format!("{} cannot be looked from: {why}", self.from.name.name),
                None => "nothing was tried".to_owned(),
            });
        }
        let unrun = attempts.iter().find(|attempt| !attempt.probe.outcome.measured());
        if let Some(unrun) = unrun {
            return Some(format!("a probe did not run: {}", unrun.probe.outcome));
        }
        let own = attempts.iter().any(|attempt| attempt.pod.is_some());
        (!own).then(|| "no pod's own address was tried".to_owned())
    }

    /// Conversations of the application's own with this port: of this caller, else of any.
    fn heard(&self, of_anybody: bool) -> impl Iterator<Item = &Heard> {
        self.seen.heard.iter().filter(move |heard| {
            heard.to == self.to.name && heard.port == self.port.port && (of_anybody || heard.from == self.from.name)
        })
    }

    fn said(&self, reach: Reach) -> Said {
        match reach {
            Reach::Allowed => {}
            Reach::Undetermined => {
                return Said::nothing(Answer::Undetermined, "it is not known whether anything gets through");
            }
            Reach::Refused | Reach::TimedOut => return Said::nothing(Answer::No, "nothing gets through"),
        }
        let own: Vec<&Heard> = self.heard(false).collect();
        let any: Vec<&Heard> = self.heard(true).collect();
        let readable = |heard: &&&Heard| heard.flow.verdict == FlowVerdict::Readable;
        if let Some(heard) = own.iter().find(readable) {
            return Said::clear(
                "what it says can be read on the wire",
                packets(heard),
                Some(&heard.flow),
            );
        }
        if let Some(heard) = own.iter().find(|heard| heard.flow.encrypted) {
            return self.encrypted(Some(*heard));
        }
        if let Some(said) = self.asked_in_clear() {
            return said;
        }
        if self.tls_look().is_some() {
            return self.encrypted(None);
        }
        if let Some(heard) = any.iter().find(readable) {
            let because = format!("what {} says to this port can be read on the wire", heard.from.name);
            return Said::clear(&because, packets(heard), None);
        }
        if let Some(heard) = any.iter().find(|heard| heard.flow.encrypted) {
            return self.encrypted(Some(*heard));
        }
        match own.first() {
            Some(heard) => {
                let because = heard
                    .flow
                    .evidence
                    .first()
                    .map_or("nothing was said", |fact| fact.says.as_str());
                Said::nothing(Answer::Undetermined, because)
            }
            None => Said::nothing(
                Answer::Undetermined,
                "no traffic was seen on it, and it answers neither HTTP nor TLS",
            ),
        }
    }

    /// What the port said when it was asked so; by this caller where it was the one to ask.
    fn look(&self, asked: Asked) -> Option<&Look> {
        let of = |look: &&Look| look.of == self.to.name && look.port == self.port.port && look.asked == asked;
        let looks = || self.seen.looks.iter().filter(of);
        let own = looks().find(|look| look.from == self.from.name);
        own.or_else(|| looks().find(|look| look.from == self.to.name))
    }

    /// The port serves without encryption, by what it answered.
    fn asked_in_clear(&self) -> Option<Said> {
        let http = self
            .look(Asked::Http)
            .filter(|look| serves_in_clear(&look.probe.outcome));
        if let Some(look) = http {
            let because = "the port answers HTTP without encryption";
            return Some(Said::clear(
                because,
                vec![evidence(EvidenceKind::Probe, &look.probe)],
                None,
            ));
        }
        let offers_none =
            |look: &&Look| matches!(&look.probe.outcome, ProbeOutcome::TlsFailed { reason } if reason == NO_TLS);
        let postgres = self.look(Asked::Postgres).filter(offers_none)?;
        let because = "the port speaks PostgreSQL, and offers no TLS";
        Some(Said::clear(
            because,
            vec![evidence(EvidenceKind::Probe, &postgres.probe)],
            None,
        ))
    }

    /// A handshake of a client without a certificate, where the port speaks TLS.
    fn tls_look(&self) -> Option<&Look> {
        let spoke = |look: &&Look| showed(look).is_some();
        [Asked::Tls, Asked::Postgres]
            .into_iter()
            .find_map(|asked| self.look(asked).filter(spoke))
    }

    /// What an encrypted conversation, and a client without a certificate, show.
    fn encrypted(&self, heard: Option<&Heard>) -> Said {
        let flow = heard.map(|heard| &heard.flow);
        let look = self.tls_look();
        let seen = look.map(|look| evidence(EvidenceKind::Probe, &look.probe));
        let wire = heard.map(packets).unwrap_or_default();
        let tls = flow.and_then(|flow| flow.tls.as_ref());
        let by_wire = tls.and_then(|tls| tls.server_certificates.first()).map(Shown::of_wire);
        let by_look = look
            .and_then(|look| look.probe.tls.as_ref()?.certificates.first())
            .map(Shown::of_look);
        let server = by_look.or(by_wire);
        let proved = tls.filter(|tls| tls.client_proved);
        let client = proved
            .and_then(|tls| tls.client_certificates.as_ref()?.first())
            .map(|shown| Shown::of_wire(shown).credential())
            .or_else(|| self.told_client());
        let proof = || wire.iter().cloned().chain(seen.clone());
        let readable = match heard {
            Some(_) => "what is said is encrypted",
            None => "the port speaks TLS, and no HTTP in clear",
        };
        Said {
            readable: Finding::new(Answer::No, readable).with(proof()),
            server: server.as_ref().map_or_else(
                || Finding::undetermined("TLS 1.3 hides the server's certificate from a capture"),
                |shown| shown.authenticates(self.seen.now_s).with(proof()),
            ),
            client: demanded(look, flow)
                .with(proof())
                .with(self.told().map(|told| told.evidence.clone())),
            authorised: Finding::undetermined("not measured: it takes a decision log that names who asked"),
            credentials: Credentials {
                server: server.map(|shown| self.watched(&self.to.name, self.port.port, shown.credential())),
                client,
            },
        }
    }
}

impl Place<'_> {
    /// What the callee's log says that this caller proved.
    ///
    /// Only a callee that has an SVID itself is believed: another may let in a certificate whose subject reads like an id.
    fn told(&self) -> Option<&Proved> {
        let callee = Shown::of_look(showed(self.tls_look()?)?).credential();
        if !callee.is_svid() {
            return None;
        }
        let mut proved = self.seen.proved.iter();
        proved.find(|proved| proved.from == self.from.name && proved.to == self.to.name)
    }

    /// The client's credential, where only the callee saw it: by the port at which the caller itself shows the same one; where
    /// it serves nowhere, by the callee's log alone.
    fn told_client(&self) -> Option<Credential> {
        let told = self.told()?;
        let mut looks = self.seen.looks.iter().filter(|look| look.of == self.from.name);
        let own = looks.find_map(|look| {
            let credential = Shown::of_look(showed(look)?).credential();
            (credential.is_svid() && credential.identity == told.id)
                .then(|| self.watched(&look.of, look.port, credential))
        });
        Some(own.unwrap_or_else(|| told.credential()))
    }

    /// A credential with what came of watching the port that showed it.
    fn watched(&self, of: &Name, port: u16, mut credential: Credential) -> Credential {
        let mut rotations = self.seen.rotations.iter();
        if let Some(watched) = rotations.find(|one| one.of == *of && one.port == port) {
            credential.rotated = watched.finding.answer;
            credential.because = watched.finding.because.clone();
            credential.evidence = watched.finding.evidence.clone();
        }
        credential
    }
}

/// The certificate that a server showed to one who looked.
fn showed(look: &Look) -> Option<&CertificateFacts> {
    look.probe.tls.as_ref()?.certificates.first()
}

/// The words of a probe about a server that speaks PostgreSQL without TLS.
const NO_TLS: &str = "the server offers no TLS";

/// Whether a client must show a certificate: what became of one without, and what the application's own did.
fn demanded(look: Option<&Look>, flow: Option<&Flow>) -> Finding {
    let shown = flow.map(|flow| flow.verdict);
    let asked = |look: &Look| look.probe.tls.as_ref().is_some_and(|tls| tls.asked_for_client);
    match look {
        Some(look) => match &look.probe.outcome {
            ProbeOutcome::TlsRefused { alert, .. } if asked(look) => {
                let alert = alert.as_deref().map(|alert| format!(" ({alert})")).unwrap_or_default();
                Finding::new(
                    Answer::Yes,
                    format!("a client without a certificate was refused{alert}"),
                )
            }
            ProbeOutcome::TlsOpen | ProbeOutcome::Answered { .. } => {
                Finding::new(Answer::No, "a client without a certificate was let in")
            }
            ProbeOutcome::TlsRefused { .. } => {
                Finding::undetermined("refused in TLS, though no certificate was asked for")
            }
            outcome => Finding::undetermined(format!("a client without a certificate: {outcome}")),
        },
        None => match shown {
            Some(FlowVerdict::EncryptedOneSided) => Finding::new(Answer::No, "the client showed no certificate"),
            Some(FlowVerdict::EncryptedMutual) => {
                Finding::undetermined("the client showed a certificate; whether one without is refused was not tried")
            }
            _ => Finding::undetermined("nobody without a certificate tried"),
        },
    }
}

/// What is known of what is said on an edge.
struct Said {
    readable: Finding,
    server: Finding,
    client: Finding,
    authorised: Finding,
    credentials: Credentials,
}

impl Said {
    /// Nothing was said, so nothing can be told but, perhaps, that it is not readable.
    fn nothing(readable: Answer, because: &str) -> Self {
        let unknown = || Finding::undetermined(because);
        Self {
            readable: Finding::new(readable, because),
            server: unknown(),
            client: unknown(),
            authorised: unknown(),
            credentials: Credentials::default(),
        }
    }

    /// It is said in clear: nobody proves anything by it.
    fn clear(because: &str, proof: Vec<Evidence>, flow: Option<&Flow>) -> Self {
        let no = |because: &str| Finding::new(Answer::No, because).with(proof.iter().take(1).cloned());
        let secret = flow.and_then(shared_secret);
        let client = match &secret {
            Some(secret) => format!(
                "in clear: the {} it shows can be read and shown by anybody",
                secret.identity
            ),
            None => "in clear: no certificate is asked for".to_owned(),
        };
        Self {
            readable: Finding::new(Answer::Yes, because).with(proof.iter().cloned()),
            server: no("in clear: nobody proves who answers"),
            client: no(&client),
            authorised: no("in clear: there is no identity to authorise by"),
            credentials: Credentials {
                server: None,
                client: secret,
            },
        }
    }
}

/// Whether an answer to HTTP in clear means that the port serves it: some that speak TLS say 400 in clear.
pub fn serves_in_clear(outcome: &ProbeOutcome) -> bool {
    outcome.status().is_some_and(|status| status != 400)
}

/// The packets behind a conversation's verdict.
fn packets(heard: &Heard) -> Vec<Evidence> {
    let line = |fact: &Fact| Evidence {
        kind: EvidenceKind::Packet,
        id: fact.frame.map_or_else(String::new, |frame| frame.to_string()),
        namespace: heard.namespace.clone(),
        pod: heard.pod.clone(),
        at_ns: heard.flow.first_ns,
        says: crate::text::one_line(&fact.says),
    };
    heard.flow.evidence.iter().take(LINES).map(line).collect()
}

/// A probe as evidence.
pub(super) fn evidence(kind: EvidenceKind, probe: &ProbeResult) -> Evidence {
    Evidence {
        kind,
        id: probe.id.to_string(),
        namespace: probe.namespace.clone(),
        pod: probe.pod.clone(),
        at_ns: probe.started_ns,
        says: crate::text::one_line(&format!("{}: {}", probe.target, probe.outcome)),
    }
}
