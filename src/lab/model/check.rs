//! Checks that are known to be valid.

use super::{Question, Workload, name_of};
use crate::{
    packet::{LeakKind, Protocol},
    score::Weight,
};

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
