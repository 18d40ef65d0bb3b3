//! What a face sees of a session: one consistent picture, sent whole whenever it changes.
//!
//! Everything here was measured or is the lab's text. Solutions and expected answers are never in a snapshot.

use serde::{Deserialize, Serialize};

use crate::{
    cluster::manifests::Transform,
    packet::{CapturePoint, PlaceKind},
    score::{Points, Score, Weight},
    verdict::Finding,
};

/// The state of the session host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with every change.
    pub revision: u64,
    /// The student's session, if one is running.
    pub session: Option<SessionView>,
}

/// A lab in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSummary {
    /// Its id, as `ztlab lab start` takes it.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Zero trust level it starts at, 0 to 4.
    pub level: u8,
    /// How long it takes, in minutes.
    pub minutes: u32,
    /// `beginner`, `intermediate` or `advanced`.
    pub difficulty: String,
    /// What the student learns.
    pub objectives: Vec<String>,
    /// What to have done or to know before, and the programs that must be on the student's machine.
    #[serde(default)]
    pub before: Vec<String>,
    /// The ids of the labs to have done before.
    #[serde(default)]
    pub after: Vec<String>,
    /// Number of steps.
    pub steps: usize,
    /// Where it was found: `built in`, or a path.
    pub source: String,
    /// Points of the last run, if there was one.
    pub score: Option<Score>,
    /// Why it cannot be started, if its file is broken: a rendered error with line and caret.
    pub broken: Option<String>,
}

/// One student's run through one lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// The session's id.
    pub id: String,
    /// The lab.
    pub lab: LabView,
    /// What the session is doing.
    pub phase: Phase,
    /// How far the current work is, while something is being started or reset.
    pub progress: Option<ProgressView>,
    /// The cluster's name.
    pub cluster: String,
    /// The ground, in words.
    #[serde(default)]
    pub ground: String,
    /// The namespace the lab's workloads run in.
    pub namespace: String,
    /// The cluster's kubeconfig, for the student's shell; absent until the cluster is there.
    pub kubeconfig: Option<String>,
    /// What manifests become before they are applied there, where the ground asks for a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Transform>,
    /// The student's work directory, where the shell opens.
    #[serde(default)]
    pub work: String,
    /// How long the student has worked on it, in milliseconds; rests do not count.
    #[serde(default)]
    pub spent_ms: u64,
    /// The steps, in the lab's order.
    pub steps: Vec<StepView>,
    /// Points over all steps, out of 100.
    pub score: Score,
    /// The pods of the lab.
    pub workloads: Vec<WorkloadView>,
    /// What the student's captures saw.
    pub traffic: TrafficView,
    /// The last things worth telling, oldest first.
    pub log: Vec<Notice>,
    /// Set when the lab's file has changed since this session began.
    pub lab_changed: bool,
}

/// The lab's own text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabView {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Zero trust level it starts at.
    pub level: u8,
    /// How long it takes, in minutes.
    pub minutes: u32,
    /// What the student learns.
    pub objectives: Vec<String>,
    /// What to keep, once every step is passed; Markdown.
    pub recap: Option<String>,
}

/// What a session is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The cluster is being made and the lab deployed.
    Starting,
    /// The student can work.
    Ready,
    /// Going back to the start.
    Resetting,
    /// The student rests: the cluster's node is stopped.
    Paused,
    /// Being stopped.
    Stopping,
    /// Ended; the cluster may still be there.
    Stopped,
    /// Something went wrong; starting again is safe.
    Failed(String),
}

/// How far a long piece of work is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressView {
    /// What is being done.
    pub phase: String,
    /// How many of `total` are done.
    pub done: u32,
    /// How many there are; 0 when unknown.
    pub total: u32,
    /// The thing at hand.
    pub detail: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Whether it can be worked on.
    pub state: StepState,
    /// Points it gives.
    pub points: Points,
    /// Points earned, after hints are paid for.
    pub earned: Points,
    /// Ids of the steps to pass first.
    pub needs: Vec<String>,
    /// What to do; Markdown, with `run` blocks a key types at the student's prompt.
    pub instructions: String,
    /// Where the attacker of this step stands.
    pub vantage: Option<String>,
    /// Its checks.
    pub checks: Vec<CheckView>,
    /// Hints that are open.
    pub hints: Vec<HintView>,
    /// What the next hint costs; absent when there is none left to ask for.
    pub next_hint: Option<Points>,
    /// What the step teaches, once it is passed.
    pub teaches: Option<String>,
    /// Whether the solution was run by ztlab instead of the student.
    pub solved: bool,
    /// What shows that the step is not possible on this ground, where it is not.
    #[serde(default)]
    pub impossible: Option<String>,
}

/// Whether a step can be worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Steps it needs are not passed yet.
    Locked,
    /// Can be worked on.
    Open,
    /// Every check has passed.
    Passed,
    /// The ground cannot do what it needs: it gives no points, and nothing waits for it.
    Impossible,
}

impl StepState {
    /// Whether it can be worked on, or was.
    pub fn is_workable(self) -> bool {
        matches!(self, Self::Open | Self::Passed)
    }

    /// Whether nothing is left to do in it.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Passed | Self::Impossible)
    }
}

/// One check of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// Its name, unique in the step.
    pub name: String,
    /// Its share of the step's points.
    pub weight: Weight,
    /// What it says: latched if it has passed, else live.
    pub verdict: CheckState,
    /// What was found, in a word.
    pub finding: Option<Finding>,
    /// What it expects.
    pub expected: String,
    /// What it found; empty until it ran.
    pub found: String,
    /// Why it matters.
    pub why: String,
    /// The evidence behind the verdict, one line each.
    pub evidence: Vec<String>,
    /// The question, if the check is one.
    pub question: Option<QuestionView>,
    /// Whether the verdict is latched: it passed once, and keeps its points.
    pub latched: bool,
    /// What it says now, which differs from `verdict` when a latched check no longer holds.
    pub live: CheckState,
}

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// It has not run yet.
    NotRun,
    /// The evidence shows what is expected.
    Passed,
    /// The evidence shows something else.
    Failed,
    /// The evidence shows neither.
    Undetermined,
}

/// A hint that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintView {
    /// The hint; Markdown.
    pub text: String,
    /// What it cost; 0 for one that opened by itself.
    pub cost: Points,
}

/// A question to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionView {
    /// The question.
    pub ask: String,
    /// The options to choose from; empty when the answer is free text.
    pub choices: Vec<ChoiceView>,
    /// Whether more than one choice may be right: the answer is their keys, separated by commas.
    pub many: bool,
    /// The student's last answer.
    pub answer: Option<String>,
}

/// One option of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceView {
    /// What to answer: `a`, `b`, …
    pub key: String,
    /// The option.
    pub text: String,
}

/// One pod of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadView {
    /// The workload (`app` label, or the pod's name without one).
    pub name: String,
    /// The pod.
    pub pod: String,
    /// The pod's address, once it has one.
    pub ip: Option<String>,
    /// Whether all its containers are ready.
    pub ready: bool,
    /// What kubectl shows in the STATUS column.
    pub status: String,
}

/// What the student's captures saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficView {
    /// The captures that are running.
    pub capturing: Vec<CaptureView>,
    /// Packets the kernel or a queue dropped, over all captures.
    pub dropped: u64,
    /// Packets seen since the session started.
    pub packets: u64,
    /// The last messages, oldest first (a few hundred at most).
    pub messages: Vec<MessageView>,
}

/// One running capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureView {
    /// The workload it runs in.
    pub workload: String,
    /// The pod it runs in.
    pub pod: String,
    /// The BPF filter.
    pub filter: Option<String>,
    /// Packets seen.
    pub packets: u64,
}

/// One message of a conversation, put together from the packets that carried it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// Grows with every message of the session.
    pub seq: u64,
    /// When it was seen, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The workload it was captured in.
    pub captured_in: String,
    /// Where in it, and who else could see it there; absent where that is not known.
    #[serde(default)]
    pub place: Option<PlaceView>,
    /// The sender's name (workload, or address).
    pub from: String,
    /// The receiver's name.
    pub to: String,
    /// The sender's address and port.
    pub from_address: String,
    /// The receiver's address and port.
    pub to_address: String,
    /// `http`, `postgres`, `dns`, `tls` or `tcp`.
    pub protocol: String,
    /// Whether a probe of ztlab's own asked: no check counts it.
    #[serde(default)]
    pub probe: bool,
    /// One line that says what it is.
    pub summary: String,
    /// The readable text of it; control characters are replaced. May be cut.
    pub text: String,
    /// Which SPIFFE IDs its ends hold, where that is known from elsewhere: not read from these packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<IdentityView>,
    /// The numbers of the packets that carried it, in the capture.
    pub packets: Vec<u64>,
    /// What leaks in it.
    pub leaks: Vec<LeakView>,
}

/// Which identity one end of an encrypted conversation holds, by a measurement beside the capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityView {
    /// Which end: `from` or `to`.
    pub end: String,
    /// The SPIFFE ID.
    pub spiffe_id: String,
    /// What showed it: `probe`, a TLS handshake of ztlab's own with the same address, or with the same pod.
    pub source: String,
    /// Always `false`: the certificate was encrypted, and nobody who listens can read it.
    pub on_the_wire: bool,
    /// When the source showed it, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl IdentityView {
    /// Where it is from and how old it was, in words, for a message of this time.
    pub fn words(&self, message_ms: u64) -> String {
        let seconds = self.at_ms.abs_diff(message_ms).div_ceil(1000);
        let when = if self.at_ms <= message_ms { "before" } else { "after" };
        format!(
            "by a {} {seconds} s {when}, not on the wire",
            crate::text::one_line(&self.source)
        )
    }
}

/// Where a message was captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceView {
    /// What kind of place it is.
    pub kind: PlaceKind,
    /// Which interface, and what that means: `lo, inside the pod`.
    pub words: String,
    /// Whether the pod has a proxy, so that it matters on which side of it this is.
    pub proxied: bool,
    /// Who can see what crosses there.
    pub seen_by: String,
    /// Who cannot, and might be thought to.
    pub hidden_from: String,
}

impl From<&CapturePoint> for PlaceView {
    fn from(point: &CapturePoint) -> Self {
        let kind = point.kind();
        Self {
            kind,
            words: point.place(),
            proxied: point.proxy.is_some(),
            seen_by: kind.seen_by().to_owned(),
            hidden_from: kind.hidden_from().to_owned(),
        }
    }
}

/// One secret that a message carries in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakView {
    /// `bearer-token`, `card-number`, `database-login`, …
    pub kind: String,
    /// The secret.
    pub value: String,
    /// Where it begins in the message's `text`, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How loudly.
    pub level: NoticeLevel,
    /// What happened.
    pub text: String,
}

/// How loudly a notice is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeLevel {
    /// Good to know.
    Info,
    /// A check or a step passed.
    Success,
    /// Something is off.
    Warning,
    /// Something failed.
    Error,
}
