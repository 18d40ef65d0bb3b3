//! One at a time on a cluster that others use too: between the look whether something is free and the note that it is kept.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};

use super::{
    LAB_LABEL, OWNER_LABEL,
    apply::{FIELD_MANAGER, api_error, status},
};
use crate::cluster::{ClusterError, ClusterHandle, Progress, ProgressEvent};

/// Where the lock is: a namespace that every cluster has.
pub(in crate::cluster) const NAMESPACE: &str = "default";
/// What it is called.
const NAME: &str = "ztlab-claims";
/// How long one is respected that nobody gives back: whoever holds it does a few requests and never waits.
const HELD: Duration = Duration::from_secs(15);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The lock, held. What is not given back goes by itself in the end.
pub(super) struct Lock {
    api: Api<Lease>,
    uid: Option<String>,
}

/// Takes the lock, once nobody has it. That it can be created only once is what makes it one; whose it is its labels say.
pub(super) async fn take(
    cluster: &ClusterHandle,
    marks: &BTreeMap<String, String>,
    progress: &Progress,
) -> Result<Lock, ClusterError> {
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let mut seen: Option<(String, Instant)> = None;
    loop {
        match api.create(&params, &lease(marks)).await {
            Ok(made) => {
                return Ok(Lock {
                    api,
                    uid: made.metadata.uid,
                });
            }
            Err(error) if status(&error).is_some_and(|status| status.code == 409) => {}
            Err(error) => return Err(api_error(format!("create the lease {NAMESPACE}/{NAME}"))(error)),
        }
        let there = api.get_opt(NAME).await;
        let there = there.map_err(api_error(format!("look at the lease {NAMESPACE}/{NAME}")))?;
        let Some((there, uid)) = there.and_then(|there| there.uid().map(|uid| (there, uid))) else {
            continue;
        };
        progress(ProgressEvent {
            phase: "wait until others have begun".to_owned(),
            done: 0,
            total: 1,
            detail: holder(there.labels()),
        });
        // Clocks differ between machines; how long it did not change here does not.
        let since = match &seen {
            Some((known, since)) if *known == uid => *since,
            _ => seen.insert((uid.clone(), Instant::now())).1,
        };
        let own = marks.iter().all(|(key, value)| there.labels().get(key) == Some(value));
        if own || since.elapsed() >= HELD {
            give_back(&api, Some(uid)).await?;
        } else {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Lock {
    /// Gives it back.
    pub async fn release(self) {
        if let Err(error) = give_back(&self.api, self.uid).await {
            tracing::warn!("{error}; others wait for {} s", HELD.as_secs());
        }
    }
}

async fn give_back(api: &Api<Lease>, uid: Option<String>) -> Result<(), ClusterError> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(NAME, &params).await {
        Err(error) if status(&error).is_none_or(|status| !matches!(status.code, 404 | 409)) => {
            Err(api_error(format!("delete the lease {NAMESPACE}/{NAME}"))(error))
        }
        _ => Ok(()),
    }
}

fn lease(marks: &BTreeMap<String, String>) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(marks.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder(marks)),
            lease_duration_seconds: i32::try_from(HELD.as_secs()).ok(),
            ..LeaseSpec::default()
        }),
    }
}

fn holder(labels: &BTreeMap<String, String>) -> String {
    let [lab, owner] = [LAB_LABEL, OWNER_LABEL].map(|label| labels.get(label).map_or("?", String::as_str));
    crate::text::one_line(&format!("{lab} of {owner}"))
}
