//! What an object's status says of what came of it. Pure.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time},
    jiff::Timestamp,
};

use super::{
    kinds::{
        ClusterFederatedTrustDomain, ClusterFederatedTrustDomainStatus, ClusterSpiffeIdStatus, ClusterStaticEntryStatus,
    },
    plan::{SpiffeIdOutcome, StaticOutcome},
    spec::federated,
};

/// The condition that says whether an object has effect.
const READY: &str = "Ready";
/// Longest message, in characters: a template's output is somebody else's text.
const LONGEST: usize = 1024;

/// The status of a ClusterSPIFFEID; none when it is what is there.
pub fn of_spiffe_id(outcome: &SpiffeIdOutcome, now: Timestamp) -> Option<ClusterSpiffeIdStatus> {
    let stats = outcome.stats;
    let (holds, reason, message) = if let Some(why) = &outcome.invalid {
        (false, "InvalidSpec", why.clone())
    } else if let Some(why) = &outcome.render_failure {
        let of = format!(
            "{} of {} pods got no entry",
            stats.pod_entry_render_failures, stats.pods_selected
        );
        (false, "RenderFailed", format!("{of}; the first: {why}"))
    } else if let Some(why) = &outcome.refused {
        let of = format!(
            "the server refused {} of {} entries",
            stats.entry_failures, stats.entries_to_set
        );
        (false, "EntryRefused", format!("{of}; the first: {why}"))
    } else {
        (
            true,
            "EntriesSet",
            format!("{} entries are at the server", stats.entries_to_set),
        )
    };
    let was = &outcome.object.status;
    let next = ClusterSpiffeIdStatus {
        stats,
        conditions: vec![condition(
            &outcome.object.metadata,
            &was.conditions,
            holds,
            reason,
            message,
            now,
        )],
    };
    (next != *was).then_some(next)
}

/// The status of a ClusterStaticEntry; none when it is what is there.
pub fn of_static_entry(outcome: &StaticOutcome, now: Timestamp) -> Option<ClusterStaticEntryStatus> {
    let (holds, reason, message) = match (&outcome.problem, outcome.masked) {
        (Some(why), _) if !outcome.rendered => (false, "InvalidSpec", why.clone()),
        (Some(why), _) => (false, "EntryRefused", why.clone()),
        (None, true) => (false, "Masked", "an older object declares the same entry".to_owned()),
        (None, false) => (true, "EntrySet", "the entry is at the server".to_owned()),
    };
    let was = &outcome.object.status;
    let next = ClusterStaticEntryStatus {
        rendered: outcome.rendered,
        masked: outcome.masked,
        set: outcome.set,
        conditions: vec![condition(
            &outcome.object.metadata,
            &was.conditions,
            holds,
            reason,
            message,
            now,
        )],
    };
    (next != *was).then_some(next)
}

/// The status of a ClusterFederatedTrustDomain; none when it is what is there.
pub fn of_federated(object: &ClusterFederatedTrustDomain, now: Timestamp) -> Option<ClusterFederatedTrustDomainStatus> {
    let (reason, message) = match federated(&object.spec) {
        Ok(trust_domain) => (
            "NotFederated",
            format!(
                "this stand-in does not fetch bundles yet: give the server the bundle of {trust_domain} with \
                 `spire-server bundle set`"
            ),
        ),
        Err(error) => ("InvalidSpec", error.to_string()),
    };
    let was = &object.status;
    let next = ClusterFederatedTrustDomainStatus {
        conditions: vec![condition(
            &object.metadata,
            &was.conditions,
            false,
            reason,
            message,
            now,
        )],
    };
    (next != *was).then_some(next)
}

fn condition(
    metadata: &ObjectMeta,
    were: &[Condition],
    holds: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let since = were
        .iter()
        .find(|was| was.type_ == READY && was.status == status)
        .map_or(Time(now), |was| was.last_transition_time.clone());
    Condition {
        last_transition_time: since,
        message: message.chars().take(LONGEST).collect(),
        observed_generation: metadata.generation,
        reason: reason.to_owned(),
        status: status.to_owned(),
        type_: READY.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::controller::kinds::{ClusterSpiffeId, Stats};

    fn outcome(object: ClusterSpiffeId) -> SpiffeIdOutcome {
        SpiffeIdOutcome {
            object: Arc::new(object),
            stats: Stats {
                pods_selected: 3,
                entries_to_set: 2,
                ..Stats::default()
            },
            invalid: None,
            render_failure: None,
            refused: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_status_that_is_there_already_is_not_written_again() {
        let first = of_spiffe_id(&outcome(ClusterSpiffeId::default()), at(1)).unwrap();
        let object = ClusterSpiffeId {
            status: first.clone(),
            ..ClusterSpiffeId::default()
        };
        assert_eq!(of_spiffe_id(&outcome(object.clone()), at(2)), None);
        // What did not change keeps the time since when it is so.
        let mut more = outcome(object.clone());
        more.stats.entries_to_set = 5;
        let second = of_spiffe_id(&more, at(3)).unwrap();
        assert_eq!(
            second.conditions[0].last_transition_time,
            first.conditions[0].last_transition_time
        );
        let mut broken = outcome(object);
        broken.invalid = Some("x".into());
        assert_eq!(
            of_spiffe_id(&broken, at(4)).unwrap().conditions[0]
                .last_transition_time
                .0,
            at(4)
        );
    }

    #[test]
    fn a_condition_says_what_hinders_and_never_grows_without_end() {
        let mut failed = outcome(ClusterSpiffeId::default());
        failed.render_failure = Some("pod shop/a: why ".repeat(500));
        failed.stats.pod_entry_render_failures = 1;
        let condition = of_spiffe_id(&failed, at(1)).unwrap().conditions.remove(0);
        assert_eq!((&*condition.status, &*condition.reason), ("False", "RenderFailed"));
        assert!(
            condition
                .message
                .starts_with("1 of 3 pods got no entry; the first: pod shop/a: why")
        );
        assert_eq!(condition.message.chars().count(), LONGEST);
    }

    #[test]
    fn a_federated_trust_domain_is_said_not_to_be_federated() {
        let object = ClusterFederatedTrustDomain::default();
        let condition = of_federated(&object, at(1)).unwrap().conditions.remove(0);
        assert_eq!((&*condition.status, &*condition.reason), ("False", "InvalidSpec"));
    }
}
