//! The session as a state machine: events in, effects out. Pure: no clock, no I/O.

mod event;
mod ground;
mod starts;

use std::sync::Arc;

pub use event::{Effect, Event, Start};
use ground::Ground;
use starts::{Opened, untouched};

use crate::{
    check::Loot,
    lab::{CheckKind, Lab, Opens},
    score::{Points, Score, earned},
    session::{
        snapshot::{NoticeLevel, Phase, StepState},
        topics::Topic,
    },
    verdict::{Finding, Judgement, Verdict},
};

/// The most secrets a session remembers.
const MOST_LOOT: usize = 64;

/// One student's progress through one lab.
#[derive(Clone, Debug)]
pub struct State {
    lab: Arc<Lab>,
    epoch: u64,
    phase: Phase,
    deployed: bool,
    paused: bool,
    /// The moment to go back to before the student can work, where that was not the start of the lab.
    back_to: Option<Start>,
    starts: u32,
    ground: Ground,
    steps: Vec<StepProgress>,
    loot: Vec<Loot>,
}

/// Progress in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepProgress {
    opened: Option<Opened>,
    /// Places of the hints that are open, in the order they were opened.
    pub hints: Vec<usize>,
    /// Whether ztlab ran the solution.
    pub solved: bool,
    /// The checks.
    pub checks: Vec<CheckProgress>,
}

/// Progress in one check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckProgress {
    /// The student's answer.
    pub answer: Option<String>,
    /// The judgement it passed with.
    pub latched: Option<Judgement>,
    /// The last judgement.
    pub live: Option<Judgement>,
    /// What was found first, before anything was done about it.
    first: Option<Finding>,
    /// Whether the student has asked for it to run.
    pub(super) asked: bool,
}

impl CheckProgress {
    /// Forgets what only this life of the session knows.
    fn forget_live(&mut self) {
        (self.live, self.first, self.asked) = (None, None, false);
    }

    /// Whether a failure tells something about what the student did: one that was there before does not, nor one that says
    /// that something was not done yet, until asked for.
    fn tells(&self, finding: Finding) -> bool {
        self.asked || !finding.says_not_yet() && self.first.is_some_and(|first| first != finding)
    }

    /// Whether it was judged to fail, the last time.
    pub fn failed(&self) -> bool {
        let live = self.live.as_ref();
        live.is_some_and(|judgement| judgement.verdict == Verdict::Failed)
    }
}

/// What survives a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    epoch: u64,
    deployed: bool,
    paused: bool,
    back_to: Option<Start>,
    starts: u32,
    ground: Ground,
    steps: Vec<StepProgress>,
    loot: Vec<Loot>,
}

impl State {
    /// A session that has just begun.
    pub fn new(lab: Arc<Lab>) -> Self {
        let mut state = Self {
            lab,
            epoch: 0,
            phase: Phase::Starting,
            deployed: false,
            paused: false,
            back_to: None,
            starts: 0,
            ground: Ground::default(),
            steps: Vec::new(),
            loot: Vec::new(),
        };
        state.clear();
        state
    }

    fn clear(&mut self) {
        self.deployed = false;
        self.back_to = None;
        self.loot.clear();
        self.steps = self.lab.steps.iter().map(untouched).collect();
    }

    /// The lab.
    pub fn lab(&self) -> &Arc<Lab> {
        &self.lab
    }

    /// Grows with every reset; results of an earlier epoch are dropped.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What the session is doing.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether the lab was deployed in this epoch.
    pub fn deployed(&self) -> bool {
        self.deployed
    }

    /// Progress, step by step.
    pub fn steps(&self) -> &[StepProgress] {
        &self.steps
    }

    /// The secrets found since the last reset.
    pub fn loot(&self) -> &[Loot] {
        &self.loot
    }

    /// What survives a crash: live judgements and the phase do not.
    pub fn durable(&self) -> Durable {
        let mut steps = self.steps.clone();
        for check in steps.iter_mut().flat_map(|step| &mut step.checks) {
            check.forget_live();
        }
        Durable {
            epoch: self.epoch,
            deployed: self.deployed,
            paused: self.paused,
            back_to: self.back_to.clone(),
            starts: self.starts,
            ground: self.ground.clone(),
            steps,
            loot: self.loot.clone(),
        }
    }

    /// Whether the student rests.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Whether every check of a step has passed.
    pub fn passed(&self, step: usize) -> bool {
        self.steps[step].checks.iter().all(|check| check.latched.is_some())
    }

    /// Whether a step can be worked on.
    pub fn step_state(&self, step: usize) -> StepState {
        if self.passed(step) {
            StepState::Passed
        } else if self.impossible(step).is_some() {
            StepState::Impossible
        } else if self.lab.steps[step].needs.iter().all(|need| self.is_behind(*need)) {
            StepState::Open
        } else {
            StepState::Locked
        }
    }

    /// Points of a step, hints paid for.
    pub fn earned(&self, step: usize) -> Points {
        let (plan, progress) = (&self.lab.steps[step], &self.steps[step]);
        let checks = plan.checks.iter().zip(&progress.checks);
        let passed = checks.map(|(check, progress)| (check.weight, progress.latched.is_some()));
        earned(plan.points, passed).less(self.cost(step))
    }

    fn cost(&self, step: usize) -> Points {
        let cost = |hint: &usize| match self.lab.steps[step].hints.get(*hint).map(|hint| hint.opens) {
            Some(Opens::Asked(points)) => points,
            _ => Points(0),
        };
        self.steps[step].hints.iter().map(cost).sum()
    }

    /// Points of the lab.
    pub fn score(&self) -> Score {
        Score {
            earned: (0..self.steps.len()).map(|step| self.earned(step)).sum(),
            possible: self.possible(),
        }
    }

    /// The next hint of a step that can be asked for, and its cost.
    pub fn next_hint(&self, step: usize) -> Option<(usize, Points)> {
        let open = &self.steps[step].hints;
        self.lab.steps[step]
            .hints
            .iter()
            .enumerate()
            .find_map(|(index, hint)| match hint.opens {
                Opens::Asked(cost) if !open.contains(&index) => Some((index, cost)),
                _ => None,
            })
    }

    /// Takes an event in. Events that name what the lab does not have, or an epoch that is over, change nothing.
    pub fn apply(&mut self, event: &Event) -> Vec<Effect> {
        match event {
            Event::Deployed { epoch } => self.deploy(*epoch),
            Event::Failed { epoch, why } if *epoch == self.epoch => {
                self.phase = Phase::Failed(why.clone());
                vec![Effect::Notify(NoticeLevel::Error, why.clone())]
            }
            Event::Failed { .. } => Vec::new(),
            Event::Measured { lacking } => self.measured(lacking),
            Event::Reset => self.reset(),
            Event::ResetStep { step } => self.reset_step(*step),
            Event::Answered { step, check, value } => self.answer(*step, *check, value),
            Event::HintOpened { step, hint } => self.open_hint(*step, *hint),
            Event::Judged {
                epoch,
                step,
                check,
                judgement,
            } if *epoch == self.epoch => self.judged(*step, *check, judgement),
            Event::Judged { .. } => Vec::new(),
            Event::Looted { epoch, loot } => self.looted(*epoch, loot),
            Event::Solved { step } => self.solved(*step),
            Event::Changed(topic) if self.phase == Phase::Ready => vec![Effect::Recheck(topic.clone())],
            Event::Changed(_) => Vec::new(),
            Event::Paused => {
                self.paused = true;
                self.phase = Phase::Paused;
                vec![Effect::Record(Event::Paused), Effect::EndCaptures]
            }
            Event::Resumed => {
                self.paused = false;
                self.phase = Phase::Starting;
                vec![Effect::Record(Event::Resumed)]
            }
            Event::Stopping => {
                self.phase = Phase::Stopping;
                vec![Effect::Record(Event::Stopping), Effect::EndCaptures]
            }
        }
    }

    /// After a replay, and before trying again: the world is yet to be made, unless the student rests.
    pub fn restart(&mut self) {
        self.phase = if self.paused { Phase::Paused } else { Phase::Starting };
    }

    fn deploy(&mut self, epoch: u64) -> Vec<Effect> {
        if epoch != self.epoch {
            return Vec::new();
        }
        self.phase = Phase::Ready;
        self.deployed = true;
        self.back_to = None;
        // Recorded each time: from here on the student's time counts.
        let mut effects = vec![Effect::Record(Event::Deployed { epoch }), Effect::Recheck(Topic::All)];
        // What needs nothing was opened when the lab began: its start is there, or is made again from the manifests.
        self.open(0);
        effects.extend(self.open_next());
        effects
    }

    fn check_at(&mut self, step: usize, check: usize) -> Option<&mut CheckProgress> {
        self.steps.get_mut(step)?.checks.get_mut(check)
    }

    fn answer(&mut self, step: usize, check: usize, value: &str) -> Vec<Effect> {
        let plan = self.lab.steps.get(step).and_then(|step| step.checks.get(check));
        if !plan.is_some_and(|check| matches!(check.kind, CheckKind::Question(_))) {
            return Vec::new();
        }
        let Some(progress) = self.check_at(step, check) else {
            return Vec::new();
        };
        progress.answer = Some(value.to_owned());
        let event = Event::Answered {
            step,
            check,
            value: value.to_owned(),
        };
        vec![Effect::Record(event), Effect::Recheck(Topic::Answers)]
    }

    fn open_hint(&mut self, step: usize, hint: usize) -> Vec<Effect> {
        let exists = self.lab.steps.get(step).is_some_and(|step| hint < step.hints.len());
        match self.steps.get_mut(step) {
            Some(progress) if exists && !progress.hints.contains(&hint) => {
                progress.hints.push(hint);
                vec![Effect::Record(Event::HintOpened { step, hint })]
            }
            _ => Vec::new(),
        }
    }

    /// The student asks for the checks of a step, or of all that can be worked on: from here on what they find opens hints.
    pub fn ask(&mut self, only: Option<usize>) {
        for at in 0..self.steps.len() {
            if only.is_none_or(|only| only == at) && self.step_state(at).is_workable() {
                self.steps[at].checks.iter_mut().for_each(|check| check.asked = true);
            }
        }
    }

    fn judged(&mut self, step: usize, check: usize, judgement: &Judgement) -> Vec<Effect> {
        let epoch = self.epoch;
        let locked = step >= self.steps.len() || !self.step_state(step).is_workable();
        let Some(progress) = self.check_at(step, check).filter(|_| !locked) else {
            return Vec::new();
        };
        progress.live = Some(judgement.clone());
        progress.first.get_or_insert(judgement.finding);
        if progress.latched.is_some() {
            return Vec::new();
        }
        if !judgement.passed() {
            return match progress.tells(judgement.finding) {
                true => self.opens_by_itself(step, check, judgement),
                false => Vec::new(),
            };
        }
        progress.latched = Some(judgement.clone());
        let plan = Arc::clone(&self.lab);
        let plan = &plan.steps[step];
        let mut effects = vec![
            Effect::Record(Event::Judged {
                epoch,
                step,
                check,
                judgement: judgement.clone(),
            }),
            Effect::Notify(NoticeLevel::Success, format!("passed: {}", plan.checks[check].name)),
        ];
        if self.passed(step) {
            let points = self.earned(step);
            let text = format!("step passed: {} ({points} of {} points)", plan.title, plan.points);
            effects.push(Effect::Notify(NoticeLevel::Success, text));
            // Steps that waited for this one can be looked at now.
            effects.extend(self.open_next());
        }
        effects
    }

    fn opens_by_itself(&mut self, step: usize, check: usize, judgement: &Judgement) -> Vec<Effect> {
        let was_asked = self.steps[step].checks[check].asked;
        let hints = &self.lab.steps[step].hints;
        let meets = |opens: Opens| match opens {
            Opens::When {
                check: at,
                finding,
                asked,
            } => at == check && finding == judgement.finding && (was_asked || !asked),
            Opens::Asked(_) => false,
        };
        let opening: Vec<usize> = hints
            .iter()
            .enumerate()
            .filter(|(_, hint)| meets(hint.opens))
            .map(|(index, _)| index)
            .collect();
        opening
            .into_iter()
            .flat_map(|hint| self.open_hint(step, hint))
            .collect()
    }

    fn looted(&mut self, epoch: u64, loot: &Loot) -> Vec<Effect> {
        if epoch != self.epoch || self.loot.len() >= MOST_LOOT || self.loot.iter().any(|known| known.same(loot)) {
            return Vec::new();
        }
        self.loot.push(loot.clone());
        let text = format!(
            "a {} crossed the network in clear, {} → {}",
            loot.kind, loot.from, loot.to
        );
        vec![
            Effect::Record(Event::Looted {
                epoch,
                loot: loot.clone(),
            }),
            Effect::Notify(NoticeLevel::Info, text),
            Effect::Recheck(Topic::Loot),
        ]
    }

    fn solved(&mut self, step: usize) -> Vec<Effect> {
        match self.steps.get_mut(step) {
            Some(progress) if !progress.solved => {
                progress.solved = true;
                vec![Effect::Record(Event::Solved { step })]
            }
            _ => Vec::new(),
        }
    }
}
