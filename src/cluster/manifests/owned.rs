//! On a cluster that others use too: only what a lab made for this student is ever touched.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject},
};

use crate::cluster::{ClusterError, ClusterHandle, Progress, ProgressEvent};

use super::{
    apply::{Kinds, api_error, name_of, status},
    reset::namespaces,
};

/// How long what was deleted may take to go. A namespace goes when everything in it has gone.
const GONE: Duration = Duration::from_secs(180);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);
const AT_ONCE: usize = 8;

/// Makes sure that `objects` touch nothing but what carries `marks`: objects in no namespace are new or marked, and the
/// others live in namespaces that `objects` make. What is on its way out is waited for. Tells whether anything is there already.
///
/// # Errors
/// The first object that is somebody else's.
pub async fn claim(
    cluster: &ClusterHandle,
    objects: &[DynamicObject],
    marks: &BTreeMap<String, String>,
    progress: &Progress,
) -> Result<bool, ClusterError> {
    let kinds = Kinds::of(&cluster.client).await?;
    let made: Vec<&str> = objects
        .iter()
        .filter(|object| object.types.as_ref().is_some_and(|types| types.kind == "Namespace"))
        .filter_map(|object| object.metadata.name.as_deref())
        .collect();
    if let Some(foreign) = namespaces(objects).iter().find(|name| !made.contains(&name.as_str())) {
        return Err(ClusterError::NotOurs {
            cluster: cluster.name.clone(),
            what: format!("the namespace {foreign}, which the lab's manifests use without making it"),
        });
    }
    let mut there = false;
    for object in objects.iter().filter(|object| object.metadata.namespace.is_none()) {
        let api = kinds.api(&cluster.client, object)?;
        let Some(found) = get(&api, object).await? else {
            continue;
        };
        if !is_marked(&found, marks) {
            return Err(ClusterError::NotOurs {
                cluster: cluster.name.clone(),
                what: format!("the {}", name_of(object)),
            });
        }
        if found.metadata.deletion_timestamp.is_some() {
            gone(&api, object, progress).await?;
        } else {
            there = true;
        }
    }
    Ok(there)
}

/// Removes those of `objects` that are in no namespace and carry `marks`, with everything in them, and waits until they are gone.
///
/// # Errors
/// The first object that the API refuses to remove, or that does not go.
pub async fn remove(
    cluster: &ClusterHandle,
    objects: &[DynamicObject],
    marks: &BTreeMap<String, String>,
    progress: &Progress,
) -> Result<(), ClusterError> {
    let kinds = Kinds::of(&cluster.client).await?;
    let removals: Vec<_> = objects
        .iter()
        .filter(|object| object.metadata.namespace.is_none())
        .map(|object| {
            let api = kinds.api(&cluster.client, object);
            let object = object.clone();
            async move {
                let api = api?;
                match get(&api, &object).await? {
                    Some(found) if is_marked(&found, marks) => {}
                    _ => return Ok(()),
                }
                let what = format!("delete {}", name_of(&object));
                match api.delete(&object.name_any(), &DeleteParams::background()).await {
                    Err(error) if status(&error).is_none_or(|status| status.code != 404) => {
                        return Err(api_error(what)(error));
                    }
                    _ => {}
                }
                gone(&api, &object, progress).await
            }
        })
        .collect();
    futures::stream::iter(removals)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn is_marked(object: &DynamicObject, marks: &BTreeMap<String, String>) -> bool {
    !marks.is_empty() && marks.iter().all(|(key, value)| object.labels().get(key) == Some(value))
}

async fn get(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<Option<DynamicObject>, ClusterError> {
    api.get_opt(&object.name_any())
        .await
        .map_err(api_error(format!("look for the {}", name_of(object))))
}

async fn gone(api: &Api<DynamicObject>, object: &DynamicObject, progress: &Progress) -> Result<(), ClusterError> {
    progress(ProgressEvent {
        phase: "wait until it is gone".to_owned(),
        done: 0,
        total: 1,
        detail: name_of(object),
    });
    let waiting = async {
        while get(api, object).await?.is_some() {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    match tokio::time::timeout(GONE, waiting).await {
        Ok(result) => result,
        Err(_) => Err(ClusterError::NotReady {
            what: format!("the removal of the {}", name_of(object)),
            seconds: GONE.as_secs(),
            state: "it is still there: something in it has a finalizer that nobody takes away".to_owned(),
        }),
    }
}
