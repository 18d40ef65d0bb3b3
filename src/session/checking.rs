//! When checks run: when the student asks, and when something they look at has changed.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::{
    driver::Session,
    snapshot::{Phase, StepState},
    state::Event,
    topics::{Topic, concerned},
    world::Sight,
};
use crate::{
    check,
    lab::{Check, Lab},
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

/// A check to run: its step's place, its own, and the student's answer.
type Job = (usize, usize, Option<String>);

impl Session {
    pub(super) async fn keep_checking(self: Arc<Self>) {
        let mut pace = Pace::new();
        let mut ended: Option<Instant> = None;
        loop {
            self.recheck.notified().await;
            let quiet = ended.map_or(LONGEST, |ended| ended.elapsed());
            tokio::time::sleep(pace.next(quiet)).await;
            if self.phase() == Phase::Ready {
                self.check_changed().await;
                ended = Some(Instant::now());
            }
        }
    }

    /// Runs the checks that look at what has changed since the last round.
    async fn check_changed(self: &Arc<Self>) {
        let _round = self.checking.lock().await;
        let changed = std::mem::take(&mut self.core().dirty);
        let wanted = |step: usize, check: &Check| concerned(check, step, &changed);
        let (epoch, sight, jobs) = self.jobs(wanted);
        self.round(epoch, &sight, jobs).await;
    }

    /// Runs the checks of one step, or of every step that is not locked, and of those that open because of it.
    pub async fn check(self: &Arc<Self>, only: Option<usize>) {
        // One round at a time: an older judgement must not come after a newer one.
        let _round = self.checking.lock().await;
        let mut done: BTreeSet<usize> = BTreeSet::new();
        loop {
            let wanted = |step: usize, _: &Check| only.is_none_or(|only| only == step) && !done.contains(&step);
            let (epoch, sight, jobs) = self.jobs(wanted);
            if jobs.is_empty() {
                return;
            }
            done.extend(jobs.iter().map(|(step, ..)| *step));
            self.round(epoch, &sight, jobs).await;
        }
    }

    async fn round(self: &Arc<Self>, epoch: u64, sight: &Sight, jobs: Vec<Job>) {
        let lab = self.lab();
        let judged = join_all(jobs.iter().map(async |(step, check, given)| {
            let plan: &Check = &lab.steps[*step].checks[*check];
            let evidence = self.world().gather(sight, plan, given.clone()).await;
            (*step, *check, check::judge(plan, &evidence))
        }))
        .await;
        for (step, check, judgement) in judged {
            self.feed(&Event::Judged {
                epoch,
                step,
                check,
                judgement,
            });
        }
    }

    /// The checks to run, and what they are run on.
    fn jobs(&self, wanted: impl Fn(usize, &Check) -> bool) -> (u64, Sight, Vec<Job>) {
        let core = self.core();
        let state = &core.state;
        let lab: &Lab = self.lab();
        let open = (0..state.steps().len()).filter(|step| state.step_state(*step) != StepState::Locked);
        let jobs = open
            .flat_map(|step| {
                let progress = state.steps()[step].checks.iter();
                let checks = lab.steps[step].checks.iter().zip(progress).enumerate();
                checks
                    .filter(|(_, (check, _))| wanted(step, check))
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
