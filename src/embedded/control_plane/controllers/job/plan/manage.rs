//! Which pods a Job that goes on needs: those that are made, and those that are too many.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{
    BURST, New, Planner, pod, pods,
    policy::{self, Verdict},
    reference,
};

/// The pause after a first failure, and the longest, in seconds.
const PAUSES: (i64, i64) = (10, 600);

impl Planner<'_> {
    /// Makes and removes pods.
    pub(super) fn manage(&mut self) {
        if self.suspended() {
            self.plan.abandon = self.active.drain(..).map(reference).collect();
            return;
        }
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let wanted = match self.spec.completions.and_then(|number| usize::try_from(number).ok()) {
            None if self.succeeded() > 0 => self.active.len(),
            None => parallelism,
            Some(completions) => completions.saturating_sub(self.succeeded()).min(parallelism),
        };
        self.remove_surplus(wanted);
        if !self.plan.abandon.is_empty() {
            return;
        }
        let holding = match pod::replaces_only_failed(self.facts.job) {
            true => self.leaving.len(),
            false => 0,
        };
        let missing = wanted.saturating_sub(self.active.len() + holding).min(BURST);
        if missing == 0 {
        } else if self.indexed {
            self.create_indexes(missing);
        } else {
            let pause = self.pause(|_| true);
            match pause > 0 {
                true => self.wait(pause),
                false => {
                    let new = New {
                        index: None,
                        failures: None,
                    };
                    self.plan.create = vec![new; missing];
                }
            }
        }
    }

    /// Abandons pods of an index that another has or that is not wanted, and those beyond the number that is wanted.
    fn remove_surplus(&mut self, wanted: usize) {
        self.active.sort_by_key(|pod| {
            let scheduled = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            let age = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let running = pods::phase(pod) == "Running";
            (
                !scheduled,
                !running,
                pods::ready_since(pod).is_none(),
                age,
                pod.name_any(),
            )
        });
        let mut taken = HashSet::new();
        let (indexed, completions) = (self.indexed, self.completions);
        let mut keep = Vec::new();
        for pod in self.active.drain(..) {
            let index = pod::index(pod);
            let fits = !indexed || index.is_some_and(|index| index < completions && taken.insert(index));
            if fits && keep.len() < wanted {
                keep.push(pod);
            } else {
                self.plan.abandon.push(reference(pod));
            }
        }
        self.active = keep;
    }

    fn create_indexes(&mut self, missing: usize) {
        let only_failed = pod::replaces_only_failed(self.facts.job);
        let holding = self.leaving.iter().filter(|_| only_failed);
        let taken: HashSet<u32> = self
            .active
            .iter()
            .chain(holding)
            .filter_map(|pod| pod::index(pod))
            .collect();
        let mut create = Vec::new();
        let overall = match self.per_index() {
            Some(_) => 0,
            None => self.pause(|_| true),
        };
        for index in 0..self.completions {
            if create.len() >= missing {
                break;
            }
            if taken.contains(&index) || self.done.contains(index) || self.failed_indexes.contains(index) {
                continue;
            }
            let own = |pod: &Pod| pod::index(pod) == Some(index);
            let pause = self.per_index().map_or(overall, |_| self.pause(own));
            if pause > 0 {
                self.wait(pause);
                continue;
            }
            create.push(New {
                index: Some(index),
                failures: self.per_index().map(|_| self.failures_of(index)),
            });
        }
        self.plan.create = create;
    }

    /// How often an index has failed: its last pod says how often before it.
    fn failures_of(&self, index: u32) -> i32 {
        let all = self.facts.pods.iter().filter(|pod| pod::index(pod) == Some(index));
        let failed = all.filter(|pod| pod::failed(self.facts.job, pod));
        let counted = failed.map(|pod| {
            let more = policy::judge(self.spec, pod) != Verdict::Ignore;
            pod::failures(pod).saturating_add(i32::from(more))
        });
        counted.max().unwrap_or(0)
    }

    /// How many seconds no new pod is made: longer with each pod that failed since the last success.
    fn pause(&self, of: impl Fn(&Pod) -> bool) -> i64 {
        let ended = || self.facts.pods.iter().filter(|pod| pods::ended(pod) && of(pod));
        let success = ended()
            .filter(|pod| pod::succeeded(pod))
            .map(|pod| pod::ended_at(pod))
            .max();
        let failures: Vec<_> = ended()
            .filter(|pod| !pod::succeeded(pod))
            .map(|pod| pod::ended_at(pod))
            .filter(|at| success.is_none_or(|success| *at > success))
            .collect();
        let Some(last) = failures.iter().max() else { return 0 };
        let doubled = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(10);
        let pause = (PAUSES.0 << doubled).min(PAUSES.1);
        pause - self.facts.now.as_second().saturating_sub(last.as_second())
    }
}
