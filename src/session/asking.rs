//! Looks that nothing calls for: what a program in a pod prints, and whether SVIDs rotate, can change while no object and no
//! file does. As long as a face shows the session, the checks of open steps that look at such a thing, and are not passed,
//! run again by themselves: soon after something happened, then less and less often, and never for more than a small part of
//! the time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    checking::Lane,
    driver::Session,
    snapshot::Phase,
    state::{CheckProgress, Event},
    topics::Topic,
};
use crate::lab::{Check, CheckKind, PostureCheck};

/// How often it is asked whether a look is due.
const TICK: Duration = Duration::from_millis(500);
/// How long after a sign that somebody does something a look is due.
const SOON: Duration = Duration::from_secs(2);
/// The longest time between two looks.
const SELDOM: Duration = Duration::from_secs(15);
/// What a look may take of the time: this part.
const SHARE: u32 = 10;
/// Between two measurements of the posture, at the least: each opens a connection between all workloads.
const MEASURED: Duration = Duration::from_secs(10);

/// Whether an event may be something that somebody did: traffic that goes on by itself is none, nor what a look found.
pub(super) fn is_sign(event: &Event) -> bool {
    match event {
        Event::Changed(topic) => !matches!(topic, Topic::Calls(_) | Topic::Traffic | Topic::Loot),
        Event::Judged { .. } | Event::Looted { .. } => false,
        _ => true,
    }
}

/// Whether what a check looks at can change and nothing tell of it.
fn is_silent(check: &Check) -> bool {
    matches!(
        check.kind,
        CheckKind::Exec(_) | CheckKind::Posture(PostureCheck::Level(_))
    )
}

/// When the next look is due. Pure.
struct Turns {
    gap: Duration,
    rest: Duration,
    ended: Option<Instant>,
}

impl Turns {
    fn new() -> Self {
        Self {
            gap: SOON,
            rest: Duration::ZERO,
            ended: None,
        }
    }

    fn due(&mut self, now: Instant, sign: bool) -> bool {
        if sign {
            self.gap = SOON;
        }
        let ended = *self.ended.get_or_insert(now);
        now.saturating_duration_since(ended) >= self.gap.max(self.rest)
    }

    /// A look ended that found something to look at.
    fn looked(&mut self, now: Instant, rest: Duration) {
        self.rest = rest;
        self.gap = (self.gap * 2).min(SELDOM);
        self.ended = Some(now);
    }
}

impl Session {
    /// Notes that somebody may have done something.
    pub(super) fn sign(&self) {
        self.signs.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks again and again at what tells of no change, while `shown`.
    pub(super) async fn keep_asking(self: Arc<Self>, lane: Lane, shown: impl Fn() -> bool + Send) {
        let mut turns = Turns::new();
        let mut known = 0;
        loop {
            tokio::time::sleep(TICK).await;
            if self.phase() != Phase::Ready || !shown() {
                continue;
            }
            let signs = self.signs.load(Ordering::Relaxed);
            if !turns.due(Instant::now(), signs != known) {
                continue;
            }
            known = signs;
            let began = Instant::now();
            let wanted =
                |_: usize, check: &Check, progress: &CheckProgress| progress.latched.is_none() && is_silent(check);
            if self.check_those(lane, wanted).await == 0 {
                continue;
            }
            let rest = match lane {
                Lane::Quick => began.elapsed() * SHARE,
                Lane::Posture | Lane::Passed => MEASURED,
            };
            turns.looked(Instant::now(), rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_soon_after_a_sign_and_then_seldom() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut turns = Turns::new();
        let mut looks = Vec::new();
        let mut at = Duration::ZERO;
        while at < Duration::from_secs(60) {
            // Somebody does something after 40 s.
            if turns.due(start + at, at == ms(40_000)) {
                looks.push(at.as_secs());
                turns.looked(start + at, ms(50) * SHARE);
            }
            at += TICK;
        }
        assert_eq!(looks, [2, 6, 14, 29, 40, 44, 52]);
    }

    #[test]
    fn a_long_look_is_followed_by_a_long_rest() {
        let start = Instant::now();
        let mut turns = Turns::new();
        turns.looked(start, Duration::from_secs(3) * SHARE);
        assert!(!turns.due(start + Duration::from_secs(29), true));
        assert!(turns.due(start + Duration::from_secs(30), false));
    }
}
