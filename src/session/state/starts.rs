//! The moments a session can be put back to: the start of the lab, and of each step.

use std::collections::BTreeSet;

use super::{CheckProgress, Effect, Event, Start, State, StepProgress};
use crate::{
    lab::{Opens, Step},
    session::{snapshot::Phase, topics::Topic},
};

/// When a step was first opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The moment's number.
    start: u32,
    /// How many secrets were found by then.
    loot: usize,
}

impl State {
    /// The moment to go back to before the student can work; `None` where the cluster is as it should be.
    pub fn back_to(&self) -> Option<&Start> {
        self.back_to.as_ref()
    }

    /// The moment a step was first opened; `None` for one that was not.
    pub fn start_of(&self, step: usize) -> Option<Start> {
        let number = self.steps.get(step)?.opened?.start;
        let then = |(plan, progress): (&Step, &StepProgress)| {
            let same = progress.opened.is_some_and(|opened| opened.start == number);
            same.then(|| plan.id.to_string())
        };
        Some(Start {
            number,
            steps: if number == 0 {
                Vec::new()
            } else {
                self.lab.steps.iter().zip(&self.steps).filter_map(then).collect()
            },
        })
    }

    /// The numbers of the moments that some step can still be reset to.
    pub fn starts_in_use(&self) -> BTreeSet<u32> {
        let opened = self.steps.iter().filter_map(|step| step.opened);
        opened.map(|opened| opened.start).collect()
    }

    /// Opens what can be worked on and was not before, as of a moment.
    pub(super) fn open(&mut self, start: u32) -> Vec<usize> {
        let loot = self.loot.len();
        let opening: Vec<usize> = (0..self.steps.len())
            .filter(|at| self.steps[*at].opened.is_none() && self.step_state(*at).is_workable())
            .filter(|at| start != 0 || self.lab.steps[*at].needs.is_empty())
            .collect();
        for at in &opening {
            self.steps[*at].opened = Some(Opened { start, loot });
        }
        opening
    }

    pub(super) fn open_next(&mut self) -> Vec<Effect> {
        let opened = self.open(self.starts + 1);
        if opened.is_empty() {
            return Vec::new();
        }
        self.starts += 1;
        let steps = opened.iter().map(|at| self.lab.steps[*at].id.to_string()).collect();
        let start = Start {
            number: self.starts,
            steps,
        };
        let look = opened.into_iter().map(|at| Effect::Recheck(Topic::Step(at)));
        [Effect::PutAside { start }].into_iter().chain(look).collect()
    }

    pub(super) fn reset(&mut self) -> Vec<Effect> {
        self.epoch += 1;
        self.phase = Phase::Resetting;
        self.clear();
        vec![
            Effect::Record(Event::Reset),
            Effect::EndCaptures,
            Effect::Restore {
                epoch: self.epoch,
                to: Start::default(),
            },
        ]
    }

    pub(super) fn reset_step(&mut self, step: usize) -> Vec<Effect> {
        let (Some(to), Some(opened)) = (self.start_of(step), self.steps.get(step).and_then(|step| step.opened)) else {
            return Vec::new();
        };
        self.epoch += 1;
        self.phase = Phase::Resetting;
        self.deployed = false;
        self.back_to = Some(to.clone());
        self.loot.truncate(opened.loot);
        let dropped = self.lab.needing(step);
        for (at, progress) in self.steps.iter_mut().enumerate() {
            if let Some(opened) = &mut progress.opened {
                opened.loot = opened.loot.min(self.loot.len());
            }
            for check in &mut progress.checks {
                check.forget_live();
            }
            if dropped.contains(&at) {
                let plan = &self.lab.steps[at];
                *progress = StepProgress {
                    opened: progress.opened.filter(|_| at == step),
                    // What was paid for was read, and stays paid for.
                    hints: std::mem::take(&mut progress.hints)
                        .into_iter()
                        .filter(|hint| matches!(plan.hints.get(*hint).map(|hint| hint.opens), Some(Opens::Asked(_))))
                        .collect(),
                    ..untouched(plan)
                };
            }
        }
        vec![
            Effect::Record(Event::ResetStep { step }),
            Effect::EndCaptures,
            Effect::Restore { epoch: self.epoch, to },
        ]
    }
}

/// The progress in a step that nobody has worked on.
pub(super) fn untouched(step: &Step) -> StepProgress {
    StepProgress {
        checks: vec![CheckProgress::default(); step.checks.len()],
        ..StepProgress::default()
    }
}
