//! A lab that is known to be valid.

mod action;
mod check;
mod named;
mod question;
mod tls;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub use self::{action::*, check::*, named::*, question::*, tls::*};
use crate::{score::Points, verdict::Finding};

/// A lab's id: lower-case letters, digits and dashes; also its directory's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabId(pub(in crate::lab) String);

/// A step's id, unique in its lab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub(in crate::lab) String);

/// A workload's name: the Deployment's, which is also the `app` label of its pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Workload(pub(in crate::lab) String);

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
    /// Take the images of the shop's stand-ins: those of this binary, or of a registry that has them.
    StandIns,
    /// Put the whole cluster's state aside and back.
    Snapshots,
    /// Match pods by their address in the `ipBlock` of a NetworkPolicy, which Kubernetes leaves to the network.
    PodAddresses,
}

impl Capability {
    /// Every capability, with its name in lab files.
    pub const ALL: &'static [(&'static str, Capability)] = &[
        ("capture", Capability::Capture),
        ("stand-ins", Capability::StandIns),
        ("snapshots", Capability::Snapshots),
        ("pod-addresses", Capability::PodAddresses),
    ];

    /// Those that can be asked for before anything runs, so that a whole lab can depend on them.
    pub const BEFORE: &'static [(&'static str, Capability)] = &[
        ("capture", Capability::Capture),
        ("stand-ins", Capability::StandIns),
        ("snapshots", Capability::Snapshots),
    ];

    /// Its name in lab files.
    pub fn as_str(self) -> &'static str {
        name_of(Self::ALL, self)
    }
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
    /// What to have done or to know before.
    pub prerequisites: Vec<Prerequisite>,
    /// What the student learns.
    pub objectives: Vec<String>,
    /// The namespace its workloads run in.
    pub namespace: String,
    /// The clusters it runs in, by name: one today.
    pub clusters: Vec<String>,
    /// The topology layers it starts from, in order: the name of one that ships (`flat`), or `./` and the path of one of
    /// [`Lab::files`].
    pub topology: Vec<String>,
    /// The manifests beside the lab, by their path from its directory, with their text.
    pub files: BTreeMap<String, String>,
    /// What a ground must be able to do.
    pub capabilities: Vec<Capability>,
    /// Programs that the student runs on their own machine.
    pub host_tools: Vec<String>,
    /// What it makes beyond its namespace.
    pub makes: Vec<Makes>,
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

    /// What single steps need of a ground, each named once.
    pub fn step_capabilities(&self) -> Vec<Capability> {
        let mut all = Vec::new();
        for capability in self.steps.iter().flat_map(|step| &step.capabilities) {
            if !all.contains(capability) {
                all.push(*capability);
            }
        }
        all
    }
}

/// A declared call, and a third workload that does not make it: with these three it can be measured what a NetworkPolicy
/// lets through. `None` where the edges name no such three.
pub fn call_and_stranger(edges: &[Edge]) -> Option<(&Edge, &Workload)> {
    edges.iter().find_map(|edge| {
        let calls = |who: &Workload| edges.iter().any(|one| one.to == edge.to && one.from == *who);
        let mut all = edges.iter().flat_map(|edge| [&edge.from, &edge.to]);
        all.find(|who| **who != edge.to && !calls(who)).map(|who| (edge, who))
    })
}

/// What a lab makes beyond its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Makes {
    /// What a layer of manifests has there.
    Layer(String),
    /// One object of the whole cluster.
    Object {
        /// Its API group and version, where it is no kind that comes with Kubernetes.
        api_version: Option<String>,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
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
    /// With which path; every path where nothing is said.
    pub path: Option<String>,
    /// With which method; every method where nothing is said.
    pub method: Option<String>,
}

/// What to have done or to know before a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prerequisite {
    /// Another lab.
    Lab(LabId),
    /// Something to know.
    Words(String),
}

impl fmt::Display for Prerequisite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lab(id) => write!(f, "the lab `{id}`"),
            Self::Words(words) => f.write_str(words),
        }
    }
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
    /// What a ground must be able to do for this step.
    pub capabilities: Vec<Capability>,
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
    /// By itself, at no cost, when a check finds this.
    When {
        /// The check's place.
        check: usize,
        /// What it finds.
        finding: Finding,
        /// Whether the student must have asked for the checks.
        asked: bool,
    },
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
