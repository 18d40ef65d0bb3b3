//! A world that notes how long each check takes to gather its evidence.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;

use super::proof::Timing;
use crate::{
    check::Evidence,
    cluster::Progress,
    lab::{Capability, Check, Deed, Fill, Lab, Source},
    posture::Matrix,
    session::{
        state::Start,
        world::{Changes, Listening, Notes, Ran, Restored, Sight, World, WorldError},
    },
};

/// How long checks took, by their names.
#[derive(Debug, Default)]
pub struct Times(Mutex<BTreeMap<String, Took>>);

#[derive(Clone, Copy, Debug, Default)]
struct Took {
    times: u32,
    all: Duration,
    longest: Duration,
}

impl Times {
    fn note(&self, check: &str, took: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = times.entry(check.to_owned()).or_default();
        entry.times += 1;
        entry.all += took;
        entry.longest = entry.longest.max(took);
    }

    /// What was noted of a lab's checks, in the lab's order. Checks of different steps that have the same name are timed
    /// together.
    pub fn of(&self, lab: &Lab) -> Vec<Timing> {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let steps = lab.steps.iter();
        let checks = steps.flat_map(|step| step.checks.iter().map(move |check| (step, check)));
        checks
            .map(|(step, check)| {
                let took = times.get(&check.name).copied().unwrap_or_default();
                Timing {
                    step: step.id.to_string(),
                    check: check.name.clone(),
                    times: took.times,
                    mean_us: micros(took.all) / u64::from(took.times.max(1)),
                    longest_us: micros(took.longest),
                }
            })
            .collect()
    }
}

/// Another world, with a watch on its checks.
pub struct TimedWorld {
    /// The world.
    pub world: Arc<dyn World>,
    /// Where it is noted.
    pub times: Arc<Times>,
}

#[async_trait]
impl World for TimedWorld {
    async fn gather(&self, sight: &Sight, check: &Check, given: Option<String>) -> Evidence {
        let began = Instant::now();
        let evidence = self.world.gather(sight, check, given).await;
        self.times.note(&check.name, began.elapsed());
        evidence
    }

    async fn deploy(&self, lab: &Lab, as_is: bool, progress: &Progress) -> Result<Notes, WorldError> {
        self.world.deploy(lab, as_is, progress).await
    }

    async fn put_aside(&self, lab: &Lab, start: &Start, in_use: &BTreeSet<u32>) -> Result<(), WorldError> {
        self.world.put_aside(lab, start, in_use).await
    }

    async fn restore(&self, lab: &Lab, to: &Start, progress: &Progress) -> Result<Restored, WorldError> {
        self.world.restore(lab, to, progress).await
    }

    async fn pause(&self) -> Result<bool, WorldError> {
        self.world.pause().await
    }

    async fn end(&self, lab: &Lab, delete: bool) -> Result<(), WorldError> {
        self.world.end(lab, delete).await
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        self.world.kubeconfig()
    }

    async fn capture(&self, workload: &str, filter: Option<String>) -> Result<Listening, WorldError> {
        self.world.capture(workload, filter).await
    }

    async fn exec(&self, source: &Source, namespace: Option<&str>, argv: &[String]) -> Result<Ran, WorldError> {
        self.world.exec(source, namespace, argv).await
    }

    async fn perform(&self, lab: &Lab, deed: &Deed) -> Result<(), WorldError> {
        self.world.perform(lab, deed).await
    }

    async fn fill(&self, fill: &Fill) -> Result<String, WorldError> {
        self.world.fill(fill).await
    }

    async fn posture(&self, lab: &Lab) -> Result<Matrix, WorldError> {
        self.world.posture(lab).await
    }

    async fn lacks(
        &self,
        lab: &Lab,
        wanted: &[Capability],
        progress: &Progress,
    ) -> Result<BTreeMap<String, String>, WorldError> {
        self.world.lacks(lab, wanted, progress).await
    }

    async fn answers(&self) -> bool {
        self.world.answers().await
    }

    async fn changes(&self, lab: &Lab) -> Result<Changes, WorldError> {
        self.world.changes(lab).await
    }
}
