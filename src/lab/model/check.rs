//! Checks that are known to be valid.

use regex::Regex;
use serde_json_path::JsonPath;

use super::{
    CertificateCheck, Client, Property, Question, Source, Target, TextRule, TlsCheck, TlsTry, TlsUse, WorkPath,
    Workload, name_of,
};
use crate::{
    packet::{FlowVerdict, LeakKind, Protocol},
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
    /// How the conversations in the student's newest capture are judged.
    Flow(FlowCheck),
    /// A question the student answers.
    Question(Question),
    /// An HTTP call from one workload to another.
    Http(HttpCheck),
    /// A login to a database, and what was asked of it.
    Database(DatabaseCheck),
    /// Whether one workload can open a TCP connection to another.
    Tcp(TcpCheck),
    /// What a pod's own DNS says of a name.
    Dns(DnsCheck),
    /// Objects of the Kubernetes API.
    Object(ObjectCheck),
    /// A TLS session, and what the server shows in it.
    Tls(TlsCheck),
    /// A certificate in a file, a Secret or a ConfigMap.
    Certificate(CertificateCheck),
    /// A file that the student made.
    File(FileCheck),
    /// A program run in a pod.
    Exec(ExecCheck),
    /// The measured zero trust level, or a cell of the posture matrix.
    Posture(PostureCheck),
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
#[derive(Clone, Debug)]
pub struct Pattern {
    /// Its protocol.
    pub protocol: Option<Protocol>,
    /// What leaks in it.
    pub leak: Option<LeakKind>,
    /// What is found in its text.
    pub text: Option<Regex>,
}

/// How the conversations between two workloads must be judged, in the newest capture that saw them.
#[derive(Clone, Debug)]
pub struct FlowCheck {
    /// The two ends, in either direction.
    pub between: (Workload, Workload),
    /// What they must be.
    pub wanted: FlowWanted,
    /// What to try with and without a client certificate: TLS 1.3 hides them from a capture.
    pub probe: Option<TlsTry>,
}

/// What conversations must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowWanted {
    /// Encrypted, whoever proved who they are.
    Encrypted,
    /// Judged so.
    Is(FlowVerdict),
}

impl FlowWanted {
    /// Every one, with its name in lab files.
    pub const ALL: &'static [(&'static str, FlowWanted)] = &[
        ("readable", FlowWanted::Is(FlowVerdict::Readable)),
        ("encrypted", FlowWanted::Encrypted),
        ("encrypted-one-sided", FlowWanted::Is(FlowVerdict::EncryptedOneSided)),
        ("encrypted-mutual", FlowWanted::Is(FlowVerdict::EncryptedMutual)),
        ("refused", FlowWanted::Is(FlowVerdict::Refused)),
    ];

    /// Its name in lab files.
    pub fn as_str(self) -> &'static str {
        name_of(Self::ALL, self)
    }
}

/// Who succeeds in the same moment: the positive control of an expectation that something does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// From where; as the check itself without it.
    pub from: Option<Source>,
    /// What it shows; as the check itself without it.
    pub client: Option<Client>,
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
    pub from: Source,
    /// Whom.
    pub to: Target,
    /// Over TLS.
    pub secure: bool,
    /// On which port of the Service.
    pub port: u16,
    /// With which path; starts with `/`.
    pub path: String,
    /// With which method.
    pub method: String,
    /// With which headers; `${STORE}` stands for what is there.
    pub headers: Vec<(String, String)>,
    /// With which body; `${STORE}` as in headers.
    pub body: Option<String>,
    /// Whom to trust, and what to show.
    pub tls: TlsUse,
    /// What must come of it.
    pub expect: HttpExpect,
    /// Who succeeds in the same moment; there where the call must not succeed.
    pub control: Option<Control>,
    /// Who makes the call.
    pub seen: Seen,
}

/// What must come of an HTTP call; everything that is there.
#[derive(Clone, Debug, Default)]
pub struct HttpExpect {
    /// One of these statuses; any where there is none.
    pub status: Vec<u16>,
    /// What the network must say.
    pub outcome: Option<Reach>,
    /// What the body must be.
    pub body: Option<TextRule>,
    /// What headers must be, by their names in lower case.
    pub headers: Vec<(String, TextRule)>,
    /// What the access log says of the caller.
    pub caller: Option<TextRule>,
    /// What the log gives as the reason why a handshake failed.
    pub reason: Option<TextRule>,
}

/// A login to a database and what it must come to. The student makes it.
#[derive(Clone, Debug)]
pub struct DatabaseCheck {
    /// Who logs in.
    pub from: Source,
    /// Where.
    pub to: Workload,
    /// What must be asked there: the beginning of a statement, case ignored. Without it, the login is enough.
    pub statement: Option<String>,
    /// Whether the login must be turned away.
    pub refused: bool,
}

/// What a connection must come to.
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
    /// It opens, and the peer refuses in TLS.
    TlsRefused,
}

impl Reach {
    /// Every outcome of a TCP connection, with its name in lab files.
    pub const ALL: &'static [(&'static str, Reach)] = &[
        ("allowed", Reach::Allowed),
        ("blocked", Reach::Blocked),
        ("refused", Reach::Refused),
        ("timed-out", Reach::TimedOut),
    ];

    /// Every outcome of an HTTP call, with its name in lab files.
    pub const HTTP: &'static [(&'static str, Reach)] = &[
        ("allowed", Reach::Allowed),
        ("blocked", Reach::Blocked),
        ("refused", Reach::Refused),
        ("timed-out", Reach::TimedOut),
        ("tls-refused", Reach::TlsRefused),
    ];

    /// Its name in lab files.
    pub fn as_str(self) -> &'static str {
        name_of(Self::HTTP, self)
    }
}

/// Whether one workload can open a TCP connection to another; probed.
#[derive(Clone, Debug)]
pub struct TcpCheck {
    /// Who connects.
    pub from: Source,
    /// To whom.
    pub to: Target,
    /// To which port of the Service.
    pub port: u16,
    /// What must come of it.
    pub expect: Reach,
    /// Who can connect in the same moment: the proof that the callee is alive. Present unless `expect` is allowed.
    pub control: Option<Source>,
}

/// What a pod's own DNS says of a name; probed.
#[derive(Clone, Debug)]
pub struct DnsCheck {
    /// Who asks.
    pub from: Source,
    /// For which name.
    pub name: String,
    /// What must come of it.
    pub expect: Resolution,
    /// Whose address it must be.
    pub to: Option<Target>,
    /// Who can resolve it in the same moment.
    pub control: Option<Source>,
}

/// What the resolution of a name must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// An address.
    Resolves,
    /// DNS answers that there is none.
    NoSuchName,
    /// DNS does not answer.
    NoAnswer,
    /// Either of the two.
    Fails,
}

impl Resolution {
    /// Every one, with its name in lab files.
    pub const ALL: &'static [(&'static str, Resolution)] = &[
        ("resolves", Resolution::Resolves),
        ("no-such-name", Resolution::NoSuchName),
        ("no-answer", Resolution::NoAnswer),
        ("fails", Resolution::Fails),
    ];
}

/// Objects of the Kubernetes API, and how many there must be.
#[derive(Clone, Debug)]
pub struct ObjectCheck {
    /// The API group and version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The object's name.
    pub name: Option<String>,
    /// A label selector.
    pub labels: Option<String>,
    /// The namespace; the lab's without it.
    pub namespace: Option<String>,
    /// Only those that the student made or changed.
    pub changed: bool,
    /// What each must meet to count.
    pub fields: Vec<FieldRule>,
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: Option<u32>,
}

/// A rule for what a path finds.
#[derive(Clone, Debug)]
pub struct FieldRule {
    /// The path, RFC 9535.
    pub path: JsonPath,
    /// The rule.
    pub rule: NodeRule,
}

/// What must be true of the values that a path finds.
#[derive(Clone, Debug)]
pub enum NodeRule {
    /// At least one, and every one is this.
    Equals(serde_json::Value),
    /// Some is this, a list that holds it, or a text with it inside.
    Contains(serde_json::Value),
    /// At least one, and this is found in every one.
    Matches(Regex),
    /// Whether there is any.
    Exists(bool),
    /// So many.
    Count {
        /// At least.
        min: u32,
        /// At most.
        max: Option<u32>,
    },
}

/// A file in the work directory.
#[derive(Clone, Debug)]
pub struct FileCheck {
    /// Its path.
    pub path: WorkPath,
    /// There must be none.
    pub absent: bool,
    /// What it must hold.
    pub text: Option<TextRule>,
    /// What its fields must be.
    pub fields: Vec<FieldRule>,
}

/// A program run in a pod.
#[derive(Clone, Debug)]
pub struct ExecCheck {
    /// Whose pod.
    pub source: Source,
    /// The pod's namespace, where it is not the lab's.
    pub namespace: Option<String>,
    /// The program and its arguments; `${probe}` stands for a probe's id.
    pub run: Vec<String>,
    /// How it must end.
    pub exit: Option<Exit>,
    /// What it must print.
    pub output: Option<TextRule>,
}

/// How a program must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// With any but 0.
    NonZero,
}

/// What must be measured of the posture.
#[derive(Clone, Debug)]
pub enum PostureCheck {
    /// At least this zero trust level.
    Level(u8),
    /// A cell of the matrix.
    Cell {
        /// Who calls.
        from: Workload,
        /// Whom.
        to: Workload,
        /// On which port.
        port: Option<u16>,
        /// What must be so, and what must not.
        wanted: Vec<(Property, bool)>,
    },
}
