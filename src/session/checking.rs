//! When checks run: when the student asks, and when something they look at has changed.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::sync::Notify;

use super::{
    driver::Session,
    snapshot::Phase,
    state::{CheckProgress, Event},
    topics::{Topic, concerned},
    world::Sight,
};
use crate::{
    check,
    lab::{Check, CheckKind, Lab},
};

/// How long changes are collected before the checks run again.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// How long at most, when changes do not end.
const LONGEST: Duration = Duration::from_secs(2);

/// How long to wait before the next round: longer and longer while one change follows the other.
struct Pace {
    gap: Duration,
}

impl Pace {
    fn new() -> Self {
        Self { gap: DEBOUNCE }
    }

    /// The wait for a change that came so long after the last round ended.
    fn next(&mut self, quiet: Duration) -> Duration {
        self.gap = if quiet < self.gap * 2 {
            (self.gap * 2).min(LONGEST)
        } else {
            DEBOUNCE
        };
        self.gap
    }
}

/// Which rounds a check is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Those that take a moment.
    Quick,
    /// Those that measure the posture, which takes seconds, and up to a minute where SVIDs are watched until they rotate.
    Posture,
    /// Those that have passed: how things are now is shown, and changes nothing more.
    Passed,
}

impl Lane {
    pub(super) const ALL: [Self; 3] = [Self::Quick, Self::Posture, Self::Passed];
    /// Those that points depend on.
    pub(super) const OPEN: [Self; 2] = [Self::Quick, Self::Posture];

    fn of(check: &Check, progress: &CheckProgress) -> Self {
        match &check.kind {
            _ if progress.latched.is_some() => Self::Passed,
            CheckKind::Posture(_) => Self::Posture,
            _ => Self::Quick,
        }
    }
}

/// The rounds of a lane: one at a time, since an older judgement must not come after a newer one.
#[derive(Default)]
pub(super) struct Rounds {
    pub(super) recheck: Notify,
    pub(super) one: tokio::sync::Mutex<()>,
}

/// A check to run: its step's place, its own, and the student's answer.
type Job = (usize, usize, Option<String>);

impl Session {
    pub(super) async fn keep_checking(self: Arc<Self>, lane: Lane) {
        let mut pace = Pace::new();
        let mut ended: Option<Instant> = None;
        loop {
            self.rounds(lane).recheck.notified().await;
            let quiet = ended.map_or(LONGEST, |ended| ended.elapsed());
            tokio::time::sleep(pace.next(quiet)).await;
            loop {
                self.until(|| !self.core().withholds(lane)).await;
                if self.phase() != Phase::Ready {
                    break;
                }
                if self.check_changed(lane).await {
                    ended = Some(Instant::now());
                    break;
                }
            }
        }
    }

    /// From now on nothing is judged by itself that is half done: not before the actions of an attempt are over, which what
    /// they come to is judged by. Waits for the round that runs.
    pub(super) async fn withhold(self: &Arc<Self>) {
        self.core().half_done = true;
        drop(self.rounds(Lane::Quick).one.lock().await);
    }

    /// What there is tells something again.
    pub(super) fn release(&self) {
        self.core().half_done = false;
        self.touch();
    }

    pub(super) fn rounds(&self, lane: Lane) -> &Rounds {
        &self.lanes[lane as usize]
    }

    /// Runs the checks that look at what has changed since the last round; false where they have to wait.
    async fn check_changed(self: &Arc<Self>, lane: Lane) -> bool {
        let _round = self.rounds(lane).one.lock().await;
        if self.core().withholds(lane) {
            return false;
        }
        let changed = std::mem::take(&mut self.core().dirty[lane as usize]);
        let wanted = |step: usize, check: &Check, _: &CheckProgress| concerned(check, step, &changed);
        let (epoch, sight, jobs) = self.jobs(lane, wanted);
        self.round(epoch, &sight, jobs).await;
        true
    }

    /// Runs these checks of open steps now; how many they were.
    pub(super) async fn check_those(
        self: &Arc<Self>,
        lane: Lane,
        wanted: impl Fn(usize, &Check, &CheckProgress) -> bool,
    ) -> usize {
        let _round = self.rounds(lane).one.lock().await;
        let (epoch, sight, jobs) = self.jobs(lane, wanted);
        let count = jobs.len();
        self.round(epoch, &sight, jobs).await;
        count
    }

    /// Runs the checks of one step, or of every step that is not locked, and of those that open because of it.
    pub async fn check(self: &Arc<Self>, only: Option<usize>) {
        self.check_in(&Lane::ALL, only).await;
    }

    /// The student asks for checks: a hint that waits for a failure may open at one that was there from the beginning.
    pub(super) fn ask(&self, only: Option<usize>) {
        self.core().state.ask(only);
    }

    /// The same without those that have passed already.
    pub(super) async fn check_open(self: &Arc<Self>, step: usize) {
        self.check_in(&Lane::OPEN, Some(step)).await;
    }

    async fn check_in(self: &Arc<Self>, lanes: &[Lane], only: Option<usize>) {
        let mut done = BTreeSet::new();
        loop {
            let before = done.len();
            for lane in lanes {
                self.check_lane(*lane, only, &mut done).await;
            }
            if done.len() == before {
                return;
            }
        }
    }

    async fn check_lane(self: &Arc<Self>, lane: Lane, only: Option<usize>, done: &mut BTreeSet<(Lane, usize)>) {
        let _round = self.rounds(lane).one.lock().await;
        loop {
            let wanted = |step: usize, _: &Check, _: &CheckProgress| {
                only.is_none_or(|only| only == step) && !done.contains(&(lane, step))
            };
            let (epoch, sight, jobs) = self.jobs(lane, wanted);
            if jobs.is_empty() {
                return;
            }
            done.extend(jobs.iter().map(|(step, ..)| (lane, *step)));
            self.round(epoch, &sight, jobs).await;
        }
    }

    /// Gathers and judges; what a reset or a rest overtakes is dropped.
    async fn round(self: &Arc<Self>, epoch: u64, sight: &Sight, jobs: Vec<Job>) {
        let lab = self.lab();
        let judging = join_all(jobs.iter().map(async |(step, check, given)| {
            let plan: &Check = &lab.steps[*step].checks[*check];
            let evidence = self.world().gather(sight, plan, given.clone()).await;
            (*step, *check, check::judge(plan, &evidence))
        }));
        let overtaken = || {
            let core = self.core();
            core.state.epoch() != epoch || *core.state.phase() != Phase::Ready
        };
        let judged = tokio::select! {
            judged = judging => judged,
            () = self.until(overtaken) => return,
        };
        for (step, check, judgement) in judged {
            self.feed(&Event::Judged {
                epoch,
                step,
                check,
                judgement,
            });
        }
    }

    /// The checks of a lane to run, and what they are run on.
    fn jobs(&self, lane: Lane, wanted: impl Fn(usize, &Check, &CheckProgress) -> bool) -> (u64, Sight, Vec<Job>) {
        let core = self.core();
        let state = &core.state;
        let lab: &Lab = self.lab();
        let open = (0..state.steps().len()).filter(|step| state.step_state(*step).is_workable());
        let jobs = open
            .flat_map(|step| {
                let progress = state.steps()[step].checks.iter();
                let checks = lab.steps[step].checks.iter().zip(progress).enumerate();
                checks
                    .filter(|(_, (check, progress))| Lane::of(check, progress) == lane && wanted(step, check, progress))
                    .map(|(at, (_, progress))| (step, at, progress.answer.clone()))
                    .collect::<Vec<_>>()
            })
            .collect();
        let sight = Sight {
            seen: Arc::new(core.captures.evidence()),
            loot: state.loot().into(),
            posture: Arc::default(),
        };
        (state.epoch(), sight, jobs)
    }

    /// Says that something the checks look at has changed.
    pub(super) fn changed(self: &Arc<Self>, topic: Topic) {
        self.feed(&Event::Changed(topic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_slows_the_rounds_down_and_quiet_makes_them_quick_again() {
        let mut pace = Pace::new();
        let ms = Duration::from_millis;
        assert_eq!(pace.next(LONGEST), DEBOUNCE);
        let waits: Vec<Duration> = (0..6).map(|_| pace.next(ms(0))).collect();
        assert_eq!(waits, [ms(300), ms(600), ms(1200), LONGEST, LONGEST, LONGEST]);
        assert_eq!(pace.next(ms(3999)), LONGEST);
        assert_eq!(pace.next(ms(4000)), DEBOUNCE);
        // Traffic tells once a second: that is no storm.
        assert_eq!(pace.next(ms(1000)), DEBOUNCE);
    }
}
