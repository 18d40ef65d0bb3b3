//! A queue of keys to reconcile: each key at most once in it, failures tried again with a growing pause.
//!
//! Source: client-go's rate-limited work queue.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::informer::Key;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Waiting {
    order: VecDeque<Key>,
    held: HashSet<Key>,
}

/// The queue; clones share it.
#[derive(Clone, Default)]
pub struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    added: Arc<Notify>,
}

impl Queue {
    /// Adds a key, unless it is waiting already.
    pub fn add(&self, key: Key) {
        let mut waiting = self.lock();
        if waiting.held.insert(key.clone()) {
            waiting.order.push_back(key);
            drop(waiting);
            self.added.notify_one();
        }
    }

    /// Adds a key after a while.
    pub fn add_after(&self, key: Key, pause: Duration) {
        let queue = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            queue.add(key);
        });
    }

    async fn next(&self) -> Key {
        loop {
            let added = self.added.notified();
            if let Some(key) = self.take() {
                return key;
            }
            added.await;
        }
    }

    fn take(&self) -> Option<Key> {
        let mut waiting = self.lock();
        let key = waiting.order.pop_front()?;
        waiting.held.remove(&key);
        Some(key)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reconciles keys, one after another, until `stop`. `Ok(Some(pause))` asks to see the key again after `pause`.
    pub async fn run<F, Fut>(self, controller: &'static str, stop: CancellationToken, reconcile: F)
    where
        F: Fn(Key) -> Fut,
        Fut: Future<Output = Result<Option<Duration>, kube::Error>>,
    {
        let mut failures: HashMap<Key, u32> = HashMap::new();
        loop {
            let key = tokio::select! {
                () = stop.cancelled() => return,
                key = self.next() => key,
            };
            match reconcile(key.clone()).await {
                Ok(again) => {
                    failures.remove(&key);
                    if let Some(pause) = again {
                        self.add_after(key, pause);
                    }
                }
                Err(error) => {
                    let count = failures.entry(key.clone()).or_default();
                    let pause = FIRST_PAUSE.saturating_mul(1 << (*count).min(20)).min(LONGEST_PAUSE);
                    *count += 1;
                    tracing::debug!(controller, %key, %error, ?pause, "tried again later");
                    self.add_after(key, pause);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_comes_back_after_a_failure() {
        let queue = Queue::default();
        let key = Key::new("default", "web");
        queue.add(key.clone());
        queue.add(key.clone());
        let stop = CancellationToken::new();
        let runs = Mutex::new(0);
        let not_found = || kube::Error::LinesCodecMaxLineLengthExceeded;
        queue
            .clone()
            .run("test", stop.clone(), |seen| {
                assert_eq!(seen, key);
                let mut runs = runs.lock().unwrap();
                *runs += 1;
                let result = if *runs == 1 { Err(not_found()) } else { Ok(None) };
                if *runs == 2 {
                    stop.cancel();
                }
                async move { result }
            })
            .await;
        assert_eq!(
            *runs.lock().unwrap(),
            2,
            "once for both adds, once more for the failure"
        );
    }
}
