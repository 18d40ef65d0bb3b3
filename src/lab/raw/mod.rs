//! A lab file as it is written, with the place of everything.
//!
//! The docstrings here are what authors read: as descriptions in the schema (an editor's tooltips), as what `lint` says
//! was expected, and in the book's reference.

mod action;
mod check;
mod either;
mod fill;
mod question;
mod read;
mod shape;
mod spanned;
mod tls;
mod tree;

use schemars_derive::JsonSchema;
use serde::Deserialize;

pub use self::{
    action::*,
    check::*,
    either::{OneOr, OneOrMany, present},
    question::*,
    read::*,
    spanned::{Place, Spanned},
    tls::*,
};
use super::model::{Capability, Difficulty};
use crate::verdict::Finding;

/// A text and its place.
pub type Text = Spanned<String>;

/// The names of a list of names and values, for the schema.
pub(super) fn names<T>(all: &[(&'static str, T)]) -> Vec<&'static str> {
    all.iter().map(|(name, _)| *name).collect()
}

/// A lab: steps that a student takes on a small cluster, and the checks that tell whether they did.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Lab")]
pub struct RawLab {
    /// The version of this format. Always `ztlab.dev/v1`.
    #[serde(rename = "apiVersion")]
    #[schemars(extend("const" = "ztlab.dev/v1"))]
    pub api_version: Text,
    /// The kind of file. Always `Lab`.
    #[schemars(extend("const" = "Lab"))]
    pub kind: Text,
    /// What a list of labs shows of it.
    pub metadata: RawMetadata,
    /// The lab itself.
    pub spec: RawSpec,
}

/// What a list of labs shows of a lab.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metadata")]
pub struct RawMetadata {
    /// The lab's id, which is its directory's name. Lower-case letters, digits and dashes, at most 32.
    pub name: Text,
    /// The title, on one line.
    pub title: Text,
    /// The zero trust level it starts at, from 0 (flat) to 4 (authorised by identity).
    #[schemars(range(min = 0, max = 4))]
    pub level: Spanned<u8>,
    /// How many minutes a newcomer needs.
    #[schemars(range(min = 1, max = 600))]
    pub minutes: Spanned<u32>,
    /// How much a student should know already.
    #[schemars(extend("enum" = names(Difficulty::ALL)))]
    pub difficulty: Text,
    /// What to have done or to know before: ids of other labs (`wiretap`), or a few words each.
    #[serde(default)]
    pub prerequisites: Vec<Text>,
}

/// The lab itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Spec")]
pub struct RawSpec {
    /// What the student learns, one line each.
    pub objectives: Vec<Text>,
    /// The namespace in which the lab's pods are.
    pub namespace: Text,
    /// The clusters of the lab, by name. One today, called `main` where nothing is said.
    pub clusters: Option<Spanned<Vec<Text>>>,
    /// The layers of manifests that the lab starts from, applied in this order: `flat` and the others that ship, or
    /// `./file.yaml` and `./directory` beside the lab.
    pub topology: Spanned<Vec<Text>>,
    /// What must be there before the lab starts.
    #[serde(default)]
    pub needs: RawNeeds,
    /// What the lab makes beyond its `namespace`, by its manifests or by the student's hand: objects that belong to the
    /// whole cluster, and other namespaces. On a cluster that others use too, the lab starts only where none of it is
    /// there, and takes all of it away again.
    #[serde(default)]
    pub makes: Vec<Spanned<RawMakes>>,
    /// The calls that the application is meant to make. The posture is measured against them.
    #[serde(default)]
    pub edges: Vec<RawEdge>,
    /// The steps, in the order in which a student sees them. Their points sum to 100.
    pub steps: Spanned<Vec<RawStep>>,
    /// What to keep of the whole lab; Markdown, shown once every step is passed.
    pub recap: Option<Text>,
}

/// What must be there before the lab starts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Needs")]
pub struct RawNeeds {
    /// What the ground must be able to do.
    #[serde(default)]
    #[schemars(extend("items" = { "type": "string", "enum": names(Capability::BEFORE) }))]
    pub capabilities: Vec<Text>,
    /// Programs that the student runs on their own machine, such as `openssl`. `kubectl` and `ztlab` are there always.
    #[serde(default, rename = "hostTools")]
    pub host_tools: Vec<Text>,
}

/// What a lab makes beyond its namespace: either a `layer`, or one object by `kind` and `name`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Makes", extend("oneOf" = [{ "required": ["layer"] }, { "required": ["kind", "name"] }]))]
pub struct RawMakes {
    /// All that this layer of manifests has outside of the lab's namespace, as `spire`.
    pub layer: Option<Text>,
    /// The API group and version of the object. Not needed for the kinds that come with Kubernetes.
    #[serde(rename = "apiVersion")]
    pub api_version: Option<Text>,
    /// The kind of the object, which belongs to no namespace: `Namespace`, `ClusterRole`, …
    pub kind: Option<Text>,
    /// The name of the object.
    pub name: Option<Text>,
}

/// A call that the application is meant to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Edge")]
pub struct RawEdge {
    /// The workload that calls.
    pub from: Text,
    /// The workload that is called.
    pub to: Text,
    /// The port of its Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Spanned<u16>,
    /// The path of an HTTP call, from `/` on. Without it: every path.
    pub path: Option<Text>,
    /// The method of an HTTP call, as `POST`. Without it: every method.
    pub method: Option<Text>,
}

/// One step: something to do, and how to tell that it was done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Step")]
pub struct RawStep {
    /// The step's id, unique in the lab. Lower-case letters, digits and dashes.
    pub id: Text,
    /// The title, on one line.
    pub title: Text,
    /// What the step gives. Its checks share it by their weights.
    #[schemars(range(min = 0, max = 100))]
    pub points: Spanned<u32>,
    /// Ids of the steps that must be passed before this one opens.
    #[serde(default)]
    pub needs: Vec<Text>,
    /// What the ground must be able to do for this step alone. Where it cannot, which is measured, the step is shown as not
    /// possible there, its points do not count, and what needs it opens without it.
    #[serde(default)]
    #[schemars(extend("items" = { "type": "string", "enum": names(Capability::ALL) }))]
    pub capabilities: Vec<Text>,
    /// Where the attacker of this step stands, and what they must control already.
    pub vantage: Option<Text>,
    /// What to do; Markdown. A fenced block marked `run` holds commands for the student's shell. Nothing runs them but the
    /// student.
    pub instructions: Text,
    /// What is looked at to tell whether the step is passed.
    pub checks: Spanned<Vec<Spanned<RawCheck>>>,
    /// Help that opens by itself, or when it is asked for.
    #[serde(default)]
    pub hints: Vec<Spanned<RawHint>>,
    /// What passing the step teaches; Markdown, shown when it is passed.
    pub teaches: Option<Text>,
    /// Actions that pass every check of the step. `ztlab lab verify` does them.
    #[serde(default)]
    pub solution: Vec<Spanned<RawAction>>,
    /// Attempts that plausibly fail, at least two. `ztlab lab verify` makes them.
    #[serde(default)]
    pub wrong: Vec<Spanned<RawAttempt>>,
}

/// Help with a step. It opens by itself (`when`), or when asked for (`cost`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hint", extend("oneOf" = [{ "required": ["when"] }, { "required": ["cost"] }]))]
pub struct RawHint {
    /// The failure at whose sight the hint opens by itself, at no cost. One that is there before the student does anything,
    /// or that says only that something was not done yet, opens it once the student has the checks run.
    pub when: Option<RawWhen>,
    /// What the hint costs, in points, when it is asked for.
    #[schemars(range(min = 0, max = 100))]
    pub cost: Option<Spanned<u32>>,
    /// The help; Markdown.
    pub text: Text,
}

/// A failure of a check.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "When")]
pub struct RawWhen {
    /// The name of a check of this step.
    pub check: Text,
    /// What the check found, in a word.
    #[schemars(extend("enum" = names(Finding::ALL)))]
    pub found: Text,
    /// Whether it opens only once the student has the checks run: for what is found, too, while the step's commands are
    /// run in their order.
    pub asked: Option<bool>,
}

/// Something that plausibly does not pass a step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Attempt")]
pub struct RawAttempt {
    /// What is done.
    #[serde(rename = "do")]
    pub actions: Vec<Spanned<RawAction>>,
    /// The name of the one check of this step that must fail then; no other may.
    pub fails: Text,
    /// The points that the step gives all the same. 0 where nothing is said.
    #[schemars(range(min = 0, max = 100))]
    pub scores: Option<Spanned<u32>>,
}
