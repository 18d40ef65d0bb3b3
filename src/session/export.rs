//! A student's progress in one lab as a document to hand in: what happened, when, and what it is worth.
//!
//! Secrets that were captured are masked wherever they stand, and answers that are compared with them are left out.

use std::{path::Path, sync::Arc};

use serde::Serialize;
use serde_json::Value;

use super::{
    clock::Clock,
    journal::{self, Header, Written},
    pin, site,
    snapshot::StepState,
    state::{Event, State},
};
use crate::{
    catalog::CatalogError,
    lab::{Answer, CheckKind, Lab},
    score::{Points, Score, Weight},
};

/// The form of the document.
const FORMAT: &str = "ztlab.dev/progress/v1";
/// Shorter secrets are not looked for in other texts: they stand there by chance.
const SHORTEST: usize = 4;

/// A student's progress in one lab.
#[derive(Debug, Serialize)]
pub struct Export {
    /// `ztlab.dev/progress/v1`.
    pub format: &'static str,
    /// The program's version.
    pub ztlab: &'static str,
    /// The lab.
    pub lab: LabPart,
    /// The ground it ran on, in words.
    pub ground: String,
    /// When it was begun, RFC 3339.
    pub began: String,
    /// How long the student worked on it, in seconds; rests do not count.
    pub spent_seconds: u64,
    /// Points.
    pub score: Score,
    /// Whether every step is passed.
    pub complete: bool,
    /// The steps.
    pub steps: Vec<StepPart>,
    /// What happened, in order.
    pub events: Vec<EventPart>,
}

/// Which lab.
#[derive(Debug, Serialize)]
pub struct LabPart {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// SHA-256 of its file, in hexadecimal.
    pub hash: String,
    /// Where the file was found.
    pub source: String,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct StepPart {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Whether it is locked, open, passed or not possible on this ground.
    pub state: StepState,
    /// What shows that it is not possible on this ground, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impossible: Option<String>,
    /// Points it gives.
    pub points: Points,
    /// Points earned, hints paid for.
    pub earned: Points,
    /// How many hints are open.
    pub hints: usize,
    /// Whether ztlab ran the solution.
    pub solved: bool,
    /// Its checks.
    pub checks: Vec<CheckPart>,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct CheckPart {
    /// Its name.
    pub name: String,
    /// Its share of the step's points.
    pub weight: Weight,
    /// Why it matters.
    pub why: String,
    /// Whether it passed.
    pub passed: bool,
    /// What it expected, once it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What it found when it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The evidence it passed with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The student's answer, to a question whose answer is no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// Something that happened.
#[derive(Debug, Serialize)]
pub struct EventPart {
    /// When, RFC 3339.
    pub at: String,
    /// What, as the journal has it: places of steps and checks are replaced by their names.
    #[serde(flatten)]
    pub event: Value,
}

/// Why there is nothing to export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The student never began this lab.
    #[error("there is no progress in the lab `{0}`")]
    Nothing(String),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    /// The lab as it was cannot be read.
    #[error(transparent)]
    Lab(#[from] CatalogError),
    /// The lab's copy is not there, or not the one the journal is of.
    #[error(transparent)]
    Copy(#[from] std::io::Error),
}

/// The progress in a lab; `sessions` is the directory of this student's sessions.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn of(sessions: &Path, id: &str) -> Result<Export, ExportError> {
    let known = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let nothing = || ExportError::Nothing(crate::text::one_line(id));
    if !known || id.is_empty() {
        return Err(nothing());
    }
    let dir = sessions.join(id);
    let (header, written, _) = journal::lines(&dir.join("journal.jsonl"))?.ok_or_else(nothing)?;
    let lab = pin::kept(&dir, &header)?.load(&super::Topologies)?;
    // The namespace as it was called, for texts that name it.
    let transform = header.choice.transform(&lab, "").unwrap_or_default();
    Ok(export(&header, &written, site::placed(lab, &transform)))
}

fn export(header: &Header, written: &[Written], lab: Lab) -> Export {
    let mut state = State::new(Arc::new(lab));
    for (_, event) in written {
        state.apply(event);
    }
    let mask = Mask::of(written);
    let lab = state.lab().clone();
    let steps: Vec<StepPart> = (0..lab.steps.len()).map(|at| step(&state, at, &mask)).collect();
    Export {
        format: FORMAT,
        ztlab: env!("CARGO_PKG_VERSION"),
        lab: LabPart {
            id: lab.id.to_string(),
            title: lab.title.clone(),
            hash: header.hash.clone(),
            source: header.source.clone(),
        },
        ground: header.choice.told(),
        began: time(header.began_ms),
        spent_seconds: Clock::of(written.iter().map(|(at_ms, event)| (*at_ms, event))) / 1000,
        score: state.score(),
        complete: steps.iter().all(|step| step.state.is_done()),
        steps,
        events: written
            .iter()
            .map(|(at_ms, event)| EventPart {
                at: time(*at_ms),
                event: told(event, &lab, &mask),
            })
            .collect(),
    }
}

fn step(state: &State, at: usize, mask: &Mask) -> StepPart {
    let (plan, progress) = (&state.lab().steps[at], &state.steps()[at]);
    let checks = plan.checks.iter().zip(&progress.checks).map(|(check, progress)| {
        let passed = progress.latched.as_ref();
        CheckPart {
            name: check.name.clone(),
            weight: check.weight,
            why: check.why.clone(),
            passed: passed.is_some(),
            expected: passed.map(|judgement| mask.text(&judgement.expected)),
            found: passed.map(|judgement| mask.text(&judgement.found)),
            evidence: passed.map_or_else(Vec::new, |judgement| {
                judgement.evidence.iter().map(|line| mask.text(line)).collect()
            }),
            answer: progress
                .answer
                .as_ref()
                .filter(|_| !is_secret(&check.kind))
                .map(|answer| mask.text(answer)),
        }
    });
    StepPart {
        id: plan.id.to_string(),
        title: plan.title.clone(),
        state: state.step_state(at),
        impossible: state.impossible(at).map(str::to_owned),
        points: plan.points,
        earned: state.earned(at),
        hints: progress.hints.len(),
        solved: progress.solved,
        checks: checks.collect(),
    }
}

/// Whether a question asks for what was captured.
fn is_secret(kind: &CheckKind) -> bool {
    matches!(kind, CheckKind::Question(question) if matches!(question.answer, Answer::Captured(_)))
}

/// An event with names in the place of places, and without secrets.
fn told(event: &Event, lab: &Lab, mask: &Mask) -> Value {
    // An event that was read as JSON is JSON.
    let mut told = serde_json::to_value(event).unwrap_or_default();
    mask.value(&mut told);
    let Some(fields) = told.as_object_mut() else {
        return told;
    };
    let place = |fields: &serde_json::Map<String, Value>, name: &str| {
        fields
            .get(name)
            .and_then(Value::as_u64)
            .and_then(|at| usize::try_from(at).ok())
    };
    let Some(step) = place(fields, "step").and_then(|at| lab.steps.get(at)) else {
        return told;
    };
    if let Some(check) = place(fields, "check").and_then(|at| step.checks.get(at)) {
        if is_secret(&check.kind) && fields.contains_key("value") {
            fields.insert("value".to_owned(), Value::from(MASKED));
        }
        fields.insert("check".to_owned(), Value::from(check.name.clone()));
    }
    fields.insert("step".to_owned(), Value::from(step.id.to_string()));
    told
}

/// What stands in the place of a secret.
const MASKED: &str = "•••";

/// The secrets of a session.
struct Mask {
    secrets: Vec<String>,
}

impl Mask {
    fn of(written: &[Written]) -> Self {
        let mut secrets: Vec<String> = written
            .iter()
            .filter_map(|(_, event)| match event {
                // An account is a name, and may be a word of other texts.
                Event::Looted { loot, .. } => Some(loot.value.clone()),
                _ => None,
            })
            .filter(|secret| secret.chars().count() >= SHORTEST)
            .collect();
        // One may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    fn text(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASKED))
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                if let Some(loot) = fields.get_mut("loot").and_then(Value::as_object_mut) {
                    for secret in ["value", "account"] {
                        // However short it is, here it is one.
                        if loot.get(secret).is_some_and(Value::is_string) {
                            loot.insert(secret.to_owned(), Value::from(MASKED));
                        }
                    }
                }
                fields.values_mut().for_each(|field| self.value(field));
            }
            _ => {}
        }
    }
}

fn time(at_ms: u64) -> String {
    i64::try_from(at_ms)
        .ok()
        .and_then(|at_ms| jiff::Timestamp::from_millisecond(at_ms).ok())
        .map_or_else(|| at_ms.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Loot,
        packet::{LeakKind, Protocol},
        session::site::Choice,
        verdict::{Finding, Judgement, Verdict},
    };

    #[test]
    fn what_was_captured_is_in_no_part_of_it() {
        let found = crate::catalog::find("wiretap", None).unwrap();
        let lab = found.load(&crate::session::Topologies).unwrap();
        let loot = Loot {
            kind: LeakKind::DatabaseLogin,
            value: "s3cret-word".to_owned(),
            account: Some("pay".to_owned()),
            from: "a".to_owned(),
            to: "b".to_owned(),
            protocol: Protocol::Postgres,
            frame: 1,
            captured_in: "b".to_owned(),
            message: "login with s3cret-word".to_owned(),
        };
        let mut judgement = Judgement::new(Verdict::Passed, Finding::Expected, "a card", "found s3cret-word");
        judgement.evidence = vec!["packet 1: s3cret-word".to_owned()];
        let written: Vec<Written> = vec![
            (1_700_000_000_000, Event::Deployed { epoch: 0 }),
            (1_700_000_001_000, Event::Looted { epoch: 0, loot }),
            (
                1_700_000_002_000,
                Event::Answered {
                    step: 0,
                    check: 1,
                    value: "4111111111111111".to_owned(),
                },
            ),
            (
                1_700_000_003_500,
                Event::Judged {
                    epoch: 0,
                    step: 0,
                    check: 0,
                    judgement,
                },
            ),
        ];
        let header = Header::new("wiretap", found.hash(), "built in".to_owned(), Choice::default());
        let told = serde_json::to_value(export(&header, &written, lab)).unwrap();
        let text = told.to_string();
        for secret in ["s3cret-word", "4111111111111111", "\"pay\""] {
            assert!(!text.contains(secret), "{secret} is in {told:#}");
        }
        assert_eq!(told["format"], FORMAT);
        assert_eq!(told["spent_seconds"], 3);
        assert_eq!(told["events"][0]["at"], "2023-11-14T22:13:20Z");
        assert_eq!(told["events"][2]["step"], "listen");
        assert_eq!(told["events"][2]["check"], "you found the card number");
        assert_eq!(told["steps"][0]["checks"][0]["passed"], true);
        assert_eq!(told["score"]["earned"], 10);
        assert_eq!(told["complete"], false);
    }

    #[test]
    fn a_lab_that_was_never_begun_has_none() {
        let temp = tempfile::tempdir().unwrap();
        for id in ["wiretap", "../x", ""] {
            assert!(matches!(of(temp.path(), id), Err(ExportError::Nothing(_))), "{id}");
        }
    }
}
