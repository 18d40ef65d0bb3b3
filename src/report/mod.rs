//! The report of a lab: what the student did, by which evidence, for how many points, and what became of the posture.
//!
//! Pure: a [`Report`] in, a document out ([`markdown`], [`html`], [`junit`], or JSON by serde). Everything in it may
//! have come from elsewhere, and is escaped where it is shown. Secrets that were captured are masked before they come
//! here.

pub mod html;
pub mod junit;
pub mod markdown;
mod progress;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use progress::{CheckPart, EventPart, FORMAT, LabPart, Progress, ProgressError, StepPart};

use crate::posture::{Change, LevelReport, Matrix, diff};

/// What is said of secrets in every report.
const MASKED: &str = "Secrets that were captured are masked; the report shows that they were found, not what they are.";

/// A measurement, and the level that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The level.
    pub level: LevelReport,
    /// The matrix it follows from.
    pub matrix: Matrix,
}

impl From<Matrix> for Measured {
    fn from(matrix: Matrix) -> Self {
        Self {
            level: matrix.level(),
            matrix,
        }
    }
}

/// Everything a report shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What the student did.
    pub progress: Progress,
    /// The posture when the lab began; `None` where it was not measured.
    pub before: Option<Measured>,
    /// The posture now, or when it was last measured.
    pub after: Option<Measured>,
    /// Why a posture is missing, or when it was measured, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Report {
    /// What became of each edge; empty where one of the measurements is missing.
    pub fn changes(&self) -> Vec<Change> {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => diff(&before.matrix, &after.matrix),
            _ => Vec::new(),
        }
    }

    /// The facts about the run, as pairs of a label and a text.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let progress = &self.progress;
        let worked = crate::posture::words::lasting(std::time::Duration::from_secs(progress.spent_seconds));
        let level = |measured: &Option<Measured>| match measured {
            Some(measured) => format!("level {}", measured.level.level),
            None => "not measured".to_owned(),
        };
        let steps = progress.steps.iter().filter(|step| step.state == "passed").count();
        let possible = progress.steps.iter().filter(|step| step.state != "impossible").count();
        vec![
            ("Lab", format!("{} ({})", progress.lab.title, progress.lab.id)),
            ("Score", format!("{} points", progress.score)),
            ("Steps passed", format!("{steps} of {possible}")),
            ("Begun", progress.began.clone()),
            ("Worked", worked),
            ("Hints", progress.hints().to_string()),
            ("Resets", progress.resets().to_string()),
            ("Ground", progress.ground.clone()),
            ("Posture before", level(&self.before)),
            ("Posture after", level(&self.after)),
        ]
    }
}

/// A step's standing in a word.
fn standing(step: &StepPart) -> &'static str {
    match (step.state.as_str(), step.solved) {
        ("passed", true) => "passed, by ztlab's solution",
        ("passed", false) => "passed",
        ("locked", _) => "locked",
        ("impossible", _) => "not possible on its ground",
        (_, _) => "open",
    }
}

/// What an edge was or is, in a word.
fn word(mark: Option<crate::posture::Mark>) -> &'static str {
    mark.map_or("not there", crate::posture::Mark::as_str)
}
