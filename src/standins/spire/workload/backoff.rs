//! How long is waited before the agent is asked again.

use std::time::Duration;

use rand::Rng;

/// The first wait: a pod and its identity come at almost the same time.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest wait, which an agent that comes back is noticed within.
const LONGEST: Duration = Duration::from_secs(5);

/// Longer and longer waits, each cut by chance, so that the workloads of a node do not all ask at once.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Backoff(SHORTEST)
    }
}

impl Backoff {
    pub(super) async fn wait(&mut self) {
        let wait = self.step(rand::rng().random_range(0.5..1.0));
        tokio::time::sleep(wait).await;
    }

    fn step(&mut self, share: f64) -> Duration {
        let wait = self.0.mul_f64(share);
        self.0 = (self.0 * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_longer_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.step(1.0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(Backoff::default().step(0.5).as_millis(), 25);
    }
}
