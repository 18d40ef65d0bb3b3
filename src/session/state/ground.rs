//! What the ground of a session cannot do, and what becomes of the steps that need it.

use std::collections::BTreeMap;

use super::{Effect, Event, State};
use crate::{score::Points, session::snapshot::NoticeLevel};

/// What is known of the ground.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ground {
    /// What it lacks, each with what shows that; `None` before it was looked for. A reset changes nothing about it.
    lacking: Option<BTreeMap<String, String>>,
}

impl State {
    /// Whether what steps need of the ground was looked for.
    pub fn is_measured(&self) -> bool {
        self.ground.lacking.is_some()
    }

    /// Why a step is not possible on this ground; `None` for one that is, as far as is known.
    pub fn impossible(&self, step: usize) -> Option<&str> {
        let lacking = self.ground.lacking.as_ref()?;
        let needed = &self.lab.steps.get(step)?.capabilities;
        let why = needed.iter().find_map(|capability| lacking.get(capability.as_str()));
        why.map(String::as_str)
    }

    /// Points that can be had on this ground.
    pub(super) fn possible(&self) -> Points {
        let steps = self.lab.steps.iter().enumerate();
        let possible = steps.filter(|(at, _)| self.impossible(*at).is_none());
        possible.map(|(_, step)| step.points).sum()
    }

    /// Whether a step keeps no other one closed: it is passed, or not possible here and would be open. What it needs must be
    /// passed all the same.
    pub(super) fn is_behind(&self, step: usize) -> bool {
        let needs = &self.lab.steps[step].needs;
        self.passed(step) || (self.impossible(step).is_some() && needs.iter().all(|need| self.is_behind(*need)))
    }

    pub(super) fn measured(&mut self, lacking: &BTreeMap<String, String>) -> Vec<Effect> {
        self.ground.lacking = Some(lacking.clone());
        let event = Event::Measured {
            lacking: lacking.clone(),
        };
        let told = (0..self.steps.len()).filter_map(|at| {
            let why = self.impossible(at)?;
            let text = format!("the step {} is not possible here: {why}", self.lab.steps[at].id);
            Some(Effect::Notify(NoticeLevel::Info, text))
        });
        [Effect::Record(event)].into_iter().chain(told).collect()
    }
}
