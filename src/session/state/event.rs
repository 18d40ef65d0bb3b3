//! What happens to a session, and what is to be done about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    check::Loot,
    session::{snapshot::NoticeLevel, topics::Topic},
    verdict::Judgement,
};

/// Something that happened. What a session must not forget is an event that was recorded; see [`Effect::Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The lab's workloads are ready.
    Deployed {
        /// The epoch they were deployed in.
        epoch: u64,
    },
    /// They could not be made ready.
    Failed {
        /// The epoch that failed.
        epoch: u64,
        /// Why.
        why: String,
    },
    /// What steps need of the ground was looked for.
    Measured {
        /// What it lacks, by the names in lab files, each with what shows that.
        lacking: BTreeMap<String, String>,
    },
    /// The student began again from the start: a new epoch.
    Reset,
    /// The student went back to the start of a step: a new epoch, and no points for it and for what needs it.
    ResetStep {
        /// The step's place.
        step: usize,
    },
    /// The student answered a question.
    Answered {
        /// The step's place.
        step: usize,
        /// The check's place in it.
        check: usize,
        /// The answer, as typed.
        value: String,
    },
    /// A hint was opened.
    HintOpened {
        /// The step's place.
        step: usize,
        /// The hint's place in it.
        hint: usize,
    },
    /// A check was judged.
    Judged {
        /// The epoch its evidence was gathered in.
        epoch: u64,
        /// The step's place.
        step: usize,
        /// The check's place in it.
        check: usize,
        /// What it came to.
        judgement: Judgement,
    },
    /// A capture of the student's showed a secret.
    Looted {
        /// The epoch of the capture.
        epoch: u64,
        /// The secret.
        loot: Loot,
    },
    /// ztlab ran the step's solution.
    Solved {
        /// The step's place.
        step: usize,
    },
    /// Something the checks look at has changed.
    #[serde(skip)]
    Changed(Topic),
    /// The student rests: the cluster's node is stopped, and the time does not count.
    Paused,
    /// The student comes back.
    Resumed,
    /// The session ends.
    Stopping,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this to the journal: replaying what was recorded gives this state again.
    Record(Event),
    /// Put cluster and work directory back, for this epoch.
    Restore {
        /// The new epoch.
        epoch: u64,
        /// To which moment.
        to: Start,
    },
    /// Put cluster and work directory aside: steps were opened just now.
    PutAside {
        /// The moment.
        start: Start,
    },
    /// End the student's captures, and forget what they saw.
    EndCaptures,
    /// Run the checks that look at this, soon.
    Recheck(Topic),
    /// Tell the student.
    Notify(NoticeLevel, String),
}

/// A moment that can be gone back to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Counts the moments of a session; 0 is the start of the lab. A number is never used twice.
    pub number: u32,
    /// Ids of the steps that were opened then; none for the start of the lab.
    pub steps: Vec<String>,
}
