//! How long a student has worked on a lab: while it is ready, not while it rests or nothing runs. Pure.

use super::state::Event;

/// Counts the student's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    before_ms: u64,
    since_ms: Option<u64>,
    /// Whether a reset is under way: the lab becomes ready again, and the time goes on.
    resetting: bool,
}

impl Clock {
    /// A clock that stands, with so much on it.
    pub fn after(before_ms: u64) -> Self {
        Self {
            before_ms,
            ..Self::default()
        }
    }

    /// Takes in an event that was recorded, and when.
    pub fn see(&mut self, event: &Event, at_ms: u64) {
        match event {
            Event::Deployed { .. } => {
                self.since_ms.get_or_insert(at_ms);
                self.resetting = false;
            }
            Event::Reset | Event::ResetStep { .. } => self.resetting = true,
            Event::Paused | Event::Stopping => self.stop(at_ms),
            _ => {}
        }
    }

    fn stop(&mut self, at_ms: u64) {
        if let Some(since) = self.since_ms.take() {
            self.before_ms += at_ms.saturating_sub(since);
        }
    }

    /// What it shows, in milliseconds.
    pub fn spent(&self, now_ms: u64) -> u64 {
        let running = self.since_ms.map_or(0, |since| now_ms.saturating_sub(since));
        self.before_ms + running
    }

    /// What the events of a journal that nobody writes to any more come to, each with its time. What ended without a
    /// word is counted up to the last thing that was written down.
    pub fn of<'a>(lines: impl IntoIterator<Item = (u64, &'a Event)>) -> u64 {
        let mut clock = Self::default();
        let mut last = 0;
        for (at_ms, event) in lines {
            if matches!(event, Event::Deployed { .. }) && !clock.resetting {
                // It was running already: whoever ran it did not say goodbye.
                clock.stop(last);
            }
            clock.see(event, at_ms);
            last = at_ms;
        }
        clock.spent(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Event = Event::Deployed { epoch: 0 };
    const SOLVED: Event = Event::Solved { step: 0 };

    #[test]
    fn time_counts_while_the_lab_is_ready() {
        for (lines, expected, why) in [
            (&[][..], 0, "nothing happened"),
            (&[(10, READY), (30, SOLVED), (50, Event::Stopping)], 40, "one sitting"),
            (
                &[
                    (10, READY),
                    (20, Event::Paused),
                    (90, Event::Resumed),
                    (100, READY),
                    (130, SOLVED),
                ],
                40,
                "a rest does not count",
            ),
            (
                &[(10, READY), (20, Event::Reset), (25, READY), (30, Event::Stopping)],
                20,
                "a reset does",
            ),
            (
                &[(10, READY), (20, SOLVED), (900, READY), (910, Event::Stopping)],
                20,
                "after a crash the time is as far as it was written down",
            ),
        ] {
            assert_eq!(
                Clock::of(lines.iter().map(|(at, event)| (*at, event))),
                expected,
                "{why}"
            );
        }
    }

    #[test]
    fn a_running_clock_shows_the_time_before() {
        let mut clock = Clock::after(7);
        assert_eq!(clock.spent(100), 7);
        clock.see(&READY, 100);
        assert_eq!(clock.spent(103), 10);
        clock.see(&Event::Paused, 105);
        assert_eq!(clock.spent(999), 12);
    }
}
