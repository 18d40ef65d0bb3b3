//! What was measured: the facts that probes and captures bring home, before anybody judges them.
//!
//! Evidence never says "good" or "bad"; a check turns it into a verdict. Each piece says where it was taken and
//! how, so that a person can repeat it by hand.

mod certificate;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

pub use self::certificate::{
    CertificateFacts, EXTENDED_KEY_USAGES, KEY_USAGES, chain_of, date, key_of, public_of, signed_by,
};
use crate::packet::{CapturePoint, Flow, FlowVerdict, LeakKind, Message, PlaceKind, Probed};

/// Names one probe, in the header `x-ztlab-probe` and in the access logs of the workloads that answer it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProbeId(pub String);

impl fmt::Display for ProbeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

pub use crate::packet::PROBE_HEADER;

/// How far a probe had come when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Asking DNS for the name.
    Resolve,
    /// The TCP handshake.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Sending the request.
    Send,
    /// Waiting for or reading the answer.
    Receive,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Resolve => "resolving the name",
            Phase::Connect => "connecting",
            Phase::Handshake => "the TLS handshake",
            Phase::Send => "sending",
            Phase::Receive => "waiting for the answer",
        })
    }
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum ProbeOutcome {
    /// An HTTP response came.
    Answered {
        /// Its status code.
        status: u16,
        /// Its headers, in order, names in lower case (up to a limit).
        headers: Vec<(String, String)>,
        /// The beginning of its body; bytes that are not UTF-8 are replaced.
        body: String,
        /// Whether `body` was cut at the limit.
        truncated: bool,
    },
    /// A TCP connection was established (and closed again).
    Connected,
    /// The name was resolved.
    Resolved {
        /// The records answered, in text form.
        answers: Vec<String>,
    },
    /// DNS answered that there is no such name, or no such record.
    NoSuchHost,
    /// DNS did not answer, or answered with an error.
    DnsFailed {
        /// Its response code or what went wrong.
        reason: String,
    },
    /// The peer refused the connection (RST to SYN, or an ICMP that means it).
    Refused,
    /// Nothing came back in time.
    TimedOut {
        /// While doing what.
        phase: Phase,
    },
    /// The peer broke the connection off.
    Reset {
        /// While doing what.
        phase: Phase,
    },
    /// There is no route to it, or the network said so.
    Unreachable {
        /// The system's words.
        reason: String,
    },
    /// The TLS handshake failed.
    TlsFailed {
        /// Why, in the TLS library's words.
        reason: String,
    },
    /// A TLS session was opened, and an answer came back through it.
    TlsOpen,
    /// A TLS session was opened, and nothing came back through it in time: neither let in nor refused.
    TlsSilent,
    /// The peer refused in TLS: by an alert, or by breaking off. In TLS 1.3 a client learns that its certificate is
    /// refused only after its own part of the handshake.
    TlsRefused {
        /// The alert, in the words of RFC 8446 §6; `None` where the peer only closed.
        alert: Option<String>,
        /// In the handshake, or while the answer was waited for.
        phase: Phase,
    },
    /// The server's certificate does not verify against the authorities that were given, so nothing was sent to it.
    Untrusted {
        /// Why not, in the TLS library's words.
        reason: String,
    },
    /// What came back was not the protocol asked for.
    ProtocolError {
        /// What was wrong with it.
        reason: String,
    },
    /// The probe itself could not run: nothing was measured, and nothing follows from it.
    NotRun {
        /// Why.
        reason: String,
    },
}

impl ProbeOutcome {
    /// The HTTP status, where one came.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether a byte of the peer came back: it is there and reachable, whatever it said.
    pub const fn reached(&self) -> bool {
        matches!(
            self,
            Self::Answered { .. }
                | Self::Connected
                | Self::ProtocolError { .. }
                | Self::TlsFailed { .. }
                | Self::TlsOpen
                | Self::TlsSilent
                | Self::TlsRefused { .. }
                | Self::Untrusted { .. }
        )
    }

    /// Whether the peer let the caller in, as far as TLS goes: `Some(true)` for an answer, whatever its status; `Some(false)`
    /// where the session was refused or broken off once the connection stood; `None` where it never came to that.
    ///
    /// By itself a session that breaks tells little; beside one that did not (with a certificate) it tells why.
    pub const fn let_in(&self) -> Option<bool> {
        match self {
            Self::Answered { .. } | Self::TlsOpen => Some(true),
            Self::TlsFailed { .. }
            | Self::TlsRefused { .. }
            | Self::Reset {
                phase: Phase::Handshake | Phase::Send | Phase::Receive,
            } => Some(false),
            _ => None,
        }
    }

    /// Whether anything was measured at all.
    pub const fn measured(&self) -> bool {
        !matches!(self, Self::NotRun { .. })
    }
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status, .. } => write!(f, "answered {status}"),
            Self::Connected => write!(f, "connected"),
            Self::Resolved { answers } => write!(f, "resolved to {}", answers.join(", ")),
            Self::NoSuchHost => write!(f, "no such host"),
            Self::DnsFailed { reason } => write!(f, "DNS failed: {reason}"),
            Self::Refused => write!(f, "connection refused"),
            Self::TimedOut { phase } => write!(f, "timed out while {phase}"),
            Self::Reset { phase } => write!(f, "connection reset while {phase}"),
            Self::Unreachable { reason } => write!(f, "unreachable: {reason}"),
            Self::TlsFailed { reason } => write!(f, "TLS failed: {reason}"),
            Self::TlsOpen => write!(f, "TLS session opened, and answered"),
            Self::TlsSilent => write!(f, "TLS session opened, no answer"),
            Self::TlsRefused {
                alert: Some(alert),
                phase: Phase::Handshake,
            } => write!(f, "refused in the TLS handshake: {alert}"),
            Self::TlsRefused { alert: Some(alert), .. } => write!(f, "refused after the TLS handshake: {alert}"),
            Self::TlsRefused { alert: None, phase } => write!(f, "TLS broken off by the peer while {phase}"),
            Self::Untrusted { reason } => write!(f, "the server is not to be trusted: {reason}"),
            Self::ProtocolError { reason } => write!(f, "unexpected answer: {reason}"),
            Self::NotRun { reason } => write!(f, "not run: {reason}"),
        }
    }
}

/// What one probe measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Its id; the access log of whoever answered has it too.
    pub id: ProbeId,
    /// Namespace of the pod it ran in.
    pub namespace: String,
    /// The pod it ran in.
    pub pod: String,
    /// What it asked, as one would write it (`GET http://payments-api/charge`, `tcp ledger:5432`).
    pub target: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: ProbeOutcome,
    /// What the name resolved to, in the pod.
    #[serde(default)]
    pub resolved: Vec<IpAddr>,
    /// The address it connected to.
    #[serde(default)]
    pub peer: Option<SocketAddr>,
    /// Its own address in that connection.
    #[serde(default)]
    pub local: Option<SocketAddr>,
    /// What its TLS handshake told, as far as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<TlsSeen>>,
    /// When it began, in nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// What a probe saw of a TLS handshake, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSeen {
    /// The version agreed on, as `1.3`.
    pub version: Option<String>,
    /// The cipher suite, by IANA's name.
    pub cipher: Option<String>,
    /// The application protocol (ALPN).
    pub alpn: Option<String>,
    /// The server's chain, its own certificate first.
    pub certificates: Vec<CertificateFacts>,
    /// The same as they are, DER in base64, where the probe was asked to keep them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub der: Vec<String>,
    /// Whether the chain verifies against the authorities that were given, and names the server; `None` where none
    /// were given, or no certificate came.
    pub verified: Option<bool>,
    /// Why it does not.
    pub verify_error: Option<String>,
    /// Whether the server asked for a client certificate.
    pub asked_for_client: bool,
    /// The certificate that was shown to it, in a line; `None` where none was asked for, or there was none to show.
    pub shown: Option<String>,
}

/// What a capture saw in a stretch of time: the evidence of checks about traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptureEvidence {
    /// Where it listened; empty means that nothing listened, and an absence proves nothing.
    pub points: Vec<CapturePoint>,
    /// From when, in nanoseconds since the Unix epoch.
    pub from_ns: u64,
    /// Until when, in nanoseconds since the Unix epoch.
    pub until_ns: u64,
    /// Packets seen.
    pub packets: u64,
    /// Packets that the kernel dropped before they could be read.
    pub dropped: u64,
    /// What was said.
    pub messages: Vec<Message>,
    /// The conversations, judged.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// The captures, in the order they began.
    #[serde(default)]
    pub runs: Vec<CaptureRun>,
}

/// One capture: where, from when until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureRun {
    /// The pod it listened in.
    pub pod: String,
    /// When it began, in nanoseconds since the Unix epoch.
    pub from_ns: u64,
    /// When it ended; `None` while it goes on.
    pub until_ns: Option<u64>,
}

impl CaptureRun {
    /// Whether something that was seen at a place and a time was seen by this capture.
    pub fn saw(&self, point: Option<&CapturePoint>, ts_ns: u64) -> bool {
        point.is_none_or(|point| point.pod == self.pod)
            && ts_ns >= self.from_ns
            && self.until_ns.is_none_or(|until| ts_ns <= until)
    }
}

/// What the conversations of a client with a server come to, taken together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// That of the worst of them.
    pub verdict: FlowVerdict,
    /// Whether all that was said was encrypted, whoever proved who they are.
    pub encrypted: bool,
    /// How many conversations are behind it.
    pub flows: usize,
    /// What shows it, a line each: which packet, where, what.
    pub evidence: Vec<String>,
}

/// Lines of evidence of a [`Judged`].
const LINES: usize = 8;

/// What two probes of the same server found: one that showed a certificate, one that showed none. What does not tell
/// whether the caller was let in ([`ProbeOutcome::let_in`]) counts as not measured.
pub fn shown_by_probes(with_certificate: Option<&ProbeOutcome>, without_certificate: Option<&ProbeOutcome>) -> Probed {
    Probed {
        with_certificate: with_certificate.and_then(ProbeOutcome::let_in),
        without_certificate: without_certificate.and_then(ProbeOutcome::let_in),
    }
}

impl CaptureEvidence {
    /// The messages between two workloads, in either direction: the positive control of a claim about them. What ztlab's own
    /// probes say counts neither for nor against it.
    pub fn between<'a>(&'a self, one: &'a str, other: &'a str) -> impl Iterator<Item = &'a Message> {
        self.messages
            .iter()
            .filter(move |message| message.between(one, other) && !message.is_probe())
    }

    /// The conversations between two workloads, whoever opened them.
    pub fn flows_between<'a>(&'a self, one: &'a str, other: &'a str) -> impl Iterator<Item = &'a Flow> {
        self.flows
            .iter()
            .filter(move |flow| flow.between(one, other) && !flow.is_probe())
    }

    /// The conversations that a client opened with a server.
    pub fn flows_from<'a>(&'a self, client: &'a str, server: &'a str) -> impl Iterator<Item = &'a Flow> {
        self.flows
            .iter()
            .filter(move |flow| flow.client.is(client) && flow.server.is(server) && !flow.is_probe())
    }

    /// The same evidence with the conversations of the newest capture in which these two said something, and no others; where
    /// they never did, of the newest that saw them at all.
    #[must_use]
    pub fn newest_flows(&self, one: &str, other: &str) -> Self {
        let of = |run: &CaptureRun| -> Vec<Flow> {
            let seen = self.flows_between(one, other);
            seen.filter(|flow| run.saw(flow.point.as_ref(), flow.last_ns))
                .cloned()
                .collect()
        };
        let runs: Vec<Vec<Flow>> = self.runs.iter().rev().map(of).collect();
        // The end of a connection that a capture began with tells nothing of what was said in it.
        let spoke = runs.iter().find(|flows| flows.iter().any(Flow::said_something));
        let newest = spoke.or_else(|| runs.iter().find(|flows| !flows.is_empty())).cloned();
        Self {
            points: self.points.clone(),
            flows: newest.unwrap_or_else(|| self.flows_between(one, other).cloned().collect()),
            dropped: self.dropped,
            ..Self::default()
        }
    }

    /// How the conversations of a client with a server are judged, taken together and with what probes found; `None`
    /// where none was seen.
    ///
    /// The worst decides: one that was readable makes all of it readable. Bytes that no decoder knows count as
    /// undetermined and not as encrypted. What was seen on the loopback of a pod does not count: it never was on the wire.
    pub fn judged(&self, client: &str, server: &str, probed: Probed) -> Option<Judged> {
        let on_the_wire = |flow: &&Flow| {
            flow.point
                .as_ref()
                .is_none_or(|point| point.kind() != PlaceKind::InsidePod)
        };
        let mut judged: Vec<_> = self
            .flows_from(client, server)
            .filter(on_the_wire)
            .map(|flow| {
                let (verdict, facts) = flow.with_probes(probed);
                (flow.rank(verdict), verdict, flow, facts)
            })
            .collect();
        judged.sort_by_key(|(rank, ..)| *rank);
        let (_, verdict, ..) = judged.first()?;
        let said = |flow: &&Flow| !matches!(flow.verdict, FlowVerdict::Refused) && flow.said_something();
        let mut spoke = judged.iter().map(|(_, _, flow, _)| *flow).filter(said).peekable();
        let encrypted = spoke.peek().is_some() && spoke.all(|flow| flow.encrypted);
        let lines = judged.iter().flat_map(|(_, _, flow, facts)| {
            facts.iter().map(move |fact| {
                let at = match (fact.frame, &flow.point) {
                    (Some(frame), Some(point)) => format!("packet {frame} at {point}: "),
                    (Some(frame), None) => format!("packet {frame}: "),
                    (None, Some(point)) => format!("at {point}: "),
                    (None, None) => String::new(),
                };
                format!("{} → {}, {at}{}", flow.client, flow.server, fact.says)
            })
        });
        Some(Judged {
            verdict: *verdict,
            encrypted,
            flows: judged.len(),
            evidence: lines.take(LINES).collect(),
        })
    }

    /// The messages between two workloads in the newest capture that saw any: an absence is looked for there, since what
    /// was so before something was changed stays in older ones.
    pub fn newest_between<'a>(&'a self, one: &'a str, other: &'a str) -> Vec<&'a Message> {
        let all: Vec<&'a Message> = self.between(one, other).collect();
        let of = |run: &CaptureRun| -> Vec<&'a Message> {
            let seen = all
                .iter()
                .filter(|message| run.saw(message.point.as_ref(), message.ts_ns));
            seen.copied().collect()
        };
        let newest = self.runs.iter().rev().map(of).find(|seen| !seen.is_empty());
        newest.unwrap_or(all)
    }

    /// Every leak of a kind, with the message that holds it.
    pub fn leaks(&self, kind: LeakKind) -> impl Iterator<Item = (&Message, &crate::packet::Leak)> {
        self.messages.iter().flat_map(move |message| {
            message
                .leaks
                .iter()
                .filter(move |leak| leak.kind == kind)
                .map(move |leak| (message, leak))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::packet::{Peer, Protocol, Transport, Who, WhoKind};

    fn peer(name: &str, port: u16) -> Peer {
        let who = Who {
            kind: WhoKind::Pod,
            namespace: Some("shop".to_owned()),
            name: format!("{name}-1"),
            workload: Some(name.to_owned()),
        };
        Peer::named(SocketAddr::from(([10, 0, 0, 1], port)), Arc::new(who))
    }

    fn flow(verdict: FlowVerdict, encrypted: bool, interface: &str) -> Flow {
        Flow {
            client: peer("orders-api", 40_000),
            server: peer("payments-api", 80),
            verdict,
            encrypted,
            point: Some(CapturePoint::pod("shop", "payments-api-1").on(interface)),
            id: 1,
            transport: Transport::Tcp,
            protocol: Protocol::Http,
            first_ns: 1,
            last_ns: 2,
            packets: [4, 3],
            bytes: [100, 200],
            missing_bytes: 0,
            leaks: BTreeMap::new(),
            tls: None,
            evidence: vec![serde_json::from_value(serde_json::json!({ "says": "it was so", "frame": 4 })).unwrap()],
            still_shows: Vec::new(),
            ifindex: None,
            also: Vec::new(),
        }
    }

    fn judged(flows: Vec<Flow>, probed: Probed) -> Option<(FlowVerdict, bool, usize)> {
        let evidence = CaptureEvidence {
            flows,
            ..CaptureEvidence::default()
        };
        assert_eq!(evidence.judged("payments-api", "orders-api", probed), None);
        let judged = evidence.judged("orders-api", "payments-api", probed)?;
        assert!(
            judged
                .evidence
                .iter()
                .all(|line| line.starts_with("orders-api:40000 → payments-api:80, "))
        );
        Some((judged.verdict, judged.encrypted, judged.flows))
    }

    #[test]
    fn the_worst_conversation_decides() {
        use FlowVerdict::{EncryptedMutual, EncryptedOneSided, Readable, Refused, Undetermined};
        let mutual = flow(EncryptedMutual, true, "eth0");
        let one_sided = flow(EncryptedOneSided, true, "eth0");
        let hidden = flow(Undetermined, true, "eth0");
        let readable = flow(Readable, false, "eth0");
        let unknown = flow(Undetermined, false, "eth0");
        // The capture ended in the middle of its handshake.
        let cut = Flow {
            tls: Some(crate::packet::TlsFacts::default()),
            ..unknown.clone()
        };
        let silent = Flow {
            bytes: [0, 0],
            ..unknown.clone()
        };
        let refused = Flow {
            bytes: [0, 0],
            ..flow(Refused, false, "eth0")
        };
        let inside = flow(Readable, false, "lo");
        for (flows, expected) in [
            (vec![], None),
            (vec![inside.clone()], None),
            (vec![mutual.clone(), inside], Some((EncryptedMutual, true, 1))),
            (
                vec![mutual.clone(), readable, hidden.clone()],
                Some((Readable, false, 3)),
            ),
            (
                vec![mutual.clone(), one_sided, refused.clone()],
                Some((EncryptedOneSided, true, 3)),
            ),
            (vec![mutual.clone(), cut.clone()], Some((EncryptedMutual, true, 2))),
            (vec![cut], Some((Undetermined, false, 1))),
            (vec![mutual.clone(), unknown], Some((Undetermined, false, 2))),
            (
                vec![refused.clone(), mutual, silent.clone()],
                Some((EncryptedMutual, true, 3)),
            ),
            (vec![silent.clone(), refused], Some((Refused, false, 2))),
            (vec![silent], Some((Undetermined, false, 1))),
            (vec![hidden], Some((Undetermined, true, 1))),
        ] {
            assert_eq!(judged(flows, Probed::default()), expected);
        }
    }

    #[test]
    fn the_newest_capture_in_which_something_was_said_decides() {
        let run = |from_ns, until_ns| CaptureRun {
            pod: "payments-api-1".to_owned(),
            from_ns,
            until_ns,
        };
        let at = |last_ns, flow: Flow| Flow { last_ns, ..flow };
        let silent = Flow {
            bytes: [0, 0],
            ..flow(FlowVerdict::Undetermined, false, "eth0")
        };
        let readable = flow(FlowVerdict::Readable, false, "eth0");
        let mutual = flow(FlowVerdict::EncryptedMutual, true, "eth0");
        let mut probe = flow(FlowVerdict::Readable, false, "eth0");
        probe.client = peer("orders-api", *crate::packet::PROBE_PORTS.start());
        for (flows, expected) in [
            (vec![], None),
            // The newest alone, whatever was seen before.
            (
                vec![at(5, readable.clone()), at(15, mutual.clone())],
                Some((FlowVerdict::EncryptedMutual, 1)),
            ),
            // The newest saw no more than the end of a connection.
            (
                vec![at(5, readable.clone()), at(15, silent.clone())],
                Some((FlowVerdict::Readable, 1)),
            ),
            (vec![at(15, silent)], Some((FlowVerdict::Undetermined, 1))),
            // What a probe says counts nowhere.
            (
                vec![at(5, mutual), at(15, probe.clone())],
                Some((FlowVerdict::EncryptedMutual, 1)),
            ),
            (vec![at(15, probe)], None),
        ] {
            let evidence = CaptureEvidence {
                flows,
                runs: vec![run(1, Some(10)), run(11, None)],
                ..CaptureEvidence::default()
            };
            let newest = evidence.newest_flows("orders-api", "payments-api");
            let judged = newest.judged("orders-api", "payments-api", Probed::default());
            assert_eq!(judged.map(|judged| (judged.verdict, judged.flows)), expected);
        }
    }

    #[test]
    fn probes_decide_what_tls_13_hides() {
        let hidden = flow(FlowVerdict::Undetermined, true, "eth0");
        let answered = ProbeOutcome::Answered {
            status: 403,
            headers: Vec::new(),
            body: String::new(),
            truncated: false,
        };
        let refused = ProbeOutcome::TlsFailed {
            reason: "certificate required".to_owned(),
        };
        let silence = ProbeOutcome::TimedOut { phase: Phase::Connect };
        for (with, without, verdict) in [
            (&answered, &refused, FlowVerdict::EncryptedMutual),
            (&answered, &answered, FlowVerdict::EncryptedOneSided),
            (&refused, &refused, FlowVerdict::Undetermined),
            (&answered, &silence, FlowVerdict::Undetermined),
            (&silence, &refused, FlowVerdict::Undetermined),
        ] {
            let probed = shown_by_probes(Some(with), Some(without));
            assert_eq!(
                judged(vec![hidden.clone()], probed),
                Some((verdict, true, 1)),
                "{probed:?}"
            );
        }
        assert_eq!(shown_by_probes(None, None), Probed::default());
    }
}
