//! On a cluster that others use too: what a lab is to make is kept for it before it makes anything.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, ObjectMeta, PostParams},
};

use super::{
    LAB_LABEL, OWNER_LABEL,
    apply::{FIELD_MANAGER, Kinds, api_error, name_of, status},
    lock,
    owned::{found, gone, is, is_marked},
    reset::namespaces,
};
use crate::cluster::{ClusterError, ClusterHandle, Progress};

/// The annotation of a lab's namespace that says what the lab will make beyond it: nobody else's lab may make that too.
const MAKES: &str = "ztlab.dev/makes";

/// Makes sure that `objects` touch nothing but what carries `marks`: objects in no namespace are new or marked, the others
/// live in namespaces that `objects` make, and no lab of others is to make the same. What is on its way out is waited for.
/// Tells whether anything is there already; where nothing is, the namespaces among `written` are there then, with the marks,
/// so that of two labs that begin at the same moment one finds what the other holds.
///
/// # Errors
/// Every object that is somebody else's.
pub async fn claim(
    cluster: &ClusterHandle,
    objects: &[DynamicObject],
    written: &[DynamicObject],
    marks: &BTreeMap<String, String>,
    progress: &Progress,
) -> Result<bool, ClusterError> {
    let kinds = Kinds::of(&cluster.client).await?;
    let made: Vec<&str> = objects
        .iter()
        .filter(|object| is(object, "Namespace"))
        .filter_map(|object| object.metadata.name.as_deref())
        .collect();
    if let Some(foreign) = namespaces(objects).iter().find(|name| !made.contains(&name.as_str())) {
        return Err(ClusterError::NotOurs {
            cluster: cluster.name.clone(),
            what: format!("the namespace {foreign}, which the lab's manifests use without making it"),
        });
    }
    let mut there = false;
    for (object, found) in free(cluster, &kinds, objects, marks).await? {
        if found.metadata.deletion_timestamp.is_some() {
            gone(&kinds.api(&cluster.client, object)?, &found, progress).await?;
        } else {
            there = true;
        }
    }
    if there {
        return Ok(true);
    }
    if !makes_more(written) {
        // Each namespace can be made once.
        hold(cluster, written, marks).await?;
        return Ok(false);
    }
    // Two labs in two namespaces may be to make the same beyond them: nobody looks before what another has seen to be free
    // is noted down.
    let lock = lock::take(cluster, marks, progress).await?;
    let held = match free(cluster, &kinds, objects, marks).await {
        Ok(_) => hold(cluster, written, marks).await,
        Err(error) => Err(error),
    };
    lock.release().await;
    held.map(|()| false)
}

/// What there is of `objects`, all of it marked, and none kept for labs of others.
async fn free<'a>(
    cluster: &ClusterHandle,
    kinds: &Kinds,
    objects: &'a [DynamicObject],
    marks: &BTreeMap<String, String>,
) -> Result<Vec<(&'a DynamicObject, DynamicObject)>, ClusterError> {
    let found = found(cluster, kinds, objects).await?;
    let others: Vec<String> = found
        .iter()
        .filter(|(_, found)| !is_marked(found, marks))
        .map(|(object, found)| whose(object, found))
        .collect();
    let others = match others.is_empty() {
        true => reserved(cluster, objects, marks).await?,
        false => others,
    };
    match others.is_empty() {
        true => Ok(found),
        false => Err(clash(cluster, others, !makes_more(objects))),
    }
}

/// Makes the namespaces among `written`, with the marks and what else is kept, but only where there are none.
async fn hold(
    cluster: &ClusterHandle,
    written: &[DynamicObject],
    marks: &BTreeMap<String, String>,
) -> Result<(), ClusterError> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    for object in written.iter().filter(|object| is(object, "Namespace")) {
        let makes = object.annotations().get(MAKES);
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: object.metadata.name.clone(),
                labels: Some(marks.clone()),
                annotations: makes.map(|makes| BTreeMap::from([(MAKES.to_owned(), makes.clone())])),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        match api.create(&params, &namespace).await {
            Ok(_) => {}
            Err(error) if status(&error).is_some_and(|status| status.code == 409) => {
                let there = api.get_opt(&object.name_any()).await;
                let there = there.map_err(api_error(format!("look for the {}", name_of(object))))?;
                let ours = |there: &Namespace| marks.iter().all(|(key, value)| there.labels().get(key) == Some(value));
                if !there.as_ref().is_some_and(ours) {
                    return Err(clash(cluster, vec![name_of(object)], !makes_more(written)));
                }
            }
            Err(error) => return Err(api_error(format!("create the {}", name_of(object)))(error)),
        }
    }
    Ok(())
}

/// Whether these objects, of one lab, say that it makes more: such a lab has names that cannot be changed.
pub(in crate::cluster) fn makes_more(objects: &[DynamicObject]) -> bool {
    objects.iter().any(|object| object.annotations().contains_key(MAKES))
}

fn clash(cluster: &ClusterHandle, objects: Vec<String>, prefixable: bool) -> ClusterError {
    ClusterError::Clash {
        cluster: cluster.name.clone(),
        objects,
        prefixable,
    }
}

/// Notes in the namespace that a lab makes first what it will make beyond it, so that a second lab can tell.
pub fn reserve(objects: &mut [DynamicObject], namespace: &str, beyond: &[DynamicObject]) {
    let own = objects
        .iter_mut()
        .find(|object| is(object, "Namespace") && object.metadata.name.as_deref() == Some(namespace));
    if let Some(own) = own.filter(|_| !beyond.is_empty()) {
        let names: Vec<String> = beyond.iter().map(name_of).collect();
        let annotations = own.metadata.annotations.get_or_insert_default();
        annotations.insert(MAKES.to_owned(), names.join(", "));
    }
}

/// What labs of others are to make of `objects`, each with whose it is.
async fn reserved(
    cluster: &ClusterHandle,
    objects: &[DynamicObject],
    marks: &BTreeMap<String, String>,
) -> Result<Vec<String>, ClusterError> {
    let names: BTreeSet<String> = objects.iter().map(name_of).collect();
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let list = match api.list(&ListParams::default().labels(OWNER_LABEL)).await {
        Err(error) if status(&error).is_some_and(|status| status.code == 403) => return Ok(Vec::new()),
        listed => listed.map_err(api_error("list the namespaces of labs".to_owned()))?,
    };
    let mut clashes = Vec::new();
    for namespace in list {
        let labels = namespace.labels();
        if marks.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            continue;
        }
        let made = namespace.annotations().get(MAKES).map_or("", String::as_str);
        let lab = labels.get(LAB_LABEL).map_or("?", String::as_str);
        let own = namespace.name_any();
        let same = made.split(", ").filter(|name| names.contains(*name));
        clashes.extend(same.map(|name| {
            let [name, lab, own] = [name, lab, own.as_str()].map(crate::text::one_line);
            format!("{name} (kept for the lab `{lab}` in the namespace {own})")
        }));
    }
    Ok(clashes)
}

/// An object that is there, and whose it is where that can be told.
fn whose(object: &DynamicObject, found: &DynamicObject) -> String {
    match found.labels().get(LAB_LABEL) {
        Some(lab) => format!("{} (of the lab `{}`)", name_of(object), crate::text::one_line(lab)),
        None => name_of(object),
    }
}
