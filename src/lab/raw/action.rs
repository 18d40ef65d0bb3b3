//! Actions of solutions and wrong attempts as they are written: one optional field for each, of which exactly one is
//! given.

use std::collections::BTreeMap;

use schemars_derive::JsonSchema;
use serde::Deserialize;

use super::{OneOr, Spanned, Text};
use crate::packet::LeakKind;

/// Something that ztlab does in the student's place: exactly one of its fields.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Action")]
pub struct RawAction {
    /// Capture in a pod.
    pub capture: Option<Spanned<RawCaptureAction>>,
    /// Answer a question of the step.
    pub answer: Option<Spanned<RawAnswerAction>>,
    /// Run a program in a pod, as `kubectl exec` does.
    pub exec: Option<RawExec>,
    /// Apply manifests: a file beside the lab, `layer: NAME` or `yaml: …`.
    pub apply: Option<Spanned<OneOr<RawApply>>>,
    /// Delete an object, and wait until it is gone.
    pub delete: Option<Spanned<RawDelete>>,
    /// Change the labels of a running pod.
    pub label: Option<Spanned<RawLabel>>,
    /// Patch an object. The rollout of a Deployment is waited for.
    pub patch: Option<Spanned<RawPatch>>,
    /// Set the replicas of a Deployment, and wait for them.
    pub scale: Option<RawScale>,
    /// Restart a Deployment, as `kubectl rollout restart` does, and wait for the rollout.
    pub restart: Option<Text>,
    /// Run a pod of its own, and wait until it runs.
    #[serde(rename = "runPod")]
    pub run_pod: Option<RawRunPod>,
    /// Make an authority: its certificate and key, in the work directory.
    pub ca: Option<RawAuthority>,
    /// Make a certificate and its key, in the work directory.
    pub certificate: Option<Spanned<RawMade>>,
    /// Make or replace a Secret.
    pub secret: Option<Spanned<RawKept>>,
    /// Make or replace a ConfigMap.
    pub configmap: Option<Spanned<RawKept>>,
    /// Write a file in the work directory.
    pub file: Option<RawFile>,
    /// Wait for something.
    #[serde(rename = "waitFor")]
    pub wait_for: Option<Spanned<RawWaitFor>>,
}

/// A capture in a pod: exactly one of `for` and `until`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CaptureAction")]
pub struct RawCaptureAction {
    /// The workload whose pod is listened in.
    pub pod: Text,
    /// A filter in the language of tcpdump.
    pub filter: Option<Text>,
    /// How long, as `3s` or `500ms`.
    #[serde(rename = "for")]
    pub duration: Option<Text>,
    /// Until a secret was seen.
    pub until: Option<RawUntil>,
}

/// What a capture waits for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Until")]
pub struct RawUntil {
    /// The kind of secret.
    #[schemars(extend("enum" = LeakKind::ALL.map(LeakKind::as_str)))]
    pub leak: Text,
    /// Two workloads, in either order: only what goes between them counts.
    pub between: Option<Spanned<Vec<Text>>>,
}

/// An answer to a question: exactly one of `from` and `value`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AnswerAction")]
pub struct RawAnswerAction {
    /// The name of the check that asks.
    pub check: Text,
    /// Always `capture`: what the question asks for, as the captures show it.
    pub from: Option<Text>,
    /// The answer as it would be typed.
    pub value: Option<Text>,
}

/// A program to run in a pod.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Exec")]
pub struct RawExec {
    /// Whose pod: a workload, `pod/NAME`, or a label selector.
    #[serde(rename = "in")]
    pub source: Text,
    /// The namespace of the pod. The lab's where nothing is said.
    pub namespace: Option<Text>,
    /// The program, then its arguments. There is no shell.
    pub run: Spanned<Vec<Text>>,
    /// `any` where the program may fail, in a solution; it must end with 0 where nothing is said.
    pub exit: Option<Text>,
    /// A file of the work directory that gets what the program prints, as `>` does.
    pub save: Option<Text>,
    /// For how long it is tried again until it ends as it must, as `10s`: what it asks for may still be on its way.
    pub within: Option<Text>,
}

/// Manifests to apply: exactly one of `layer` and `yaml`. The path of a file beside the lab can stand in their place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Apply")]
pub struct RawApply {
    /// A topology layer, as `microsegmented`.
    pub layer: Option<Text>,
    /// The manifests themselves.
    pub yaml: Option<Text>,
}

/// An object to delete.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Delete")]
pub struct RawDelete {
    /// Its kind, as `NetworkPolicy`.
    pub kind: Text,
    /// Its name.
    pub name: Text,
    /// Its API group and version. Not needed for the kinds that come with Kubernetes.
    #[serde(rename = "apiVersion")]
    pub api_version: Option<Text>,
    /// Its namespace. The lab's where nothing is said.
    pub namespace: Option<Text>,
}

/// Labels to change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Label")]
pub struct RawLabel {
    /// Whose pod: a workload, `pod/NAME`, or a label selector.
    pub pod: Text,
    /// Labels to set.
    #[serde(default)]
    pub set: BTreeMap<String, Text>,
    /// Labels to remove.
    #[serde(default)]
    pub remove: Vec<Text>,
}

/// A patch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Patch")]
pub struct RawPatch {
    /// The object's kind, as `Deployment`.
    pub kind: Text,
    /// Its name.
    pub name: Text,
    /// Its API group and version. Not needed for the kinds that come with Kubernetes.
    #[serde(rename = "apiVersion")]
    pub api_version: Option<Text>,
    /// The fields to change, as in its manifest: a strategic merge patch, and a merge patch for custom resources.
    pub patch: Spanned<serde_json::Value>,
}

/// Replicas to set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scale")]
pub struct RawScale {
    /// The Deployment.
    pub deployment: Text,
    /// How many, at most 10.
    pub replicas: Spanned<u32>,
}

/// A pod to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunPod")]
pub struct RawRunPod {
    /// Its name.
    pub name: Text,
    /// Its image. The tool box where nothing is said.
    pub image: Option<Text>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
    /// Its program and arguments. The image's own where nothing is said.
    #[serde(default)]
    pub run: Vec<Text>,
}

/// An authority to make: `OUT.crt` and `OUT.key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Authority")]
pub struct RawAuthority {
    /// Where, without the ending: `pki/ca`.
    pub out: Text,
    /// Its common name.
    pub name: Text,
    /// How many days it is valid. 365 where nothing is said.
    pub days: Option<Spanned<u32>>,
    /// How many authorities may follow below it.
    #[serde(rename = "pathLength")]
    pub path_length: Option<u8>,
    /// Whether it says that it is an authority. `true` where nothing is said.
    #[serde(rename = "caFlag")]
    pub ca_flag: Option<bool>,
}

/// A certificate to make: `OUT.crt` and `OUT.key`. Exactly one of `ca` and `selfSigned`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Made")]
pub struct RawMade {
    /// Where, without the ending: `pki/payments-api`.
    pub out: Text,
    /// The authority that signs it, without the ending: `pki/ca`.
    pub ca: Option<Text>,
    /// Its own key signs it.
    #[serde(rename = "selfSigned", default)]
    pub self_signed: bool,
    /// Its common name.
    pub name: Text,
    /// The alternative names it is for. Its common name where nothing is said.
    pub names: Option<Vec<Text>>,
    /// How many days it is valid. 30 where nothing is said.
    pub days: Option<Spanned<u32>>,
    /// What it may be shown for: `server-auth`, `client-auth`. Both where nothing is said.
    pub usage: Option<Vec<Text>>,
    /// Whether it ended yesterday.
    #[serde(default)]
    pub expired: bool,
}

/// A Secret or ConfigMap to make or replace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Kept")]
pub struct RawKept {
    /// Its name.
    pub name: Text,
    /// Keys, each with a file of the work directory.
    #[serde(default)]
    pub from: BTreeMap<String, Text>,
    /// Keys, each with its text.
    #[serde(default)]
    pub text: BTreeMap<String, Text>,
}

/// A file to write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "File")]
pub struct RawFile {
    /// Its path from the work directory.
    pub path: Text,
    /// What it holds.
    pub text: Text,
}

/// What to wait for: exactly one field; with `check`, `seconds` may stand beside it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WaitFor")]
pub struct RawWaitFor {
    /// A Deployment whose rollout must be complete.
    pub ready: Option<Text>,
    /// So many seconds, at most 60. With `check`: so many at most, 60 where nothing is said.
    pub seconds: Option<Spanned<u32>>,
    /// The name of a check of the step, which must have passed: for what comes by itself, sooner or later.
    pub check: Option<Text>,
}
