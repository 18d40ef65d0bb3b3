//! Actions of solutions and wrong attempts as they are written.

use schemars_derive::JsonSchema;
use serde::Deserialize;

use super::{Spanned, Text};
use crate::packet::LeakKind;

/// Something that a student could do, done by ztlab. Exactly one of the kinds is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Action")]
pub struct RawAction {
    /// Capture in a pod.
    pub capture: Option<Spanned<RawCaptureAction>>,
    /// Answer a question.
    pub answer: Option<Spanned<RawAnswerAction>>,
    /// Run a program in a pod, as `kubectl exec` does.
    pub exec: Option<RawExec>,
}

/// A capture. It ends after a time (`for`) or when something was seen (`until`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CaptureAction")]
pub struct RawCaptureAction {
    /// The workload to listen in.
    pub pod: Text,
    /// A filter in the language of pcap-filter(7).
    pub filter: Option<Text>,
    /// How long, as `3s` or `500ms`; at most 60s.
    #[serde(rename = "for")]
    pub duration: Option<Text>,
    /// What ends it when it was seen.
    pub until: Option<RawUntil>,
}

/// What ends a capture.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Until")]
pub struct RawUntil {
    /// A kind of secret that leaks.
    #[schemars(extend("enum" = LeakKind::ALL.map(LeakKind::as_str)))]
    pub leak: Text,
    /// Two workloads, in either order: only what leaks between them counts.
    pub between: Option<Spanned<Vec<Text>>>,
}

/// An answer to a question of this step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AnswerAction")]
pub struct RawAnswerAction {
    /// The name of the check that asks.
    pub check: Text,
    /// Always `capture`: what was captured, as the question asks for it.
    #[schemars(extend("const" = "capture"))]
    pub from: Option<Text>,
    /// The answer as a student would type it. `${leak.KIND}` stands for what was captured.
    pub value: Option<Text>,
}

/// A program that runs in a pod. No shell is involved.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExecAction")]
pub struct RawExec {
    /// The workload in whose pod it runs.
    #[serde(rename = "in")]
    pub workload: Text,
    /// The program and its arguments. `${leak.KIND}` and `${leak.KIND.account}` stand for what was captured.
    pub run: Spanned<Vec<Text>>,
}
