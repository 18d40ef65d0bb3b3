//! Checks as they are written: one optional field for each kind, of which exactly one is given.

use std::collections::BTreeMap;

use schemars_derive::JsonSchema;
use serde::Deserialize;

use super::{
    OneOr, OneOrMany, RawCertificate, RawClient, RawQuestion, RawTls, RawTlsTry, RawTlsUse, Spanned, Text, names,
};
use crate::{
    lab::model::{FlowWanted, Reach, Resolution, Seen},
    packet::{LeakKind, Protocol},
};

/// One check of a step: its name, why it matters, and exactly one kind of look.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Check")]
pub struct RawCheck {
    /// Its name, unique in the step, as a sentence that is true when it is passed: `you captured a payment`.
    pub name: Text,
    /// Its share of the step's points beside the other checks. 1 where nothing is said.
    #[schemars(range(min = 1, max = 100))]
    pub weight: Option<Spanned<u32>>,
    /// Why it matters. Shown when the check fails; of a question, once it is answered rightly.
    pub why: Text,
    /// What the student's own captures show.
    pub capture: Option<Spanned<RawCaptureCheck>>,
    /// A question that the student answers.
    pub question: Option<RawQuestion>,
    /// An HTTP or HTTPS call, made by a probe or by the student.
    pub http: Option<Spanned<RawHttp>>,
    /// A login to a database, made by the student.
    pub database: Option<RawDatabase>,
    /// Whether a TCP connection opens, by a probe.
    pub tcp: Option<Spanned<RawTcp>>,
    /// What a pod's own DNS says of a name, by a probe.
    pub dns: Option<Spanned<RawDns>>,
    /// Objects of the Kubernetes API, and their fields.
    pub object: Option<Spanned<RawObject>>,
    /// A TLS session, made by a probe, and what the server shows in it.
    pub tls: Option<Spanned<RawTls>>,
    /// A certificate in a file, a Secret or a ConfigMap.
    pub certificate: Option<Spanned<RawCertificate>>,
    /// A file that the student made in the work directory.
    pub file: Option<Spanned<RawFileCheck>>,
    /// A program run in a pod, without a shell.
    pub exec: Option<Spanned<RawExecCheck>>,
    /// The measured zero trust level, or one cell of the posture matrix.
    pub posture: Option<Spanned<RawPosture>>,
}

/// What the student's own captures show: exactly one of `holds`, `lacks` and `verdict`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CaptureCheck")]
pub struct RawCaptureCheck {
    /// The two workloads, in either order.
    pub between: Spanned<Vec<Text>>,
    /// What must have been seen since the lab began.
    pub holds: Option<RawPattern>,
    /// What must not be seen, in the newest capture that saw the two talk.
    pub lacks: Option<RawPattern>,
    /// How the conversations in the newest capture are judged: `readable`, `encrypted` (whoever proved who they are),
    /// `encrypted-one-sided`, `encrypted-mutual` or `refused`.
    #[schemars(extend("enum" = names(FlowWanted::ALL)))]
    pub verdict: Option<Text>,
    /// With `verdict`: a TLS session to try with this and with no client certificate, since TLS 1.3 hides the
    /// certificates from a capture.
    pub probe: Option<RawTlsTry>,
}

/// What a message is recognised by. Each field that is given must fit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pattern")]
pub struct RawPattern {
    /// Its protocol, as `http`.
    #[schemars(extend("enum" = Protocol::ALL.map(Protocol::as_str)))]
    pub protocol: Option<Text>,
    /// The kind of secret that can be read in it, as `card-number`.
    #[schemars(extend("enum" = LeakKind::ALL.map(LeakKind::as_str)))]
    pub leak: Option<Text>,
    /// A regular expression that must be found in its text.
    pub text: Option<Text>,
}

/// An HTTP call and what must come of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Http")]
pub struct RawHttp {
    /// Whose pod calls: a workload, `pod/NAME`, or a label selector.
    pub from: Text,
    /// The URL: `http://payments-api/charge` or `https://payments-api:8443/charge`.
    pub to: Text,
    /// The method. `GET` where nothing is said.
    pub method: Option<Text>,
    /// Headers to send, by a probe. `${secret/NAME/KEY}` stands for what is there.
    #[serde(default)]
    pub headers: BTreeMap<String, Text>,
    /// The body to send, by a probe. `${secret/NAME/KEY}` stands for what is there.
    pub body: Option<Text>,
    /// Whom to trust and which certificate to show, for `https://`.
    pub tls: Option<RawTlsUse>,
    /// What must come of it.
    pub expect: Spanned<RawHttpExpect>,
    /// Who succeeds with the same call in the same moment, where the call must not succeed. With `seen: by-student`: the
    /// workload that the callee's log must show let in within a minute.
    pub control: Option<Spanned<OneOr<RawControl>>>,
    /// Who makes the call: `by-probe` (ztlab), or `by-student`, which looks into the callee's access log: for an answer
    /// (`status`), or for a handshake that it refused (`outcome: tls-refused`), which has no path and no method.
    #[schemars(extend("enum" = names(Seen::ALL)))]
    pub seen: Option<Text>,
}

/// What must come of an HTTP call. At least one field, and each that is given must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpExpect")]
pub struct RawHttpExpect {
    /// The status, or a list of them.
    pub status: Option<Spanned<OneOrMany<u16>>>,
    /// `allowed` (answered, whatever the status), `blocked` (refused or timed out), `refused`, `timed-out`, or
    /// `tls-refused` (the peer refused in TLS).
    #[schemars(extend("enum" = names(Reach::HTTP)))]
    pub outcome: Option<Text>,
    /// A rule for the beginning of the body.
    pub body: Option<Spanned<RawRule>>,
    /// Rules for headers, by their names.
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<RawRule>>,
    /// A rule for what the caller proved, as the access log has it; with `seen: by-student`.
    pub caller: Option<Spanned<RawRule>>,
    /// A rule for why the callee refused the handshake, as its log has it; with `outcome: tls-refused` and
    /// `seen: by-student`.
    pub reason: Option<Spanned<RawRule>>,
}

/// A rule for a text. At least one field, and each that is given must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
pub struct RawRule {
    /// Words that must be in it.
    pub contains: Option<Text>,
    /// A regular expression that must be found in it.
    pub matches: Option<Text>,
    /// Words that must not be in it.
    pub lacks: Option<Text>,
}

/// Who succeeds in the same moment: the proof that the callee is alive. A workload's name can stand in its place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Control")]
pub struct RawControl {
    /// Whose pod it is. The same as the check's where nothing is said.
    pub from: Option<Text>,
    /// The certificate it shows.
    pub client: Option<Spanned<OneOr<RawClient>>>,
}

/// A login to a database. The student makes it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Database")]
pub struct RawDatabase {
    /// Whose pod logs in: a workload, `pod/NAME`, or a label selector.
    pub from: Text,
    /// The database's workload.
    pub to: Text,
    /// The beginning of a statement that must have run. Without it the login is enough.
    pub statement: Option<Text>,
    /// `allowed`, or `refused`: the database turned the login away. `allowed` where nothing is said.
    #[schemars(extend("enum" = ["allowed", "refused"]))]
    pub expect: Option<Text>,
    /// Always `by-student`.
    pub seen: Option<Text>,
}

/// Whether a TCP connection opens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tcp")]
pub struct RawTcp {
    /// Whose pod connects: a workload, `pod/NAME`, or a label selector.
    pub from: Text,
    /// Who is called: a workload's Service, `pod/NAME`, a label selector, an address, or a DNS name with a dot.
    pub to: Text,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Spanned<u16>,
    /// `allowed`, `blocked` (refused or timed out), `refused` or `timed-out`.
    #[schemars(extend("enum" = names(Reach::ALL)))]
    pub expect: Text,
    /// Who can connect in the same moment, where the connection must not open.
    pub control: Option<Spanned<OneOr<RawControl>>>,
}

/// What a pod's own DNS says of a name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Dns")]
pub struct RawDns {
    /// Whose pod asks: a workload, `pod/NAME`, or a label selector.
    pub from: Text,
    /// The name, as a program would ask for it: the search list of the pod counts.
    pub name: Text,
    /// `resolves`, `no-such-name`, `no-answer`, or `fails` (either of the two).
    #[schemars(extend("enum" = names(Resolution::ALL)))]
    pub expect: Text,
    /// With `resolves`: whose address it must be: a workload's Service, `pod/NAME`, a label selector or an address.
    pub to: Option<Text>,
    /// Who can resolve the name in the same moment, with `no-answer` and `fails`.
    pub control: Option<Spanned<OneOr<RawControl>>>,
}

/// Objects of the Kubernetes API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Object")]
pub struct RawObject {
    /// The API group and version, as `networking.k8s.io/v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: Text,
    /// The kind, as `NetworkPolicy`.
    pub kind: Text,
    /// The object's name. Without `name` and `labels`: every object of the kind.
    pub name: Option<Text>,
    /// A label selector, as `app=payments-api`.
    pub labels: Option<Text>,
    /// The namespace. The lab's where nothing is said.
    pub namespace: Option<Text>,
    /// Only objects that the student made or changed since the lab began.
    #[serde(default)]
    pub changed: bool,
    /// An object counts only if it meets all of these.
    #[serde(default)]
    pub fields: Vec<Spanned<RawField>>,
    /// How many objects there must be. At least 1 where nothing is said.
    pub count: Option<Spanned<RawCount>>,
    /// There must be none. In place of `count`.
    #[serde(default)]
    pub absent: bool,
}

/// A number, within these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Count")]
pub struct RawCount {
    /// At least so many.
    pub min: Option<u32>,
    /// At most so many.
    pub max: Option<u32>,
}

/// A rule for what a path finds: exactly one beside `path`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Field")]
pub struct RawField {
    /// A JSONPath of RFC 9535, as `$.spec.podSelector` or `$.spec.containers[*].image`.
    pub path: Text,
    /// It finds at least one value, and every one is this.
    #[serde(default, deserialize_with = "super::present")]
    pub equals: Option<serde_json::Value>,
    /// Some value is this, is a list that holds it, or is a text with it inside.
    #[serde(default, deserialize_with = "super::present")]
    pub contains: Option<serde_json::Value>,
    /// It finds at least one value, and in every one, as a text, this regular expression is found.
    pub matches: Option<Text>,
    /// Whether it finds anything.
    pub exists: Option<bool>,
    /// How many values it finds.
    pub count: Option<Spanned<RawCount>>,
}

/// A file in the work directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FileCheck")]
pub struct RawFileCheck {
    /// Its path from the work directory, as `pki/ca.crt`.
    pub path: Text,
    /// There must be none.
    #[serde(default)]
    pub absent: bool,
    /// A rule for what it holds.
    pub text: Option<Spanned<RawRule>>,
    /// Rules for its fields; the file is YAML or JSON.
    #[serde(default)]
    pub fields: Vec<Spanned<RawField>>,
}

/// A program run in a pod.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExecCheck")]
pub struct RawExecCheck {
    /// Whose pod: a workload, `pod/NAME`, or a label selector.
    #[serde(rename = "in")]
    pub source: Text,
    /// The namespace of the pod. The lab's where nothing is said.
    pub namespace: Option<Text>,
    /// The program, then its arguments. There is no shell.
    pub run: Spanned<Vec<Text>>,
    /// What must come of it.
    pub expect: Spanned<RawExecExpect>,
}

/// What must come of a program. At least one field.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExecExpect")]
pub struct RawExecExpect {
    /// Its exit code, or `nonzero`.
    pub exit: Option<Text>,
    /// A rule for what it prints.
    pub output: Option<Spanned<RawRule>>,
}

/// The measured posture: a `level`, or a cell by `from` and `to`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Posture")]
pub struct RawPosture {
    /// The zero trust level that must be reached, 1 to 4.
    pub level: Option<Spanned<u8>>,
    /// The workload that calls.
    pub from: Option<Text>,
    /// The workload that is called.
    pub to: Option<Text>,
    /// On which port of its Service. Its only one where nothing is said.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<Spanned<u16>>,
    /// Whether a connection opens.
    pub reachable: Option<bool>,
    /// Whether what is sent can be read on the way.
    pub readable: Option<bool>,
    /// Whether the callee proves who it is.
    #[serde(rename = "serverAuthenticated")]
    pub server_authenticated: Option<bool>,
    /// Whether the caller must prove who it is.
    #[serde(rename = "clientAuthenticated")]
    pub client_authenticated: Option<bool>,
    /// Whether policy decides by the caller's identity.
    pub authorised: Option<bool>,
}
