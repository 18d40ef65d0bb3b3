//! A lab that is known to be valid.

use std::{fmt, time::Duration};

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{
    packet::{LeakKind, Protocol},
    score::{Points, Weight},
    verdict::Finding,
};

/// A lab's id: lower-case letters, digits and dashes; also its directory's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabId(pub(super) String);

/// A step's id, unique in its lab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub(super) String);

/// A workload's name: the Deployment's, which is also the `app` label of its pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Workload(pub(super) String);

macro_rules! name {
    ($($type:ty),*) => {$(
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}
name!(LabId, StepId, Workload);

/// How much a student should know already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difficulty {
    /// Knows a shell.
    Beginner,
    /// Knows Kubernetes and TLS by name.
    Intermediate,
    /// Works with them.
    Advanced,
}

impl Difficulty {
    /// Every difficulty, with its name in lab files.
    pub const ALL: &'static [(&'static str, Difficulty)] = &[
        ("beginner", Difficulty::Beginner),
        ("intermediate", Difficulty::Intermediate),
        ("advanced", Difficulty::Advanced),
    ];

    /// Its name in lab files.
    pub fn as_str(self) -> &'static str {
        name_of(Self::ALL, self)
    }
}

/// Something a ground must be able to do for a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Capture packets in a pod's network namespace.
    Capture,
}

impl Capability {
    /// Every capability, with its name in lab files.
    pub const ALL: &'static [(&'static str, Capability)] = &[("capture", Capability::Capture)];
}

fn name_of<T: PartialEq>(all: &'static [(&'static str, T)], value: T) -> &'static str {
    all.iter().find(|(_, one)| *one == value).map_or("?", |(name, _)| name)
}

/// A lab.
#[derive(Clone, Debug)]
pub struct Lab {
    /// Its id.
    pub id: LabId,
    /// Its title.
    pub title: String,
    /// The zero trust level it starts at, 0 to 4.
    pub level: u8,
    /// How long it takes.
    pub minutes: u32,
    /// How much a student should know already.
    pub difficulty: Difficulty,
    /// What the student learns.
    pub objectives: Vec<String>,
    /// The namespace its workloads run in.
    pub namespace: String,
    /// The topology layers it starts from, in order.
    pub topology: Vec<String>,
    /// What a ground must be able to do.
    pub capabilities: Vec<Capability>,
    /// Who is meant to call whom.
    pub edges: Vec<Edge>,
    /// The steps, in the order a student sees them; `needs` form no cycle.
    pub steps: Vec<Step>,
    /// What to keep, once every step is passed; Markdown.
    pub recap: Option<String>,
}

impl Lab {
    /// The step of an id, with its place.
    pub fn step(&self, id: &str) -> Option<(usize, &Step)> {
        self.steps.iter().enumerate().find(|(_, step)| step.id.as_str() == id)
    }

    /// The places of a step and of every step that needs it, at whatever remove.
    pub fn needing(&self, step: usize) -> std::collections::BTreeSet<usize> {
        let mut found = std::collections::BTreeSet::from([step]);
        loop {
            let more = self.steps.iter().enumerate();
            let more: Vec<usize> = more
                .filter(|(at, step)| !found.contains(at) && step.needs.iter().any(|need| found.contains(need)))
                .map(|(at, _)| at)
                .collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// Points of the whole lab.
    pub fn points(&self) -> Points {
        self.steps.iter().map(|step| step.points).sum()
    }
}

/// A call that the application declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Who calls.
    pub from: Workload,
    /// Whom.
    pub to: Workload,
    /// On which port of the Service.
    pub port: u16,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// Its title.
    pub title: String,
    /// What it gives.
    pub points: Points,
    /// Places, in the lab's list, of the steps to pass first.
    pub needs: Vec<usize>,
    /// Where the attacker of this step stands.
    pub vantage: Option<String>,
    /// What to do; Markdown.
    pub instructions: String,
    /// What is looked at, at least one.
    pub checks: Vec<Check>,
    /// Help.
    pub hints: Vec<Hint>,
    /// What passing it teaches; Markdown.
    pub teaches: Option<String>,
    /// What passes it.
    pub solution: Vec<Action>,
    /// What plausibly does not.
    pub wrong: Vec<Attempt>,
}

impl Step {
    /// The check of a name, with its place.
    pub fn check(&self, name: &str) -> Option<(usize, &Check)> {
        self.checks.iter().enumerate().find(|(_, check)| check.name == name)
    }
}

/// One check of a step.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name, unique in the step.
    pub name: String,
    /// Its share of the step's points.
    pub weight: Weight,
    /// Why it matters.
    pub why: String,
    /// What it looks at.
    pub kind: CheckKind,
}

/// What a check looks at, and what it expects there.
#[derive(Clone, Debug)]
pub enum CheckKind {
    /// What the student's captures hold.
    Capture(CaptureCheck),
    /// A question the student answers.
    Question(Question),
    /// An HTTP call from one workload to another.
    Http(HttpCheck),
    /// A login to a database, and what was asked of it.
    Database(DatabaseCheck),
    /// Whether one workload can open a TCP connection to another.
    Tcp(TcpCheck),
}

/// What the student's captures must, or must not, hold.
#[derive(Clone, Debug)]
pub struct CaptureCheck {
    /// The two ends, in either direction.
    pub between: (Workload, Workload),
    /// What is looked for.
    pub pattern: Pattern,
    /// Whether it must be there, or must not (which needs other traffic between the two as a control).
    pub wanted: bool,
}

/// What a message is recognised by; empty fields match everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Its protocol.
    pub protocol: Option<Protocol>,
    /// What leaks in it.
    pub leak: Option<LeakKind>,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is asked.
    pub ask: String,
    /// What is right.
    pub answer: Answer,
}

/// What is right.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What was captured in this run, never a constant.
    Captured(Captured),
    /// Some of these: exactly the right ones.
    Choices(Vec<Choice>),
    /// Text that one of these rules matches, spaces trimmed, case ignored.
    Text(Vec<Regex>),
}

/// Something secret that the student's captures showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// What kind.
    pub leak: LeakKind,
    /// Which part of it.
    pub part: Part,
    /// Only between these two, in either direction.
    pub between: Option<(Workload, Workload)>,
}

/// A part of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The secret itself.
    Value,
    /// Whose it is: the user of a login.
    Account,
}

impl Part {
    /// Every part, with its name in lab files.
    pub const ALL: &'static [(&'static str, Part)] = &[("value", Part::Value), ("account", Part::Account)];
}

/// One option of a question; the options are called `a`, `b`, … in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its text.
    pub text: String,
    /// Whether it belongs to the answer.
    pub right: bool,
}

/// The key of the option at `index`: `a`, `b`, …
pub fn choice_key(index: usize) -> String {
    let letter = u8::try_from(index).ok().filter(|index| *index < 26).unwrap_or(25);
    char::from(b'a' + letter).to_string()
}

/// Who makes the call that a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The student made it: it is in the callee's access log, without a probe's id.
    ByStudent,
    /// ztlab makes it, as a probe.
    ByProbe,
}

impl Seen {
    /// Both, with their names in lab files.
    pub const ALL: &'static [(&'static str, Seen)] = &[("by-student", Seen::ByStudent), ("by-probe", Seen::ByProbe)];
}

/// An HTTP call and what it must come to.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// Who calls.
    pub from: Workload,
    /// Whom.
    pub to: Workload,
    /// On which port of the Service.
    pub port: u16,
    /// With which path; starts with `/`.
    pub path: String,
    /// With which method.
    pub method: String,
    /// The status it must answer.
    pub status: u16,
    /// Who makes the call.
    pub seen: Seen,
}

/// A login to a database and what it must come to. The student makes it.
#[derive(Clone, Debug)]
pub struct DatabaseCheck {
    /// Who logs in.
    pub from: Workload,
    /// Where.
    pub to: Workload,
    /// What must be asked there: the beginning of a statement, case ignored. Without it, the login is enough.
    pub statement: Option<String>,
}

/// What a TCP connection must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It opens.
    Allowed,
    /// It does not: refused, or nothing comes back.
    Blocked,
    /// It is refused.
    Refused,
    /// Nothing comes back.
    TimedOut,
}

impl Reach {
    /// Every outcome, with its name in lab files.
    pub const ALL: &'static [(&'static str, Reach)] = &[
        ("allowed", Reach::Allowed),
        ("blocked", Reach::Blocked),
        ("refused", Reach::Refused),
        ("timed-out", Reach::TimedOut),
    ];

    /// Its name in lab files.
    pub fn as_str(self) -> &'static str {
        name_of(Self::ALL, self)
    }
}

/// Whether one workload can open a TCP connection to another; probed.
#[derive(Clone, Debug)]
pub struct TcpCheck {
    /// Who connects.
    pub from: Workload,
    /// To whom.
    pub to: Workload,
    /// To which port of the Service.
    pub port: u16,
    /// What must come of it.
    pub expect: Reach,
    /// Who can connect in the same moment: the proof that the callee is alive. Present unless `expect` is allowed.
    pub control: Option<Workload>,
}

/// Help with a step.
#[derive(Clone, Debug)]
pub struct Hint {
    /// The help; Markdown.
    pub text: String,
    /// When it opens.
    pub opens: Opens,
}

/// When a hint opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// When the student asks for it, for so many points.
    Asked(Points),
    /// By itself, at no cost, when the check at this place finds this.
    When(usize, Finding),
}

/// Something a student could do, done by ztlab when it solves a step or tries a wrong attempt.
#[derive(Clone, Debug)]
pub enum Action {
    /// Capture in a pod.
    Capture {
        /// Where.
        workload: Workload,
        /// A BPF filter.
        filter: Option<String>,
        /// How long.
        until: Until,
    },
    /// Answer the question of the check at this place.
    Answer {
        /// The check's place in its step.
        check: usize,
        /// The answer.
        value: AnswerValue,
    },
    /// Run a program in a pod, as `kubectl exec` does.
    Exec {
        /// Where.
        workload: Workload,
        /// The program and its arguments; `${leak.KIND}` and `${leak.KIND.account}` stand for what was captured.
        run: Vec<String>,
    },
}

/// How long a capture runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// So long.
    For(Duration),
    /// Until this was seen.
    Leak {
        /// What.
        kind: LeakKind,
        /// Only between these two, in either direction: a payment also leaks further on.
        between: Option<(Workload, Workload)>,
    },
}

/// An answer in a solution or an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerValue {
    /// What was captured, as the question asks for it.
    FromCapture,
    /// This text; `${leak.KIND}` as in [`Action::Exec`].
    Text(String),
}

/// Something that plausibly does not pass a step.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What is done.
    pub actions: Vec<Action>,
    /// The place of the check that must fail, alone in its step.
    pub fails: usize,
    /// The points the step gives all the same.
    pub scores: Points,
}
