//! The seam between a session and the cluster it runs in. Tests put a scripted world here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
};

use async_trait::async_trait;
use futures::Stream;
use tokio_util::sync::CancellationToken;

pub use crate::check::Ran;
use crate::{
    capture::{Held, TrafficEvent},
    check::{Evidence, Loot, Posture},
    cluster::{Progress, manifests::Transform},
    evidence::CaptureEvidence,
    lab::{Capability, Check, Deed, Fill, Lab, Source},
    posture::{Matrix, PostureError},
    session::{snapshot::WorkloadView, state::Start, topics::Topic},
};

/// What a session needs of the world.
#[async_trait]
pub trait World: Send + Sync {
    /// Makes the cluster, if it is not there, and has the lab's workloads ready. With `as_is`, what a running cluster
    /// holds already is left as the student made it.
    async fn deploy(&self, lab: &Lab, as_is: bool, progress: &Progress) -> Result<Notes, WorldError>;

    /// Puts the cluster aside as it is, where it can be; forgets moments that are not `in_use`.
    async fn put_aside(&self, lab: &Lab, start: &Start, in_use: &BTreeSet<u32>) -> Result<(), WorldError>;

    /// Puts the cluster back to a moment; where it was not put aside then, to the start of the lab.
    async fn restore(&self, lab: &Lab, to: &Start, progress: &Progress) -> Result<Restored, WorldError>;

    /// Frees what the cluster takes of this machine; what it holds stays, and deploying as it is goes on with it.
    /// `false` where it is not this program's to stop.
    async fn pause(&self) -> Result<bool, WorldError>;

    /// Ends what watches the cluster; with `delete`, what was made for the lab goes too.
    async fn end(&self, lab: &Lab, delete: bool) -> Result<(), WorldError>;

    /// What manifests become there.
    fn transform(&self) -> Transform {
        Transform::default()
    }

    /// The cluster's kubeconfig, once there is a cluster.
    fn kubeconfig(&self) -> Option<PathBuf>;

    /// Collects what a check is judged by.
    async fn gather(&self, sight: &Sight, check: &Check, given: Option<String>) -> Evidence;

    /// Which identity whoever is at an address holds at a time (nanoseconds since the Unix epoch), by what ztlab measured
    /// beside any capture.
    fn held(&self, _end: SocketAddr, _ts_ns: u64) -> Option<Held> {
        None
    }

    /// Asks a server for its certificate, from a pod whose capture shows a conversation with it that hides one. Not again
    /// within a minute.
    async fn look_at(&self, _pod: &str, _server: SocketAddr) {}

    /// Starts a capture; returns once it listens.
    async fn capture(&self, workload: &str, filter: Option<String>) -> Result<Listening, WorldError>;

    /// Runs a program in a pod of a namespace, of the lab's where none is given.
    async fn exec(&self, source: &Source, namespace: Option<&str>, argv: &[String]) -> Result<Ran, WorldError>;

    /// Changes the cluster or the work directory, and waits until it is so.
    async fn perform(&self, lab: &Lab, deed: &Deed) -> Result<(), WorldError>;

    /// What a `${…}` stands for that is no leak.
    async fn fill(&self, fill: &Fill) -> Result<String, WorldError>;

    /// Whether the cluster still answers.
    async fn answers(&self) -> bool;

    /// Measures who reaches whom in the lab's namespace, and who can read it.
    async fn posture(&self, _lab: &Lab) -> Result<Matrix, WorldError> {
        Err(WorldError::new("this world has no network to measure"))
    }

    /// Which of these the ground cannot do, by their names, each with what shows that. Asked once, while nobody works.
    async fn lacks(
        &self,
        _lab: &Lab,
        _wanted: &[Capability],
        _progress: &Progress,
    ) -> Result<BTreeMap<String, String>, WorldError> {
        Ok(BTreeMap::new())
    }

    /// What changes from now on, until the stream is dropped.
    async fn changes(&self, lab: &Lab) -> Result<Changes, WorldError>;
}

/// What a student should know of how it went, a sentence each.
pub type Notes = Vec<String>;

/// How a cluster was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Whether it is as it was at that moment; else it is as at the start of the lab.
    pub exact: bool,
    /// What the student should know.
    pub notes: Notes,
}

/// What the student's captures have shown.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The last messages, and where was listened.
    pub seen: Arc<CaptureEvidence>,
    /// The secrets found.
    pub loot: Arc<[Loot]>,
    /// The posture, measured once for all checks of a round.
    pub posture: Posture,
}

/// A capture that listens.
pub struct Listening {
    /// The pod it listens in.
    pub pod: String,
    /// What it sees. Dropping it ends the capture.
    pub events: Pin<Box<dyn Stream<Item = Result<TrafficEvent, WorldError>> + Send>>,
    /// Cancelled, it ends the capture; what was seen by then is still told, and then the events end.
    pub end: CancellationToken,
}

/// Changes of the cluster.
pub type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The pods of the lab, as they are now.
    Workloads(Vec<WorkloadView>),
    /// Something a check may look at is different.
    Topic(Topic),
    /// The cluster does not answer any more, and why.
    Lost(String),
}

/// Why the world did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WorldError {
    /// What is wrong, naming the suspect.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl WorldError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<crate::cluster::ClusterError> for WorldError {
    fn from(error: crate::cluster::ClusterError) -> Self {
        Self {
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}

impl From<crate::capture::CaptureError> for WorldError {
    fn from(error: crate::capture::CaptureError) -> Self {
        Self {
            message: error.to_string(),
            hint: Some(error.hint().to_owned()),
        }
    }
}

impl From<PostureError> for WorldError {
    fn from(error: PostureError) -> Self {
        Self {
            message: error.to_string(),
            hint: Some(error.hint().to_owned()),
        }
    }
}

impl From<crate::check::GatherError> for WorldError {
    fn from(error: crate::check::GatherError) -> Self {
        Self::new(error.to_string())
    }
}
