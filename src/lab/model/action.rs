//! What ztlab can do in a student's place.

use std::time::Duration;

use super::Workload;
use crate::packet::LeakKind;

/// Something a student could do, done by ztlab when it solves a step or tries a wrong attempt.
#[derive(Clone, Debug)]
pub enum Action {
    /// Capture in a pod.
    Capture {
        /// Where.
        workload: Workload,
        /// A BPF filter.
        filter: Option<String>,
        /// How long.
        until: Until,
    },
    /// Answer the question of the check at this place.
    Answer {
        /// The check's place in its step.
        check: usize,
        /// The answer.
        value: AnswerValue,
    },
    /// Run a program in a pod, as `kubectl exec` does.
    Exec {
        /// Where.
        workload: Workload,
        /// The program and its arguments; `${leak.KIND}` and `${leak.KIND.account}` stand for what was captured.
        run: Vec<String>,
    },
}

/// How long a capture runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// So long.
    For(Duration),
    /// Until this was seen.
    Leak {
        /// What.
        kind: LeakKind,
        /// Only between these two, in either direction: a payment also leaks further on.
        between: Option<(Workload, Workload)>,
    },
}

/// An answer in a solution or an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerValue {
    /// What was captured, as the question asks for it.
    FromCapture,
    /// This text; `${leak.KIND}` as in [`Action::Exec`].
    Text(String),
}
