//! On a cluster that others use too: only what a lab made for this student is ever removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Preconditions, TypeMeta},
    discovery::Scope,
};

use crate::cluster::{ClusterError, ClusterHandle, Progress, ProgressEvent};

use super::apply::{Kinds, api_error, name_of, status};

/// How long what was deleted may take to go. A namespace goes when everything in it has gone.
const GONE: Duration = Duration::from_secs(180);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);
const AT_ONCE: usize = 8;

/// Removes everything in no namespace that carries `marks`, with all that is in it, and waits until it is gone: first the
/// objects of the kinds that the lab defined, then `namespace`, whose pods may need what the lab made elsewhere, then the
/// other namespaces, the definitions last. Gives the names of those of `objects` that stay because nothing shows that this
/// lab made them.
///
/// # Errors
/// The first object that the API refuses to remove, or that does not go.
pub async fn remove(
    cluster: &ClusterHandle,
    objects: &[DynamicObject],
    namespace: &str,
    marks: &BTreeMap<String, String>,
    progress: &Progress,
) -> Result<Vec<String>, ClusterError> {
    let kinds = Kinds::of(&cluster.client).await?;
    let (mut ours, mut left) = (marked(cluster, &kinds, marks).await?, Vec::new());
    for (object, found) in found(cluster, &kinds, objects).await? {
        if !is_marked(&found, marks) {
            left.push(name_of(object));
        } else if !ours.iter().any(|one| one.uid() == found.uid()) {
            ours.push(found);
        }
    }
    if ours.is_empty() {
        // Nothing was ever made.
        return Ok(Vec::new());
    }
    let mut custom = Vec::new();
    for definition in ours.iter().filter(|object| is(object, "CustomResourceDefinition")) {
        custom.extend(instances(cluster, definition).await?);
    }
    let (definitions, rest): (Vec<_>, Vec<_>) = ours
        .into_iter()
        .partition(|object| is(object, "CustomResourceDefinition"));
    let (spaces, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|object| is(object, "Namespace"));
    let names: BTreeSet<String> = spaces.iter().map(ResourceExt::name_any).collect();
    let volumes = volumes(cluster, &names).await?;
    let (own, spaces): (Vec<_>, Vec<_>) = spaces
        .into_iter()
        .partition(|object| object.metadata.name.as_deref() == Some(namespace));
    for wave in [custom, own, spaces, rest, definitions] {
        delete_all(cluster, &kinds, wave, progress).await?;
    }
    let api: Api<PersistentVolume> = Api::all(cluster.client.clone());
    for volume in volumes {
        let what = format!("persistentvolume {}", volume.name_any());
        let look = || async {
            let found = api.get_opt(&volume.name_any()).await;
            Ok(found
                .map_err(api_error(format!("look for the {what}")))?
                .and_then(|one| one.uid()))
        };
        until_gone(&what, volume.uid(), look).await?;
    }
    Ok(left)
}

/// What there is of those of `objects` that are in no namespace. Of a kind that the cluster does not know there is nothing.
pub(super) async fn found<'a>(
    cluster: &ClusterHandle,
    kinds: &Kinds,
    objects: &'a [DynamicObject],
) -> Result<Vec<(&'a DynamicObject, DynamicObject)>, ClusterError> {
    let mut all = Vec::new();
    for object in objects.iter().filter(|object| object.metadata.namespace.is_none()) {
        if kinds.resolve(object).is_err() {
            continue;
        }
        if let Some(mut found) = get(&kinds.api(&cluster.client, object)?, object).await? {
            found.types.clone_from(&object.types);
            all.push((object, found));
        }
    }
    Ok(all)
}

/// Everything in no namespace that carries the marks, whatever kind it is of.
async fn marked(
    cluster: &ClusterHandle,
    kinds: &Kinds,
    marks: &BTreeMap<String, String>,
) -> Result<Vec<DynamicObject>, ClusterError> {
    let selector: Vec<String> = marks.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if selector.is_empty() {
        return Ok(Vec::new());
    }
    let params = ListParams::default().labels(&selector.join(","));
    let lists: Vec<_> = kinds
        .of_the_cluster()
        .into_iter()
        .map(|resource| list(cluster, resource, params.clone()))
        .collect();
    let lists: Vec<Vec<DynamicObject>> = futures::stream::iter(lists)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(lists.into_iter().flatten().collect())
}

async fn list(
    cluster: &ClusterHandle,
    resource: ApiResource,
    params: ListParams,
) -> Result<Vec<DynamicObject>, ClusterError> {
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    match api.list(&params).await {
        Ok(list) => {
            let types = TypeMeta {
                api_version: resource.api_version.clone(),
                kind: resource.kind.clone(),
            };
            let items = list.items.into_iter().map(|mut object| {
                object.types = Some(types.clone());
                object
            });
            Ok(items.collect())
        }
        // A kind may be there in name only, or nothing that this user may look at.
        Err(error) if status(&error).is_some_and(|status| matches!(status.code, 403..=405 | 503)) => Ok(Vec::new()),
        Err(error) => Err(api_error(format!("list {}", resource.plural))(error)),
    }
}

/// The objects of the kind that a definition defines.
async fn instances(cluster: &ClusterHandle, definition: &DynamicObject) -> Result<Vec<DynamicObject>, ClusterError> {
    let spec = &definition.data["spec"];
    let versions = spec["versions"].as_array().into_iter().flatten();
    let served = versions.filter(|version| version["served"] == true);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind, plural) = (
        text(&spec["group"]),
        text(&spec["names"]["kind"]),
        text(&spec["names"]["plural"]),
    );
    let Some(version) = served.map(|version| text(&version["name"])).next() else {
        return Ok(Vec::new());
    };
    let resource = ApiResource {
        api_version: format!("{group}/{version}"),
        group,
        version,
        kind,
        plural,
    };
    list(cluster, resource, ListParams::default()).await
}

/// The volumes that claims in these namespaces have, and that go with their claims.
async fn volumes(cluster: &ClusterHandle, of: &BTreeSet<String>) -> Result<Vec<PersistentVolume>, ClusterError> {
    let api: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let list = match api.list(&ListParams::default()).await {
        Err(error) if status(&error).is_some_and(|status| status.code == 403) => return Ok(Vec::new()),
        listed => listed.map_err(api_error("list persistentvolumes".to_owned()))?,
    };
    let goes = |volume: &PersistentVolume| {
        let Some(spec) = &volume.spec else { return false };
        let claim = spec.claim_ref.as_ref().and_then(|claim| claim.namespace.as_ref());
        spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete")
            && claim.is_some_and(|namespace| of.contains(namespace))
    };
    Ok(list.into_iter().filter(goes).collect())
}

async fn delete_all(
    cluster: &ClusterHandle,
    kinds: &Kinds,
    objects: Vec<DynamicObject>,
    progress: &Progress,
) -> Result<(), ClusterError> {
    let removals = objects.into_iter().map(|object| async move {
        let (resource, can) = kinds.resolve(&object)?;
        let api = match (&object.metadata.namespace, can.scope) {
            (Some(namespace), Scope::Namespaced) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
            _ => Api::all_with(cluster.client.clone(), &resource),
        };
        let params = DeleteParams {
            // The one that was looked at.
            preconditions: Some(Preconditions {
                uid: object.uid(),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        match api.delete(&object.name_any(), &params).await {
            Err(error) if status(&error).is_none_or(|status| !matches!(status.code, 404 | 409)) => {
                return Err(api_error(format!("delete {}", name_of(&object)))(error));
            }
            _ => {}
        }
        gone(&api, &object, progress).await
    });
    let removals: Vec<_> = removals.collect();
    futures::stream::iter(removals)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

pub(super) fn is(object: &DynamicObject, kind: &str) -> bool {
    object.types.as_ref().is_some_and(|types| types.kind == kind)
}

/// Whether an object carries marks, all of them; none are carried by nothing.
pub fn is_marked(object: &DynamicObject, marks: &BTreeMap<String, String>) -> bool {
    !marks.is_empty() && marks.iter().all(|(key, value)| object.labels().get(key) == Some(value))
}

async fn get(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<Option<DynamicObject>, ClusterError> {
    api.get_opt(&object.name_any())
        .await
        .map_err(api_error(format!("look for the {}", name_of(object))))
}

pub(super) async fn gone(
    api: &Api<DynamicObject>,
    object: &DynamicObject,
    progress: &Progress,
) -> Result<(), ClusterError> {
    progress(ProgressEvent {
        phase: "wait until it is gone".to_owned(),
        done: 0,
        total: 1,
        detail: name_of(object),
    });
    let look = || async { Ok(get(api, object).await?.and_then(|found| found.uid())) };
    until_gone(&name_of(object), object.uid(), look).await
}

/// Waits until what is looked at is there no more, or another in its place.
async fn until_gone<F>(what: &str, uid: Option<String>, look: impl Fn() -> F) -> Result<(), ClusterError>
where
    F: Future<Output = Result<Option<String>, ClusterError>>,
{
    let waiting = async {
        while look().await?.is_some_and(|there| Some(&there) == uid.as_ref()) {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    match tokio::time::timeout(GONE, waiting).await {
        Ok(result) => result,
        Err(_) => Err(ClusterError::NotReady {
            what: format!("the removal of the {what}"),
            seconds: GONE.as_secs(),
            state: "it is still there: something in it has a finalizer that nobody takes away".to_owned(),
        }),
    }
}
