//! What runs: labels, patches and rollouts, and pods of their own.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    runtime::wait::{await_condition, conditions},
};
use serde_json::{Value, json};

use super::{
    PATIENCE, Place, STUDENT, api_error,
    apply::{api_of, apply, not_theirs},
    late,
};
use crate::{
    check,
    lab::{Named, Source},
    session::world::WorldError,
};

pub(super) async fn label(
    place: &Place,
    source: &Source,
    set: &BTreeMap<String, String>,
    remove: &[String],
) -> Result<(), WorldError> {
    let pod = check::running_pod(&place.client, &place.namespace, source).await?;
    let mut labels: serde_json::Map<String, Value> = set
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    labels.extend(remove.iter().map(|key| (key.clone(), Value::Null)));
    let api: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    let params = PatchParams {
        field_manager: Some(STUDENT.to_owned()),
        ..PatchParams::default()
    };
    let patch = json!({ "metadata": { "labels": labels } });
    let patched = api.patch(&pod.name_any(), &params, &Patch::Merge(patch)).await;
    patched
        .map(drop)
        .map_err(api_error(format!("label the pod {}", pod.name_any())))
}

pub(super) async fn patch_object(place: &Place, named: &Named, patch: &Value) -> Result<(), WorldError> {
    let Named { kind, name, .. } = named;
    if kind == "Deployment" {
        return patch_deployment(place, name, patch).await;
    }
    let api = api_of(place, named).await?;
    let there = api
        .get_opt(name)
        .await
        .map_err(api_error(format!("look for the {kind} {name}")))?;
    if there.as_ref().is_some_and(|there| there.metadata.namespace.is_none()) {
        not_theirs(place, kind, there.as_ref())?;
    }
    let params = PatchParams {
        field_manager: Some(STUDENT.to_owned()),
        ..PatchParams::default()
    };
    let strategic = api.patch(name, &params, &Patch::Strategic(patch)).await;
    let patched = match strategic {
        // Custom resources take no strategic merge patch.
        Err(kube::Error::Api(status)) if status.code == 415 => api.patch(name, &params, &Patch::Merge(patch)).await,
        patched => patched,
    };
    patched.map(drop).map_err(api_error(format!("patch the {kind} {name}")))
}

pub(super) async fn patch_deployment(place: &Place, name: &str, patch: &Value) -> Result<(), WorldError> {
    let api: Api<Deployment> = Api::namespaced(place.client.clone(), &place.namespace);
    let params = PatchParams {
        field_manager: Some(STUDENT.to_owned()),
        ..PatchParams::default()
    };
    api.patch(name, &params, &Patch::Strategic(patch))
        .await
        .map_err(api_error(format!("patch the Deployment {name}")))?;
    rolled_out(place, name).await
}

/// Waits until a Deployment has all of its replicas, none of them of an older template, and none left to go.
pub(super) async fn rolled_out(place: &Place, name: &str) -> Result<(), WorldError> {
    let doing = format!("wait for the rollout of {name}");
    let api: Api<Deployment> = Api::namespaced(place.client.clone(), &place.namespace);
    let rolled = await_condition(api, name, |deployment: Option<&Deployment>| {
        deployment.is_none_or(is_rolled_out)
    });
    let selector = match tokio::time::timeout(PATIENCE, rolled).await {
        Ok(Ok(Some(deployment))) => deployment.spec.and_then(|spec| spec.selector.match_labels),
        Ok(Ok(None)) => return Err(WorldError::new(format!("there is no Deployment {name}"))),
        Ok(Err(error)) => return Err(WorldError::new(format!("{doing}: {error}"))),
        Err(_) => return Err(late(&doing)),
    };
    // The pods of before may still run while they end; who asks the workload may be answered by one of them.
    let labels: Vec<String> = selector
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    let params = kube::api::ListParams::default().labels(&labels.join(","));
    let list = pods.list(&params).await.map_err(api_error(doing.as_str()))?;
    for pod in list.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
        let uid = pod.uid().unwrap_or_default();
        let gone = await_condition(pods.clone(), &pod.name_any(), conditions::is_deleted(&uid)).await;
        gone.map_err(|error| WorldError::new(format!("{doing}: {error}")))?;
    }
    Ok(())
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else {
        return false;
    };
    let count = |count: Option<i32>| count.unwrap_or(0);
    status.observed_generation >= deployment.metadata.generation
        && count(status.updated_replicas) == wanted
        && count(status.replicas) == wanted
        && count(status.available_replicas) == wanted
}

pub(super) async fn run_pod(
    place: &Place,
    name: &str,
    image: &str,
    labels: &BTreeMap<String, String>,
    run: &[String],
) -> Result<(), WorldError> {
    let doing = format!("run the pod {name}");
    let mut container = json!({ "name": "main", "image": image });
    if !run.is_empty() {
        container["command"] = json!(run);
    }
    let pod: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": place.namespace, "labels": labels },
        "spec": { "containers": [container], "terminationGracePeriodSeconds": 1 },
    }))
    .map_err(|error| WorldError::new(format!("{doing}: {error}")))?;
    apply(place, vec![pod]).await
}

/// Waits until a pod is ready, or has come to its end: one that is to end is never ready again.
pub(super) async fn pod_is_up(place: &Place, name: &str) -> Result<(), WorldError> {
    let doing = format!("wait for the pod {name}");
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    let up = await_condition(pods, name, |pod: Option<&Pod>| pod.is_none_or(is_up));
    match tokio::time::timeout(PATIENCE, up).await {
        Ok(Ok(Some(_))) => Ok(()),
        Ok(Ok(None)) => Err(WorldError::new(format!("{doing}: it is gone"))),
        Ok(Err(error)) => Err(WorldError::new(format!("{doing}: {error}"))),
        Err(_) => Err(late(&doing)),
    }
}

fn is_up(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let conditions = status.and_then(|status| status.conditions.as_ref());
    matches!(phase, Some("Succeeded" | "Failed"))
        || conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_up_when_it_is_ready_or_has_ended() {
        let pod = |phase: &str, ready: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": "a" },
                "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
            }))
            .unwrap()
        };
        assert!(is_up(&pod("Running", "True")));
        assert!(is_up(&pod("Succeeded", "False")) && is_up(&pod("Failed", "False")));
        assert!(!is_up(&pod("Running", "False")) && !is_up(&pod("Pending", "False")));
        assert!(!is_up(&Pod::default()), "nothing is known of it yet");
    }

    #[test]
    fn a_rollout_is_over_when_nothing_of_before_is_left() {
        let deployment = |generation: i64, updated: i32, all: i32, available: i32| -> Deployment {
            serde_json::from_value(json!({
                "metadata": { "name": "a", "generation": 2 },
                "spec": { "replicas": 2, "selector": {}, "template": {} },
                "status": {
                    "observedGeneration": generation, "updatedReplicas": updated, "replicas": all,
                    "availableReplicas": available,
                },
            }))
            .unwrap()
        };
        assert!(is_rolled_out(&deployment(2, 2, 2, 2)));
        assert!(
            !is_rolled_out(&deployment(1, 2, 2, 2)),
            "the controller has not seen it"
        );
        assert!(!is_rolled_out(&deployment(2, 1, 2, 2)));
        assert!(!is_rolled_out(&deployment(2, 2, 3, 2)), "one of before is there");
        assert!(!is_rolled_out(&deployment(2, 2, 2, 1)));
        assert!(!is_rolled_out(&Deployment::default()));
    }
}
