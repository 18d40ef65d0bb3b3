//! What to measure.

use std::time::Duration;

use super::inventory::Edge;
use crate::lab::{Check, CheckKind, Lab, PostureCheck};

/// The level from which a rotation must be seen.
pub(super) const ROTATES: u8 = 3;

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The namespaces whose workloads are looked at.
    pub namespaces: Vec<String>,
    /// Who may call whom; `None` takes what the Services say in `ztlab.dev/callers`.
    pub edges: Option<Vec<Edge>>,
    /// How long to wait for the application's own traffic on declared edges.
    pub listen: Duration,
    /// How long to watch SVIDs until they rotate, at most; nothing is watched where this is zero.
    pub rotation: Duration,
    /// Watch them only where it decides the level: the levels below that of rotation are reached.
    pub if_it_decides: bool,
}

impl Scope {
    /// How long an application has to say something by itself.
    pub const LISTEN: Duration = Duration::from_millis(1500);
    /// How long a check of level 3 watches SVIDs: those of a lab are made to live for a minute.
    pub const ROTATION: Duration = Duration::from_secs(45);

    /// These namespaces, with what their Services declare.
    pub fn of(namespaces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            namespaces: namespaces.into_iter().map(Into::into).collect(),
            edges: None,
            listen: Self::LISTEN,
            rotation: Duration::ZERO,
            if_it_decides: false,
        }
    }

    /// The same, and SVIDs are watched until they rotate, for so long at most.
    #[must_use]
    pub fn watching(mut self, longest: Duration) -> Self {
        self.rotation = longest;
        self
    }

    /// The same with these declared calls; none at all leaves the Services' own.
    #[must_use]
    pub fn with_edges(mut self, edges: Vec<Edge>) -> Self {
        self.edges = (!edges.is_empty()).then_some(edges);
        self
    }

    /// A lab's namespace and edges.
    pub fn of_lab(lab: &Lab) -> Self {
        Self::of([&lab.namespace]).with_edges(lab.edges.iter().map(Edge::from).collect())
    }

    /// What a check is judged by: where it asks for level 3, SVIDs are watched, if nothing else is in the way of that level.
    #[must_use]
    pub fn for_check(mut self, check: &Check) -> Self {
        if let CheckKind::Posture(check) = &check.kind
            && watches(check)
        {
            self.rotation = Self::ROTATION;
            self.if_it_decides = true;
        }
        self
    }
}

/// Whether SVIDs must be watched until they rotate to judge a check.
const fn watches(check: &PostureCheck) -> bool {
    matches!(check, PostureCheck::Level(level) if *level >= ROTATES)
}
