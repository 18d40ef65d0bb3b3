//! The matrix: what was measured from every workload to every port of every other. Plain values, and questions put to
//! them.

mod credential;
mod finding;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use credential::{Credential, CredentialKind, Credentials};
pub use finding::{Answer, Evidence, EvidenceKind, Finding};

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
