//! The time, as something that is handed in: rotation is tested without waiting for it.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells the time of day.
pub trait Clock: Send + Sync + Debug {
    /// Seconds of the Unix epoch.
    fn now(&self) -> i64;
}

/// A clock that is shared by the parts of a program.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        }
    }
}

/// A clock that goes with tokio's, which tests pause and advance.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    start: tokio::time::Instant,
    base: i64,
}

#[cfg(test)]
impl TokioClock {
    /// A clock that shows `base` now.
    pub fn starting_at(base: i64) -> Self {
        Self {
            start: tokio::time::Instant::now(),
            base,
        }
    }
}

#[cfg(test)]
impl Clock for TokioClock {
    fn now(&self) -> i64 {
        self.base + i64::try_from(self.start.elapsed().as_secs()).unwrap_or(i64::MAX - self.base)
    }
}
