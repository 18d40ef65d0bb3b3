//! What a face can ask of the session host, and what the host answers.
//!
//! The protocol is JSON lines over a unix socket: a face sends [`Request`]s, the host sends [`ServerLine`]s. A reply
//! comes when its command has **finished** (`Start` when the lab is ready or has failed); progress meanwhile is in the
//! snapshots, which a face gets by following.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::session::{
    site::ContextChoice,
    snapshot::{LabSummary, Snapshot},
};

/// The protocol both sides must speak; raised whenever a line's meaning changes.
pub const PROTOCOL: u32 = 2;

/// One thing a face asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Command {
    /// The labs that can be started.
    Labs,
    /// Start a lab, or continue the one that is running; ready when its reply comes.
    Start {
        /// The lab's id.
        lab: String,
        /// The ground to start on: `embedded`, `context`; where it is empty, the one the lab was left on, else `embedded`.
        ground: String,
        /// Forget the progress of an earlier run of this lab.
        fresh: bool,
        /// The context to run on, on the ground `context`.
        #[serde(default)]
        context: Option<ContextChoice>,
    },
    /// Stop the cluster's node and the clock; everything stays.
    Pause,
    /// Go on after a rest.
    Resume,
    /// The current snapshot.
    Status,
    /// Run the checks of one step, or of every open step, now.
    Check {
        /// The step's id; every step when absent.
        step: Option<String>,
    },
    /// Answer a question.
    Answer {
        /// The step's id.
        step: String,
        /// The check's name.
        check: String,
        /// The student's answer, as typed.
        value: String,
    },
    /// Open the next hint of a step, at its cost.
    Hint {
        /// The step's id.
        step: String,
    },
    /// Run a step's solution; every step's, in order, when absent.
    Solve {
        /// The step's id.
        step: Option<String>,
    },
    /// Run one of a step's wrong attempts: for authors.
    Attempt {
        /// The step's id.
        step: String,
        /// Which of the step's `wrong` list, from 0.
        attempt: usize,
    },
    /// Back to the start of the lab: a pristine cluster, no points.
    Reset {
        /// Back to the start of this step instead: no points for it and for those that need it.
        step: Option<String>,
    },
    /// End the session; the cluster stays unless it is deleted.
    Stop {
        /// Also delete the cluster.
        delete: bool,
    },
    /// Start capturing in a pod, as the student.
    CaptureStart {
        /// The workload or pod to capture in.
        pod: String,
        /// A BPF filter (pcap-filter(7)).
        filter: Option<String>,
        /// Ends by itself after so many seconds.
        seconds: Option<u64>,
    },
    /// Stop the student's capture in a pod; all of them when absent.
    CaptureStop {
        /// The workload or pod.
        pod: Option<String>,
    },
    /// Stop the session host; the cluster stays.
    Shutdown,
}

/// What the host says when a command has finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// It was done; the state after it.
    Done {
        /// What happened, as a sentence.
        message: String,
        /// The state after it.
        snapshot: Box<Snapshot>,
    },
    /// The labs that can be started.
    Labs {
        /// Each lab.
        labs: Vec<LabSummary>,
    },
    /// It was not done.
    Refused(Refusal),
}

/// Why a command was not done, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong, naming the suspect.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// One line from a face to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Run a command; its reply carries the same number.
    Run {
        /// Chosen by the face, unique on its connection.
        id: u64,
        /// The directory the face works in: its `labs` are looked at before the built-in ones.
        #[serde(default)]
        cwd: Option<PathBuf>,
        /// The command.
        #[serde(flatten)]
        command: Command,
    },
    /// Send every snapshot from now on, beginning with the current one. A face that reads slowly misses
    /// intermediate snapshots, never the last.
    Follow,
}

/// One line from the host to a face.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum ServerLine {
    /// The first line of every connection.
    Hello {
        /// [`PROTOCOL`] of the host.
        protocol: u32,
        /// The program's version.
        version: String,
        /// The host's process id.
        pid: u32,
    },
    /// A command has finished.
    Answer {
        /// The request's number.
        id: u64,
        /// What the host says.
        #[serde(flatten)]
        reply: Reply,
    },
    /// A snapshot, for a face that follows.
    Snapshot {
        /// The state.
        snapshot: Box<Snapshot>,
    },
}
