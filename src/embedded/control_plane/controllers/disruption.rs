//! The disruption controller: how many pods of each PodDisruptionBudget may be evicted.
//!
//! Source: Kubernetes' "Specifying a Disruption Budget for your Application" and API reference (policy/v1).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, LabelSelector, Time},
        util::intstr::IntOrString,
    },
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    core::{Selector, SelectorExt},
};

use super::{
    Context, follow, owner,
    pods::{self, count},
};
use crate::{
    events::{Happening, Recorder, reference},
    informer::{Informers, Key},
    queue::Queue,
    write::unless_gone,
};

/// The controller of a pod, by uid, and how many pods it wants; or why nobody says.
type Scale = Result<(String, i32), String>;

/// How long an evicted pod that is still there counts as disrupted.
const EXPECTED: Duration = Duration::from_secs(120);

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let cache = &context.informers;
    follow::objects(&cache.pod_disruption_budgets, &queue);
    let all = |cache: &Informers, queue: &Queue, namespace: &str| {
        let budgets = cache.pod_disruption_budgets.in_namespace(namespace);
        budgets.iter().for_each(|budget| queue.add(Key::of(budget.as_ref())));
    };
    macro_rules! follow_all {
        ($($informer:ident),*) => {$(
            let (inner, feed) = (cache.clone(), queue.clone());
            follow::changes(&cache.$informer, move |change| {
                all(&inner, &feed, &change.object().namespace().unwrap_or_default());
            });
        )*};
    }
    follow_all!(pods, replica_sets, deployments, stateful_sets);
    let controller = Arc::new(Controller {
        context: context.clone(),
        recorder: context.recorder.of("controllermanager", None),
    });
    context
        .tasks
        .spawn(queue.run("disruption", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        }));
}

struct Controller {
    context: Context,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let Some(budget) = cache.pod_disruption_budgets.get(key) else {
            return Ok(None);
        };
        if budget.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let all = cache.pods.in_namespace(&key.namespace);
        let scales = |pod: &Pod| scale_of(cache, pod);
        let decision = decide(&budget, &all, &scales, Timestamp::now());
        if budget.status.as_ref() != Some(&decision.status) {
            if let Some(happening) = decision.event {
                self.recorder.tell(reference(budget.as_ref()), happening);
            }
            let api: Api<PodDisruptionBudget> = Api::namespaced(self.context.client.clone(), &key.namespace);
            // What an eviction wrote meanwhile must not be lost: the revision that was looked at is the one that is replaced.
            let mut next = budget.as_ref().clone();
            next.status = Some(decision.status);
            let written = api.replace_status(&budget.name_any(), &Default::default(), &next).await;
            if let Some(written) = unless_gone(written)? {
                cache.pod_disruption_budgets.wrote(written);
            }
        }
        Ok(decision.again)
    }
}

/// The controller of a pod, by uid, and how many pods it wants; an error where nothing says that.
fn scale_of(cache: &Informers, pod: &Pod) -> Scale {
    let namespace = pod.namespace().unwrap_or_default();
    let name = pod.name_any();
    let Some(owner) = owner::controller_of(&pod.metadata) else {
        return Err(format!("found no controller ref for pod {name:?}"));
    };
    let key = Key::new(&namespace, &owner.name);
    let replicas = |wanted: Option<i32>| wanted.unwrap_or(1);
    let found = match owner.kind.as_str() {
        "ReplicaSet" => cache.replica_sets.get(&key).map(|set| {
            let above = owner::controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment");
            let deployment = above.and_then(|owner| cache.deployments.get(&Key::new(&namespace, &owner.name)));
            match deployment {
                Some(deployment) => {
                    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
                    (deployment.uid(), replicas(wanted))
                }
                None => (set.uid(), replicas(set.spec.as_ref().and_then(|spec| spec.replicas))),
            }
        }),
        "StatefulSet" => cache
            .stateful_sets
            .get(&key)
            .map(|set| (set.uid(), replicas(set.spec.as_ref().and_then(|spec| spec.replicas)))),
        kind => {
            let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
            let plural = format!("{}s.{group}", kind.to_lowercase());
            return Err(format!("{plural} does not implement the scale subresource"));
        }
    };
    match found {
        Some((uid, wanted)) => Ok((uid.unwrap_or_default(), wanted)),
        None => Err(format!("found no controllers for pod {name:?}")),
    }
}

struct Decision {
    status: PodDisruptionBudgetStatus,
    event: Option<Happening>,
    again: Option<Duration>,
}

/// Whether the budget is about a pod: an empty selector takes all, none takes none.
fn takes(selector: Option<&LabelSelector>, pod: &Pod) -> bool {
    let Some(Ok(selector)) = selector.map(|selector| Selector::try_from(selector.clone())) else {
        return false;
    };
    selector.matches(pod.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()))
}

fn scaled(value: &IntOrString, of: i32) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0).clamp(0, 100);
            i32::try_from((percent * i64::from(of) + 99) / 100).unwrap_or(i32::MAX)
        }
    }
}

/// How many pods there should be and how many must be well.
fn wanted(
    budget: &PodDisruptionBudget,
    pods: &[&Arc<Pod>],
    scale: &dyn Fn(&Pod) -> Scale,
) -> Result<(i32, i32), String> {
    let spec = budget.spec.as_ref();
    let expected = || {
        let mut controllers = BTreeMap::new();
        for pod in pods {
            let (uid, replicas) = scale(pod)?;
            controllers.insert(uid, replicas);
        }
        Ok::<_, String>(
            controllers
                .values()
                .fold(0_i32, |sum, replicas| sum.saturating_add(*replicas)),
        )
    };
    if let Some(most) = spec.and_then(|spec| spec.max_unavailable.as_ref()) {
        let expected = expected()?;
        return Ok((expected, (expected - scaled(most, expected)).max(0)));
    }
    match spec.and_then(|spec| spec.min_available.as_ref()) {
        Some(IntOrString::Int(least)) => Ok((count(pods.len()), *least)),
        Some(least) => {
            let expected = expected()?;
            Ok((expected, scaled(least, expected)))
        }
        None => Ok((count(pods.len()), 0)),
    }
}

/// The status of a budget: pure.
fn decide(budget: &PodDisruptionBudget, all: &[Arc<Pod>], scale: &dyn Fn(&Pod) -> Scale, now: Timestamp) -> Decision {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let matching: Vec<_> = all
        .iter()
        .filter(|pod| takes(selector, pod) && !pods::ended(pod))
        .collect();
    let mut status = budget.status.clone().unwrap_or_default();
    let (expected, desired) = match wanted(budget, &matching, scale) {
        Ok(wanted) => wanted,
        Err(error) => {
            status.disruptions_allowed = 0;
            status.observed_generation = budget.metadata.generation;
            set(&mut status, budget, "False", "SyncFailed", &error, now);
            let message = format!("Failed to calculate the number of expected pods: {error}");
            return Decision {
                status,
                event: Some(Happening::warning("CalculateExpectedPodCountFailed", message)),
                again: None,
            };
        }
    };
    let again = prune(&mut status, &matching, now);
    let disrupted: BTreeSet<&String> = status.disrupted_pods.iter().flat_map(BTreeMap::keys).collect();
    let well = matching.iter().filter(|pod| {
        !pods::terminating(pod) && !disrupted.contains(&pod.name_any()) && pods::ready_since(pod).is_some()
    });
    let current = count(well.count());
    let allowed = if expected <= 0 { 0 } else { (current - desired).max(0) };
    status.current_healthy = current;
    status.desired_healthy = desired;
    status.expected_pods = expected;
    status.disruptions_allowed = allowed;
    status.observed_generation = budget.metadata.generation;
    match allowed > 0 {
        true => set(&mut status, budget, "True", "SufficientPods", "", now),
        false => set(&mut status, budget, "False", "InsufficientPods", "", now),
    }
    Decision {
        status,
        event: None,
        again,
    }
}

/// Forgets evicted pods that are gone, are going, or were never deleted.
fn prune(status: &mut PodDisruptionBudgetStatus, pods: &[&Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let mut again: Option<Duration> = None;
    let held = status.disrupted_pods.take().unwrap_or_default();
    let kept: BTreeMap<_, _> = held
        .into_iter()
        .filter(|(name, since)| {
            let there = pods
                .iter()
                .any(|pod| pod.name_any() == *name && !pods::terminating(pod));
            let passed = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
            let left = EXPECTED.saturating_sub(passed);
            if there && !left.is_zero() {
                again = Some(again.map_or(left, |again| again.min(left)));
            }
            there && !left.is_zero()
        })
        .collect();
    status.disrupted_pods = (!kept.is_empty()).then_some(kept);
    again
}

fn set(
    status: &mut PodDisruptionBudgetStatus,
    budget: &PodDisruptionBudget,
    holds: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    const KIND: &str = "DisruptionAllowed";
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter().find(|one| one.type_ == KIND && one.status == holds);
    let since = before.map_or(Time(now), |one| one.last_transition_time.clone());
    conditions.retain(|one| one.type_ != KIND);
    conditions.push(Condition {
        type_: KIND.to_owned(),
        status: holds.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: budget.metadata.generation,
        last_transition_time: since,
    });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, more: Value) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": name, "uid": name, "labels": {"app": "web"}}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]}});
        json_patch::merge(&mut value, &more);
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn counts(spec: Value, status: Value, pods: &[Arc<Pod>]) -> (i32, i32, i32, i32) {
        let mut whole = json!({"selector": {"matchLabels": {"app": "web"}}});
        json_patch::merge(&mut whole, &spec);
        let budget = json!({"metadata": {"name": "b", "generation": 2}, "spec": whole, "status": status});
        let budget = serde_json::from_value(budget).unwrap();
        let status = decide(&budget, pods, &|_| Ok(("set".to_owned(), 5)), at(60)).status;
        (
            status.current_healthy,
            status.desired_healthy,
            status.expected_pods,
            status.disruptions_allowed,
        )
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn what_is_well_beyond_what_must_be_may_go() {
        let mut pods: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| pod(name, json!({}))).collect();
        pods.push(pod("unready", json!({"status": {"conditions": []}})));
        pods.push(pod("done", json!({"status": {"phase": "Succeeded"}})));
        pods.push(pod("other", json!({"metadata": {"labels": {"app": "db"}}})));
        pods.push(pod(
            "leaving",
            json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}}),
        ));
        for (spec, expected) in [
            (json!({"minAvailable": 3}), (4, 3, 6, 1)),
            (json!({"minAvailable": 9}), (4, 9, 6, 0)),
            (json!({"minAvailable": "50%"}), (4, 3, 5, 1)),
            (json!({"maxUnavailable": 2}), (4, 3, 5, 1)),
            (json!({"maxUnavailable": "10%"}), (4, 4, 5, 0)),
            (json!({"maxUnavailable": 0}), (4, 5, 5, 0)),
            (json!({"minAvailable": 0, "selector": null}), (0, 0, 0, 0)),
        ] {
            assert_eq!(counts(spec.clone(), json!({}), &pods), expected, "{spec}");
        }
        let evicted =
            |seconds: i64| json!({"disruptedPods": {"a": at(seconds).to_string(), "gone": at(0).to_string()}});
        assert_eq!(counts(json!({"minAvailable": 3}), evicted(59), &pods), (3, 3, 6, 0));
        assert_eq!(counts(json!({"minAvailable": 3}), evicted(-60), &pods), (4, 3, 6, 1));
    }

    #[test]
    fn pods_that_nothing_scales_are_told_of() {
        let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": {}}});
        let budget = serde_json::from_value(budget).unwrap();
        let none = |_: &Pod| Err("found no controller ref for pod \"a\"".to_owned());
        let decision = decide(&budget, &[pod("a", json!({}))], &none, at(0));
        assert_eq!(decision.status.conditions.unwrap()[0].reason, "SyncFailed");
        assert_eq!(decision.event.unwrap().reason, "CalculateExpectedPodCountFailed");
    }
}
