//! Objects of the Kubernetes API, of any kind.

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    discovery::{Scope, pinned_kind},
};
use serde_json::Value;

use super::{GatherError, Scene};
use crate::{
    check::{Evidence, Objects},
    lab::ObjectCheck,
};

/// The most objects that are looked at.
const MOST: u32 = 500;

pub(super) async fn objects(scene: &Scene, check: &ObjectCheck) -> Result<Evidence, GatherError> {
    let (group, version) = check.api_version.split_once('/').unwrap_or(("", &check.api_version));
    let kind = GroupVersionKind::gvk(group, version, &check.kind);
    let (resource, scope) = match pinned_kind(&scene.client, &kind).await {
        Ok((resource, can)) => (resource, can.scope),
        Err(error) if unknown(&error) => {
            return Ok(Evidence::Objects(Objects {
                kind_known: false,
                ..Objects::default()
            }));
        }
        Err(error) => return Err(GatherError::api(format!("ask the cluster for the kind {}", check.kind))(error)),
    };
    let api = api(scene, check, &resource, &scope);
    let found = match &check.name {
        Some(name) => api
            .get_opt(name)
            .await
            .map(|one| one.into_iter().collect())
            .map_err(GatherError::api(format!("look for {} {name}", check.kind)))?,
        None => {
            let mut params = ListParams::default().limit(MOST);
            if let Some(labels) = &check.labels {
                params = params.labels(labels);
            }
            let list = api.list(&params).await;
            list.map_err(GatherError::api(format!("list the {} objects", check.kind)))?
                .items
        }
    };
    let values = found.into_iter().filter_map(|object: DynamicObject| {
        let mut value = serde_json::to_value(object).ok()?;
        // A list leaves out what all of its objects have in common.
        value["apiVersion"] = Value::from(check.api_version.as_str());
        value["kind"] = Value::from(check.kind.as_str());
        Some(value)
    });
    Ok(Evidence::Objects(Objects {
        kind_known: true,
        found: values.collect(),
    }))
}

fn api(scene: &Scene, check: &ObjectCheck, resource: &ApiResource, scope: &Scope) -> Api<DynamicObject> {
    match scope {
        Scope::Cluster => Api::all_with(scene.client.clone(), resource),
        Scope::Namespaced => {
            let namespace = check.namespace.as_deref().unwrap_or(&scene.namespace);
            Api::namespaced_with(scene.client.clone(), namespace, resource)
        }
    }
}

fn unknown(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 404,
        kube::Error::Discovery(_) => true,
        _ => false,
    }
}

/// Field managers that act for the cluster or for ztlab, by their names.
const OURS: &[&str] = &["ztlab", "kubelet"];

/// Whether somebody other than ztlab and the cluster itself made or changed an object: its `managedFields` tell, where
/// the API server notes who wrote which field. A status is not counted: it is not what somebody asked for.
pub fn is_students(object: &Value) -> bool {
    let managers = object["metadata"]["managedFields"].as_array();
    managers.into_iter().flatten().any(|entry| {
        let manager = entry["manager"].as_str().unwrap_or_default();
        let subresource = entry["subresource"].as_str().unwrap_or_default();
        let cluster = manager.starts_with("kube-") || manager.starts_with("system:") || OURS.contains(&manager);
        // `scale` is a write to the object itself.
        (subresource.is_empty() || subresource == "scale") && !cluster
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_students;

    #[test]
    fn who_wrote_an_object_is_told_by_its_managers() {
        let object = |managers: &[(&str, &str)]| {
            let entries: Vec<_> = managers
                .iter()
                .map(|(manager, subresource)| json!({ "manager": manager, "subresource": subresource }))
                .collect();
            json!({ "metadata": { "managedFields": entries } })
        };
        for (managers, expected) in [
            (&[("ztlab", "")][..], false),
            (&[("ztlab", ""), ("kube-controller-manager", "")], false),
            (&[("ztlab", ""), ("kubectl", "status")], false),
            (&[("ztlab", ""), ("kubectl", "scale")], true),
            (&[("ztlab", ""), ("kubectl-edit", "")], true),
            (&[("kubectl-client-side-apply", "")], true),
            (&[("ztlab-student", "")], true),
        ] {
            assert_eq!(is_students(&object(managers)), expected, "{managers:?}");
        }
        assert!(!is_students(&json!({})));
    }
}
