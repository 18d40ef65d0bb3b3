//! Objects, put there and taken away as a student's kubectl does it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
    core::TypeMeta,
    discovery::{Discovery, Scope, pinned_kind},
    runtime::wait::{await_condition, conditions},
};
use serde_json::{Value, json, map::Entry};

use super::{
    PATIENCE, Place, STUDENT, api_error, late,
    workloads::{pod_is_up, rolled_out},
};
use crate::{cluster::manifests, lab::Named, session::world::WorldError};

/// Who sets up what a student begins with.
const ZTLAB: &str = "ztlab";

/// Applies manifests as a student's `kubectl apply` of changed ones would: what an earlier apply wrote and these no
/// longer have goes. Waits for the Deployments and the bare pods among them.
pub(super) async fn apply(place: &Place, objects: Vec<DynamicObject>) -> Result<(), WorldError> {
    let mut objects = place.transform.objects(objects);
    if let Some(foreign) = place.transform.foreign(&objects) {
        return Err(WorldError::new(format!(
            "the namespace {foreign} is not the lab's, and nothing is written into it on a cluster that others use too"
        )));
    }
    let first = |object: &DynamicObject| {
        let kind = object.types.as_ref().map(|types| types.kind.as_str());
        !matches!(kind, Some("Namespace" | "CustomResourceDefinition"))
    };
    objects.sort_by_key(first);
    let mut kinds: BTreeMap<(String, String), (ApiResource, Scope)> = BTreeMap::new();
    let (mut deployments, mut pods) = (Vec::new(), Vec::new());
    for object in &mut objects {
        let types = object.types.clone().unwrap_or_default();
        let key = (types.api_version.clone(), types.kind.clone());
        if !kinds.contains_key(&key) {
            kinds.insert(key.clone(), kind_of(&place.client, &types).await?);
        }
        let (resource, scope) = &kinds[&key];
        let api = api(place, resource, scope, object.namespace());
        if *scope == Scope::Namespaced && object.metadata.namespace.is_none() {
            object.metadata.namespace = Some(place.namespace.clone());
        }
        if *scope == Scope::Cluster {
            let there = api.get_opt(&object.name_any()).await;
            not_theirs(
                place,
                &types.kind,
                there
                    .map_err(api_error(format!("look for the {}", types.kind)))?
                    .as_ref(),
            )?;
        }
        apply_one(&api, object).await?;
        let here = object.metadata.namespace.as_deref() == Some(place.namespace.as_str());
        match types.kind.as_str() {
            "Deployment" if here => deployments.push(object.name_any()),
            "Pod" if here => pods.push(object.name_any()),
            _ => {}
        }
    }
    for deployment in deployments {
        rolled_out(place, &deployment).await?;
    }
    for pod in pods {
        pod_is_up(place, &pod).await?;
    }
    Ok(())
}

async fn apply_one(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<(), WorldError> {
    let name = object.name_any();
    let doing = || {
        let kind = object.types.as_ref().map(|types| types.kind.as_str());
        format!("apply the {} {name}", kind.unwrap_or("object"))
    };
    // The status of an object is written while its fields are looked at: whoever comes second looks again.
    while let Some(mut there) = api.get_opt(&name).await.map_err(api_error(doing()))? {
        match take_over(api, &mut there).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            taken => {
                taken.map_err(api_error(doing()))?;
                break;
            }
        }
    }
    let params = PatchParams::apply(STUDENT).force();
    let patched = api.patch(&name, &params, &Patch::Apply(object)).await;
    patched.map(drop).map_err(api_error(doing()))
}

/// Refuses an object of the whole cluster that was there before, on a cluster that others use too.
pub(super) fn not_theirs(place: &Place, kind: &str, there: Option<&DynamicObject>) -> Result<(), WorldError> {
    let marks = &place.transform.labels;
    match there {
        Some(there) if !marks.is_empty() && !manifests::is_marked(there, marks) => Err(WorldError::new(format!(
            "the {kind} {} is not the lab's, and is not touched on a cluster that others use too",
            there.name_any()
        ))),
        _ => Ok(()),
    }
}

/// Makes what ztlab applied the student's, so that applying anew takes away what is no longer wanted.
async fn take_over(api: &Api<DynamicObject>, there: &mut DynamicObject) -> Result<(), kube::Error> {
    let entries = there.metadata.managed_fields.clone().unwrap_or_default();
    let Some(entries) = as_the_students(entries) else {
        return Ok(());
    };
    let patch = json!({ "metadata": {
        "managedFields": entries,
        "resourceVersion": there.metadata.resource_version,
    } });
    let params = PatchParams {
        field_manager: Some(STUDENT.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&there.name_any(), &params, &Patch::Merge(patch))
        .await
        .map(drop)
}

/// The fields of an object with those that ztlab set, by whichever operation, in the one entry of what the student applied:
/// an API server knows one for each manager, operation and version. None where that is so already.
fn as_the_students(entries: Vec<ManagedFieldsEntry>) -> Option<Vec<ManagedFieldsEntry>> {
    let ours = |entry: &ManagedFieldsEntry| {
        let manager = entry.manager.as_deref();
        let applied = manager == Some(STUDENT) && entry.operation.as_deref() == Some("Apply");
        entry.subresource.is_none() && (manager == Some(ZTLAB) || applied)
    };
    let count = entries.len();
    let foreign = |entry: &ManagedFieldsEntry| ours(entry) && entry.manager.as_deref() == Some(ZTLAB);
    let taken = entries.iter().any(foreign);
    let mut merged: Vec<ManagedFieldsEntry> = Vec::new();
    for mut entry in entries {
        let same = |other: &&mut ManagedFieldsEntry| ours(other) && other.api_version == entry.api_version;
        if !ours(&entry) {
            merged.push(entry);
        } else if let Some(first) = merged.iter_mut().find(same) {
            let fields = first.fields_v1.get_or_insert_with(|| FieldsV1(json!({})));
            unite(&mut fields.0, entry.fields_v1.map_or(json!({}), |fields| fields.0));
        } else {
            entry.manager = Some(STUDENT.to_owned());
            entry.operation = Some("Apply".to_owned());
            merged.push(entry);
        }
    }
    (taken || merged.len() < count).then_some(merged)
}

/// Adds a set of fields (FieldsV1 of meta/v1) to another.
fn unite(fields: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (fields, more) {
        for (key, value) in more {
            match fields.entry(key) {
                Entry::Occupied(mut there) => unite(there.get_mut(), value),
                Entry::Vacant(free) => {
                    free.insert(value);
                }
            }
        }
    }
}

async fn kind_of(client: &Client, types: &TypeMeta) -> Result<(ApiResource, Scope), WorldError> {
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let kind = GroupVersionKind::gvk(group, version, &types.kind);
    let found = pinned_kind(client, &kind).await;
    found
        .map(|(resource, can)| (resource, can.scope))
        .map_err(api_error(format!("ask the cluster for the kind {}", types.kind)))
}

fn api(place: &Place, resource: &ApiResource, scope: &Scope, namespace: Option<String>) -> Api<DynamicObject> {
    match scope {
        Scope::Cluster => Api::all_with(place.client.clone(), resource),
        Scope::Namespaced => {
            let namespace = namespace.unwrap_or_else(|| place.namespace.clone());
            Api::namespaced_with(place.client.clone(), &namespace, resource)
        }
    }
}

/// The API of an object that a lab names.
pub(super) async fn api_of(place: &Place, named: &Named) -> Result<Api<DynamicObject>, WorldError> {
    let (resource, scope) = match &named.api_version {
        Some(version) => {
            let types = TypeMeta {
                api_version: version.clone(),
                kind: named.kind.clone(),
            };
            kind_of(&place.client, &types).await?
        }
        None => found_kind(&place.client, &named.kind).await?,
    };
    Ok(api(place, &resource, &scope, named.namespace.clone()))
}

/// A kind by its name alone: that of the core group, else the only one there is.
async fn found_kind(client: &Client, kind: &str) -> Result<(ApiResource, Scope), WorldError> {
    let discovery = Discovery::new(client.clone());
    let discovery = discovery
        .run()
        .await
        .map_err(api_error("ask the cluster which kinds it has"))?;
    let mut found: Vec<(ApiResource, Scope)> = discovery
        .groups()
        .flat_map(|group| group.recommended_resources())
        .filter(|(resource, _)| resource.kind == kind)
        .map(|(resource, can)| (resource, can.scope))
        .collect();
    found.sort_by_key(|(resource, _)| !resource.group.is_empty());
    match found.as_slice() {
        [(first, scope)] => Ok((first.clone(), scope.clone())),
        [(first, scope), ..] if first.group.is_empty() => Ok((first.clone(), scope.clone())),
        [] => Err(WorldError::new(format!("the cluster does not know the kind {kind}"))),
        _ => Err(WorldError::new(format!("there are several kinds {kind}")).hint("say which with `apiVersion`")),
    }
}

pub(super) async fn delete(place: &Place, named: &Named) -> Result<(), WorldError> {
    let Named { kind, name, .. } = named;
    let doing = || format!("delete the {kind} {name}");
    let api = api_of(place, named).await?;
    let Some(there) = api.get_opt(name).await.map_err(api_error(doing()))? else {
        return Ok(());
    };
    if there.metadata.namespace.is_none() {
        not_theirs(place, kind, Some(&there))?;
    }
    let uid = there.metadata.uid.unwrap_or_default();
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        deleted => deleted.map(drop).map_err(api_error(doing()))?,
    }
    let gone = await_condition(api, name, conditions::is_deleted(&uid));
    match tokio::time::timeout(PATIENCE, gone).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(WorldError::new(format!("{}: {error}", doing()))),
        Err(_) => Err(late(&doing())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            api_version: Some("v1".to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    #[test]
    fn what_ztlab_set_becomes_one_entry_of_the_students() {
        let status = ManagedFieldsEntry {
            subresource: Some("status".to_owned()),
            ..entry(ZTLAB, "Update", json!({ "f:status": {} }))
        };
        let entries = vec![
            entry(
                ZTLAB,
                "Apply",
                json!({ "f:spec": { "f:a": {}, "f:ports": { "k:80": { ".": {} } } } }),
            ),
            entry("kubectl", "Update", json!({ "f:spec": { "f:b": {} } })),
            status.clone(),
            entry(ZTLAB, "Update", json!({ "f:spec": { "f:ports": { "k:443": {} } } })),
            entry(STUDENT, "Apply", json!({ "f:spec": { "f:c": {} } })),
            entry(STUDENT, "Update", json!({ "f:spec": { "f:d": {} } })),
        ];
        let taken = as_the_students(entries).unwrap();
        let all = json!({ "f:spec": { "f:a": {}, "f:c": {}, "f:ports": { "k:80": { ".": {} }, "k:443": {} } } });
        let expected = [
            entry(STUDENT, "Apply", all),
            entry("kubectl", "Update", json!({ "f:spec": { "f:b": {} } })),
            status,
            entry(STUDENT, "Update", json!({ "f:spec": { "f:d": {} } })),
        ];
        assert_eq!(taken, expected);
        assert_eq!(as_the_students(taken), None, "nothing is left to be taken over");
    }

    #[test]
    fn two_entries_of_the_student_become_one() {
        let twice = vec![
            entry(STUDENT, "Apply", json!({ "f:spec": { "f:a": {} } })),
            entry(STUDENT, "Apply", json!({ "f:spec": { "f:b": {} } })),
        ];
        let one = entry(STUDENT, "Apply", json!({ "f:spec": { "f:a": {}, "f:b": {} } }));
        assert_eq!(as_the_students(twice), Some(vec![one]));
    }
}
