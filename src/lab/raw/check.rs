//! Checks as they are written: one optional field for each kind, of which exactly one is given.

use schemars_derive::JsonSchema;
use serde::Deserialize;

use super::{RawQuestion, Spanned, Text, names};
use crate::{
    lab::model::{Reach, Seen},
    packet::{LeakKind, Protocol},
};

/// Something that is looked at. Exactly one of the kinds is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Check")]
pub struct RawCheck {
    /// Its name, unique in the step: what the student did, as a clause.
    pub name: Text,
    /// Its share of the step's points, beside those of the others. 1 where nothing is said.
    #[schemars(range(min = 1, max = 100))]
    pub weight: Option<Spanned<u32>>,
    /// Why it matters; shown when the check fails.
    pub why: Text,
    /// What the student's own captures show.
    pub capture: Option<Spanned<RawCaptureCheck>>,
    /// A question that the student answers.
    pub question: Option<RawQuestion>,
    /// An HTTP call from one workload to another.
    pub http: Option<RawHttp>,
    /// A login to a database, which the student makes.
    pub database: Option<RawDatabase>,
    /// Whether one workload can open a TCP connection to another.
    pub tcp: Option<Spanned<RawTcp>>,
}

/// What the student's own captures show between two workloads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CaptureCheck")]
pub struct RawCaptureCheck {
    /// The two workloads, in either order.
    pub between: Spanned<Vec<Text>>,
    /// What some message must be.
    pub holds: Option<RawPattern>,
    /// What no message may be. Other traffic between the two is the control.
    pub lacks: Option<RawPattern>,
}

/// What a message is recognised by. What is not given matches everything.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pattern")]
pub struct RawPattern {
    /// Its protocol.
    #[schemars(extend("enum" = Protocol::ALL.map(Protocol::as_str)))]
    pub protocol: Option<Text>,
    /// What leaks in it.
    #[schemars(extend("enum" = LeakKind::ALL.map(LeakKind::as_str)))]
    pub leak: Option<Text>,
}

/// An HTTP call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpCheck")]
pub struct RawHttp {
    /// The workload that calls.
    pub from: Text,
    /// The URL, as `http://payments-api/charge`. The host is a workload; `:port` where it is not 80.
    pub to: Text,
    /// The method. `GET` where nothing is said.
    pub method: Option<Text>,
    /// What must come of it.
    pub expect: RawExpect,
    /// Who makes the call. The student, as the callee's access log tells, or a probe of ztlab.
    #[schemars(extend("enum" = names(Seen::ALL)))]
    pub seen: Option<Text>,
}

/// What must come of an HTTP call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpExpect")]
pub struct RawExpect {
    /// The status of the answer.
    #[schemars(range(min = 100, max = 599))]
    pub status: Spanned<u16>,
}

/// A login to a database, which the student makes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DatabaseCheck")]
pub struct RawDatabase {
    /// The workload that logs in.
    pub from: Text,
    /// The database's workload.
    pub to: Text,
    /// The beginning of a statement that must be asked there; case is ignored. Without it the login is enough.
    pub statement: Option<Text>,
    /// Who logs in. Always `by-student`.
    pub seen: Option<Text>,
}

/// Whether one workload can open a TCP connection to another. A probe tries it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TcpCheck")]
pub struct RawTcp {
    /// The workload that connects.
    pub from: Text,
    /// The workload that is connected to.
    pub to: Text,
    /// The port of its Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Spanned<u16>,
    /// What must come of it.
    #[schemars(extend("enum" = names(Reach::ALL)))]
    pub expect: Text,
    /// A workload that can connect in the same moment: the proof that the callee is alive. Needed unless `allowed` is
    /// expected.
    pub control: Option<Text>,
}
