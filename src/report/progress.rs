//! A student's progress as `ztlab lab export` writes it: what a report is made of.
//!
//! Whoever wrote the file, it is untrusted: what is missing is empty, and every text is escaped where it is shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::score::{Points, Score};

/// The form of the document that is read.
pub const FORMAT: &str = "ztlab.dev/progress/v1";

/// A student's progress in one lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// [`FORMAT`].
    pub format: String,
    /// The version of the program that wrote it.
    #[serde(default)]
    pub ztlab: String,
    /// The lab.
    pub lab: LabPart,
    /// The ground it ran on, in words.
    #[serde(default)]
    pub ground: String,
    /// When it was begun, RFC 3339.
    #[serde(default)]
    pub began: String,
    /// How long the student worked on it, in seconds.
    #[serde(default)]
    pub spent_seconds: u64,
    /// Points.
    #[serde(default)]
    pub score: Score,
    /// Whether every step is passed.
    #[serde(default)]
    pub complete: bool,
    /// The steps.
    #[serde(default)]
    pub steps: Vec<StepPart>,
    /// What happened, in order.
    #[serde(default)]
    pub events: Vec<EventPart>,
}

/// Which lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabPart {
    /// Its id.
    pub id: String,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// SHA-256 of its file, in hexadecimal.
    #[serde(default)]
    pub hash: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPart {
    /// Its id.
    pub id: String,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// `locked`, `open`, `passed` or `impossible`.
    #[serde(default)]
    pub state: String,
    /// What shows that the step is not possible on the ground, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impossible: Option<String>,
    /// Points it gives.
    #[serde(default)]
    pub points: Points,
    /// Points earned, hints paid for.
    #[serde(default)]
    pub earned: Points,
    /// How many hints are open.
    #[serde(default)]
    pub hints: u64,
    /// Whether ztlab ran the solution.
    #[serde(default)]
    pub solved: bool,
    /// Its checks.
    #[serde(default)]
    pub checks: Vec<CheckPart>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckPart {
    /// Its name.
    pub name: String,
    /// Why it matters.
    #[serde(default)]
    pub why: String,
    /// Whether it passed.
    #[serde(default)]
    pub passed: bool,
    /// What it expected, once it passed.
    #[serde(default)]
    pub expected: Option<String>,
    /// What it found when it passed.
    #[serde(default)]
    pub found: Option<String>,
    /// The evidence it passed with.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// The student's answer, to a question whose answer is no secret.
    #[serde(default)]
    pub answer: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventPart {
    /// When, RFC 3339.
    #[serde(default)]
    pub at: String,
    /// What, and its fields.
    #[serde(flatten)]
    pub event: Value,
}

impl EventPart {
    fn field(&self, name: &str) -> &str {
        self.event.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// What happened, as a sentence; `None` for what tells a reader nothing.
    pub fn sentence(&self) -> Option<String> {
        let (step, check) = (self.field("step"), self.field("check"));
        let within = |field: &str| {
            let inner = self.event.get("loot").and_then(|loot| loot.get(field));
            inner.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Some(match self.field("event") {
            "deployed" => "the lab was ready".to_owned(),
            "failed" => format!("the lab failed: {}", self.field("why")),
            "measured" => match self.event.get("lacking").and_then(Value::as_object) {
                Some(lacking) if !lacking.is_empty() => {
                    let lacking: Vec<String> = lacking
                        .iter()
                        .map(|(what, why)| format!("{what} ({})", why.as_str().unwrap_or_default()))
                        .collect();
                    format!("the ground was found to lack {}", lacking.join(", "))
                }
                _ => return None,
            },
            "reset" => "reset to the start of the lab".to_owned(),
            "reset-step" => format!("reset to the start of the step {step}"),
            "answered" => format!("answered {check} ({step})"),
            "hint-opened" => format!("opened a hint of {step}"),
            "judged" => format!("passed: {check} ({step})"),
            "looted" => format!(
                "captured a {} that crossed the network in clear, {} → {}",
                within("kind"),
                within("from"),
                within("to")
            ),
            "solved" => format!("had ztlab run the solution of {step}"),
            "paused" => "paused".to_owned(),
            "resumed" => "went on".to_owned(),
            _ => return None,
        })
    }
}

/// Why a document is no progress.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// It is no JSON of this shape.
    #[error("not a student's progress: {0}")]
    Shape(#[from] serde_json::Error),
    /// It is of another form.
    #[error("a document of the form `{0}`, not {FORMAT}")]
    Format(String),
}

impl Progress {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(text: &str) -> Result<Self, ProgressError> {
        Self::of(serde_json::from_str(text)?)
    }

    /// The same from JSON that was read already.
    ///
    /// # Errors
    /// When it is something else.
    pub fn of(document: Value) -> Result<Self, ProgressError> {
        let progress: Self = serde_json::from_value(document)?;
        if progress.format == FORMAT {
            Ok(progress)
        } else {
            Err(ProgressError::Format(crate::text::one_line(&progress.format)))
        }
    }

    /// How many resets there were.
    pub fn resets(&self) -> usize {
        let reset = |event: &&EventPart| event.field("event").starts_with("reset");
        self.events.iter().filter(reset).count()
    }

    /// How many hints are open.
    pub fn hints(&self) -> u64 {
        self.steps.iter().map(|step| step.hints).sum()
    }
}
