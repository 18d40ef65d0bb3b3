//! What a StatefulSet's pods should become, one after another or all at once: pure.
//!
//! Source: Kubernetes' StatefulSet concept: ordered deployment and scaling, rolling updates with a partition, `OnDelete`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus},
        core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec},
    },
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::identity::{self, in_range, ordinal};
use crate::control_plane::controllers::{
    pods::{self, ReferenceChange, count},
    revision::{self, POD_LABEL},
};

/// The two templates between which an update moves the pods.
#[derive(Debug, Clone)]
pub struct Revisions {
    /// The one that all pods were of when the last update was complete.
    pub current: ControllerRevision,
    /// The one of the set's template.
    pub update: ControllerRevision,
}

/// One thing to do.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Make a pod, and before it those of its claims that are not there.
    Create(Box<Pod>, Vec<PersistentVolumeClaim>),
    /// Make the claims that a pod waits for.
    Claim(String, Vec<PersistentVolumeClaim>),
    /// Delete the pod of this name and uid.
    Delete(String, String),
    /// Patch a pod's labels.
    Mend(String, serde_json::Value),
    /// Change who owns a claim.
    Own(ReferenceChange),
}

/// What to do, in this order, and when to look again without a change.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The actions.
    pub actions: Vec<Action>,
    /// When a pod becomes available.
    pub again: Option<Duration>,
}

/// What there is, to decide about.
pub struct Facts<'a> {
    /// The set.
    pub set: &'a StatefulSet,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// The claims of its namespace.
    pub claims: &'a [Arc<PersistentVolumeClaim>],
    /// Its templates.
    pub revisions: &'a Revisions,
    /// The time.
    pub now: Timestamp,
}

fn revision_of(pod: &Pod) -> &str {
    pod.labels().get(POD_LABEL).map_or("", String::as_str)
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::ready_since(pod).is_some()
}

fn is_rolling(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

/// The first ordinal that a rolling update changes, counted from the first ordinal of the set.
pub fn partition(set: &StatefulSet) -> i32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    rolling.and_then(|rolling| rolling.partition).unwrap_or(0).max(0)
}

/// What to do for a set that is not being deleted.
pub fn plan(facts: &Facts<'_>) -> Plan {
    let min_ready = facts.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let mut planner = Planner {
        facts,
        min_ready,
        plan: Plan::default(),
    };
    let (held, condemned) = planner.sorted();
    let done = planner.fill(&held) && planner.shrink(&held, &condemned);
    if done && is_rolling(facts.set) {
        planner.update(&held);
    }
    let mut plan = planner.plan;
    plan.again = pods::next_available(facts.pods.iter().map(AsRef::as_ref), min_ready, facts.now);
    plan
}

struct Planner<'a> {
    facts: &'a Facts<'a>,
    min_ready: Option<i32>,
    plan: Plan,
}

type Held<'a> = BTreeMap<i32, &'a Pod>;

impl<'a> Planner<'a> {
    /// The pods by ordinal: those that are wanted, and those that are not.
    fn sorted(&self) -> (Held<'a>, Held<'a>) {
        let numbered = self
            .facts
            .pods
            .iter()
            .filter_map(|pod| Some((ordinal(self.facts.set, &pod.name_any())?, pod.as_ref())));
        numbered.partition(|(ordinal, _)| in_range(self.facts.set, *ordinal))
    }

    fn in_order(&self) -> bool {
        let policy = self
            .facts
            .set
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_management_policy.as_deref());
        policy != Some("Parallel")
    }

    fn available(&self, pod: &Pod) -> bool {
        is_running_and_ready(pod) && pods::available(pod, self.min_ready, self.facts.now)
    }

    /// Makes the pods that are missing; whether everything there is as it should be, so that the next step may follow.
    fn fill(&mut self, held: &Held<'_>) -> bool {
        let set = self.facts.set;
        let mut done = true;
        let start = identity::first(set);
        for ordinal in start..start.saturating_add(identity::replicas(set)) {
            let settled = match held.get(&ordinal) {
                None => {
                    self.create(ordinal);
                    !self.in_order()
                }
                Some(pod) => self.keep(pod, ordinal),
            };
            done &= settled;
            if !settled && self.in_order() {
                return false;
            }
        }
        done
    }

    /// Keeps a pod that is wanted; whether the ones after it may follow.
    fn keep(&mut self, pod: &Pod, ordinal: i32) -> bool {
        if pods::ended(pod) {
            if !pods::terminating(pod) {
                self.delete(pod);
            }
            // The new one is made when this one is gone.
            return false;
        }
        if pods::phase(pod) == "Pending" && !pods::terminating(pod) {
            let missing = self.missing_claims(ordinal);
            if !missing.is_empty() {
                self.plan.actions.push(Action::Claim(pod.name_any(), missing));
            }
        }
        if self.in_order() && (pods::terminating(pod) || !self.available(pod)) {
            return false;
        }
        if !pods::terminating(pod) {
            if let Some(patch) = identity::mend(self.facts.set, pod, ordinal) {
                self.plan.actions.push(Action::Mend(pod.name_any(), patch));
            }
            self.own_claims(pod, ordinal);
        }
        true
    }

    fn claims_of(
        &self,
        ordinal: i32,
    ) -> impl Iterator<Item = (PersistentVolumeClaim, Option<&'a PersistentVolumeClaim>)> {
        let there = self.facts.claims;
        identity::claims(self.facts.set, ordinal).into_iter().map(move |claim| {
            let found = there.iter().find(|one| one.metadata.name == claim.metadata.name);
            (claim, found.map(AsRef::as_ref))
        })
    }

    fn missing_claims(&self, ordinal: i32) -> Vec<PersistentVolumeClaim> {
        let missing = self.claims_of(ordinal).filter(|(_, found)| found.is_none());
        missing.map(|(claim, _)| claim).collect()
    }

    fn own_claims(&mut self, pod: &Pod, ordinal: i32) {
        let changes: Vec<_> = self
            .claims_of(ordinal)
            .filter_map(|(_, found)| identity::retain(self.facts.set, pod, ordinal, found?))
            .collect();
        self.plan.actions.extend(changes.into_iter().map(Action::Own));
    }

    fn create(&mut self, ordinal: i32) {
        let set = self.facts.set;
        // A claim that goes with its former pod must be gone first, or the new pod would lose it.
        if self.claims_of(ordinal).any(|(_, found)| found.is_some_and(is_leaving)) {
            return;
        }
        let offset = i64::from(ordinal) - i64::from(identity::first(set));
        let before_partition = is_rolling(set) && offset < i64::from(partition(set));
        let old = revision::template(&self.facts.revisions.current).filter(|_| before_partition);
        let (template, revision): (PodTemplateSpec, _) = match old {
            Some(template) => (template, &self.facts.revisions.current),
            None => {
                let template = set.spec.as_ref().map(|spec| spec.template.clone());
                (template.unwrap_or_default(), &self.facts.revisions.update)
            }
        };
        let pod = identity::pod(set, &template, &revision.name_any(), ordinal);
        let claims = self.missing_claims(ordinal);
        self.plan.actions.push(Action::Create(Box::new(pod), claims));
    }

    fn delete(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        self.plan.actions.push(Action::Delete(pod.name_any(), uid));
    }

    /// Deletes the pods that are not wanted, the highest ordinal first; whether there are none left to delete.
    fn shrink(&mut self, held: &Held<'_>, condemned: &Held<'_>) -> bool {
        for (ordinal, pod) in condemned {
            self.own_claims(pod, *ordinal);
        }
        let unhealthy = |pod: &Pod| pods::terminating(pod) || !is_running_and_ready(pod);
        let first_unhealthy = held
            .iter()
            .chain(condemned)
            .find(|(_, pod)| unhealthy(pod))
            .map(|(ordinal, _)| *ordinal);
        for (ordinal, pod) in condemned.iter().rev() {
            if pods::terminating(pod) {
                if self.in_order() {
                    return false;
                }
                continue;
            }
            // One that has ended never becomes ready: there is nothing to wait for.
            let may_recover = !pods::ended(pod) && !self.available(pod);
            if self.in_order() && may_recover && first_unhealthy.is_some_and(|first| first != *ordinal) {
                return false;
            }
            self.delete(pod);
            if self.in_order() {
                return false;
            }
        }
        true
    }

    /// Deletes the highest pod that is of an old revision, as long as all above it are available.
    fn update(&mut self, held: &Held<'_>) {
        let set = self.facts.set;
        let least = identity::first(set).saturating_add(partition(set));
        let update = self.facts.revisions.update.name_any();
        for (_, pod) in held.range(least..).rev() {
            if revision_of(pod) != update && !pods::terminating(pod) {
                return self.delete(pod);
            }
            if pods::terminating(pod) || !self.available(pod) {
                return;
            }
        }
    }
}

fn is_leaving(claim: &PersistentVolumeClaim) -> bool {
    let owned_by_pod = claim.owner_references().iter().any(|owner| owner.kind == "Pod");
    claim.metadata.deletion_timestamp.is_some() || owned_by_pod
}

/// The status to write.
pub fn status(facts: &Facts<'_>, collisions: Option<i32>) -> StatefulSetStatus {
    let set = facts.set;
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let number = |test: &dyn Fn(&Pod) -> bool| count(facts.pods.iter().filter(|pod| test(pod)).count());
    let some = |number: i32| (number != 0).then_some(number);
    let (current, update) = (facts.revisions.current.name_any(), facts.revisions.update.name_any());
    let live_of = |name: &str| number(&|pod| !pods::terminating(pod) && revision_of(pod) == name);
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: number(&|_| true),
        ready_replicas: some(number(&is_running_and_ready)),
        available_replicas: Some(number(&|pod| {
            is_running_and_ready(pod) && pods::available(pod, min_ready, facts.now)
        })),
        current_replicas: some(live_of(&current)),
        updated_replicas: some(live_of(&update)),
        current_revision: Some(current),
        update_revision: Some(update.clone()),
        collision_count: Some(collisions.unwrap_or(0)),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    let wanted = identity::replicas(set);
    let complete = is_rolling(set)
        && status.updated_replicas.unwrap_or(0) == wanted
        && status.ready_replicas.unwrap_or(0) == wanted
        && status.replicas == wanted;
    if complete {
        status.current_replicas = status.updated_replicas;
        status.current_revision = Some(update);
    }
    status
}

#[cfg(test)]
mod tests;
