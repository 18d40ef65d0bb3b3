//! Putting namespaces back to what manifests say.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, PostParams, Preconditions, PropagationPolicy},
    discovery::ApiResource,
};

use crate::cluster::{ClusterError, ClusterHandle, Progress};

use super::{
    apply::{FIELD_MANAGER, Kinds, api_error, in_waves, name_of, status},
    ready::wait_ready,
};

const AT_ONCE: usize = 16;
/// How long what was deleted may take to go.
const GONE: Duration = Duration::from_secs(120);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Namespaces that belong to the cluster itself.
const SYSTEM: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// Kinds that the control plane writes and removes by itself.
const DERIVED: &[&str] = &["Event", "EndpointSlice", "Endpoints", "Lease", "ControllerRevision"];

/// What is done with an object that is there.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    /// Removed, and whatever it owns with it.
    Delete,
    /// A pod: removed at once, so that a fresh one takes its place.
    Kill,
}

fn fate(object: &DynamicObject, wanted: &BTreeSet<String>) -> Fate {
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
    let name = object.name_any();
    let automatic = match kind {
        "ServiceAccount" => name == "default",
        "ConfigMap" => name == "kube-root-ca.crt",
        "Service" => name == "kubernetes" && object.namespace().as_deref() == Some("default"),
        kind => DERIVED.contains(&kind),
    };
    match kind {
        "Pod" => Fate::Kill,
        // Fresh ReplicaSets make fresh pods, and forget the history of what a student rolled out.
        "ReplicaSet" => Fate::Delete,
        _ if automatic || wanted.contains(&name_of(object)) => Fate::Keep,
        _ if !object.owner_references().is_empty() => Fate::Keep,
        _ => Fate::Delete,
    }
}

/// Puts the namespaces of `objects` back to what `objects` say: deletes what they do not hold, writes them anew, and
/// makes fresh pods. On a cluster that this program may dispose of, other namespaces are removed too, and `default` is emptied.
///
/// # Errors
/// The first object that the API refuses, or what is not ready in time.
pub async fn reset(
    cluster: &ClusterHandle,
    objects: &[DynamicObject],
    progress: &Progress,
) -> Result<(), ClusterError> {
    let kinds = Kinds::of(&cluster.client).await?;
    let wanted: BTreeSet<String> = objects.iter().map(name_of).collect();
    let mine = namespaces(objects);
    let mut cleaned = mine.clone();
    if cluster.capabilities.disposable {
        cleaned.insert("default".to_owned());
        delete_other_namespaces(cluster, &mine).await?;
    }
    let there = list(cluster, &kinds, &cleaned).await?;
    let (mut dying, mut killed) = (Vec::new(), Vec::new());
    for object in there {
        match fate(&object, &wanted) {
            Fate::Keep => {}
            Fate::Delete => dying.push(object),
            Fate::Kill => killed.push(object),
        }
    }
    in_waves(objects, "write manifests", progress, |object| {
        let api = kinds.api(&cluster.client, &object);
        async move { replace(&api?, &object).await }
    })
    .await?;
    // First what would make new pods, then the pods.
    let going: Vec<DynamicObject> = dying.iter().chain(&killed).cloned().collect();
    delete_all(cluster, &kinds, dying, &DeleteParams::background()).await?;
    delete_all(cluster, &kinds, killed, &DeleteParams::default().grace_period(0)).await?;
    gone(cluster, &kinds, &going).await?;
    for namespace in &mine {
        wait_ready(cluster, namespace, progress).await?;
    }
    Ok(())
}

/// The namespaces that these objects are, or are in.
pub fn namespaces(objects: &[DynamicObject]) -> BTreeSet<String> {
    objects
        .iter()
        .filter_map(|object| match object.types.as_ref()?.kind.as_str() {
            "Namespace" => object.metadata.name.clone(),
            _ => object.metadata.namespace.clone(),
        })
        .collect()
}

/// Waits until what was deleted is gone: a finalizer may hold it, and its owner's pods are removed one by one.
async fn gone(cluster: &ClusterHandle, kinds: &Kinds, going: &[DynamicObject]) -> Result<(), ClusterError> {
    let waiting = async {
        for object in going {
            let api = kinds.api(&cluster.client, object)?;
            let look = async || {
                let found = api.get_opt(&object.name_any()).await;
                found.map_err(api_error(format!("look for {}", name_of(object))))
            };
            // One of its name may be there already: the manifests' own.
            while look().await?.is_some_and(|found| found.uid() == object.uid()) {
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(GONE, waiting).await {
        Ok(result) => result,
        Err(_) => Err(ClusterError::NotReady {
            what: "the removal of what the student made".to_owned(),
            seconds: GONE.as_secs(),
            state: "something has a finalizer that nobody takes away".to_owned(),
        }),
    }
}

async fn delete_other_namespaces(cluster: &ClusterHandle, mine: &BTreeSet<String>) -> Result<(), ClusterError> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let list = api
        .list(&ListParams::default())
        .await
        .map_err(api_error("list namespaces".to_owned()))?;
    for namespace in list {
        let name = namespace.name_any();
        if !mine.contains(&name) && !SYSTEM.contains(&name.as_str()) {
            gone_is_fine(api.delete(&name, &DeleteParams::default()).await)
                .map_err(api_error(format!("delete namespace {name}")))?;
        }
    }
    Ok(())
}

async fn list(
    cluster: &ClusterHandle,
    kinds: &Kinds,
    namespaces: &BTreeSet<String>,
) -> Result<Vec<DynamicObject>, ClusterError> {
    let mut asked: Vec<(ApiResource, String)> = Vec::new();
    for resource in kinds.namespaced() {
        // The same Events are served by two groups.
        if !DERIVED.contains(&resource.kind.as_str()) {
            asked.extend(namespaces.iter().map(|namespace| (resource.clone(), namespace.clone())));
        }
    }
    let lists: Vec<Vec<DynamicObject>> = futures::stream::iter(asked.into_iter().map(|(resource, namespace)| {
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &namespace, &resource);
        async move {
            match api.list(&ListParams::default()).await {
                Ok(list) => {
                    let types = kube::api::TypeMeta {
                        api_version: resource.api_version,
                        kind: resource.kind,
                    };
                    let named = |mut object: DynamicObject| {
                        object.types = Some(types.clone());
                        object
                    };
                    Ok(list.items.into_iter().map(named).collect())
                }
                // A kind may be there in name only (metrics without their server).
                Err(error) if status(&error).is_some_and(|status| matches!(status.code, 403..=405 | 503)) => {
                    Ok(Vec::new())
                }
                Err(error) => Err(api_error(format!("list {} in {namespace}", resource.plural))(error)),
            }
        }
    }))
    .buffer_unordered(AT_ONCE)
    .try_collect()
    .await?;
    Ok(lists.into_iter().flatten().collect())
}

async fn replace(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<(), ClusterError> {
    let what = || format!("write {}", name_of(object));
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let error = match api.replace(name, &params, object).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    match status(&error).map(|status| status.reason.as_str()) {
        Some("NotFound") => {}
        // A field that cannot be changed was: only a new object can say otherwise.
        Some("Invalid") => {
            gone_is_fine(api.delete(name, &DeleteParams::background()).await).map_err(api_error(what()))?;
        }
        _ => return Err(api_error(what())(error)),
    }
    api.create(&params, object).await.map(|_| ()).map_err(api_error(what()))
}

async fn delete_all(
    cluster: &ClusterHandle,
    kinds: &Kinds,
    objects: Vec<DynamicObject>,
    params: &DeleteParams,
) -> Result<(), ClusterError> {
    futures::stream::iter(objects.into_iter().map(|object| {
        let api = kinds.api(&cluster.client, &object);
        // The one that was listed, not a fresh one of the same name.
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.uid(),
                resource_version: None,
            }),
            propagation_policy: params
                .propagation_policy
                .clone()
                .or(Some(PropagationPolicy::Background)),
            ..params.clone()
        };
        async move {
            match gone_is_fine(api?.delete(&object.name_any(), &params).await) {
                Err(error) if status(&error).is_some_and(|status| status.reason == "Conflict") => Ok(()),
                result => result.map_err(api_error(format!("delete {}", name_of(&object)))),
            }
        }
    }))
    .buffer_unordered(AT_ONCE)
    .try_collect()
    .await
}

fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if status(&error).is_some_and(|status| status.code == 404) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: &str, namespace: &str, name: &str, owned: bool) -> DynamicObject {
        let owners = if owned {
            json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1"}])
        } else {
            json!([])
        };
        serde_json::from_value(json!({"apiVersion": "v1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "ownerReferences": owners}}))
        .unwrap()
    }

    #[test]
    fn what_the_manifests_do_not_hold_goes() {
        let wanted = BTreeSet::from(["service shop/ledger".to_owned()]);
        for (kind, namespace, name, owned, expected) in [
            ("Service", "shop", "ledger", false, Fate::Keep),
            ("Service", "shop", "mine", false, Fate::Delete),
            ("Service", "default", "kubernetes", false, Fate::Keep),
            ("Service", "shop", "kubernetes", false, Fate::Delete),
            ("ServiceAccount", "shop", "default", false, Fate::Keep),
            ("ConfigMap", "shop", "kube-root-ca.crt", false, Fate::Keep),
            ("NetworkPolicy", "shop", "deny", false, Fate::Delete),
            ("ReplicaSet", "shop", "ledger-1", true, Fate::Delete),
            ("Pod", "shop", "ledger-1-x", true, Fate::Kill),
            ("Secret", "shop", "made-by-a-controller", true, Fate::Keep),
        ] {
            assert_eq!(
                fate(&object(kind, namespace, name, owned), &wanted),
                expected,
                "{kind} {namespace}/{name}"
            );
        }
    }

    #[test]
    fn the_namespaces_of_manifests_are_those_they_make_and_those_they_use() {
        let shop: DynamicObject =
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
                .unwrap();
        let found = namespaces(&[shop, object("Service", "other", "s", false)]);
        assert_eq!(found, BTreeSet::from(["other".to_owned(), "shop".to_owned()]));
    }
}
