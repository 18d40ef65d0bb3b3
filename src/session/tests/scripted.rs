//! A world in which everything is as a test says.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        state::Start,
        topics::Topic,
        world::{self, Changes, Listening, Notes, Ran, Restored, Sight, World, WorldError},
    },
    loot,
};
use crate::{
    check::Evidence,
    cluster::{Progress, ProgressEvent},
    lab::{Capability, Check, CheckKind, Deed, Fill, Lab, Source},
};

/// A world in which everything is as the test says.
#[derive(Default)]
pub struct Scripted {
    pub deployed: AtomicU32,
    pub restored: AtomicU32,
    /// The numbers of the moments that were put aside, and of those gone back to.
    pub put_aside: Mutex<Vec<u32>>,
    pub put_back: Mutex<Vec<u32>>,
    /// Whether the cluster has no copies of moments.
    pub forgets: AtomicBool,
    /// Whether what was captured is what a right answer is compared with.
    pub passes_questions: AtomicBool,
    pub paused: AtomicU32,
    /// How often each check was gathered for, by its name.
    pub gathered: Mutex<BTreeMap<String, usize>>,
    /// The check that gathering waits for, while `watch` is held by a test.
    pub watched: Mutex<Option<String>>,
    pub watch: tokio::sync::Mutex<()>,
    /// While it is held by a test, what is done does not come to an end.
    pub hands: tokio::sync::Mutex<()>,
    /// While it is held by a test, gathering waits.
    pub gate: tokio::sync::Mutex<()>,
    pub fails: Mutex<Option<String>>,
    pub as_is: Mutex<Vec<bool>>,
    /// What is gathered for a check, by its name, one after the other; the last again and again.
    pub finds: Mutex<BTreeMap<String, Vec<Evidence>>>,
    /// What every other check finds from now on.
    pub passes: Mutex<bool>,
    /// Whether the cluster has died; deploying makes it anew.
    pub dead: Mutex<bool>,
    /// What the ground lacks, and how often that was asked.
    pub lacking: Mutex<BTreeMap<String, String>>,
    pub measured: AtomicU32,
    /// How many changes the session has taken in.
    pub delivered: Arc<AtomicU32>,
    /// What has changed so far.
    pub changed: watch::Sender<Vec<Topic>>,
}

impl Scripted {
    pub fn change(&self, topic: Topic) {
        self.changed.send_modify(|all| all.push(topic));
    }

    /// How often each check was gathered for since the last time this was asked.
    pub fn gathered(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.gathered.lock().unwrap())
    }

    fn outcome(&self) -> Result<(), WorldError> {
        match self.fails.lock().unwrap().take() {
            Some(why) => Err(WorldError::new(why).hint("mend it")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl World for Scripted {
    async fn deploy(&self, _: &Lab, as_is: bool, progress: &Progress) -> Result<Notes, WorldError> {
        self.deployed.fetch_add(1, Ordering::SeqCst);
        self.as_is.lock().unwrap().push(as_is);
        *self.dead.lock().unwrap() = false;
        progress(ProgressEvent {
            phase: "deploy".to_owned(),
            done: 0,
            total: 1,
            detail: String::new(),
        });
        self.outcome().map(|()| Vec::new())
    }

    async fn put_aside(&self, _: &Lab, start: &Start, in_use: &BTreeSet<u32>) -> Result<(), WorldError> {
        assert!(in_use.contains(&start.number), "{start:?}");
        self.put_aside.lock().unwrap().push(start.number);
        Ok(())
    }

    async fn restore(&self, _: &Lab, to: &Start, _: &Progress) -> Result<Restored, WorldError> {
        self.restored.fetch_add(1, Ordering::SeqCst);
        self.put_back.lock().unwrap().push(to.number);
        *self.passes.lock().unwrap() = false;
        let exact = to.number == 0 || !self.forgets.load(Ordering::SeqCst);
        self.outcome().map(|()| Restored {
            exact,
            notes: Vec::new(),
        })
    }

    async fn pause(&self) -> Result<bool, WorldError> {
        self.paused.fetch_add(1, Ordering::SeqCst);
        Ok(true)
    }

    async fn end(&self, _: &Lab, _: bool) -> Result<(), WorldError> {
        Ok(())
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        None
    }

    async fn answers(&self) -> bool {
        !*self.dead.lock().unwrap()
    }

    async fn gather(&self, sight: &Sight, check: &Check, given: Option<String>) -> Evidence {
        *self.gathered.lock().unwrap().entry(check.name.clone()).or_default() += 1;
        drop(self.gate.lock().await);
        if self.watched.lock().unwrap().as_ref() == Some(&check.name) {
            drop(self.watch.lock().await);
        }
        if let Some(finds) = self.finds.lock().unwrap().get_mut(&check.name) {
            let next = finds[0].clone();
            if finds.len() > 1 {
                finds.remove(0);
            }
            return next;
        }
        if let CheckKind::Question(_) = &check.kind {
            return Evidence::Answer {
                given,
                posture: None,
                loot: if self.passes_questions.load(Ordering::SeqCst) {
                    vec![loot("4111111111111111".to_owned())].into()
                } else {
                    sight.loot.clone()
                },
            };
        }
        if !*self.passes.lock().unwrap() {
            return Evidence::Unavailable("nothing yet".to_owned());
        }
        Evidence::Capture {
            seen: sight.seen.clone(),
            loot: vec![loot("4111111111111111".to_owned())].into(),
        }
    }

    async fn capture(&self, _: &str, _: Option<String>) -> Result<Listening, WorldError> {
        let end = CancellationToken::new();
        Ok(Listening {
            pod: "payments-api-1".to_owned(),
            events: Box::pin(futures::stream::pending().take_until(end.clone().cancelled_owned())),
            end,
        })
    }

    async fn exec(&self, _: &Source, _: Option<&str>, _: &[String]) -> Result<Ran, WorldError> {
        Ok(Ran {
            code: 0,
            output: String::new(),
        })
    }

    async fn perform(&self, _: &Lab, _: &Deed) -> Result<(), WorldError> {
        drop(self.hands.lock().await);
        Ok(())
    }

    async fn fill(&self, fill: &Fill) -> Result<String, WorldError> {
        Err(WorldError::new(format!("nothing stands for {fill:?}")))
    }

    async fn lacks(
        &self,
        _: &Lab,
        wanted: &[Capability],
        _: &Progress,
    ) -> Result<BTreeMap<String, String>, WorldError> {
        assert!(!wanted.is_empty());
        self.measured.fetch_add(1, Ordering::SeqCst);
        Ok(self.lacking.lock().unwrap().clone())
    }

    async fn changes(&self, _: &Lab) -> Result<Changes, WorldError> {
        let changed = self.changed.subscribe();
        let told = changed.borrow().len();
        let delivered = self.delivered.clone();
        Ok(Box::pin(futures::stream::unfold(
            (changed, told),
            move |(mut changed, told)| {
                let delivered = delivered.clone();
                async move {
                    let next = changed.wait_for(|all| all.len() > told).await.ok()?[told].clone();
                    delivered.fetch_add(1, Ordering::SeqCst);
                    Some((world::Change::Topic(next), (changed, told + 1)))
                }
            },
        )))
    }
}
