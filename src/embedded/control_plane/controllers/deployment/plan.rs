//! What a Deployment's ReplicaSets should become: pure.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec},
    apimachinery::pkg::util::intstr::IntOrString,
    jiff::Timestamp,
};
use kube::ResourceExt;
use serde_json::json;

use super::{
    proportion,
    status::{self, Totals},
    template::{self, HASH_LABEL},
};
use crate::{control_plane::controllers::owner::controller_reference, events::Happening};

/// The annotation that numbers the revisions.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The annotation of how many pods all ReplicaSets together may have.
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that are its own, not its ReplicaSets'.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

/// A merge patch for a ReplicaSet.
#[derive(Debug, PartialEq)]
pub struct SetChange {
    /// Its name.
    pub name: String,
    /// The patch.
    pub patch: serde_json::Value,
}

/// What to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// A ReplicaSet for a new template.
    pub create: Option<ReplicaSet>,
    /// Changes of those there are.
    pub changes: Vec<SetChange>,
    /// Old ones beyond the history's limit.
    pub delete: Vec<String>,
    /// The Deployment's revision, where it changes.
    pub revision: Option<String>,
    /// The status to write.
    pub status: DeploymentStatus,
    /// What to tell.
    pub events: Vec<Happening>,
    /// When to look again without a change (progress deadline).
    pub again: Option<Duration>,
}

/// The limits of a rolling update, in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pods beyond the wanted number.
    pub surge: i32,
    /// Pods that may be missing.
    pub unavailable: i32,
}

fn resolve(value: Option<&IntOrString>, replicas: i32, round_up: bool) -> i32 {
    match value {
        Some(IntOrString::Int(number)) => (*number).max(0),
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0).clamp(0, 10_000);
            let scaled = percent * i64::from(replicas);
            let pods = if round_up { (scaled + 99) / 100 } else { scaled / 100 };
            i32::try_from(pods).unwrap_or(i32::MAX)
        }
        None => 0,
    }
}

/// `maxSurge` rounds up, `maxUnavailable` rounds down, and not both may be 0.
pub fn limits(spec: &DeploymentSpec) -> Limits {
    let replicas = spec.replicas.unwrap_or(1);
    if recreate(spec) {
        return Limits {
            surge: 0,
            unavailable: replicas,
        };
    }
    let quarter = IntOrString::String("25%".to_owned());
    let rolling = spec
        .strategy
        .as_ref()
        .and_then(|strategy| strategy.rolling_update.clone())
        .unwrap_or_default();
    let surge = resolve(rolling.max_surge.as_ref().or(Some(&quarter)), replicas, true);
    let unavailable = resolve(rolling.max_unavailable.as_ref().or(Some(&quarter)), replicas, false);
    if surge == 0 && unavailable == 0 {
        return Limits {
            surge: 0,
            unavailable: 1,
        };
    }
    Limits {
        surge,
        unavailable: unavailable.min(replicas),
    }
}

fn recreate(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// `.spec.replicas` of a ReplicaSet.
pub fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn total(sets: &[&ReplicaSet]) -> i32 {
    sets.iter().fold(0, |all, set| all.saturating_add(wanted(set)))
}

fn available(set: &ReplicaSet) -> i32 {
    let status = set.status.as_ref();
    status.and_then(|status| status.available_replicas).unwrap_or(0)
}

fn revision(annotations: &BTreeMap<String, String>) -> u64 {
    annotations
        .get(REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

struct Planner<'a> {
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    limits: Limits,
    plan: Plan,
}

/// What to do for a Deployment with its ReplicaSets, oldest first.
pub fn plan(deployment: &Deployment, sets: &[ReplicaSet], now: Timestamp) -> Plan {
    let Some(spec) = &deployment.spec else {
        return Plan::default();
    };
    let (new, old): (Vec<_>, Vec<_>) = {
        // Among equal templates the oldest is the current one.
        let current = sets.iter().position(|set| template::same(set, deployment));
        let mut new = Vec::new();
        let mut old = Vec::new();
        for (index, set) in sets.iter().enumerate() {
            if Some(index) == current {
                new.push(set)
            } else {
                old.push(set)
            }
        }
        (new, old)
    };
    let new = new.first().copied();
    let mut planner = Planner {
        deployment,
        spec,
        limits: limits(spec),
        plan: Plan::default(),
    };
    let number = old.iter().map(|set| revision(set.annotations())).max().unwrap_or(0) + 1;
    let number = number.max(new.map_or(0, |set| revision(set.annotations())));
    let paused = spec.paused == Some(true);
    if let Some(set) = new {
        planner.settle(set, number);
    }
    let active = || sets.iter().filter(|set| wanted(set) > 0);
    // Where all are to go before one comes, there is nothing to share.
    let scaled = active().any(|set| planner.knows_another_number(set)) && !(recreate(spec) && active().count() > 1);
    match new {
        _ if paused || scaled => planner.resize(sets, new),
        Some(set) => planner.roll(set, &old),
        None => planner.begin(&old, number),
    }
    if (new.is_some() || !paused) && revision(deployment.annotations()) != number {
        planner.plan.revision = Some(number.to_string());
    }
    let mut plan = planner.plan;
    let totals = Totals::of(sets, new);
    let created = plan.create.as_ref().map(|set| set.name_any());
    plan.status = status::status(deployment, &totals, new, created.as_deref(), now);
    plan.again = status::deadline(deployment, &plan.status, now);
    if status::complete(spec, &plan.status) && new.is_some() {
        plan.delete = beyond_history(spec, &old);
    }
    plan
}

fn beyond_history(spec: &DeploymentSpec, old: &[&ReplicaSet]) -> Vec<String> {
    let keep = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let mut idle: Vec<_> = old
        .iter()
        .filter(|set| wanted(set) == 0 && set.status.as_ref().is_none_or(|status| status.replicas == 0))
        .collect();
    idle.sort_by_key(|set| revision(set.annotations()));
    let excess = idle.len().saturating_sub(keep);
    idle.into_iter().take(excess).map(|set| set.name_any()).collect()
}

impl Planner<'_> {
    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// How many pods all ReplicaSets together may have.
    fn most(&self) -> i32 {
        self.replicas().saturating_add(self.limits.surge)
    }

    fn annotations(&self, number: u64) -> BTreeMap<String, String> {
        let mut annotations: BTreeMap<String, String> = self
            .deployment
            .annotations()
            .iter()
            .filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        annotations.insert(REVISION.to_owned(), number.to_string());
        annotations.extend(self.numbers());
        annotations
    }

    /// How many pods a new ReplicaSet may have now.
    fn room(&self, held: i32, all: i32) -> i32 {
        if recreate(self.spec) {
            return self.replicas();
        }
        let most = self.most();
        if all >= most {
            held
        } else {
            held + (most - all).min(self.replicas() - held)
        }
    }

    /// A ReplicaSet for a template that has none yet.
    fn begin(&mut self, old: &[&ReplicaSet], number: u64) {
        if recreate(self.spec) {
            let mut busy = false;
            for set in old {
                if wanted(set) > 0 {
                    self.scale(set, 0);
                }
                busy |= wanted(set) > 0 || set.status.as_ref().is_some_and(|status| status.replicas > 0);
            }
            if busy {
                return;
            }
        }
        let all = total(old);
        let collisions = self
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count);
        let hash = template::hash(&self.spec.template, collisions);
        let mut pod = self.spec.template.clone();
        pod.metadata
            .get_or_insert_default()
            .labels
            .get_or_insert_default()
            .insert(HASH_LABEL.to_owned(), hash.clone());
        let mut selector = self.spec.selector.clone();
        selector
            .match_labels
            .get_or_insert_default()
            .insert(HASH_LABEL.to_owned(), hash.clone());
        let mut set = ReplicaSet {
            spec: Some(ReplicaSetSpec {
                replicas: Some(self.room(0, all)),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(pod.clone()),
            }),
            ..ReplicaSet::default()
        };
        set.metadata.name = Some(format!("{}-{hash}", self.deployment.name_any()));
        set.metadata.namespace = self.deployment.namespace();
        set.metadata.labels = pod.metadata.and_then(|meta| meta.labels);
        set.metadata.annotations = Some(self.annotations(number));
        set.metadata.owner_references = Some(vec![controller_reference(self.deployment)]);
        let count = wanted(&set);
        if count > 0 {
            self.plan.events.push(Happening::normal(
                "ScalingReplicaSet",
                format!("Scaled up replica set {} from 0 to {count}", set.name_any()),
            ));
        }
        self.plan.create = Some(set);
    }

    /// Brings what the current ReplicaSet says of its Deployment up to date.
    fn settle(&mut self, new: &ReplicaSet, number: u64) {
        let mut annotations = self.annotations(number);
        // These change with the number of pods.
        annotations.remove(DESIRED);
        annotations.remove(MAXIMUM);
        annotations.retain(|key, value| new.annotations().get(key) != Some(value));
        let held = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        let seconds = self.spec.min_ready_seconds.unwrap_or(0);
        let mut patch = json!({});
        if !annotations.is_empty() {
            patch["metadata"] = json!({"annotations": annotations});
        }
        if held != seconds {
            patch["spec"] = json!({"minReadySeconds": seconds});
        }
        if patch != json!({}) {
            let name = new.name_any();
            self.plan.changes.push(SetChange { name, patch });
        }
    }

    /// Whether a ReplicaSet was last scaled for another number of pods.
    fn knows_another_number(&self, set: &ReplicaSet) -> bool {
        let known = set.annotations().get(DESIRED).and_then(|text| text.parse::<i32>().ok());
        known.is_some_and(|known| known != self.replicas())
    }

    /// Gives the ReplicaSets, oldest first, their part of a number that was changed; no template is rolled out meanwhile.
    fn resize(&mut self, sets: &[ReplicaSet], new: Option<&ReplicaSet>) {
        let active: Vec<&ReplicaSet> = sets.iter().filter(|set| wanted(set) > 0).collect();
        let sizes = match active.as_slice() {
            [] => {
                let Some(latest) = new.or(sets.last()) else { return };
                return self.resize_one(latest, self.replicas());
            }
            [only] => return self.resize_one(only, self.replicas()),
            several => {
                let all = total(several);
                let done = new.is_some_and(|new| wanted(new) == self.replicas() && available(new) == wanted(new));
                if done {
                    several
                        .iter()
                        .map(|set| {
                            if new.is_some_and(|new| std::ptr::eq(*set, new)) {
                                wanted(set)
                            } else {
                                0
                            }
                        })
                        .collect()
                } else if recreate(self.spec) {
                    return;
                } else {
                    let most = if self.replicas() == 0 { 0 } else { self.most() };
                    proportion::sizes(several, most, all)
                }
            }
        };
        for (set, size) in active.iter().zip(sizes) {
            self.resize_one(set, size);
        }
    }

    fn resize_one(&mut self, set: &ReplicaSet, to: i32) {
        if to != wanted(set) {
            self.scale(set, to);
        } else if self.knows_another_number(set) {
            let annotations = self.numbers();
            self.plan.changes.push(SetChange {
                name: set.name_any(),
                patch: json!({"metadata": {"annotations": annotations}}),
            });
        }
    }

    fn numbers(&self) -> BTreeMap<String, String> {
        let most = self.most();
        BTreeMap::from([
            (DESIRED.to_owned(), self.replicas().to_string()),
            (MAXIMUM.to_owned(), most.to_string()),
        ])
    }

    fn roll(&mut self, new: &ReplicaSet, old: &[&ReplicaSet]) {
        let active: Vec<_> = old.iter().copied().filter(|set| wanted(set) > 0).collect();
        let replicas = self.replicas();
        let all = total(&active).saturating_add(wanted(new));
        let old_pods = |set: &&ReplicaSet| set.status.as_ref().is_some_and(|status| status.replicas > 0);
        let waits = recreate(self.spec) && old.iter().any(old_pods);
        let target = if wanted(new) > replicas {
            replicas
        } else if waits {
            wanted(new)
        } else {
            self.room(wanted(new), all)
        };
        if target != wanted(new) {
            self.scale(new, target);
        }
        // One step at a time: the old ones shrink by what the new one has, not by what it was just promised.
        if target > wanted(new) || active.is_empty() {
            return;
        }
        if recreate(self.spec) {
            for set in active {
                self.scale(set, 0);
            }
            return;
        }
        self.shrink(new, &active, all);
    }

    fn shrink(&mut self, new: &ReplicaSet, active: &[&ReplicaSet], all: i32) {
        let least = self.replicas() - self.limits.unavailable;
        let mut room = all - least - (wanted(new) - available(new)).max(0);
        let mut left: Vec<i32> = active.iter().map(|set| wanted(set)).collect();
        // Pods that serve nobody go first.
        for (index, set) in active.iter().enumerate() {
            let idle = (wanted(set) - available(set)).max(0);
            let gone = idle.min(room.max(0));
            left[index] -= gone;
            room -= gone;
        }
        let serving: i32 = available(new)
            + active
                .iter()
                .zip(&left)
                .map(|(set, left)| available(set).min(*left))
                .sum::<i32>();
        let mut spare = (serving - least).min(room).max(0);
        for remaining in &mut left {
            let gone = (*remaining).min(spare);
            *remaining -= gone;
            spare -= gone;
        }
        for (set, left) in active.iter().zip(left) {
            if left != wanted(set) {
                self.scale(set, left);
            }
        }
    }

    fn scale(&mut self, set: &ReplicaSet, to: i32) {
        let from = wanted(set);
        let annotations = self.numbers();
        let direction = if to > from { "up" } else { "down" };
        self.plan.events.push(Happening::normal(
            "ScalingReplicaSet",
            format!("Scaled {direction} replica set {} from {from} to {to}", set.name_any()),
        ));
        self.plan.changes.push(SetChange {
            name: set.name_any(),
            patch: json!({"metadata": {"annotations": annotations}, "spec": {"replicas": to}}),
        });
    }
}

#[cfg(test)]
mod tests;
