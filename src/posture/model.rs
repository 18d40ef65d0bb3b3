//! The matrix: what was measured from every workload to every port of every other. Plain values, and questions put to
//! them.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// The version of the JSON that a [`Matrix`] becomes; raised when a field changes its meaning.
pub const VERSION: u32 = 1;

/// A workload's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// The name of its Deployment, StatefulSet or DaemonSet; the pod's own where it has none.
    pub name: String,
}

impl Name {
    /// A name in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Whether `text` (`orders-api`, or `shop/orders-api`) means this.
    pub fn is(&self, text: &str) -> bool {
        match text.split_once('/') {
            Some((namespace, name)) => self.namespace == namespace && self.name == name,
            None => self.name == text,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What the evidence says of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It shows that it is so.
    Yes,
    /// It shows that it is not so.
    No,
    /// It shows neither.
    Undetermined,
}

impl Answer {
    /// `yes`, `no`, `undetermined`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Undetermined => "undetermined",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What kind of thing stands behind a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A probe that ran in the caller's pod.
    Probe,
    /// A probe that shows the callee alive in the same window.
    Control,
    /// A packet that was captured.
    Packet,
    /// A line of the callee's access log.
    Log,
}

impl EvidenceKind {
    /// `probe`, `control`, `packet`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Control => "control",
            Self::Packet => "packet",
            Self::Log => "log",
        }
    }
}

/// One thing that was seen, and where to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is.
    pub kind: EvidenceKind,
    /// The probe's id, which access logs have too; or the packet's number in its capture; empty for several packets.
    pub id: String,
    /// The namespace of the pod it was taken in.
    pub namespace: String,
    /// The pod it was taken in.
    pub pod: String,
    /// When, in nanoseconds since the Unix epoch.
    pub at_ns: u64,
    /// What it shows.
    pub says: String,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.as_str())?;
        if !self.id.is_empty() {
            write!(f, "{} ", self.id)?;
        }
        write!(f, "in {}: {}", self.pod, self.says)
    }
}

/// An answer with its reason and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The answer.
    pub answer: Answer,
    /// Why, in a sentence without a period.
    pub because: String,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

impl Finding {
    /// An answer without evidence lines.
    pub fn new(answer: Answer, because: impl Into<String>) -> Self {
        Self {
            answer,
            because: because.into(),
            evidence: Vec::new(),
        }
    }

    /// Neither yes nor no.
    pub fn undetermined(because: impl Into<String>) -> Self {
        Self::new(Answer::Undetermined, because)
    }

    /// The same with this evidence.
    #[must_use]
    pub fn with(mut self, evidence: impl IntoIterator<Item = Evidence>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

/// What came of a caller's attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// The connection opened.
    Allowed,
    /// It was refused, by a callee or network that is alive.
    Refused,
    /// Nothing came back, from a callee that is alive.
    TimedOut,
    /// Nobody can tell.
    Undetermined,
}

impl Reach {
    /// `allowed`, `refused`, `timed out`, `undetermined`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::TimedOut => "timed out",
            Self::Undetermined => "undetermined",
        }
    }

    /// The same as an answer to "reachable?".
    pub const fn answer(self) -> Answer {
        match self {
            Self::Allowed => Answer::Yes,
            Self::Refused | Self::TimedOut => Answer::No,
            Self::Undetermined => Answer::Undetermined,
        }
    }
}

/// A question that a cell answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// Can the caller open a connection?
    Reachable,
    /// Can whoever is on the path read what is said?
    Readable,
    /// Does the server prove who it is?
    ServerAuthenticated,
    /// Must the client prove who it is?
    ClientAuthenticated,
    /// Is each request allowed or refused by who asks?
    AuthorisedByIdentity,
}

impl Property {
    /// Every property.
    pub const ALL: [Property; 5] = [
        Property::Reachable,
        Property::Readable,
        Property::ServerAuthenticated,
        Property::ClientAuthenticated,
        Property::AuthorisedByIdentity,
    ];

    /// The name in lab files and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Readable => "readable",
            Self::ServerAuthenticated => "server-authenticated",
            Self::ClientAuthenticated => "client-authenticated",
            Self::AuthorisedByIdentity => "authorised-by-identity",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Property {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|property| property.as_str() == text)
            .ok_or_else(|| {
                let known: Vec<&str> = Self::ALL.iter().map(|property| property.as_str()).collect();
                format!("`{text}` is no property: expected one of {}", known.join(", "))
            })
    }
}

/// What proves an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// A secret that whoever reads it can show too: a password, a bearer token.
    SharedSecret,
    /// An X.509 certificate (RFC 5280).
    X509,
    /// An X.509 certificate whose only URI is a SPIFFE ID (X509-SVID §2).
    X509Svid,
    /// A JWT whose subject is a SPIFFE ID (JWT-SVID §3).
    JwtSvid,
}

impl CredentialKind {
    /// As people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SharedSecret => "shared secret",
            Self::X509 => "X.509 certificate",
            Self::X509Svid => "X.509-SVID",
            Self::JwtSvid => "JWT-SVID",
        }
    }
}

impl CredentialKind {
    /// The same with its article.
    pub const fn one(self) -> &'static str {
        match self {
            Self::SharedSecret => "a shared secret",
            Self::X509 => "an X.509 certificate",
            Self::X509Svid => "an X.509-SVID",
            Self::JwtSvid => "a JWT-SVID",
        }
    }
}

/// What one side of a connection showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its kind.
    pub kind: CredentialKind,
    /// Whom it names: a SPIFFE ID, else the certificate's subject or names; of a secret, which kind.
    pub identity: String,
    /// Who issued it; empty for a secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// Valid from, in seconds since the Unix epoch, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    /// Valid until, in seconds since the Unix epoch, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<i64>,
    /// Whether another one took its place while it was looked at.
    pub rotated: Answer,
    /// Why that is so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// What shows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

impl Credential {
    /// One of which no more is known than that there is one.
    pub(super) fn of(kind: CredentialKind, identity: impl Into<String>) -> Self {
        Self {
            kind,
            identity: identity.into(),
            issuer: String::new(),
            not_before: None,
            not_after: None,
            rotated: Answer::Undetermined,
            because: String::new(),
            evidence: Vec::new(),
        }
    }

    /// An X509-SVID of which the id alone is known.
    pub(super) fn svid(id: &str) -> Self {
        Self::of(CredentialKind::X509Svid, id)
    }

    /// How long it is valid altogether.
    pub fn lifetime(&self) -> Option<Duration> {
        let seconds = self.not_after?.checked_sub(self.not_before?)?;
        u64::try_from(seconds).ok().map(Duration::from_secs)
    }

    /// The trust domain of its SPIFFE ID.
    pub fn trust_domain(&self) -> Option<&str> {
        let rest = self.identity.strip_prefix("spiffe://")?;
        rest.split('/').next().filter(|domain| !domain.is_empty())
    }

    /// Whether it is a SPIFFE Verifiable Identity Document.
    pub fn is_svid(&self) -> bool {
        matches!(self.kind, CredentialKind::X509Svid | CredentialKind::JwtSvid)
    }
}

/// What both sides of an edge showed; `None` where it was not seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The server's.
    pub server: Option<Credential>,
    /// The client's.
    pub client: Option<Credential>,
}

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The application's own.
    Application,
    /// Only the kubelet's probes need it: no Service leads to it.
    Health,
}

/// What a caller finds at a port of another workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Who calls.
    pub from: Name,
    /// Whom.
    pub to: Name,
    /// The port: the Service's where one leads there, else the container's.
    pub port: u16,
    /// What the port is for.
    pub purpose: Purpose,
    /// Whether the application declares this call; `None` where nothing is declared at all.
    pub declared: Option<bool>,
    /// What came of connecting.
    pub reach: Reach,
    /// Whether the caller can connect, and by what that is known.
    pub reachable: Finding,
    /// Whether what is said can be read on the wire.
    pub readable: Finding,
    /// Whether the server proves who it is.
    pub server_authenticated: Finding,
    /// Whether a client must prove who it is.
    pub client_authenticated: Finding,
    /// Whether requests are allowed or refused by who asks.
    pub authorised_by_identity: Finding,
    /// What both sides showed.
    pub credentials: Credentials,
}

/// What an edge comes to, in a word for a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Open, and read by whoever is on the path.
    Readable,
    /// Open; what is said on it was not seen.
    Open,
    /// Encrypted; the client need not prove who it is, or that was not seen.
    Encrypted,
    /// Encrypted, and both sides prove who they are.
    Mutual,
    /// Refused.
    Refused,
    /// Not known.
    Undetermined,
}

impl Mark {
    /// Every mark.
    pub const ALL: [Mark; 6] = [
        Mark::Readable,
        Mark::Open,
        Mark::Encrypted,
        Mark::Mutual,
        Mark::Refused,
        Mark::Undetermined,
    ];

    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::Open => "open",
            Self::Encrypted => "encrypted",
            Self::Mutual => "mutual",
            Self::Refused => "refused",
            Self::Undetermined => "undetermined",
        }
    }

    /// In one letter, for a table.
    pub const fn letter(self) -> char {
        match self {
            Self::Readable => 'R',
            Self::Open => 'o',
            Self::Encrypted => 'E',
            Self::Mutual => 'M',
            Self::Refused => '-',
            Self::Undetermined => '?',
        }
    }

    /// What it means, for a legend.
    pub const fn means(self) -> &'static str {
        match self {
            Self::Readable => "open, readable on the wire",
            Self::Open => "open, nothing seen on it",
            Self::Encrypted => "encrypted, client not proved",
            Self::Mutual => "mutual TLS",
            Self::Refused => "refused",
            Self::Undetermined => "undetermined",
        }
    }
}

impl Cell {
    /// What was found about a property.
    pub const fn finding(&self, property: Property) -> &Finding {
        match property {
            Property::Reachable => &self.reachable,
            Property::Readable => &self.readable,
            Property::ServerAuthenticated => &self.server_authenticated,
            Property::ClientAuthenticated => &self.client_authenticated,
            Property::AuthorisedByIdentity => &self.authorised_by_identity,
        }
    }

    /// The answer to a property.
    pub const fn answer(&self, property: Property) -> Answer {
        self.finding(property).answer
    }

    /// What it comes to.
    pub const fn mark(&self) -> Mark {
        match self.reach {
            Reach::Refused | Reach::TimedOut => Mark::Refused,
            Reach::Undetermined => Mark::Undetermined,
            Reach::Allowed => match (self.readable.answer, self.client_authenticated.answer) {
                (Answer::Yes, _) => Mark::Readable,
                (Answer::No, Answer::Yes) => Mark::Mutual,
                (Answer::No, _) => Mark::Encrypted,
                (Answer::Undetermined, _) => Mark::Open,
            },
        }
    }
}

/// A pod of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// Whether it is running, so that one can look from it.
    pub running: bool,
}

/// A TCP port of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    /// What a caller dials: the Service's port where one leads there, else the container's.
    pub port: u16,
    /// The container's port.
    pub target: u16,
    /// The Service that leads to it.
    pub service: Option<String>,
    /// What it is for.
    pub purpose: Purpose,
    /// Whether it answered in this measurement, which every refusal needs to count.
    pub alive: Finding,
}

/// A workload that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadView {
    /// Its name.
    pub name: Name,
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `Pod` …
    pub kind: String,
    /// Its pods.
    pub pods: Vec<PodView>,
    /// Its ports.
    pub ports: Vec<PortView>,
}

/// Where the declared calls come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeclaredBy {
    /// There are none: the level is unknown.
    Nobody,
    /// The Services' annotation `ztlab.dev/callers`.
    Annotations,
    /// Whoever asked: a lab, or a file.
    Given,
}

/// A declared call that was not found in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The call, as it was declared.
    pub edge: String,
    /// What is not there.
    pub because: String,
}

/// What was measured between the workloads of some namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// [`VERSION`].
    pub version: u32,
    /// The namespaces.
    pub namespaces: Vec<String>,
    /// When it began, in nanoseconds since the Unix epoch.
    pub began_ns: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Where the declared calls come from.
    pub declared_by: DeclaredBy,
    /// The trust domain that SPIFFE IDs must be of; `None` means that they need only agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// The workloads, by name.
    pub workloads: Vec<WorkloadView>,
    /// The cells, by caller, callee and port.
    pub cells: Vec<Cell>,
    /// Declared calls that name what is not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// What a reader should know about this measurement, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Matrix {
    /// The cell from one workload (`orders-api`, or `shop/orders-api`) to another's port. Without a port, the one the
    /// application declares, else the callee's first.
    pub fn cell(&self, from: &str, to: &str, port: Option<u16>) -> Option<&Cell> {
        let between = || self.cells.iter().filter(|cell| cell.from.is(from) && cell.to.is(to));
        match port {
            Some(port) => between().find(|cell| cell.port == port),
            None => between()
                .find(|cell| cell.declared == Some(true))
                .or_else(|| between().find(|cell| cell.purpose == Purpose::Application))
                .or_else(|| between().next()),
        }
    }

    /// The cells, by caller, callee and port.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The cells that are open though the application does not declare them.
    pub fn open_undeclared(&self) -> impl Iterator<Item = &Cell> {
        let undeclared = self.cells.iter().filter(|cell| cell.declared == Some(false));
        undeclared.filter(|cell| cell.reach == Reach::Allowed)
    }

    /// A workload's name as short as it can be: without its namespace where there is only one.
    pub fn short(&self, name: &Name) -> String {
        if self.namespaces.len() > 1 {
            name.to_string()
        } else {
            name.name.clone()
        }
    }

    /// A cell as `orders-api → payments-api:80`.
    pub fn edge(&self, cell: &Cell) -> String {
        format!("{} → {}:{}", self.short(&cell.from), self.short(&cell.to), cell.port)
    }
}
